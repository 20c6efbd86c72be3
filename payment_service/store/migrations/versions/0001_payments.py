"""Everything a payment leaves behind: payments, their log, callbacks, exchanges, cases and receipts.

Revision ID: 0001
Revises: none
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE daraja_access_token (
    app TEXT NOT NULL,
    generation BIGINT DEFAULT 0 NOT NULL,
    token BYTEA,
    fetched_at TIMESTAMP WITH TIME ZONE,
    refresh_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    lease_id UUID,
    lease_expires_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT access_token_pk PRIMARY KEY (app)
);

CREATE TABLE daraja_exchanges (
    exchange_id UUID NOT NULL,
    payment_id UUID,
    operation TEXT NOT NULL,
    http_status INTEGER,
    classified_as TEXT NOT NULL,
    request BYTEA NOT NULL,
    answer BYTEA NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    duration_ms INTEGER NOT NULL,
    CONSTRAINT exchanges_pk PRIMARY KEY (exchange_id)
);
CREATE INDEX exchanges_by_payment ON daraja_exchanges (payment_id);

CREATE TABLE event_log (
    singleton BOOLEAN DEFAULT true NOT NULL,
    log_id UUID NOT NULL,
    CONSTRAINT event_log_pk PRIMARY KEY (singleton),
    CONSTRAINT event_log_has_one_row CHECK (singleton)
);

CREATE TABLE payment_transactions (
    payment_id UUID NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    reference TEXT NOT NULL,
    booking_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    retry_of UUID,
    amount NUMERIC(10, 2) NOT NULL,
    shortcode TEXT NOT NULL,
    phone_number BYTEA NOT NULL,
    phone_index_a BYTEA NOT NULL,
    phone_index_b BYTEA,
    phone_warning TEXT,
    account_reference TEXT NOT NULL,
    transaction_desc TEXT NOT NULL,
    language_code TEXT NOT NULL,
    metadata JSONB NOT NULL,
    hold_expire_at TIMESTAMP WITH TIME ZONE,
    late_payment_policy TEXT NOT NULL,
    request BYTEA NOT NULL,
    request_fingerprint BYTEA NOT NULL,
    request_encoding SMALLINT NOT NULL,
    request_key_id TEXT NOT NULL,
    trace_parent TEXT,
    state TEXT NOT NULL,
    status TEXT GENERATED ALWAYS AS (CASE state
        WHEN 'CREATED' THEN 'PENDING' WHEN 'SENDING' THEN 'PENDING'
        WHEN 'PROMPTED' THEN 'PROCESSING' WHEN 'UNCERTAIN' THEN 'PROCESSING'
        WHEN 'REFUNDING' THEN 'COMPLETED' ELSE state END) STORED NOT NULL,
    status_reason TEXT,
    provider_result_code TEXT,
    version INTEGER NOT NULL,
    booking_action TEXT NOT NULL,
    outcome_certain BOOLEAN NOT NULL,
    retry_allowed_at TIMESTAMP WITH TIME ZONE,
    mpesa_receipt_number TEXT,
    transaction_date TIMESTAMP WITH TIME ZONE,
    paid_late BOOLEAN NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    blocks_booking BOOLEAN NOT NULL,
    said_confirm BOOLEAN NOT NULL,
    money_case_open BOOLEAN NOT NULL,
    claim_id UUID,
    lease_expires_at TIMESTAMP WITH TIME ZONE,
    sent_at TIMESTAMP WITH TIME ZONE,
    not_sent_count INTEGER NOT NULL,
    send_at TIMESTAMP WITH TIME ZONE,
    checkout_request_id BYTEA,
    checkout_index_a BYTEA,
    checkout_index_b BYTEA,
    merchant_request_id TEXT,
    result_seen BOOLEAN NOT NULL,
    paid_seen_at TIMESTAMP WITH TIME ZONE,
    paid_twice BOOLEAN NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    chain_hash BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT payments_pk PRIMARY KEY (payment_id),
    CONSTRAINT payments_one_per_request_id UNIQUE (request_id, caller),
    CONSTRAINT payments_one_per_reference UNIQUE (reference),
    CONSTRAINT payments_one_per_attempt UNIQUE (booking_id, caller, attempt),
    CONSTRAINT payments_amount_whole CHECK (amount > 0 AND amount = trunc(amount)),
    CONSTRAINT payments_state_known
        CHECK (state IN ('CREATED', 'SENDING', 'PROMPTED', 'UNCERTAIN', 'COMPLETED',
            'FAILED', 'CANCELLED', 'EXPIRED', 'REFUNDING', 'REFUNDED')),
    CONSTRAINT payments_sending_is_claimed
        CHECK (state <> 'SENDING' OR (claim_id IS NOT NULL AND lease_expires_at IS NOT NULL AND sent_at IS NOT NULL)),
    CONSTRAINT payments_completed_has_time
        CHECK (state NOT IN ('COMPLETED', 'REFUNDING') OR completed_at IS NOT NULL OR money_case_open),
    CONSTRAINT payments_failed_has_reason CHECK (state <> 'FAILED' OR status_reason IS NOT NULL),
    CONSTRAINT payments_confirm_is_completed
        CHECK (booking_action <> 'CONFIRM' OR (said_confirm AND state = 'COMPLETED')),
    CONSTRAINT payments_ended_blocks_nothing
        CHECK (state NOT IN ('FAILED', 'CANCELLED', 'EXPIRED', 'REFUNDED') OR NOT blocks_booking)
);
CREATE INDEX payments_by_account_reference ON payment_transactions (account_reference, created_at);
CREATE INDEX payments_by_caller ON payment_transactions (caller, payment_id);
CREATE INDEX payments_due ON payment_transactions (due_at) WHERE due_at IS NOT NULL;
CREATE UNIQUE INDEX payments_one_confirm_per_booking ON payment_transactions (caller, booking_id) WHERE said_confirm;
CREATE UNIQUE INDEX payments_one_live_per_booking ON payment_transactions (caller, booking_id) WHERE blocks_booking;
CREATE UNIQUE INDEX payments_one_per_checkout_a
    ON payment_transactions (checkout_index_a) WHERE checkout_index_a IS NOT NULL;
CREATE UNIQUE INDEX payments_one_per_checkout_b
    ON payment_transactions (checkout_index_b) WHERE checkout_index_b IS NOT NULL;
CREATE UNIQUE INDEX payments_one_per_receipt
    ON payment_transactions (mpesa_receipt_number) WHERE mpesa_receipt_number IS NOT NULL;

CREATE TABLE callback_inbox (
    callback_id UUID NOT NULL,
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    payment_id UUID,
    body BYTEA NOT NULL,
    body_hash BYTEA NOT NULL,
    source_address TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    stored_at TIMESTAMP WITH TIME ZONE NOT NULL,
    status TEXT NOT NULL,
    tries INTEGER DEFAULT 0 NOT NULL,
    next_try_at TIMESTAMP WITH TIME ZONE,
    last_error TEXT,
    CONSTRAINT callbacks_pk PRIMARY KEY (callback_id),
    CONSTRAINT callbacks_one_per_body UNIQUE (reference, body_hash),
    CONSTRAINT callbacks_status_known CHECK (status IN ('APPLIED', 'PENDING', 'UNMATCHED')),
    CONSTRAINT callbacks_pending_has_next_try CHECK ((status = 'PENDING') = (next_try_at IS NOT NULL)),
    CONSTRAINT callbacks_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id)
);
CREATE INDEX callbacks_by_payment ON callback_inbox (payment_id);
CREATE INDEX callbacks_due ON callback_inbox (next_try_at) WHERE status = 'PENDING';

CREATE TABLE cases (
    case_id UUID NOT NULL,
    payment_id UUID,
    reference TEXT NOT NULL,
    kind TEXT NOT NULL,
    is_money BOOLEAN NOT NULL,
    fact_id TEXT NOT NULL,
    mpesa_receipt_number TEXT,
    amount NUMERIC(10, 2),
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT cases_pk PRIMARY KEY (case_id),
    CONSTRAINT cases_one_per_fact UNIQUE (reference, fact_id),
    CONSTRAINT cases_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id)
);
CREATE INDEX cases_open ON cases (opened_at) WHERE settled_at IS NULL;

CREATE TABLE mpesa_receipts (
    receipt TEXT NOT NULL,
    payment_id UUID NOT NULL,
    amount NUMERIC(10, 2),
    counted BOOLEAN NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT receipts_pk PRIMARY KEY (receipt),
    CONSTRAINT receipts_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id)
);
CREATE INDEX receipts_by_payment ON mpesa_receipts (payment_id);

CREATE TABLE payment_events (
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    tag BYTEA NOT NULL,
    payment_id UUID NOT NULL,
    version INTEGER NOT NULL,
    caller TEXT NOT NULL,
    event_type TEXT NOT NULL,
    fact_id TEXT NOT NULL,
    fact_kind TEXT NOT NULL,
    previous_state TEXT,
    state TEXT NOT NULL,
    status_reason TEXT,
    provider_result_code TEXT,
    booking_action TEXT NOT NULL,
    outcome_certain BOOLEAN NOT NULL,
    retry_allowed_at TIMESTAMP WITH TIME ZONE,
    amount NUMERIC(10, 2) NOT NULL,
    mpesa_receipt_number TEXT,
    paid_late BOOLEAN NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    chain_encoding SMALLINT NOT NULL,
    chain_key_id TEXT NOT NULL,
    previous_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT events_pk PRIMARY KEY (position),
    CONSTRAINT events_one_per_version UNIQUE (payment_id, version),
    CONSTRAINT events_one_per_fact UNIQUE (payment_id, fact_id),
    CONSTRAINT events_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id)
);
"""

# Sequence order is commit order because no two transactions append at once: the lock is taken by the append itself, so
# that no writer can forget it, and is held until its commit. A reader that has seen position n can never be shown a
# smaller one later. The number is "mpesalog" in ASCII and means nothing.
LOG_ORDER = """
CREATE FUNCTION payment_events_in_commit_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7885070564180913007);
    RETURN NULL;
END $$;

CREATE TRIGGER payment_events_in_commit_order BEFORE INSERT ON payment_events
    FOR EACH STATEMENT EXECUTE FUNCTION payment_events_in_commit_order();

INSERT INTO event_log (log_id) VALUES (gen_random_uuid());
"""

# The service logs in as a member of this role. It cannot change or delete an event, nor anything at all for good.
# Roles belong to the whole server, so another database may have made it already, even at this very moment.
APPLICATION_ROLE = """
DO $$
BEGIN
    CREATE ROLE mpesa_payments_application NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

GRANT SELECT, INSERT, UPDATE ON payment_transactions, callback_inbox, daraja_access_token, cases, mpesa_receipts
    TO mpesa_payments_application;
GRANT SELECT, INSERT ON payment_events, daraja_exchanges TO mpesa_payments_application;
GRANT SELECT ON event_log, alembic_version TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (TABLES, LOG_ORDER, APPLICATION_ROLE):
        op.get_bind().exec_driver_sql(statements)
