"""What backs a success that a callback has told.

Revision ID: 0024
Revises: 0023
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# Payments from before stay without: nobody is asked about them.
COLUMNS = """
ALTER TABLE payment_transactions
    ADD COLUMN IF NOT EXISTS back_first BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN IF NOT EXISTS backing TEXT,
    ADD COLUMN IF NOT EXISTS back_at TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS ids_from_callback BOOLEAN DEFAULT false NOT NULL
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMNS)
    with op.get_context().autocommit_block():
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS payments_to_back")
        op.execute(
            "CREATE INDEX CONCURRENTLY payments_to_back ON payment_transactions (back_at) WHERE back_at IS NOT NULL"
        )
