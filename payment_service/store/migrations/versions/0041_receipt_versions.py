"""Which versions of a payment told of its receipt alone, so that what people decide about is its money.

Those told before are counted as any other: what waits for a decision then has counted them so.

Revision ID: 0041
Revises: 0040
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE payment_transactions ADD COLUMN IF NOT EXISTS receipt_versions INTEGER DEFAULT 0 NOT NULL"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMN)
