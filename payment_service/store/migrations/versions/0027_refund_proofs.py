"""What proves one refund proves no other.

Revision ID: 0027
Revises: 0030
"""

from alembic import op

revision = "0027"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS case_acts_one_per_proof")
        op.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY case_acts_one_per_proof ON case_acts (mpesa_receipt_number)"
            " WHERE act = 'REFUNDED'"
        )
