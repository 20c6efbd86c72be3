"""The table of refunds. The migrations make it; a test holds the two together."""

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
    UniqueConstraint,
    Uuid,
    text,
)

from payment_service.store.tables import metadata, payments, receipts, required, when

refunds = Table(
    "refunds",
    metadata,
    required("refund_id", Uuid()),
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="refunds_of_payment"), nullable=False),
    required("caller", Text()),
    required("reference", Text()),
    required("shortcode", Text()),
    Column("receipt", Text(), ForeignKey(receipts.c.receipt, name="refunds_of_receipt"), nullable=False),
    required("amount", Numeric(10, 2)),
    required("reason", Text()),
    when("requested_at", nullable=False),
    required("method", Text(), "'REVERSAL'"),
    required("by_itself", Boolean(), "false"),
    required("state", Text()),
    Column("result_code", Text()),
    Column("claim_id", Uuid()),
    Column("sent_as", Text()),
    when("lease_expires_at"),
    when("sent_at"),
    required("not_sent_count", Integer()),
    when("send_at"),
    Column("originator_conversation_id", Text()),
    Column("conversation_id", Text()),
    when("ended_at"),
    when("due_at"),
    # How often it has been asked about: no part of its state, so asking takes no lock of the payment.
    required("ask_count", Integer(), "0"),
    when("next_ask_at"),
    when("posted_at"),
    PrimaryKeyConstraint("refund_id", name="refunds_pk"),
    UniqueConstraint("reference", name="refunds_one_per_reference"),
    CheckConstraint("amount > 0 AND amount = trunc(amount)", name="refunds_amount_whole"),
    CheckConstraint(
        "state IN ('REQUESTED', 'SENDING', 'ACCEPTED', 'UNCERTAIN', 'DONE', 'FAILED')", name="refunds_state_known"
    ),
    CheckConstraint(
        "state <> 'SENDING' OR (claim_id IS NOT NULL AND lease_expires_at IS NOT NULL AND sent_at IS NOT NULL)",
        name="refunds_sending_is_claimed",
    ),
    # Our name of a part is stored before anything is sent.
    CheckConstraint(
        "method = 'REVERSAL' OR (method = 'B2C' AND originator_conversation_id IS NOT NULL)",
        name="refunds_method_known",
    ),
    CheckConstraint("(state = 'REQUESTED') = (send_at IS NOT NULL)", name="refunds_to_be_sent"),
    CheckConstraint("(state IN ('DONE', 'FAILED')) = (ended_at IS NOT NULL)", name="refunds_ended_has_time"),
    Index("refunds_by_itself", "requested_at", postgresql_where=text("by_itself")),
    Index("refunds_by_payment", "payment_id"),
    Index("refunds_by_receipt", "receipt"),
    Index("refunds_to_send", "send_at", postgresql_where=text("send_at IS NOT NULL")),
    Index("refunds_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index(
        "refunds_refused_initiators",
        "sent_as",
        "ended_at",
        postgresql_where=text("result_code IN ('2001', '8006')"),
    ),
    Index("refunds_proven_initiators", "sent_as", "ended_at", postgresql_where=text("state = 'DONE'")),
    Index("refunds_to_ask_about", "next_ask_at", postgresql_where=text("state = 'UNCERTAIN'")),
)
