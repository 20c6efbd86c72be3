"""The SQL of looking through everything that is stored, in bounded steps and by key; nothing here writes.

Rows are returned as they are stored, sealed. What must be true of them is
decided in `application.invariants`; what of them a person may see, in
`application.explain_payment`.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from payment_service.store.evidence import ExchangeRow, ReceiptRow
from payment_service.store.inbox import ReplayRow
from payment_service.store.many_rows import selected
from payment_service.store.pipeline import Connection


class PaymentProofs(NamedTuple):
    """Of a payment, what is stored to prove the rest of its row. The rest is read by `payments.stored`."""

    payment_id: UUID
    caller: str
    booking_id: str
    reference: str
    version: int
    request_id: str
    phone_number: bytes
    phone_index: bytes
    request: bytes
    request_fingerprint: bytes
    request_encoding: int
    request_key_id: str
    checkout_index: bytes | None
    chain_hash: bytes


class HourOfLog(NamedTuple):
    """The events of one hour: how many, how many payments they begin, and a digest over who they are."""

    events: int
    payments: int
    digest: str
    """SHA-256 in hex, over payment id, version and hash of each, in that order."""


class RequestProofs(NamedTuple):
    """A request about a payment that made none; the request is sealed for the row's id."""

    kept_id: UUID
    payment_id: UUID
    request: bytes
    fingerprint: bytes
    encoding: int
    key_id: str


class CaseRow(NamedTuple):
    """One case, open or settled."""

    payment_id: UUID | None
    reference: str
    kind: str
    is_money: bool
    fact_id: str
    receipt: str | None
    amount: Decimal | None
    opened_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    """The fact that has ended it: a proof, or what an operator decided."""
    case_id: UUID
    resolution: str | None
    """An operator's; None where it has ended by itself, and so in what follows."""
    operator: str | None
    why: str | None
    accepted_receipt: str | None
    """Or returned."""
    returns: Sequence[tuple[str, str, str | None, str]]
    """(operator, why, receipt, refund id) of each time that an operator had its money sent back."""
    moved_to: UUID | None
    """The payment that an operator has moved its money to."""


class CallbackRow(NamedTuple):
    """One callback with the payment that it came for; the body is sealed for the row (reference, body hash)."""

    callback_id: UUID
    kind: str
    reference: str
    payment_id: UUID | None
    body: bytes
    body_hash: bytes
    source_address: str
    received_at: datetime
    stored_at: datetime
    status: str
    tries: int
    next_try_at: datetime | None
    last_error: str | None
    owner_id: UUID | None
    """The payment that has the reference, or whose refund has it, whatever `payment_id` says."""
    owner_state: str | None


FIRST = UUID(int=0)
"""Before every row."""

_PROOFS = selected(PaymentProofs._fields, "p", phone_index="p.phone_index_a", checkout_index="p.checkout_index_a")
_PAYMENTS_AFTER = f"""
SELECT {_PROOFS} FROM payment_transactions p WHERE payment_id > %s ORDER BY payment_id LIMIT %s"""

_FIRST_EVENT = "SELECT occurred_at FROM payment_events ORDER BY position LIMIT 1"
_HOUR = """
SELECT count(*), count(*) FILTER (WHERE version = 1), encode(sha256(coalesce(string_agg(
    uuid_send(payment_id) || int4send(version) || hash, ''::bytea ORDER BY payment_id, version), ''::bytea)), 'hex')
FROM payment_events WHERE occurred_at >= %s AND occurred_at < %s"""

_SHARED_REQUEST_IDS = """
SELECT DISTINCT p.payment_id FROM payment_transactions p
JOIN (SELECT payment_id AS id, caller, request_id FROM payment_transactions
    UNION ALL SELECT kept_id, caller, request_id FROM caller_requests
) AS o ON o.caller = p.caller AND o.request_id = p.request_id AND o.id <> p.payment_id
WHERE p.payment_id = ANY(%s)"""

_REQUEST = selected(
    RequestProofs._fields,
    "r",
    fingerprint="r.request_fingerprint",
    encoding="r.request_encoding",
    key_id="r.request_key_id",
)
_REQUESTS = f"SELECT {_REQUEST} FROM caller_requests r WHERE payment_id = ANY(%s) ORDER BY kept_id"

_SHARED_RECEIPTS = """
SELECT DISTINCT p.payment_id FROM payment_transactions p
JOIN payment_transactions o ON o.mpesa_receipt_number = p.mpesa_receipt_number AND o.payment_id <> p.payment_id
WHERE p.payment_id = ANY(%s)"""

_BACKING = "SELECT backing, back_first FROM payment_transactions WHERE payment_id = %s"
_RECEIPTS = f"""
SELECT {", ".join(ReceiptRow._fields)} FROM mpesa_receipts WHERE payment_id = ANY(%s) ORDER BY receipt"""

_CASE = selected(
    CaseRow._fields,
    "c",
    receipt="c.mpesa_receipt_number",
    operator="a.operator",
    why="a.reason",
    accepted_receipt="a.mpesa_receipt_number",
    moved_to="a.to_payment_id",
    returns="""(SELECT coalesce(json_agg(json_build_array(
        r.operator, r.reason, r.mpesa_receipt_number, r.refund_id) ORDER BY r.case_version), '[]')
        FROM case_acts r WHERE r.case_id = c.case_id AND r.refund_id IS NOT NULL)""",
)
_CASES = f"""
SELECT {_CASE}
FROM cases c LEFT JOIN case_acts a ON a.case_id = c.case_id AND a.act = c.resolution
    AND (a.case_version = c.version OR a.refund_id = c.refund_id)
WHERE c.reference = ANY(%s) ORDER BY c.opened_at, c.case_id"""

_REFUNDED_OF = """
SELECT payment_id FROM payment_transactions WHERE payment_id = ANY(%s) AND state IN ('REFUNDING', 'REFUNDED')"""

# Whatever it was recorded as: on any payment, or in a money case of one of these.
_RECORDED_MONEY = """
SELECT receipt FROM mpesa_receipts WHERE receipt = ANY(%(receipts)s)
UNION SELECT c.mpesa_receipt_number FROM payment_transactions p JOIN cases c USING (reference)
WHERE p.payment_id = ANY(%(ids)s) AND c.is_money AND c.mpesa_receipt_number = ANY(%(receipts)s)"""

# A push that is not proven unsent may have rung a phone.
_PUSHES = """
SELECT payment_id, count(*) FROM daraja_exchanges
WHERE payment_id = ANY(%s) AND operation = 'push' AND classified_as NOT LIKE 'NotSent%%' GROUP BY payment_id"""

_CALLBACK = f"""
SELECT {selected(CallbackRow._fields, "c", owner_id="p.payment_id", owner_state="p.state")}
FROM callback_inbox c LEFT JOIN payment_transactions p ON p.payment_id = COALESCE(
    (SELECT o.payment_id FROM payment_transactions o WHERE o.reference = c.reference),
    (SELECT r.payment_id FROM refunds r WHERE r.reference = c.reference))"""
_CALLBACKS_AFTER = f"{_CALLBACK} WHERE c.callback_id > %s ORDER BY c.callback_id LIMIT %s"
_CALLBACKS_FOR = f"{_CALLBACK} WHERE c.reference = ANY(%s) ORDER BY c.received_at LIMIT %s"

_CALLBACKS_UNSETTLED = f"""
{_CALLBACK} WHERE c.status = ANY(%s) AND c.status <> 'APPLIED' ORDER BY c.received_at, c.callback_id LIMIT %s"""
_CALLBACK_BY_ID = f"{_CALLBACK} WHERE c.callback_id = %s"

_REPLAYS = f"""
SELECT {", ".join(ReplayRow._fields)} FROM callback_replays
WHERE callback_id = ANY(%s) ORDER BY replayed_at"""

_EXCHANGE = f"SELECT {', '.join(ExchangeRow._fields)} FROM daraja_exchanges"
_EXCHANGES_AFTER = f"{_EXCHANGE} WHERE exchange_id > %s ORDER BY exchange_id LIMIT %s"
_EXCHANGES_OF = f"{_EXCHANGE} WHERE payment_id = %s ORDER BY started_at, exchange_id LIMIT %s"


async def moment(conn: Connection) -> datetime:
    """The database's clock."""
    row = await (await conn.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None, "there is always a time"
    now: datetime = row[0]
    return now


async def first_day_of_log(conn: Connection) -> date | None:
    """The day in UTC of the first event; None while the log is empty."""
    row = await (await conn.execute(_FIRST_EVENT)).fetchone()
    return row[0].astimezone(UTC).date() if row is not None else None


async def hour_of_log(conn: Connection, start: datetime) -> HourOfLog:
    """The events of the hour that begins then."""
    row = await (await conn.execute(_HOUR, (start, start + timedelta(hours=1)))).fetchone()
    assert row is not None, "a count has a row"
    return HourOfLog(*row)


async def payments_after(conn: Connection, after: UUID, most: int) -> list[PaymentProofs]:
    """The next payments, in the order of their ids, which is that of their creation."""
    cursor = await conn.execute(_PAYMENTS_AFTER, (after, most))
    return [PaymentProofs._make(row) for row in await cursor.fetchall()]


async def sharing_request_id(conn: Connection, ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those whose request id has made another payment as well, or served another request."""
    cursor = await conn.execute(_SHARED_REQUEST_IDS, (list(ids),))
    return frozenset(payment_id for (payment_id,) in await cursor.fetchall())


async def sharing_receipt(conn: Connection, ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those whose receipt number stands on another payment as well."""
    cursor = await conn.execute(_SHARED_RECEIPTS, (list(ids),))
    return frozenset(payment_id for (payment_id,) in await cursor.fetchall())


async def requests_about(conn: Connection, ids: Sequence[UUID]) -> list[RequestProofs]:
    """What callers have asked about the given payments since they were made, the oldest first."""
    cursor = await conn.execute(_REQUESTS, (list(ids),))
    return [RequestProofs._make(row) for row in await cursor.fetchall()]


async def backing_of(conn: Connection, payment_id: UUID) -> tuple[str | None, bool]:
    """What backs a payment's money, and whether its booking waits for that."""
    cursor = await conn.execute(_BACKING, (payment_id,))
    row = await cursor.fetchone()
    return (row[0], row[1]) if row is not None else (None, False)


async def receipts_of(conn: Connection, ids: Sequence[UUID]) -> list[ReceiptRow]:
    """The receipt numbers that were seen for the given payments."""
    cursor = await conn.execute(_RECEIPTS, (list(ids),))
    return [ReceiptRow._make(row) for row in await cursor.fetchall()]


async def cases_for(conn: Connection, references: Sequence[str]) -> list[CaseRow]:
    """The cases of the given references, the oldest first."""
    cursor = await conn.execute(_CASES, (list(references),))
    return [CaseRow._make(row) for row in await cursor.fetchall()]


async def recorded_money(conn: Connection, ids: Iterable[UUID], receipts: Iterable[str | None]) -> frozenset[str]:
    """Those of the receipt numbers that are recorded: on any payment, or in a money case of the given ones."""
    cursor = await conn.execute(_RECORDED_MONEY, {"ids": list(ids), "receipts": list(receipts)})
    return frozenset(receipt for (receipt,) in await cursor.fetchall())


async def refunded_of(conn: Connection, ids: Iterable[UUID]) -> frozenset[UUID]:
    """Those of the payments whose money has gone back, or is to go back."""
    cursor = await conn.execute(_REFUNDED_OF, (list(ids),))
    return frozenset(payment_id for (payment_id,) in await cursor.fetchall())


async def pushes_of(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many pushes of each payment may have reached a phone."""
    cursor = await conn.execute(_PUSHES, (list(ids),))
    return dict(await cursor.fetchall())


async def callbacks_after(conn: Connection, after: UUID, most: int) -> list[CallbackRow]:
    """The next callbacks of the inbox."""
    cursor = await conn.execute(_CALLBACKS_AFTER, (after, most))
    return [CallbackRow._make(row) for row in await cursor.fetchall()]


async def callbacks_for(conn: Connection, references: Sequence[str], most: int) -> list[CallbackRow]:
    """The callbacks that came for some references, the oldest first."""
    cursor = await conn.execute(_CALLBACKS_FOR, (list(references), most))
    return [CallbackRow._make(row) for row in await cursor.fetchall()]


async def unsettled_callbacks(conn: Connection, statuses: Sequence[str], most: int) -> list[CallbackRow]:
    """The callbacks in some of the statuses PENDING, UNMATCHED, UNREAD and DEAD, the oldest first."""
    cursor = await conn.execute(_CALLBACKS_UNSETTLED, (list(statuses), most))
    return [CallbackRow._make(row) for row in await cursor.fetchall()]


async def callback(conn: Connection, callback_id: UUID) -> CallbackRow | None:
    """One callback, whatever its status."""
    cursor = await conn.execute(_CALLBACK_BY_ID, (callback_id,))
    row = await cursor.fetchone()
    return None if row is None else CallbackRow._make(row)


async def replays_of(conn: Connection, callback_ids: Sequence[UUID]) -> list[ReplayRow]:
    """What operators have replayed of the given callbacks, the oldest first."""
    cursor = await conn.execute(_REPLAYS, (list(callback_ids),))
    return [ReplayRow._make(row) for row in await cursor.fetchall()]


async def exchanges_after(conn: Connection, after: UUID, most: int) -> list[ExchangeRow]:
    """The next exchanges with Daraja."""
    cursor = await conn.execute(_EXCHANGES_AFTER, (after, most))
    return [ExchangeRow._make(row) for row in await cursor.fetchall()]


async def exchanges_of(conn: Connection, payment_id: UUID, most: int) -> list[ExchangeRow]:
    """What went over the wire for a payment, the oldest first."""
    cursor = await conn.execute(_EXCHANGES_OF, (payment_id, most))
    return [ExchangeRow._make(row) for row in await cursor.fetchall()]
