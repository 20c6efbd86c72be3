"""Until when a passenger may pay by hand and is found in time.

Revision ID: 0040
Revises: 0036
"""

from alembic import op

revision = "0040"
down_revision = "0036"
branch_labels = None
depends_on = None

# A process of the release before writes none: its payments are offered no payment by hand.
COLUMN = "ALTER TABLE payment_transactions ADD COLUMN IF NOT EXISTS pay_by_hand_until TIMESTAMP WITH TIME ZONE"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMN)
