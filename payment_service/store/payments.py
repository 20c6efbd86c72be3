"""Payments: locking them for a decision, writing what was decided, creating new ones.

Only `application.record_facts` and `application.create_payment` call the
functions that write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.payment import BookingAction, LatePaymentPolicy, Payment, State
from payment_service.domain.reasons import Reason
from payment_service.security.sealing import CHECKOUT_REQUEST_ID, PHONE_NUMBER, SealBroken, Sealer
from payment_service.store.caller_requests import SHARED_LOCKS, UNUSED
from payment_service.store.many_rows import Row, array_of, columns_of, inserting, updating
from payment_service.store.pipeline import Statement
from payment_service.store.tables import payments

CHECKOUT_INDEX = "checkout"
PHONE_INDEX = "phone"

_log = structlog.get_logger(__name__)

# What may change, in the order of `_values`.
_MUTABLE = (
    "state",
    "status_reason",
    "provider_result_code",
    "version",
    "booking_action",
    "outcome_certain",
    "retry_allowed_at",
    "mpesa_receipt_number",
    "transaction_date",
    "paid_late",
    "completed_at",
    "blocks_booking",
    "said_confirm",
    "money_case_open",
    "claim_id",
    "lease_expires_at",
    "sent_at",
    "not_sent_count",
    "send_at",
    "merchant_request_id",
    "result_seen",
    "paid_seen_at",
    "paid_twice",
    "due_at",
    "query_at",
    "updated_at",
    "expires_at",
    "checkout_request_id",
    "checkout_index_a",
    "chain_hash",
)
# What never changes and decisions are made from, in the order of `_payment`.
_FIXED = (
    "payment_id",
    "caller",
    "booking_id",
    "reference",
    "attempt",
    "retry_of",
    "amount",
    "created_at",
    "hold_expire_at",
    "late_payment_policy",
)
# What is only ever written here: the request itself.
_REQUEST = (
    "request_id",
    "shortcode",
    "phone_number",
    "phone_index_a",
    "phone_warning",
    "account_reference",
    "transaction_desc",
    "language_code",
    "metadata",
    "request",
    "request_fingerprint",
    "request_encoding",
    "request_key_id",
    "trace_parent",
)

_SELECTED = ", ".join(f"p.{name}" for name in _FIXED + _MUTABLE)

# The plans of these statements are kept from when the tables were empty, and must not depend on it: `caller || ''` can
# use no index, so that the one that begins with the booking or the request id is taken, never all of a caller's rows.
# The whole booking is locked, always in the order of the ids: whoever needs several payments takes them in this order.
_LOCK = f"""
SELECT {_SELECTED}, p.trace_parent FROM payment_transactions p JOIN (
    SELECT caller, booking_id FROM payment_transactions WHERE payment_id = ANY($1::uuid[])
    UNION SELECT caller, booking_id FROM payment_transactions WHERE reference = ANY($2::text[])
) AS told ON p.booking_id = told.booking_id AND p.caller || '' = told.caller
ORDER BY p.payment_id FOR NO KEY UPDATE OF p"""

_UPDATE = updating(payments, "payment_id", "version", _MUTABLE)

_INSERT = inserting(payments, _FIXED + _REQUEST + _MUTABLE, f"{UNUSED} ON CONFLICT DO NOTHING RETURNING payment_id")

_OF_BOOKINGS = f"""
SELECT {_SELECTED} FROM payment_transactions p
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS pairs (caller, booking_id)) AS wanted
ON p.booking_id = wanted.booking_id AND p.caller || '' = wanted.caller"""

# The locks are a condition on no row, so they are taken once, before any row is looked for.
_OF_REQUESTS = f"""
SELECT {_SELECTED}, request_id, request, request_fingerprint, request_key_id, account_reference
FROM payment_transactions p
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS pairs (caller, request_id)) AS wanted
USING (request_id) WHERE p.caller || '' = wanted.caller AND {SHARED_LOCKS} > 0"""

_ACCOUNT_REFERENCES_IN_USE = """
SELECT account_reference FROM payment_transactions
WHERE account_reference = ANY($1::text[]) AND created_at > $2::timestamptz"""

_CHECKOUT_HOLDERS = (
    "SELECT checkout_index_a, payment_id FROM payment_transactions WHERE checkout_index_a = ANY($1::bytea[])"
)

_PROMPTS = select(
    payments.c.payment_id,
    payments.c.reference,
    payments.c.phone_number,
    payments.c.amount,
    payments.c.shortcode,
    payments.c.account_reference,
    payments.c.transaction_desc,
    payments.c.trace_parent,
).where(payments.c.payment_id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Stored:
    """A payment as its row has it, with what is stored beside it and no decision needs."""

    payment: Payment
    sealed_checkout_id: bytes | None
    chain_hash: bytes
    trace_parent: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to the phone for one payment."""

    payment_id: UUID
    reference: str
    phone_number: str = field(repr=False)
    amount: int
    """Whole shillings."""
    shortcode: str
    account_reference: str
    description: str
    trace_parent: str | None


def lock_payments(ids: Sequence[UUID], references: Sequence[str]) -> Statement:
    """Lock the named payments and all others of their bookings; rows for `stored`."""
    return Statement(_LOCK, (array_of(ids), array_of(references)))


def payments_of_bookings(bookings: Sequence[tuple[str, str]]) -> Statement:
    """All attempts of the given (caller, booking_id) pairs; rows for `stored`."""
    return Statement(_OF_BOOKINGS, columns_of(bookings))


def payments_of_requests(requests: Sequence[tuple[str, str]]) -> Statement:
    """The payments made by the given (caller, request_id) pairs; rows for `stored` with the request behind.

    The ids are shared from here to the end of the transaction: see `caller_requests`.
    """
    return Statement(_OF_REQUESTS, columns_of(requests))


def account_references_in_use(candidates: Sequence[str], since: datetime) -> Statement:
    """Which of these account references a payment made after `since` already has."""
    return Statement(_ACCOUNT_REFERENCES_IN_USE, (array_of(candidates), since.isoformat()))


def checkout_holders(indexes: Sequence[bytes]) -> Statement:
    """(blind index, payment id) of those CheckoutRequestIDs that are recorded somewhere."""
    return Statement(_CHECKOUT_HOLDERS, (array_of(indexes),))


async def read_prompts(conn: AsyncConnection, sealer: Sealer, ids: Sequence[UUID]) -> list[Prompt]:
    """What to send for the given payments; one whose phone number does not open is left out, and holds up no other."""
    prompts = []
    for row in await conn.execute(_PROMPTS, {"ids": list(ids)}):
        try:
            phone_number = sealer.open(PHONE_NUMBER, row.payment_id.bytes, row.phone_number).decode()
        except SealBroken:
            _log.exception("phone number does not open", payment_id=str(row.payment_id))
            continue
        prompts.append(
            Prompt(
                payment_id=row.payment_id,
                reference=row.reference,
                phone_number=phone_number,
                amount=int(row.amount),
                shortcode=row.shortcode,
                account_reference=row.account_reference,
                description=row.transaction_desc,
                trace_parent=row.trace_parent,
            )
        )
    return prompts


def update_payments(sealer: Sealer, changes: Sequence[tuple[Payment, Stored]]) -> Statement:
    """Write (row before, row now); a row that another writer has changed since is left out of the count."""
    rows = [(now.payment.payment_id, before.version, *_values(now, sealer)) for before, now in changes]
    return Statement(_UPDATE, columns_of(rows))


def insert_payments(rows: Sequence[Row]) -> Statement:
    """Insert rows made by `new_row`; returns the ids of those that met no other payment or request in their place."""
    return Statement(_INSERT, columns_of(rows))


def new_row(new: Stored, sealer: Sealer, request_columns: Row) -> Row:
    """One row for `insert_payments`; `request_columns` are those of `_REQUEST`, in order."""
    payment = new.payment
    fixed = (
        payment.payment_id,
        payment.caller,
        payment.booking_id,
        payment.reference,
        payment.attempt,
        payment.retry_of,
        payment.amount,
        payment.created_at,
        payment.hold_expire_at,
        payment.late_payment_policy.value,
    )
    return (*fixed, *request_columns, *_values(new, sealer))


def stored(row: Sequence[Any], sealer: Sealer) -> Stored:
    """The payment of a row that was selected by one of the functions above."""
    fixed, mutable, behind = row[: len(_FIXED)], row[len(_FIXED) : WIDTH], row[WIDTH:]
    sealed, _, chain_hash = mutable[-3:]
    payment_id = fixed[0]
    checkout_id = None if sealed is None else sealer.open(CHECKOUT_REQUEST_ID, payment_id.bytes, sealed).decode()
    payment = _payment(fixed, mutable, checkout_id)
    return Stored(payment, sealed, chain_hash, behind[0] if len(behind) == 1 else None)


WIDTH = len(_FIXED) + len(_MUTABLE)
"""Columns of a payment in every row selected here; what else a statement selects stands behind them."""


def _payment(fixed: Sequence[Any], mutable: Sequence[Any], checkout_request_id: str | None) -> Payment:
    amount: Decimal = fixed[6]
    return Payment(
        payment_id=fixed[0],
        caller=fixed[1],
        booking_id=fixed[2],
        reference=fixed[3],
        attempt=fixed[4],
        retry_of=fixed[5],
        amount=int(amount),
        created_at=fixed[7],
        hold_expire_at=fixed[8],
        late_payment_policy=LatePaymentPolicy(fixed[9]),
        state=State(mutable[0]),
        reason=None if mutable[1] is None else Reason(mutable[1]),
        result_code=mutable[2],
        version=mutable[3],
        booking_action=BookingAction(mutable[4]),
        outcome_certain=mutable[5],
        retry_allowed_at=mutable[6],
        receipt=mutable[7],
        transaction_at=mutable[8],
        paid_late=mutable[9],
        completed_at=mutable[10],
        blocks_booking=mutable[11],
        said_confirm=mutable[12],
        money_case_open=mutable[13],
        claim_id=mutable[14],
        lease_expires_at=mutable[15],
        sent_at=mutable[16],
        not_sent_count=mutable[17],
        send_at=mutable[18],
        merchant_request_id=mutable[19],
        result_seen=mutable[20],
        paid_seen_at=mutable[21],
        paid_twice=mutable[22],
        due_at=mutable[23],
        query_at=mutable[24],
        updated_at=mutable[25],
        expires_at=mutable[26],
        checkout_request_id=checkout_request_id,
    )


def _values(row: Stored, sealer: Sealer) -> Row:
    payment = row.payment
    sealed, index = row.sealed_checkout_id, None
    if payment.checkout_request_id is not None:
        index = sealer.index(CHECKOUT_INDEX, payment.checkout_request_id)
        if sealed is None:
            checkout_id = payment.checkout_request_id.encode()
            sealed = sealer.seal(CHECKOUT_REQUEST_ID, payment.payment_id.bytes, checkout_id)
    return (
        payment.state.value,
        payment.reason and payment.reason.value,
        payment.result_code,
        payment.version,
        payment.booking_action.value,
        payment.outcome_certain,
        payment.retry_allowed_at,
        payment.receipt,
        payment.transaction_at,
        payment.paid_late,
        payment.completed_at,
        payment.blocks_booking,
        payment.said_confirm,
        payment.money_case_open,
        payment.claim_id,
        payment.lease_expires_at,
        payment.sent_at,
        payment.not_sent_count,
        payment.send_at,
        payment.merchant_request_id,
        payment.result_seen,
        payment.paid_seen_at,
        payment.paid_twice,
        payment.due_at,
        payment.query_at,
        payment.updated_at,
        payment.expires_at,
        sealed,
        index,
        row.chain_hash,
    )
