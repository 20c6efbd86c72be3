"""Finding the money that operators have moved away from a payment, by that payment.

Revision ID: 0029
Revises: 0032
"""

from alembic import op

revision = "0029"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS cases_moved")
        op.execute("CREATE INDEX CONCURRENTLY cases_moved ON cases (payment_id) WHERE resolution = 'MOVE'")
