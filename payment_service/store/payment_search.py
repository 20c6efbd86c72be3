"""Payments found by what somebody can say of them, whoever the caller was; and what a stretch of time has brought.

Only ids are found here: what of a payment a person may see is read, and its number masked, as everywhere else.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class PaymentSearch:
    """What is known of a payment: one of these, or both times of its completion."""

    phone_index: bytes | None = None
    """Blind."""
    receipt: str | None = None
    booking_id: str | None = None
    reference: str | None = None
    request_id: str | None = None
    completed_from: datetime | None = None
    completed_before: datetime | None = None


class Takings(NamedTuple):
    """What came in a stretch of time, and what of that has gone back; whole shillings."""

    payments: int
    received: Decimal
    returned_payments: int
    returned: Decimal


_PAID = "p.state IN ('COMPLETED', 'REFUNDING', 'REFUNDED')"
_WITHIN = f"p.completed_at >= :completed_from AND p.completed_at < :completed_before AND {_PAID}"
# A receipt in doubt stands in its case only, and the money of a second one on no payment's own row.
_BY_RECEIPT = """
SELECT payment_id FROM payment_transactions WHERE mpesa_receipt_number = :receipt
UNION SELECT payment_id FROM mpesa_receipts WHERE receipt = :receipt
UNION SELECT payment_id FROM cases WHERE mpesa_receipt_number = :receipt AND payment_id IS NOT NULL"""
_BY_REQUEST = """
SELECT payment_id FROM payment_transactions WHERE request_id = :request_id
UNION SELECT payment_id FROM caller_requests WHERE request_id = :request_id"""
_FOUND = "SELECT payment_id FROM payment_transactions p WHERE"
_SEARCHES = {
    "phone_index": f"{_FOUND} p.phone_index_a = :phone_index",
    "receipt": _BY_RECEIPT,
    "booking_id": f"{_FOUND} p.booking_id = :booking_id",
    "reference": f"{_FOUND} p.reference = :reference",
    "request_id": _BY_REQUEST,
    "completed_from": f"{_FOUND} {_WITHIN}",
}
_TAKINGS = text(f"""
SELECT count(*), coalesce(sum(money), 0), count(*) FILTER (WHERE gone > 0), coalesce(sum(gone), 0)
FROM (SELECT coalesce(r.amount, p.amount) AS money,
        CASE WHEN p.state = 'REFUNDED' THEN coalesce(r.amount, p.amount) ELSE p.refunded_amount END AS gone
    FROM payment_transactions p LEFT JOIN mpesa_receipts r ON r.receipt = p.mpesa_receipt_number
    WHERE {_WITHIN}) AS came""")


async def find_payments(conn: AsyncConnection, wanted: PaymentSearch, before: UUID | None, most: int) -> list[UUID]:
    """The ids of the payments, the newest first; before one of them, or from the newest on."""
    (search,) = (sql for name, sql in _SEARCHES.items() if getattr(wanted, name) is not None)
    earlier = "WHERE payment_id < :before" if before is not None else ""
    found = f"SELECT payment_id FROM ({search}) AS found {earlier} ORDER BY payment_id DESC LIMIT :most"
    values = {name: getattr(wanted, name) for name in PaymentSearch.__dataclass_fields__}
    return [row[0] for row in await conn.execute(text(found), {**values, "before": before, "most": most})]


async def takings(conn: AsyncConnection, completed_from: datetime, completed_before: datetime) -> Takings:
    """What was received by payments that were completed within these times."""
    times = {"completed_from": completed_from, "completed_before": completed_before}
    return Takings._make((await conn.execute(_TAKINGS, times)).one())
