"""The tables of passengers' receipts. The migrations make them; a test holds the two together."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from payment_service.store.tables import metadata, payments, required, when

issued_receipts = Table(
    "issued_receipts",
    metadata,
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="issued_receipts_of_payment"), nullable=False),
    required("revision", Integer()),
    required("number", Text()),
    when("issued_at", nullable=False),
    required("standing", Text()),
    required("amount", Numeric(10, 2)),
    required("mpesa_receipt_number", Text()),
    required("refunded_amount", Numeric(10, 2)),
    # The parts that have gone back, the first one first: of each the amount and when.
    required("returned", JSONB()),
    required("issuer", JSONB()),
    Column("tax_invoice", JSONB()),
    PrimaryKeyConstraint("payment_id", "revision", name="issued_receipts_pk"),
    UniqueConstraint("number", "revision", name="issued_receipts_one_per_number"),
    CheckConstraint("revision > 0", name="issued_receipts_revision_counts_up"),
)

receipts_due = Table(
    "receipts_due",
    metadata,
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="receipts_due_of_payment"), nullable=False),
    # Moved forward by whoever takes it up.
    when("due_at", nullable=False),
    PrimaryKeyConstraint("payment_id", name="receipts_due_pk"),
    Index("receipts_due_by_time", "due_at"),
)
