"""What is kept as it came: callbacks, exchanges with Daraja, receipts; and the cases that people look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.grouped import Row, array_of, columns_of, inserting
from payment_service.store.tables import cases, exchanges, inbox, receipts
from payment_service.store.together import Statement

_INSERT_CALLBACKS = inserting(
    inbox,
    (
        "callback_id",
        "kind",
        "reference",
        "payment_id",
        "body",
        "body_hash",
        "source_address",
        "received_at",
        "stored_at",
        "status",
        "next_try_at",
        "last_error",
    ),
    # The same body again is the same callback; one that was pending is settled by being applied now.
    "ON CONFLICT (reference, body_hash) DO UPDATE"
    " SET status = 'APPLIED', next_try_at = NULL, payment_id = EXCLUDED.payment_id"
    " WHERE callback_inbox.status <> 'APPLIED' AND EXCLUDED.status = 'APPLIED'",
)
EXCHANGE_COLUMNS = (
    "exchange_id",
    "payment_id",
    "operation",
    "http_status",
    "classified_as",
    "request",
    "answer",
    "started_at",
    "duration_ms",
)
_INSERT_EXCHANGES = inserting(exchanges, EXCHANGE_COLUMNS, "ON CONFLICT DO NOTHING")
_INSERT_RECEIPTS = inserting(receipts, ("receipt", "payment_id", "amount", "counted", "seen_at"))
_INSERT_CASES = inserting(
    cases,
    (
        "case_id",
        "payment_id",
        "reference",
        "kind",
        "is_money",
        "fact_id",
        "mpesa_receipt_number",
        "amount",
        "opened_at",
    ),
    "ON CONFLICT (reference, fact_id) DO NOTHING",
)
_RECEIPT_HOLDERS = "SELECT receipt, payment_id FROM mpesa_receipts WHERE receipt = ANY($1::text[])"

_PENDING = (
    select(
        inbox.c.kind, inbox.c.reference, inbox.c.body, inbox.c.body_hash, inbox.c.source_address, inbox.c.received_at
    )
    .add_columns(inbox.c.tries)
    .where(inbox.c.status == "PENDING", inbox.c.next_try_at <= bindparam("now"))
    .order_by(inbox.c.next_try_at)
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class StoredCallback:
    """One callback of the inbox; its body is sealed for the row (reference, body hash)."""

    kind: str
    reference: str
    sealed_body: bytes
    body_hash: bytes
    source_address: str
    received_at: datetime
    tries: int


def insert_callbacks(rows: Sequence[Row]) -> Statement:
    """Keep callbacks; a body that is there already is not kept twice. Rows are sorted by (reference, hash)."""
    return Statement(_INSERT_CALLBACKS, columns_of(rows))


def insert_exchanges(rows: Sequence[Row]) -> Statement:
    """Keep what went over the wire to Daraja."""
    return Statement(_INSERT_EXCHANGES, columns_of(rows))


def insert_receipts(rows: Sequence[Row]) -> Statement:
    """Record receipt numbers. A number that another payment holds is an error: constraint `receipts_pk`."""
    return Statement(_INSERT_RECEIPTS, columns_of(rows))


def insert_cases(rows: Sequence[Row]) -> Statement:
    """Open cases, at most one for a fact."""
    return Statement(_INSERT_CASES, columns_of(rows))


def receipt_holders(numbers: Sequence[str]) -> Statement:
    """(receipt number, payment id) of those that are recorded."""
    return Statement(_RECEIPT_HOLDERS, (array_of(numbers),))


async def pending_callbacks(conn: AsyncConnection, now: datetime, limit: int) -> list[StoredCallback]:
    """Callbacks that were kept but could not be applied, and are due for another try."""
    return [StoredCallback(*row) for row in await conn.execute(_PENDING, {"now": now, "limit": limit})]


async def postpone_callback(
    conn: AsyncConnection, reference: str, body_hash: bytes, next_try_at: datetime, error: str
) -> None:
    """Another try failed; the next one is later."""
    await conn.execute(
        update(inbox)
        .where(inbox.c.reference == reference, inbox.c.body_hash == body_hash, inbox.c.status == "PENDING")
        .values(tries=inbox.c.tries + 1, next_try_at=next_try_at, last_error=error)
    )


async def insert_exchange(conn: AsyncConnection, row: Row) -> None:
    """Keep one exchange that changes no payment by itself: a request for a token, a question."""
    await conn.execute(insert(exchanges).values(dict(zip(EXCHANGE_COLUMNS, row, strict=True))))
