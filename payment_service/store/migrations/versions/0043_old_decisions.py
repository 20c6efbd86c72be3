"""Removing old decisions of rules reads the old ones alone.

Revision ID: 0043
Revises: 0042
"""

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

# A time that changes while a statement runs bounds no index: each look read all decisions that are kept, once a minute
# and process. That of the statement's beginning does. By an array the rows are found by their ids, however many of them
# the planner expects.
FUNCTION = """
CREATE OR REPLACE FUNCTION forget_risk_decisions(before TIMESTAMPTZ, at_most INTEGER) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (DELETE FROM risk_decisions WHERE decision_id = ANY(ARRAY(
        SELECT d.decision_id FROM risk_decisions d
        WHERE d.decided_at < least(before, statement_timestamp() - interval '30 days')
        AND (d.payment_id IS NULL OR NOT payment_under_way(d.payment_id))
        ORDER BY d.decided_at LIMIT at_most)) RETURNING 1)
    SELECT count(*) FROM gone
$$;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION)
