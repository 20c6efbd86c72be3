"""What makes an outcome certain, and what ends a case by itself.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A payment that ended before stays as certain as it was: its proof was not recorded then. Columns are committed before
# the indexes are built, so they may be there from an upgrade that was broken off.
COLUMNS = """
ALTER TABLE payment_transactions
    ADD COLUMN IF NOT EXISTS unpaid_seen_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN IF NOT EXISTS unpaid_proof TEXT,
    ADD COLUMN IF NOT EXISTS unread_callback BOOLEAN DEFAULT false NOT NULL;

ALTER TABLE cases ADD COLUMN IF NOT EXISTS settled_by TEXT;
"""

INDEXES = {
    "cases_open_by_payment": "cases (payment_id) WHERE settled_at IS NULL",
    "cases_doubted_receipts": "cases (mpesa_receipt_number) WHERE settled_at IS NULL AND kind = 'UNCLAIMED_MONEY'",
}


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMNS)
    # Built beside the running service. A build that was broken off leaves an index that is not valid.
    with op.get_context().autocommit_block():
        for name, of in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {of}")
