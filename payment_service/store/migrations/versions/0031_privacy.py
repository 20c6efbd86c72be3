"""What was done about personal data, and decisions of rules found by phone.

Revision ID: 0031
Revises: 0035
"""

from alembic import op

revision = "0031"
down_revision = "0035"
branch_labels = None
depends_on = None

# Only added to, as all that an operator answers for. It holds no personal data itself.
TABLE = """
CREATE TABLE IF NOT EXISTS privacy_acts (
    act_id UUID NOT NULL,
    act TEXT NOT NULL,
    certificate TEXT NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    payments INTEGER NOT NULL,
    acted_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT privacy_acts_pk PRIMARY KEY (act_id),
    CONSTRAINT privacy_acts_act_known CHECK (act IN ('EXPORT', 'ERASE'))
);
GRANT SELECT, INSERT ON privacy_acts TO mpesa_payments_application;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLE)
    with op.get_context().autocommit_block():
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS risk_decisions_by_phone")
        op.execute("CREATE INDEX CONCURRENTLY risk_decisions_by_phone ON risk_decisions (phone_index)")
