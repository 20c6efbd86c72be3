"""The table of approvals. The migrations make it; a test holds the two together."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)

from payment_service.store.tables import cases, metadata, payments, required, when

approvals = Table(
    "approvals",
    metadata,
    required("approval_id", Uuid()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="approvals_of_payment"), nullable=False),
    Column("case_id", Uuid(), ForeignKey(cases.c.case_id, name="approvals_of_case")),
    required("act", Text()),
    required("amount", Numeric(10, 2)),
    Column("mpesa_receipt_number", Text()),
    Column("refund_reason", Text()),
    Column("request_id", Text()),
    required("part", Boolean()),
    # How the case and its payments stood when it was asked for.
    required("seen_case", Integer()),
    required("seen_payments", Integer()),
    required("seen_open_cases", Integer()),
    required("asked_by", Text()),
    required("asked_as", Text()),
    required("asked_why", Text()),
    when("asked_at", nullable=False),
    required("state", Text()),
    Column("decided_by", Text()),
    Column("decided_as", Text()),
    Column("decided_why", Text()),
    when("decided_at"),
    # Of the payment that the money goes to, where it does not go back: which one, and what the
    # money versions of all payments of its booking were then, added up.
    Column("to_payment_id", Uuid()),
    Column("seen_target", Integer()),
    PrimaryKeyConstraint("approval_id", name="approvals_pk"),
    CheckConstraint(
        "state IN ('WAITING', 'APPROVED', 'REFUSED', 'WITHDRAWN', 'OVERTAKEN')", name="approvals_state_known"
    ),
    CheckConstraint("(state = 'WAITING') = (decided_at IS NULL)", name="approvals_waiting_is_undecided"),
    CheckConstraint("state NOT IN ('APPROVED', 'REFUSED') OR decided_by <> asked_by", name="approvals_by_another"),
    Index("approvals_one_waiting", "payment_id", unique=True, postgresql_where=text("state = 'WAITING'")),
    Index("approvals_by_payment", "payment_id"),
    Index("approvals_by_case", "case_id", postgresql_where=text("case_id IS NOT NULL")),
)
