"""An index of the payments that a row of the provider's books without a reference may be about.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Built beside the running service. A build that was broken off leaves an index that is not valid.
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS payments_unsettled")
        op.execute(
            "CREATE INDEX CONCURRENTLY payments_unsettled ON payment_transactions (shortcode, amount, sent_at)"
            " WHERE due_at IS NOT NULL AND ((state = 'EXPIRED' AND NOT outcome_certain)"
            " OR (state = 'COMPLETED' AND mpesa_receipt_number IS NULL))"
        )
