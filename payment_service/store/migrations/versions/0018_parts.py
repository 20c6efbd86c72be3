"""Refunds of parts: by which way a refund goes, and what of it stands on its payment.

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# Our name of a part is stored before anything is sent.
METHOD = """
ALTER TABLE refunds ADD COLUMN method TEXT DEFAULT 'REVERSAL' NOT NULL;
ALTER TABLE refunds ADD CONSTRAINT refunds_method_known
    CHECK (method = 'REVERSAL' OR (method = 'B2C' AND originator_conversation_id IS NOT NULL));
"""

# Filled by a revision of its own: to look for the payments here would lock every reader and writer out for as long.
ON_PAYMENTS = """
ALTER TABLE payment_transactions
    ADD COLUMN refund_under_way BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN seat_freed BOOLEAN DEFAULT false NOT NULL;
"""


def upgrade() -> None:
    for statements in (METHOD, ON_PAYMENTS):
        op.get_bind().exec_driver_sql(statements)
