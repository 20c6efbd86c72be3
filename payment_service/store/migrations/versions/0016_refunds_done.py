"""Which initiators have had a refund carried out lately.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INDEX = "CREATE INDEX refunds_proven_initiators ON refunds (sent_as, ended_at) WHERE state = 'DONE'"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(INDEX)
