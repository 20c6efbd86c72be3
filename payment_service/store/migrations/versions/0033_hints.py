"""How many hints of strangers a payment has been asked about for.

Revision ID: 0033
Revises: 0027
"""

from alembic import op

revision = "0033"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(
        "ALTER TABLE payment_transactions ADD COLUMN IF NOT EXISTS hint_count INTEGER DEFAULT 0 NOT NULL"
    )
