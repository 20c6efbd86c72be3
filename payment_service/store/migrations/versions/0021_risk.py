"""Rules against prompts that nobody wants: what was decided, which phones are listed, what a caller has asked for.

Revision ID: 0021
Revises: 0020
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE risk_decisions (
    decision_id UUID NOT NULL,
    rule TEXT NOT NULL,
    mode TEXT NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    booking_id TEXT NOT NULL,
    phone_index BYTEA NOT NULL,
    amount NUMERIC(10, 2) NOT NULL,
    payment_id UUID,
    counted BIGINT NOT NULL,
    most BIGINT,
    within_s INTEGER,
    retry_at TIMESTAMP WITH TIME ZONE,
    decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT risk_decisions_pk PRIMARY KEY (decision_id),
    CONSTRAINT risk_decisions_one_per_request UNIQUE (request_id, caller, rule),
    CONSTRAINT risk_decisions_of_payment FOREIGN KEY (payment_id) REFERENCES payment_transactions (payment_id)
);
CREATE INDEX risk_decisions_by_time ON risk_decisions (decided_at);
CREATE INDEX risk_decisions_by_payment ON risk_decisions (payment_id) WHERE payment_id IS NOT NULL;
CREATE TABLE risk_list (
    position BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
    phone_index BYTEA NOT NULL,
    verdict TEXT NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    until TIMESTAMP WITH TIME ZONE,
    listed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT risk_list_pk PRIMARY KEY (position),
    CONSTRAINT risk_list_verdict_known CHECK (verdict IN ('BLOCK', 'ALLOW', 'NONE'))
);
CREATE INDEX risk_list_by_phone ON risk_list (phone_index, position);
CREATE TABLE risk_counters (
    caller TEXT NOT NULL,
    length_s INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    counted BIGINT NOT NULL,
    most BIGINT,
    CONSTRAINT risk_counters_pk PRIMARY KEY (caller, length_s, started_at),
    CONSTRAINT risk_counters_within_limit CHECK (counted <= most)
);
"""

# What was decided and listed is never altered: it is what an operator answers for.
GRANTS = """
GRANT SELECT, INSERT ON risk_decisions, risk_list TO mpesa_payments_application;
GRANT SELECT, INSERT, UPDATE ON risk_counters TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (TABLES, GRANTS):
        op.get_bind().exec_driver_sql(statements)
