"""How far each named consumer of the log has come, and what operators have done about it.

Revision ID: 0035
Revises: 0026
"""

from alembic import op

revision = "0035"
down_revision = "0026"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE consumer_cursors (
    caller TEXT NOT NULL,
    consumer TEXT NOT NULL,
    position BIGINT NOT NULL,
    tag BYTEA NOT NULL,
    follows_all BOOLEAN NOT NULL,
    rewinds INTEGER NOT NULL,
    acknowledged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    rewound_at TIMESTAMP WITH TIME ZONE,
    rewind_pending BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT consumer_cursors_pk PRIMARY KEY (caller, consumer)
);
CREATE TABLE consumer_acts (
    position BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    caller TEXT NOT NULL,
    consumer TEXT NOT NULL,
    act TEXT NOT NULL,
    from_position BIGINT NOT NULL,
    to_position BIGINT,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    acted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT consumer_acts_pk PRIMARY KEY (position),
    CONSTRAINT consumer_acts_act_known CHECK (act IN ('REWOUND', 'FORGOTTEN'))
);
"""

# What an operator has done is never altered.
GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON consumer_cursors TO mpesa_payments_application;
GRANT SELECT, INSERT ON consumer_acts TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (TABLES, GRANTS):
        op.get_bind().exec_driver_sql(statements)
