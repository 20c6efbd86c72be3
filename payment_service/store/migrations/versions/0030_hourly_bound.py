"""Which refunds nobody has asked for, so that those of an hour can be counted.

Revision ID: 0030
Revises: 0029
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE refunds ADD COLUMN IF NOT EXISTS by_itself BOOLEAN DEFAULT false NOT NULL"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(COLUMN)
    with op.get_context().autocommit_block():
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS refunds_by_itself")
        op.execute("CREATE INDEX CONCURRENTLY refunds_by_itself ON refunds (requested_at) WHERE by_itself")
