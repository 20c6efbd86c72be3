"""The tables of the rules against unwanted prompts. The migrations make them; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from payment_service.store.tables import metadata, payments, required, when

risk_decisions = Table(
    "risk_decisions",
    metadata,
    required("decision_id", Uuid()),
    required("rule", Text()),
    required("mode", Text()),
    required("caller", Text()),
    required("request_id", Text()),
    required("booking_id", Text()),
    required("phone_index", LargeBinary()),
    required("amount", Numeric(10, 2)),
    # What the request was let through as; none where it was refused.
    Column("payment_id", Uuid(), ForeignKey(payments.c.payment_id, name="risk_decisions_of_payment")),
    required("counted", BigInteger()),
    Column("most", BigInteger()),
    Column("within_s", Integer()),
    when("retry_at"),
    when("decided_at", nullable=False),
    PrimaryKeyConstraint("decision_id", name="risk_decisions_pk"),
    UniqueConstraint("request_id", "caller", "rule", name="risk_decisions_one_per_request"),
    Index("risk_decisions_by_time", "decided_at"),
    Index("risk_decisions_by_phone", "phone_index"),
    Index("risk_decisions_by_payment", "payment_id", postgresql_where=text("payment_id IS NOT NULL")),
)

risk_list = Table(
    "risk_list",
    metadata,
    Column("position", BigInteger(), Identity(always=True), nullable=False),
    required("phone_index", LargeBinary()),
    required("verdict", Text()),
    required("operator", Text()),
    required("reason", Text()),
    when("until"),
    Column("listed_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("position", name="risk_list_pk"),
    CheckConstraint("verdict IN ('BLOCK', 'ALLOW', 'NONE')", name="risk_list_verdict_known"),
    Index("risk_list_by_phone", "phone_index", "position"),
)

risk_counters = Table(
    "risk_counters",
    metadata,
    required("caller", Text()),
    required("length_s", Integer()),
    when("started_at", nullable=False),
    required("counted", BigInteger()),
    # As the rule stood when it was counted last; none where it refuses nothing.
    Column("most", BigInteger()),
    PrimaryKeyConstraint("caller", "length_s", "started_at", name="risk_counters_pk"),
    CheckConstraint("counted <= most", name="risk_counters_within_limit"),
)
