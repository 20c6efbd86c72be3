"""Callbacks that cannot be read have a status of their own.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Checked for the rows that are there without holding up the service.
STATUSES = """
ALTER TABLE callback_inbox DROP CONSTRAINT callbacks_status_known;
ALTER TABLE callback_inbox ADD CONSTRAINT callbacks_status_known
    CHECK (status IN ('APPLIED', 'PENDING', 'UNMATCHED', 'UNREAD', 'DEAD')) NOT VALID;
"""
CHECKED = "ALTER TABLE callback_inbox VALIDATE CONSTRAINT callbacks_status_known"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(STATUSES)
    with op.get_context().autocommit_block():
        op.execute(CHECKED)
