"""Money of a case that is moved to another payment.

Revision ID: 0026
Revises: 0025
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# No foreign keys: checking them against all payments would hold the tables up, and one transaction writes both rows.
COLUMNS = """
ALTER TABLE case_acts ADD COLUMN IF NOT EXISTS to_payment_id UUID;
ALTER TABLE approvals ADD COLUMN IF NOT EXISTS to_payment_id UUID, ADD COLUMN IF NOT EXISTS seen_target INTEGER;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMNS)
