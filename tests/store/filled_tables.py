"""A database as it is after 300,000 payments: most were settled long ago, and of everything a little is still open.

Every table that grows with the payments is filled, each by one statement and under its constraints. What is removed
after a while, exchanges and bodies of callbacks and decisions of rules, is there for as long as it is kept, and what
became due for that since the last look besides.
"""

from datetime import UTC, datetime, timedelta

import psycopg

PAYMENTS = 300_000
SECONDS_APART = 15
CALLER = "development"
SHORTCODE = "174379"
INITIATOR = "initiator"
KEPT = timedelta(days=30)
"""The exchanges, bodies and decisions here."""
_DAY = 24 * 3600 // SECONDS_APART
_KEPT_SINCE = PAYMENTS - 30 * _DAY
_JUST_OLD = 300
"""Payments whose exchanges, bodies and decisions have become old since the last look."""

# One payment in 97 has expired, those of two days are still watched; the last twenty are live, four wait for a receipt,
# three went back whole, and of one in thirty a part. One in a thousand is erased.
_WANTED = f"""
CREATE TEMP TABLE wanted AS SELECT *,
    story = 'EXPIRED' AND n > {PAYMENTS - 2 * _DAY} AS watched,
    CASE WHEN story = 'REFUNDED' OR (story = 'COMPLETED' AND n % 30 = 2)
        THEN replace(uuid_of::text, '-8000-', '-9000-')::uuid END AS refund_id,
    CASE WHEN story = 'REFUNDED' THEN 500 ELSE 100 END AS back,
    CASE WHEN n > {PAYMENTS} - 1200 THEN (ARRAY['REQUESTED', 'ACCEPTED', 'UNCERTAIN', 'DONE'])[1 + n / 30 % 4]
        WHEN n < {PAYMENTS} * 0.9 AND n / 30 % 10 = 5 THEN 'FAILED' ELSE 'DONE' END AS refund_state,
    -- A tenth of all refunds were asked for within the last hour: a trip that did not run.
    CASE WHEN n > {PAYMENTS} * 0.9 THEN now() - ({PAYMENTS} - n) / ({PAYMENTS} * 0.1) * interval '58 minutes'
        ELSE at END AS refund_at,
    n % 50 = 7 AS has_case, n % 3000 = 7 AS case_open,
    (ARRAY['UNCLAIMED_MONEY', 'UNBACKED_MONEY', 'FOREIGN_IDS', 'OUTCOME_UNKNOWN'])[1 + n / 3000 % 4] AS case_kind
FROM (SELECT *, CASE
        WHEN n > {PAYMENTS} - 20 THEN 'PROMPTED' WHEN n % 75000 = 1 THEN 'PENDING_RECEIPT'
        WHEN n % 100000 = 2 THEN 'REFUNDED' WHEN n % 97 = 3 OR n % 12000 = 7 THEN 'EXPIRED'
        WHEN n % 20 = 4 THEN 'FAILED' ELSE 'COMPLETED' END AS story,
        (regexp_replace(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0'), '(.{{8}})(.{{4}})', '\\1-\\2')
            || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS uuid_of
    FROM (SELECT n, now() - ({PAYMENTS} - n) * interval '{SECONDS_APART} seconds' AS at
        FROM generate_series(1, {PAYMENTS}) AS n) AS numbered) AS named;
ANALYZE wanted;
"""

_PAYMENTS = f"""
INSERT INTO payment_transactions (payment_id, caller, request_id, reference, booking_id, attempt, amount, shortcode,
    phone_number, phone_index_a, account_reference, transaction_desc, language_code, metadata, late_payment_policy,
    request, request_fingerprint, request_encoding, request_key_id, state, status_reason, version, booking_action,
    outcome_certain, mpesa_receipt_number, transaction_date, paid_late, completed_at, blocks_booking, said_confirm,
    money_case_open, merchant_request_id, sent_at, not_sent_count, result_seen, paid_twice, backing, back_at, due_at,
    query_at, refund_id, refund_status, refunded_amount, refund_under_way, erased_at, chain_hash, created_at,
    updated_at, expires_at)
SELECT uuid_of, '{CALLER}', 'request-' || n, 'ref' || n, 'BK-' || n, 1, 500, '{SHORTCODE}',
    '', int4send(n::int), 'ref' || n, 'Booking', 'en', '{{}}', 'REVIEW', '', '', 1, 'k',
    CASE story WHEN 'PENDING_RECEIPT' THEN 'COMPLETED' ELSE story END,
    CASE story WHEN 'FAILED' THEN 'WRONG_PIN' END, 3, 'WAIT', story NOT IN ('PROMPTED', 'PENDING_RECEIPT')
        AND NOT watched, CASE WHEN story IN ('COMPLETED', 'REFUNDED') THEN 'R' || n END,
    CASE WHEN story IN ('COMPLETED', 'REFUNDED') THEN at END, false,
    CASE WHEN story IN ('COMPLETED', 'PENDING_RECEIPT', 'REFUNDED') THEN at END, story = 'PROMPTED', false,
    case_open, 'm' || n, at, 0, true, false,
    CASE WHEN case_open AND case_kind = 'UNBACKED_MONEY' THEN 'DOUBTED'
        WHEN story = 'COMPLETED' AND n > {PAYMENTS} - 120 THEN 'AWAITED' END,
    -- Of money that only a callback has told of: ten are to be asked about now, ninety later.
    CASE WHEN story = 'COMPLETED' AND n > {PAYMENTS} - 120
        THEN now() + CASE WHEN n % 12 = 0 THEN interval '-1 second' ELSE interval '1 hour' END END,
    CASE WHEN n > {PAYMENTS} - 5 THEN now() - interval '1 second'
        WHEN story IN ('PROMPTED', 'PENDING_RECEIPT') OR watched THEN now() + interval '1 day' END,
    CASE WHEN n > {PAYMENTS} - 5 THEN now() - interval '1 second'
        WHEN story = 'PROMPTED' OR watched THEN now() + interval '1 hour' END,
    refund_id, CASE WHEN refund_id IS NOT NULL THEN CASE WHEN refund_state IN ('DONE', 'FAILED') THEN refund_state
        ELSE 'PENDING' END END, CASE WHEN refund_id IS NOT NULL AND refund_state = 'DONE' THEN back ELSE 0 END,
    refund_id IS NOT NULL AND refund_state NOT IN ('DONE', 'FAILED'), CASE WHEN n % 1000 = 11 THEN at END, '', at, at,
    at
FROM wanted;
INSERT INTO receipts_due (payment_id, due_at) SELECT uuid_of, now() + CASE WHEN n % 60000 = 0 THEN interval '-1 hour'
    ELSE interval '1 day' END FROM wanted WHERE story = 'COMPLETED' AND n % 6 = 0;
"""

# The creation of every payment, and the results of the last two thousand and of those with a refund.
_EVENTS = f"""
INSERT INTO payment_events (tag, payment_id, version, caller, event_type, fact_id, fact_kind, state, booking_action,
    outcome_certain, amount, paid_late, expires_at, occurred_at, chain_encoding, chain_key_id, previous_hash, hash,
    provider_result_code, refund_id, refund_status)
SELECT '', uuid_of, version, '{CALLER}', kind, kind || version, kind, 'CREATED', 'WAIT', false, 500, false, at, at,
    1, 'k', '', '', CASE kind WHEN 'ResultReported' THEN '0' END,
    CASE kind WHEN 'RefundRequested' THEN refund_id END,
    CASE kind WHEN 'RefundRequested' THEN CASE WHEN refund_state IN ('DONE', 'FAILED') THEN refund_state
        ELSE 'PENDING' END END
FROM wanted JOIN (VALUES (1, 'PaymentCreated'), (2, 'ResultReported'), (3, 'RefundRequested')) AS kinds (version, kind)
    ON version = 1 OR refund_id IS NOT NULL OR (version = 2 AND n > {PAYMENTS} - 2000)
ORDER BY n, version;
"""

_PROVIDER = f"""
INSERT INTO callback_inbox (callback_id, kind, reference, payment_id, body, body_hash, source_address, received_at,
    stored_at, status, next_try_at, body_removed)
SELECT uuid_of, 'stk', CASE WHEN status = 'UNMATCHED' AND n % 40000 <> 5 THEN 'nobody' ELSE 'ref' END || n,
    CASE WHEN status NOT IN ('UNMATCHED', 'PENDING') THEN uuid_of END, '', int4send(n::int), '', at, at, status,
    CASE WHEN status = 'PENDING' THEN now() + CASE WHEN n % 4 = 0 THEN interval '-1 second' ELSE interval '1 hour' END
    END, n <= {_KEPT_SINCE - _JUST_OLD} AND status IN ('APPLIED', 'UNREAD') AND NOT case_open
FROM (SELECT *, CASE WHEN n % 10000 = 5 THEN 'UNMATCHED' WHEN n % 15000 = 6 AND n > {_KEPT_SINCE} THEN 'PENDING'
    WHEN n > {PAYMENTS} - 400 AND n % 20 = 8 THEN 'PENDING' WHEN n % 15000 = 8 THEN 'DEAD'
    WHEN n % 15000 = 9 THEN 'UNREAD' ELSE 'APPLIED' END AS status FROM wanted) AS told
WHERE story <> 'PROMPTED' AND (story <> 'EXPIRED' OR case_open);
INSERT INTO daraja_exchanges (exchange_id, payment_id, operation, http_status, classified_as, request, answer,
    started_at, duration_ms)
SELECT replace(uuid_of::text, '-8000-', prefix)::uuid, CASE operation WHEN 'token' THEN NULL ELSE uuid_of END,
    operation, CASE WHEN n % 500 <> 0 THEN 200 END, CASE WHEN n % 500 = 0 THEN 'Uncertain' ELSE 'Accepted' END,
    '', '', at, 800
FROM wanted JOIN (VALUES ('push', '-8000-', 1), ('query', '-9000-', 10), ('token', '-a000-', 100))
    AS asked (operation, prefix, every) ON n % every = 0
WHERE n > {_KEPT_SINCE - _JUST_OLD};
INSERT INTO mpesa_receipts (receipt, payment_id, amount, counted, seen_at, proven_by)
SELECT 'R' || n, uuid_of, 500, true, at, CASE WHEN n % 10 <> 0 THEN 'QUERY' END
FROM wanted WHERE story IN ('COMPLETED', 'REFUNDED');
INSERT INTO daraja_pull_spans (shortcode, start_at, end_at, read_at, reading)
SELECT '{SHORTCODE}', now() - n * interval '15 minutes', now() - (n - 1) * interval '15 minutes', now(),
    CASE WHEN n = 100 THEN 'ENDLESS' ELSE 'READ' END FROM generate_series(1, 190) AS n;
"""

# Open cases about money: every fifth of those that nobody claims is about a receipt that is proven by now.
_WORK_OF_PEOPLE = f"""
INSERT INTO refunds (refund_id, payment_id, caller, reference, shortcode, receipt, amount, reason, requested_at, method,
    state, result_code, sent_as, sent_at, not_sent_count, send_at, originator_conversation_id, ended_at, due_at)
SELECT refund_id, uuid_of, '{CALLER}', 'back' || n, '{SHORTCODE}', 'R' || n, back, 'OTHER', refund_at,
    CASE story WHEN 'REFUNDED' THEN 'REVERSAL' ELSE 'B2C' END, refund_state,
    CASE refund_state WHEN 'FAILED' THEN '2001' END,
    CASE WHEN refund_state <> 'REQUESTED' THEN '{INITIATOR}' END,
    CASE WHEN refund_state <> 'REQUESTED' THEN refund_at END, 0,
    CASE refund_state WHEN 'REQUESTED' THEN now() - interval '1 second' END, 'o' || n,
    CASE WHEN refund_state IN ('DONE', 'FAILED') THEN refund_at + interval '1 minute' END,
    CASE refund_state WHEN 'ACCEPTED' THEN now() - interval '1 second'
        WHEN 'UNCERTAIN' THEN now() + interval '1 hour' END
FROM wanted WHERE refund_id IS NOT NULL;
INSERT INTO cases (case_id, payment_id, reference, kind, is_money, fact_id, mpesa_receipt_number, amount, opened_at,
    settled_at, settled_by, deadline_at, resolution)
SELECT replace(uuid_of::text, '-8000-', '-a000-')::uuid, uuid_of, 'ref' || n, case_kind, true, 'fact' || n,
    CASE WHEN case_kind IN ('UNCLAIMED_MONEY', 'FOREIGN_IDS')
        THEN CASE WHEN case_open AND n / 3000 % 20 = 0 THEN 'R' || n + 1 ELSE 'X' || n END END, 500, at,
    CASE WHEN NOT case_open THEN at + interval '1 hour' END, CASE WHEN NOT case_open THEN 'act' END,
    at + interval '1 day', CASE WHEN NOT case_open THEN 'ACCEPT' END
FROM wanted WHERE has_case;
INSERT INTO case_acts (act_id, case_id, case_version, act, operator, reason, acted_at)
SELECT case_id, case_id, 2, 'ACCEPT', 'operator', 'seen', settled_at FROM cases WHERE settled_at IS NOT NULL;
INSERT INTO approvals (approval_id, payment_id, case_id, act, amount, part, seen_case, seen_payments, seen_open_cases,
    asked_by, asked_as, asked_why, asked_at, state, decided_by, decided_as, decided_why, decided_at)
SELECT case_id, payment_id, case_id, 'REFUND', 500, false, 1, 1, 1, 'one', 'a', 'why', opened_at,
    CASE WHEN settled_at IS NULL THEN 'WAITING' ELSE 'APPROVED' END,
    CASE WHEN settled_at IS NOT NULL THEN 'another' END, CASE WHEN settled_at IS NOT NULL THEN 'b' END,
    CASE WHEN settled_at IS NOT NULL THEN 'why' END, settled_at
FROM cases WHERE kind = 'FOREIGN_IDS';
INSERT INTO risk_decisions (decision_id, rule, mode, caller, request_id, booking_id, phone_index, amount, payment_id,
    counted, decided_at)
SELECT uuid_of, CASE WHEN n % 20 = 0 THEN 'PHONE_UNPAID' ELSE 'PHONE_AMOUNT' END,
    CASE WHEN n % 20 = 0 THEN 'enforce' ELSE 'shadow' END, '{CALLER}',
    CASE WHEN n % 20 = 0 THEN 'refused-' ELSE 'request-' END || n, 'BK-' || n, int4send(n::int), 500,
    CASE WHEN n % 20 <> 0 THEN uuid_of END, 4, at
FROM wanted WHERE n % 10 = 0 AND n > {_KEPT_SINCE - _JUST_OLD};
INSERT INTO consumer_cursors (caller, consumer, position, tag, follows_all, rewinds, acknowledged_at)
SELECT '{CALLER}', 'behind-' || lag, max(position) - lag, '', lag % 3 = 0, 0, now()
FROM payment_events, (VALUES (0), (500), (50000)) AS lags (lag) GROUP BY lag;
"""

_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'f' AND connamespace = 'public'::regnamespace"""
_FILLED = (
    "payment_transactions",
    "payment_events",
    "receipts_due",
    "callback_inbox",
    "daraja_exchanges",
    "mpesa_receipts",
    "daraja_pull_spans",
    "refunds",
    "cases",
    "case_acts",
    "approvals",
    "risk_decisions",
    "consumer_cursors",
)


def fill(owner: psycopg.Connection) -> None:
    """Fill the tables and leave the database at rest: what vacuum has not seen yet would be counted as touched."""
    # All rows of a foreign key are checked at once in the end: one by one takes as long as to insert them.
    keys = owner.execute(_FOREIGN_KEYS).fetchall()
    for table, name, _ in keys:
        owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    for statements in (_WANTED, _PAYMENTS, _EVENTS, _PROVIDER, _WORK_OF_PEOPLE):
        owner.execute(statements.encode())
    for table, name, definition in keys:
        owner.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}".encode())
    owner.execute(f"VACUUM (ANALYZE) {', '.join(_FILLED)}".encode())


def ago(payments: int) -> datetime:
    """When the payment was made that so many came after."""
    return datetime.now(UTC) - timedelta(seconds=payments * SECONDS_APART)
