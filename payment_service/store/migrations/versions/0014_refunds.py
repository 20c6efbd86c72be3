"""Refunds, and what of them stands on their payments and in the log.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE payment_transactions
    ADD COLUMN refund_id UUID,
    ADD COLUMN refund_status TEXT,
    ADD COLUMN refunded_amount NUMERIC(10, 2) DEFAULT 0 NOT NULL;
ALTER TABLE payment_events
    ADD COLUMN refund_id UUID,
    ADD COLUMN refund_status TEXT,
    ADD COLUMN refunded_amount NUMERIC(10, 2) DEFAULT 0 NOT NULL;
"""

REFUNDS = """
CREATE TABLE refunds (
    refund_id UUID NOT NULL,
    payment_id UUID NOT NULL,
    caller TEXT NOT NULL,
    reference TEXT NOT NULL,
    shortcode TEXT NOT NULL,
    receipt TEXT NOT NULL,
    amount NUMERIC(10, 2) NOT NULL,
    reason TEXT NOT NULL,
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
    state TEXT NOT NULL,
    result_code TEXT,
    claim_id UUID,
    sent_as TEXT,
    lease_expires_at TIMESTAMP WITH TIME ZONE,
    sent_at TIMESTAMP WITH TIME ZONE,
    not_sent_count INTEGER NOT NULL,
    send_at TIMESTAMP WITH TIME ZONE,
    originator_conversation_id TEXT,
    conversation_id TEXT,
    ended_at TIMESTAMP WITH TIME ZONE,
    due_at TIMESTAMP WITH TIME ZONE,
    ask_count INTEGER DEFAULT 0 NOT NULL,
    next_ask_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT refunds_pk PRIMARY KEY (refund_id),
    CONSTRAINT refunds_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id),
    CONSTRAINT refunds_of_receipt FOREIGN KEY(receipt) REFERENCES mpesa_receipts (receipt),
    CONSTRAINT refunds_one_per_reference UNIQUE (reference),
    CONSTRAINT refunds_amount_whole CHECK (amount > 0 AND amount = trunc(amount)),
    CONSTRAINT refunds_state_known
        CHECK (state IN ('REQUESTED', 'SENDING', 'ACCEPTED', 'UNCERTAIN', 'DONE', 'FAILED')),
    CONSTRAINT refunds_sending_is_claimed
        CHECK (state <> 'SENDING' OR (claim_id IS NOT NULL AND lease_expires_at IS NOT NULL AND sent_at IS NOT NULL)),
    CONSTRAINT refunds_to_be_sent CHECK ((state = 'REQUESTED') = (send_at IS NOT NULL)),
    CONSTRAINT refunds_ended_has_time CHECK ((state IN ('DONE', 'FAILED')) = (ended_at IS NOT NULL))
);
CREATE INDEX refunds_by_payment ON refunds (payment_id);
CREATE INDEX refunds_by_receipt ON refunds (receipt);
CREATE INDEX refunds_to_send ON refunds (send_at) WHERE send_at IS NOT NULL;
CREATE INDEX refunds_due ON refunds (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX refunds_to_ask_about ON refunds (next_ask_at) WHERE state = 'UNCERTAIN';

CREATE INDEX refunds_refused_initiators ON refunds (sent_as, ended_at) WHERE result_code IN ('2001', '8006');

GRANT SELECT, INSERT, UPDATE ON refunds TO mpesa_payments_application;
"""

# What is asked for, not what is learned: that money went back twice has to be recorded, whatever it adds up to. The
# receipt's lock makes of two that ask at once one after the other, and each statement here sees what was committed.
LIMIT = """
CREATE FUNCTION refunds_within_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    received NUMERIC;
    promised NUMERIC;
BEGIN
    SELECT COALESCE(r.amount, p.amount) INTO received
        FROM mpesa_receipts r JOIN payment_transactions p USING (payment_id)
        WHERE r.receipt = NEW.receipt AND r.payment_id = NEW.payment_id FOR NO KEY UPDATE OF r;
    SELECT COALESCE(sum(amount), 0) INTO promised FROM refunds WHERE receipt = NEW.receipt AND state <> 'FAILED';
    IF received IS NULL OR promised + NEW.amount > received THEN
        RAISE EXCEPTION 'more would be returned than was received'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'refunds_within_receipt', TABLE = 'refunds';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER refunds_within_receipt BEFORE INSERT ON refunds
    FOR EACH ROW EXECUTE FUNCTION refunds_within_receipt();
"""

BUDGETS = """
ALTER TABLE request_budgets DROP CONSTRAINT request_budgets_kind_known;
ALTER TABLE request_budgets ADD CONSTRAINT request_budgets_kind_known CHECK (kind IN ('push', 'query', 'refund'));
"""


def upgrade() -> None:
    for statements in (COLUMNS, REFUNDS, LIMIT, BUDGETS):
        op.get_bind().exec_driver_sql(statements)
