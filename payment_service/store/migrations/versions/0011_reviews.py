"""Why money is under review.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE payment_transactions ADD COLUMN review_reason TEXT"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMN)
