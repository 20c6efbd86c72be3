"""Personal data that is erased, or removed once it is old.

Revision ID: 0032
Revises: 0031
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE payment_transactions ADD COLUMN IF NOT EXISTS erased_at TIMESTAMPTZ;
ALTER TABLE callback_inbox ADD COLUMN IF NOT EXISTS body_removed BOOLEAN DEFAULT false NOT NULL;
"""

# The service may not alter what it keeps as evidence. What it may take away, it takes away by these functions of the
# owner alone: nothing that a payment under way or an open case needs, and by age nothing that is younger than a month.
FUNCTIONS = """
CREATE OR REPLACE FUNCTION payment_under_way(one UUID) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM payment_transactions p WHERE p.payment_id = one AND (
        p.state IN ('CREATED', 'SENDING', 'PROMPTED', 'UNCERTAIN', 'REFUNDING')
        OR p.due_at IS NOT NULL OR p.query_at IS NOT NULL OR p.back_at IS NOT NULL
        OR p.money_case_open OR p.refund_under_way
        OR EXISTS (SELECT FROM cases c WHERE c.reference = p.reference AND c.settled_at IS NULL)
        OR EXISTS (SELECT FROM cases c WHERE c.payment_id = p.payment_id AND c.settled_at IS NULL)
        OR EXISTS (SELECT FROM refunds r WHERE r.payment_id = p.payment_id AND r.ended_at IS NULL)
        OR EXISTS (SELECT FROM approvals a WHERE a.payment_id = p.payment_id AND a.state = 'WAITING')
        OR EXISTS (SELECT FROM callback_inbox i WHERE i.reference = p.reference AND i.status || '' = 'PENDING')))
$$;

CREATE OR REPLACE FUNCTION forget_exchanges(upto UUID, at_most INTEGER) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (DELETE FROM daraja_exchanges WHERE exchange_id IN (
        SELECT e.exchange_id FROM daraja_exchanges e
        WHERE e.exchange_id < upto AND e.started_at < clock_timestamp() - interval '30 days'
        AND (e.payment_id IS NULL OR NOT payment_under_way(e.payment_id))
        ORDER BY e.exchange_id LIMIT at_most) RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION forget_exchanges_of(one UUID) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (DELETE FROM daraja_exchanges e USING payment_transactions p WHERE e.payment_id = one
        AND p.payment_id = one AND p.erased_at IS NOT NULL AND NOT payment_under_way(one) RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION forget_risk_decisions(before TIMESTAMPTZ, at_most INTEGER) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (DELETE FROM risk_decisions WHERE decision_id IN (
        SELECT d.decision_id FROM risk_decisions d
        WHERE d.decided_at < least(before, clock_timestamp() - interval '30 days')
        AND (d.payment_id IS NULL OR NOT payment_under_way(d.payment_id))
        ORDER BY d.decided_at LIMIT at_most) RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION forget_phone(phone BYTEA, nobody BYTEA) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH decided AS (UPDATE risk_decisions SET phone_index = nobody WHERE phone_index = phone RETURNING 1),
        said AS (UPDATE risk_list SET phone_index = nobody WHERE phone_index = phone RETURNING 1)
    SELECT (SELECT count(*) FROM decided) + (SELECT count(*) FROM said)
$$;
"""

GRANTS = """
REVOKE ALL ON FUNCTION payment_under_way(UUID), forget_exchanges(UUID, INTEGER), forget_exchanges_of(UUID),
    forget_risk_decisions(TIMESTAMPTZ, INTEGER), forget_phone(BYTEA, BYTEA) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION payment_under_way(UUID), forget_exchanges(UUID, INTEGER), forget_exchanges_of(UUID),
    forget_risk_decisions(TIMESTAMPTZ, INTEGER), forget_phone(BYTEA, BYTEA) TO mpesa_payments_application;
"""

INDEXES = {
    "payments_erased": "payment_transactions (erased_at) WHERE erased_at IS NOT NULL",
    "callbacks_with_body": "callback_inbox (stored_at) WHERE NOT body_removed",
}


def upgrade() -> None:
    for statements in (COLUMNS, FUNCTIONS, GRANTS):
        op.get_bind().exec_driver_sql(statements)
    # Built beside the running service. A build that was broken off leaves an index that is not valid.
    with op.get_context().autocommit_block():
        for name, of in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {of}")
