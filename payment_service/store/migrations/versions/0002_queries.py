"""When each payment is asked about, and the turns that all processes share.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEDULE = """
ALTER TABLE payment_transactions
    ADD COLUMN query_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN query_count INTEGER DEFAULT 0 NOT NULL;
CREATE INDEX payments_to_ask_about ON payment_transactions (query_at) WHERE query_at IS NOT NULL;
"""

# Payments that wait for a result at this moment are asked about from now on. A payment that has a timer is unsettled,
# and those are few. One that a process of the release before leaves unscheduled meanwhile is scheduled when it expires.
UNSETTLED = """
UPDATE payment_transactions SET query_at = now()
WHERE due_at IS NOT NULL AND checkout_index_a IS NOT NULL AND NOT paid_twice
    AND state IN ('PROMPTED', 'UNCERTAIN', 'COMPLETED', 'EXPIRED')
"""

BUDGETS = """
CREATE TABLE request_budgets (
    shortcode TEXT NOT NULL,
    kind TEXT NOT NULL,
    turns DOUBLE PRECISION NOT NULL,
    filled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    paused_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT request_budgets_pk PRIMARY KEY (shortcode, kind),
    CONSTRAINT request_budgets_kind_known CHECK (kind IN ('push', 'query'))
);
GRANT SELECT, INSERT, UPDATE ON request_budgets TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (SCHEDULE, UNSETTLED, BUDGETS):
        op.get_bind().exec_driver_sql(statements)
