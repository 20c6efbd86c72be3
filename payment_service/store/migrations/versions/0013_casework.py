"""Cases that people settle, and payments found by what a passenger can say on the phone.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Cases that were opened before, or are by a process of the release before, have a day from then on. All this is
# committed before the indexes are built, so it may be there from an upgrade that was broken off.
TABLES = """
ALTER TABLE cases
    ADD COLUMN IF NOT EXISTS version INTEGER DEFAULT 1 NOT NULL,
    ADD COLUMN IF NOT EXISTS deadline_at TIMESTAMP WITH TIME ZONE DEFAULT now() + interval '24 hours' NOT NULL,
    ADD COLUMN IF NOT EXISTS owner TEXT,
    ADD COLUMN IF NOT EXISTS taken_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN IF NOT EXISTS resolution TEXT;

CREATE TABLE IF NOT EXISTS case_acts (
    act_id UUID NOT NULL,
    case_id UUID NOT NULL,
    case_version INTEGER NOT NULL,
    act TEXT NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    mpesa_receipt_number TEXT,
    acted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT case_acts_pk PRIMARY KEY (act_id),
    CONSTRAINT case_acts_one_per_version UNIQUE (case_id, case_version),
    CONSTRAINT case_acts_of_case FOREIGN KEY (case_id) REFERENCES cases (case_id)
);
GRANT SELECT, INSERT ON case_acts TO mpesa_payments_application;
"""

INDEXES = {
    "cases_by_deadline": "cases (deadline_at, case_id) WHERE settled_at IS NULL",
    "cases_by_receipt": "cases (mpesa_receipt_number) WHERE mpesa_receipt_number IS NOT NULL",
    "payments_by_phone": "payment_transactions (phone_index_a, payment_id)",
    "payments_by_completion": "payment_transactions (completed_at, payment_id) WHERE completed_at IS NOT NULL",
}


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLES)
    # Built beside the running service. A build that was broken off leaves an index that is not valid.
    with op.get_context().autocommit_block():
        for name, of in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {of}")
