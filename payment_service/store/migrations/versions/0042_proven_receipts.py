"""What has shown beside a callback that a receipt is its payment's: it is not reversed before.

Revision ID: 0042
Revises: 0041
"""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

# Receipts from before stay without: M-Pesa is asked about each when its money is to go back.
COLUMN = "ALTER TABLE mpesa_receipts ADD COLUMN IF NOT EXISTS proven_by TEXT"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMN)
