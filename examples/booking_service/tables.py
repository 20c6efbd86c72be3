"""The booking service's own database: trips, seats, bookings, what is to be asked of the payment service, and tickets.

The cursor of the event stream lives here too, in the tables of `payment_client.cursors.sqlalchemy`.
"""

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)

metadata = MetaData()

trips = Table(
    "trips",
    metadata,
    Column("trip_id", Text, primary_key=True),
    Column("route", Text, nullable=False),
    Column("price", Integer, nullable=False),
)

seats = Table(
    "seats",
    metadata,
    Column("trip_id", Text, ForeignKey("trips.trip_id"), primary_key=True),
    Column("seat", Text, primary_key=True),
    # Whose it is, held or sold; none while it is free. One row for each seat: so it can never be two people's.
    Column("booking_id", Text),
)

bookings = Table(
    "bookings",
    metadata,
    Column("booking_id", Text, primary_key=True),
    Column("trip_id", Text, nullable=False),
    Column("seat", Text, nullable=False),
    Column("phone_number", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("hold_until", DateTime(timezone=True), nullable=False),
    # Of the passenger; the payment service's sentences come in it.
    Column("language", Text, nullable=False, server_default="en"),
    # As the payment service said last.
    Column("payment_id", Text),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("booking_action", Text, nullable=False, server_default="WAIT"),
    Column("message", Text, nullable=False, server_default=""),
    Column("retry_allowed_at", DateTime(timezone=True)),
    Column("next_step", Text, nullable=False, server_default=""),
    Column("reference", Text, nullable=False, server_default=""),
    Column("mpesa_receipt_number", Text, nullable=False, server_default=""),
    Column("refund_status", Text, nullable=False, server_default=""),
    Column("refund_amount", Integer, nullable=False, server_default="0"),
    ForeignKeyConstraint(["trip_id", "seat"], ["seats.trip_id", "seats.seat"]),
)

# For what a booking was made. What the trip costs may change, and the booking's attempts and its page do not.
agreed_prices = Table(
    "agreed_prices",
    metadata,
    Column("booking_id", Text, primary_key=True),
    Column("price", Integer, nullable=False),
)

# Which booking an app's request has made: a request that is repeated after a lost answer finds it.
booking_keys = Table(
    "booking_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("booking_id", Text, nullable=False),
)

# The payment of a booking whose receipt is issued. What it says is asked for when somebody wants to see it.
issued_receipts = Table(
    "issued_receipts",
    metadata,
    Column("booking_id", Text, primary_key=True),
    Column("payment_id", Text, nullable=False),
)

# What the passenger may type in the M-Pesa menu instead, as the payment service said last.
pay_bills = Table(
    "pay_bills",
    metadata,
    Column("booking_id", Text, primary_key=True),
    Column("payment_id", Text, nullable=False),
    Column("business_number", Text, nullable=False),
    Column("account_number", Text, nullable=False),
    Column("pay_from", DateTime(timezone=True)),
    Column("pay_until", DateTime(timezone=True), nullable=False),
)

requests = Table(
    "payment_requests",
    metadata,
    Column("number", Integer, Identity(always=True), primary_key=True),
    # Made and committed before the first call, and repeated with every one after it: so nothing happens twice.
    Column("request_id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("booking_id", Text, nullable=False),
    Column("payment_id", Text),
    # Of a retry: another number than the one before.
    Column("phone_number", Text, nullable=False, server_default=""),
    Column("refused_with", Text),
    Column("done", Boolean, nullable=False, server_default="false"),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # One of a kind for each payment: another retry of the same attempt, or another refund, is a mistake of ours.
    UniqueConstraint("kind", "booking_id", "payment_id", name="one_request_of_a_kind"),
)

tickets = Table(
    "tickets",
    metadata,
    Column("ticket", Integer, Identity(always=True), primary_key=True),
    Column("booking_id", Text, nullable=False),
    Column("trip_id", Text, nullable=False),
    Column("seat", Text, nullable=False),
    Column("payment_id", Text, nullable=False),
    Column("mpesa_receipt_number", Text, nullable=False),
    UniqueConstraint("trip_id", "seat", name="a_seat_is_sold_once"),
)

BOOKED_PRICE = func.coalesce(agreed_prices.c.price, trips.c.price)
"""A booking's; one that is older than the table of prices has its trip's until its payment tells the amount."""
