"""The tables of named consumers. The migrations make them; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from payment_service.store.tables import metadata, required, when

consumer_cursors = Table(
    "consumer_cursors",
    metadata,
    required("caller", Text()),
    required("consumer", Text()),
    # The last event that the consumer has dealt with; 0 and no tag before the first one.
    required("position", BigInteger()),
    required("tag", LargeBinary()),
    # Whether everybody's events are for it, or only those of its caller's payments.
    required("follows_all", Boolean()),
    required("rewinds", Integer()),
    when("acknowledged_at", nullable=False),
    when("rewound_at"),
    # It has not acknowledged anything since it was moved back.
    required("rewind_pending", Boolean(), "false"),
    PrimaryKeyConstraint("caller", "consumer", name="consumer_cursors_pk"),
)

consumer_acts = Table(
    "consumer_acts",
    metadata,
    Column("position", BigInteger(), Identity(always=True), nullable=False),
    required("caller", Text()),
    required("consumer", Text()),
    required("act", Text()),
    required("from_position", BigInteger()),
    Column("to_position", BigInteger()),
    required("operator", Text()),
    required("reason", Text()),
    when("acted_at", nullable=False),
    PrimaryKeyConstraint("position", name="consumer_acts_pk"),
    CheckConstraint("act IN ('REWOUND', 'FORGOTTEN')", name="consumer_acts_act_known"),
)
