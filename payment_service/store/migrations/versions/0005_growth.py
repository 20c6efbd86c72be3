"""Indexes that keep reads in proportion to what they return, however many payments there are.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INDEXES = {
    "payments_by_status": "payment_transactions (caller, status, payment_id)",
    "payments_receipt_pending": "payment_transactions (completed_at)"
    " WHERE state = 'COMPLETED' AND mpesa_receipt_number IS NULL AND due_at IS NOT NULL",
}


def upgrade() -> None:
    # Built beside the running service. A build that was broken off leaves an index that is not valid.
    with op.get_context().autocommit_block():
        for name, of in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {of}")
