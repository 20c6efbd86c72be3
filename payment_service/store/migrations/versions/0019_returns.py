"""Cases whose money an operator has sent back: the refund that does it.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# No foreign key: checking it against all cases would hold the table up, and both rows are written by one transaction.
COLUMNS = """
ALTER TABLE cases ADD COLUMN IF NOT EXISTS refund_id UUID;
ALTER TABLE case_acts ADD COLUMN IF NOT EXISTS refund_id UUID;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMNS)
