"""What is kept beside payments: exchanges with Daraja, receipts, and the cases that people look at."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as insert_or_not
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.transitions import UNAPPLIED
from payment_service.store.many_rows import Row, array_of, columns_of, inserting
from payment_service.store.pipeline import Statement
from payment_service.store.tables import cases, exchanges, receipts

UNAPPLIED_KINDS = "(" + ", ".join(f"'{kind.value}'" for kind in sorted(UNAPPLIED)) + ")"
"""The kinds of those cases, as SQL takes them."""

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
_CASE_COLUMNS = (
    "case_id",
    "payment_id",
    "reference",
    "kind",
    "is_money",
    "fact_id",
    "mpesa_receipt_number",
    "amount",
    "opened_at",
)
_INSERT_CASES = inserting(
    cases,
    _CASE_COLUMNS,
    # What a callback leads to once it is applied takes the place of the case that it was not.
    "ON CONFLICT (reference, fact_id) DO UPDATE SET payment_id = EXCLUDED.payment_id, kind = EXCLUDED.kind,"
    " is_money = EXCLUDED.is_money, opened_at = EXCLUDED.opened_at, settled_at = NULL"
    f" WHERE cases.kind IN {UNAPPLIED_KINDS} AND EXCLUDED.kind NOT IN {UNAPPLIED_KINDS}",
)
_SETTLE_CASES = f"""
UPDATE cases AS t SET settled_at = $3::timestamptz FROM unnest($1::text[], $2::text[]) AS applied (reference, fact_id)
WHERE t.reference = applied.reference AND t.fact_id = applied.fact_id AND t.kind IN {UNAPPLIED_KINDS}
AND t.settled_at IS NULL"""
_RECEIPT_HOLDERS = "SELECT receipt, payment_id FROM mpesa_receipts WHERE receipt = ANY($1::text[])"


def insert_exchanges(rows: Sequence[Row]) -> Statement:
    """Keep what went over the wire to Daraja."""
    return Statement(_INSERT_EXCHANGES, columns_of(rows))


def insert_receipts(rows: Sequence[Row]) -> Statement:
    """Record receipt numbers. A number that another payment holds is an error: constraint `receipts_pk`."""
    return Statement(_INSERT_RECEIPTS, columns_of(rows))


def insert_cases(rows: Sequence[Row]) -> Statement:
    """Open cases, at most one for a fact."""
    return Statement(_INSERT_CASES, columns_of(rows))


def settle_unapplied(keys: Sequence[Row], at: datetime) -> Statement:
    """End the cases of callbacks that have been applied by now: rows of (reference, fact id)."""
    return Statement(_SETTLE_CASES, (*columns_of(keys), at.isoformat()))


def receipt_holders(numbers: Sequence[str]) -> Statement:
    """(receipt number, payment id) of those that are recorded."""
    return Statement(_RECEIPT_HOLDERS, (array_of(numbers),))


async def open_case(conn: AsyncConnection, row: Row) -> None:
    """Open one case, in the order of `_CASE_COLUMNS`, unless its fact has one."""
    case = dict(zip(_CASE_COLUMNS, row, strict=True))
    await conn.execute(insert_or_not(cases).values(case).on_conflict_do_nothing())


async def insert_exchange(conn: AsyncConnection, row: Row) -> None:
    """Keep one exchange that changes no payment by itself: a request for a token, a question."""
    await conn.execute(insert(exchanges).values(dict(zip(EXCHANGE_COLUMNS, row, strict=True))))
