"""Which events are news for a passenger, and what is written down of them, with the cursor, in one transaction.

Writing down is exact: once per event, whatever dies. Sending comes after it, in `sending`, from what is written here.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Connection, Integer, MetaData, Table, Text
from sqlalchemy.dialects.sqlite import insert

from payment_client import PaymentEvent, PaymentStatus

metadata = MetaData()

messages = Table(
    "messages",
    metadata,
    # In the order of the events: a booking's messages are sent in the order in which things happened.
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("booking_id", Text, nullable=False),
    # Masked. The number itself, and the address, stand in the booking service's own records.
    Column("phone", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("sms_done", Boolean, nullable=False, default=False),
    Column("mail_done", Boolean, nullable=False, default=False),
)

NEWS = (
    PaymentStatus.PAYMENT_STATUS_COMPLETED,
    PaymentStatus.PAYMENT_STATUS_FAILED,
    PaymentStatus.PAYMENT_STATUS_CANCELLED,
    PaymentStatus.PAYMENT_STATUS_EXPIRED,
    PaymentStatus.PAYMENT_STATUS_REFUNDED,
)
"""What is under way is on the passenger's screen already."""


def take_event(event: PaymentEvent, connection: Connection) -> None:
    """Write down what the passenger is to hear of this event, if anything."""
    payment = event.payment
    if payment.status not in NEWS or payment.status == event.previous_status:
        return
    receipt = f" Receipt {payment.mpesa_receipt_number}." if payment.mpesa_receipt_number else ""
    # An event that is offered again, or is read again after a restore of the service's database, is known here.
    connection.execute(
        insert(messages)
        .on_conflict_do_nothing()
        .values(
            event_id=event.event_id,
            booking_id=payment.booking_id,
            phone=payment.masked_phone,
            text=f"KES {payment.amount.units}, booking {payment.booking_id}: {payment.customer_message}{receipt}",
        )
    )
