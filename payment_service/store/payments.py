"""Payments: locking them for a decision, writing what was decided, creating new ones.

Only `application.record_facts` and `application.create_payment` call the
functions that write.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from payment_service.domain.payment import (
    Backing,
    BookingAction,
    LatePaymentPolicy,
    Payment,
    RefundStatus,
    State,
    UnpaidProof,
)
from payment_service.domain.reasons import Reason
from payment_service.security.sealing import CHECKOUT_REQUEST_ID, Sealer
from payment_service.store.caller_requests import SHARED_LOCKS, UNUSED, UsedId
from payment_service.store.many_rows import array_of, columns_of, inserting, updating
from payment_service.store.pipeline import Connection, Statement
from payment_service.store.tables import payments

CHECKOUT_INDEX = "checkout"
PHONE_INDEX = "phone"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that is one field of a `Payment`, and how the one becomes the other."""

    name: str
    field: str
    read: Callable[[Any], object] | None
    """Makes the field of what the column holds, unless that is NULL; None where they are the same."""
    write: Callable[[Payment], object]
    may_change: bool


def _fixed(name: str, read: Callable[[Any], object] | None = None) -> _Column:
    return _Column(name, name, read, attrgetter(name), may_change=False)


def _mutable(name: str, field: str | None = None, read: Callable[[Any], object] | None = None) -> _Column:
    return _Column(name, field or name, read, attrgetter(field or name), may_change=True)


# All that a `Payment` has, but for the CheckoutRequestID, which is sealed. What is read and written follows this list.
_COLUMNS = (
    _fixed("payment_id"),
    _fixed("caller"),
    _fixed("booking_id"),
    _fixed("reference"),
    _fixed("attempt"),
    _fixed("retry_of"),
    _fixed("amount", read=int),
    _fixed("created_at"),
    _fixed("hold_expire_at"),
    _fixed("late_payment_policy", read=LatePaymentPolicy),
    _mutable("state", read=State),
    _mutable("status_reason", "reason", Reason),
    _mutable("provider_result_code", "result_code"),
    _mutable("version"),
    _mutable("receipt_versions"),
    _mutable("booking_action", read=BookingAction),
    _mutable("outcome_certain"),
    _mutable("retry_allowed_at"),
    _mutable("mpesa_receipt_number", "receipt"),
    _mutable("transaction_date", "transaction_at"),
    _mutable("paid_late"),
    _mutable("completed_at"),
    _mutable("blocks_booking"),
    _mutable("said_confirm"),
    _mutable("money_case_open"),
    _mutable("review_reason", read=Reason),
    _mutable("refund_id"),
    _mutable("refund_status", read=RefundStatus),
    _mutable("refunded_amount", read=int),
    _mutable("refund_under_way"),
    _mutable("seat_freed"),
    _mutable("claim_id"),
    _mutable("lease_expires_at"),
    _mutable("sent_at"),
    _mutable("not_sent_count"),
    _mutable("send_at"),
    _mutable("merchant_request_id"),
    _mutable("result_seen"),
    _mutable("paid_seen_at"),
    _mutable("paid_twice"),
    _mutable("unpaid_seen_at"),
    _mutable("unpaid_proof", read=UnpaidProof),
    _fixed("back_first"),
    _mutable("backing", read=Backing),
    _mutable("back_at"),
    _mutable("ids_from_callback"),
    _mutable("unread_callback"),
    _mutable("due_at"),
    _mutable("query_at"),
    _mutable("updated_at"),
    _mutable("expires_at"),
)
_MUTABLE = tuple(column for column in _COLUMNS if column.may_change)
_SEALED = ("checkout_request_id", "checkout_index_a", "chain_hash")
"""What is written with what may change, and is no field as it stands: see `_sealed_columns`."""

# A payment is read in the order of its own fields.
_FIELDS = tuple(field.name for field in fields(Payment))
_COLUMN_OF = {column.field: column for column in _COLUMNS}
_CHECKOUT = _FIELDS.index("checkout_request_id")
_READERS = tuple(
    (place, column.read)
    for place, name in enumerate(_FIELDS)
    if (column := _COLUMN_OF.get(name)) is not None and column.read is not None
)
_NAMES = tuple("checkout_request_id" if name == _FIELDS[_CHECKOUT] else _COLUMN_OF[name].name for name in _FIELDS)
_SELECTED = ", ".join(f"p.{name}" for name in (*_NAMES, "chain_hash", "trace_parent", "shortcode"))
_STORED_WIDTH = len(_FIELDS) + 3
"""Columns of `_SELECTED`; what else a statement selects stands behind them."""
_PAYMENT_ID = _FIELDS.index("payment_id")


class RequestColumns(NamedTuple):
    """The request that made a payment, as it is kept in its row and never changed."""

    request_id: str
    shortcode: str
    phone_number: bytes
    """Sealed."""
    phone_index_a: bytes
    phone_warning: str | None
    account_reference: str
    transaction_desc: str
    language_code: str
    metadata: dict[str, str]
    request: bytes
    """Sealed."""
    request_fingerprint: bytes
    request_encoding: int
    request_key_id: str
    trace_parent: str | None
    pay_by_hand_until: datetime | None
    """Until when the payer may pay by hand and is found before the hold ends."""


# The plans of these statements are kept from when the tables were empty, and must not depend on it: `caller || ''` can
# use no index, so that the one that begins with the booking or the request id is taken, never all of a caller's rows.
_OF_WHOLE_BOOKINGS = """
FROM payment_transactions p JOIN (
    SELECT caller, booking_id FROM payment_transactions WHERE payment_id = ANY($1::uuid[])
    UNION SELECT caller, booking_id FROM payment_transactions WHERE reference = ANY($2::text[])
) AS told ON p.booking_id = told.booking_id AND p.caller || '' = told.caller
ORDER BY p.payment_id"""

# `status || ''` can use no index: the one that begins with the reference is taken, never all that waits.
_WAITING_CALLBACKS = """ARRAY(
    SELECT body_hash FROM callback_inbox i
    WHERE i.reference = p.reference AND i.status || '' IN ('PENDING', 'UNMATCHED', 'DEAD'))"""

# The whole booking is locked, always in the order of the ids: whoever needs several payments takes them in this order.
# A row that somebody else has locked is left out instead of waited for: it may be locked from a console, for minutes.
_LOCK = f"SELECT {_SELECTED}, {_WAITING_CALLBACKS} {_OF_WHOLE_BOOKINGS} FOR NO KEY UPDATE OF p SKIP LOCKED"

_NAMED = f"SELECT p.payment_id, p.reference, p.caller, p.booking_id {_OF_WHOLE_BOOKINGS}"

_UPDATE = updating(payments, "payment_id", "version", [*(column.name for column in _MUTABLE), *_SEALED])

_INSERT = inserting(
    payments,
    [*(column.name for column in _COLUMNS), *_SEALED, *RequestColumns._fields],
    f"{UNUSED} ON CONFLICT DO NOTHING RETURNING payment_id",
)

_OF_BOOKINGS = f"""
SELECT {_SELECTED} FROM payment_transactions p
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS pairs (caller, booking_id)) AS wanted
ON p.booking_id = wanted.booking_id AND p.caller || '' = wanted.caller"""

_OF_BOOKING = f"""
SELECT {_SELECTED} FROM payment_transactions p
WHERE p.booking_id = %s AND p.caller = %s ORDER BY p.payment_id DESC LIMIT %s"""

_CALLERS_OF_BOOKING = "SELECT DISTINCT caller FROM payment_transactions WHERE booking_id = %s ORDER BY caller"

# The locks are a condition on no row, so they are taken once, before any row is looked for.
_OF_REQUESTS = f"""
SELECT {_SELECTED}, request_id, p.request, p.request_fingerprint, p.request_key_id, p.account_reference, p.shortcode
FROM payment_transactions p
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS pairs (caller, request_id)) AS wanted
USING (request_id) WHERE p.caller || '' = wanted.caller AND {SHARED_LOCKS} > 0"""

_ACCOUNT_REFERENCES_IN_USE = """
SELECT account_reference FROM payment_transactions
WHERE account_reference = ANY($1::text[]) AND created_at > $2::timestamptz"""

_CHECKOUT_HOLDERS = (
    "SELECT checkout_index_a, payment_id FROM payment_transactions WHERE checkout_index_a = ANY($1::bytea[])"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A payment as its row has it, with what is stored beside it and no decision needs."""

    payment: Payment
    sealed_checkout_id: bytes | None
    chain_hash: bytes
    trace_parent: str | None
    shortcode: str


class PaymentNames(NamedTuple):
    """What a payment goes by, and its booking."""

    payment_id: UUID
    reference: str
    caller: str
    booking_id: str


@dataclass(frozen=True, slots=True)
class EarlierPayment:
    """A payment that a request id has made, and the request, as it is kept."""

    payment: Payment
    use: UsedId
    account_reference: str
    shortcode: str
    """The one it was made with, named by the request or not."""


def lock_payments(ids: Sequence[UUID], references: Sequence[str]) -> Statement:
    """Lock the named payments and all others of their bookings, but for what is locked already.

    Rows for `stored` and `waiting_callbacks`.
    """
    return Statement(_LOCK, (array_of(ids), array_of(references)))


def payments_to_lock(ids: Sequence[UUID], references: Sequence[str]) -> Statement:
    """What `lock_payments` returns where nothing is locked by somebody else; rows of `PaymentNames`."""
    return Statement(_NAMED, (array_of(ids), array_of(references)))


def payments_of_bookings(bookings: Sequence[tuple[str, str]]) -> Statement:
    """All attempts of the given (caller, booking_id) pairs; rows for `stored`."""
    return Statement(_OF_BOOKINGS, columns_of(bookings))


def payments_of_requests(requests: Sequence[tuple[str, str]]) -> Statement:
    """The payments made by the given (caller, request_id) pairs; rows for `earlier_payment`.

    The ids are shared from here to the end of the transaction: see `caller_requests`.
    """
    return Statement(_OF_REQUESTS, columns_of(requests))


def account_references_in_use(candidates: Sequence[str], since: datetime) -> Statement:
    """Which of these account references a payment made after `since` already has."""
    return Statement(_ACCOUNT_REFERENCES_IN_USE, (array_of(candidates), since.isoformat()))


def checkout_holders(indexes: Sequence[bytes]) -> Statement:
    """(blind index, payment id) of those CheckoutRequestIDs that are recorded somewhere."""
    return Statement(_CHECKOUT_HOLDERS, (array_of(indexes),))


async def callers_of_booking(conn: Connection, booking_id: str) -> list[str]:
    """The callers that have payments of a booking with this id. Each has booking ids of its own."""
    cursor = await conn.execute(_CALLERS_OF_BOOKING, (booking_id,))
    return [caller for (caller,) in await cursor.fetchall()]


async def read_attempts(conn: Connection, sealer: Sealer, caller: str, booking_id: str, most: int) -> list[Payment]:
    """The latest payments of a caller's booking, the oldest of them first."""
    cursor = await conn.execute(_OF_BOOKING, (booking_id, caller, most))
    return [stored(row, sealer).payment for row in reversed(await cursor.fetchall())]


def update_payments(sealer: Sealer, changes: Sequence[tuple[Payment, Stored]]) -> Statement:
    """Write (payment before, row now); a row that another writer has changed since is left out of the count."""
    before, now = [before for before, _ in changes], [row for _, row in changes]
    keys = [array_of([payment.payment_id for payment in before]), array_of([payment.version for payment in before])]
    return Statement(_UPDATE, [*keys, *_columns_of_payments(_MUTABLE, now), *_sealed_columns(now, sealer)])


def insert_payments(sealer: Sealer, new: Sequence[tuple[Stored, RequestColumns]]) -> Statement:
    """Insert payments; returns the ids of those that met no other payment or request in their place."""
    rows, requests = [row for row, _ in new], [request for _, request in new]
    columns = [*_columns_of_payments(_COLUMNS, rows), *_sealed_columns(rows, sealer), *columns_of(requests)]
    return Statement(_INSERT, columns)


def stored(row: Sequence[Any], sealer: Sealer) -> Stored:
    """The payment of a row that was selected by one of the functions above."""
    *values, chain_hash, trace_parent, shortcode = row[:_STORED_WIDTH]
    sealed = values[_CHECKOUT]
    for place, read in _READERS:
        if values[place] is not None:
            values[place] = read(values[place])
    if sealed is not None:
        values[_CHECKOUT] = sealer.open(CHECKOUT_REQUEST_ID, payment_id_of(row).bytes, sealed).decode()
    return Stored(Payment(*values), sealed, chain_hash, trace_parent, shortcode)


def waiting_callbacks(row: Sequence[Any]) -> frozenset[bytes]:
    """The hashes of the bodies that were kept for a payment and are not applied; of a row of `lock_payments`."""
    return frozenset(row[_STORED_WIDTH])


def payment_id_of(row: Sequence[Any]) -> UUID:
    """The id of the payment that a row for `stored` is about; for a row that cannot be read as a whole."""
    payment_id: UUID = row[_PAYMENT_ID]
    return payment_id


def earlier_payment(row: Sequence[Any], sealer: Sealer) -> EarlierPayment:
    """The payment of a row that was selected by `payments_of_requests`."""
    payment = stored(row, sealer).payment
    request_id, sealed, fingerprint, key_id, account_reference, shortcode = row[_STORED_WIDTH:]
    use = UsedId(
        caller=payment.caller,
        request_id=request_id,
        kept_id=payment.payment_id,
        payment_id=payment.payment_id,
        sealed=sealed,
        fingerprint=fingerprint,
        key_id=key_id,
    )
    return EarlierPayment(payment, use, account_reference, shortcode)


def _columns_of_payments(columns: Sequence[_Column], rows: Sequence[Stored]) -> list[str]:
    """One array literal a column."""
    found = [row.payment for row in rows]
    return [array_of(map(column.write, found)) for column in columns]


def _sealed_columns(rows: Sequence[Stored], sealer: Sealer) -> list[str]:
    """One array literal for each of `_SEALED`. A CheckoutRequestID that was sealed before is written as it was."""
    sealed, indexes = [], []
    for row in rows:
        payment, checkout_id = row.payment, row.sealed_checkout_id
        if payment.checkout_request_id is not None and checkout_id is None:
            checkout_id = sealer.seal(
                CHECKOUT_REQUEST_ID, payment.payment_id.bytes, payment.checkout_request_id.encode()
            )
        sealed.append(checkout_id)
        known = payment.checkout_request_id
        indexes.append(None if known is None else sealer.index(CHECKOUT_INDEX, known))
    return [array_of(sealed), array_of(indexes), array_of([row.chain_hash for row in rows])]
