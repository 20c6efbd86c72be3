"""No body of a callback goes that may still tell of money, whoever removes it.

Revision ID: 0034
Revises: 0033
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

# What is put in a body's place has room for no text: 29 bytes are an empty one, sealed.
# A callback that waits may tell of money: one that is tried again, one without a payment, one that was given up. It
# bars also where it came for a refund, which has a reference of its own.
FUNCTIONS = """
CREATE OR REPLACE FUNCTION payment_under_way(one UUID) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM payment_transactions p WHERE p.payment_id = one AND (
        p.state IN ('CREATED', 'SENDING', 'PROMPTED', 'UNCERTAIN', 'REFUNDING')
        OR p.due_at IS NOT NULL OR p.query_at IS NOT NULL OR p.back_at IS NOT NULL
        OR p.money_case_open OR p.refund_under_way
        OR EXISTS (SELECT FROM cases c WHERE c.payment_id = p.payment_id AND c.settled_at IS NULL)
        OR EXISTS (SELECT FROM refunds r WHERE r.payment_id = p.payment_id AND r.ended_at IS NULL)
        OR EXISTS (SELECT FROM approvals a WHERE a.payment_id = p.payment_id AND a.state = 'WAITING')
        OR reference_needed(p.reference)
        OR EXISTS (SELECT FROM refunds r WHERE r.payment_id = p.payment_id AND reference_needed(r.reference))))
$$;

CREATE OR REPLACE FUNCTION body_needed(one UUID) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM callback_inbox i WHERE i.callback_id = one AND reference_needed(i.reference))
        OR EXISTS (SELECT FROM payments_of_callback(one) AS of_it (payment_id)
            WHERE payment_under_way(of_it.payment_id))
$$;

CREATE OR REPLACE FUNCTION forget_body(one UUID, empty BYTEA) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (UPDATE callback_inbox SET body = empty, body_removed = true
        WHERE callback_id = one AND NOT body_removed AND status IN ('APPLIED', 'UNREAD')
        AND octet_length(empty) <= 29 AND NOT body_needed(one)
        AND (stored_at < clock_timestamp() - interval '30 days' OR EXISTS (
            SELECT FROM payment_transactions p WHERE p.erased_at IS NOT NULL AND p.payment_id IN (
                SELECT payments_of_callback(one)))) RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION forget_phone(phone BYTEA, nobody BYTEA) RETURNS BIGINT
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH free AS (SELECT WHERE NOT phone_needed(phone)
            AND NOT EXISTS (SELECT FROM payment_transactions WHERE phone_index_a = nobody)
            AND NOT EXISTS (SELECT FROM risk_list WHERE phone_index = nobody)
            AND NOT EXISTS (SELECT FROM risk_decisions WHERE phone_index = nobody)),
        decided AS (UPDATE risk_decisions SET phone_index = nobody
            WHERE phone_index = phone AND EXISTS (SELECT FROM free) RETURNING 1),
        said AS (UPDATE risk_list SET phone_index = nobody
            WHERE phone_index = phone AND EXISTS (SELECT FROM free) RETURNING 1)
    SELECT (SELECT count(*) FROM decided) + (SELECT count(*) FROM said)
$$;
"""

# What the functions above look at. `status || ''` can use no index: the one that begins with the reference is taken.
LOOKS = """
CREATE OR REPLACE FUNCTION reference_needed(told TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM callback_inbox i
            WHERE i.reference = told AND i.status || '' IN ('PENDING', 'UNMATCHED', 'DEAD'))
        OR EXISTS (SELECT FROM cases c WHERE c.reference = told AND c.settled_at IS NULL)
$$;

CREATE OR REPLACE FUNCTION payments_of_callback(one UUID) RETURNS SETOF UUID
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT i.payment_id FROM callback_inbox i WHERE i.callback_id = one AND i.payment_id IS NOT NULL
    UNION SELECT p.payment_id FROM callback_inbox i JOIN payment_transactions p ON p.reference = i.reference
        WHERE i.callback_id = one
    UNION SELECT r.payment_id FROM callback_inbox i JOIN refunds r ON r.reference = i.reference
        WHERE i.callback_id = one
$$;

CREATE OR REPLACE FUNCTION phone_needed(phone BYTEA) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM payment_transactions p
            WHERE p.phone_index_a = phone AND payment_under_way(p.payment_id))
        OR EXISTS (SELECT FROM (SELECT l.verdict, l.until FROM risk_list l WHERE l.phone_index = phone
                ORDER BY l.position DESC LIMIT 1) AS turn
            WHERE turn.verdict = 'BLOCK' AND (turn.until IS NULL OR turn.until > clock_timestamp()))
$$;
"""
# The service changes what has become of a callback, and never what it said.
GRANTS = """
REVOKE ALL ON FUNCTION reference_needed(TEXT), payments_of_callback(UUID), phone_needed(BYTEA), body_needed(UUID),
    forget_body(UUID, BYTEA) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reference_needed(TEXT), payments_of_callback(UUID), phone_needed(BYTEA), body_needed(UUID),
    forget_body(UUID, BYTEA) TO mpesa_payments_application;
REVOKE UPDATE ON callback_inbox FROM mpesa_payments_application;
GRANT UPDATE (payment_id, status, tries, next_try_at, last_error) ON callback_inbox TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (LOOKS, FUNCTIONS, GRANTS):
        op.get_bind().exec_driver_sql(statements)
