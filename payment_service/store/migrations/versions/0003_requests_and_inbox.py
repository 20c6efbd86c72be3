"""Requests of callers that make no payment; callbacks that are given up, and their replay.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

REQUESTS = """
CREATE TABLE caller_requests (
    kept_id UUID NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    payment_id UUID NOT NULL,
    request BYTEA NOT NULL,
    request_fingerprint BYTEA NOT NULL,
    request_encoding SMALLINT NOT NULL,
    request_key_id TEXT NOT NULL,
    kept_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT caller_requests_pk PRIMARY KEY (request_id, caller),
    CONSTRAINT caller_requests_one_per_kept_id UNIQUE (kept_id),
    CONSTRAINT caller_requests_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id)
);
CREATE INDEX caller_requests_by_payment ON caller_requests (payment_id);

GRANT SELECT, INSERT ON caller_requests TO mpesa_payments_application;
"""

INBOX = """
ALTER TABLE callback_inbox DROP CONSTRAINT callbacks_status_known;
ALTER TABLE callback_inbox ADD CONSTRAINT callbacks_status_known
    CHECK (status IN ('APPLIED', 'PENDING', 'UNMATCHED', 'DEAD'));
CREATE INDEX callbacks_unsettled ON callback_inbox (status, received_at) WHERE status <> 'APPLIED';

CREATE TABLE callback_replays (
    replay_id UUID NOT NULL,
    callback_id UUID NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL,
    replayed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT replays_pk PRIMARY KEY (replay_id),
    CONSTRAINT replays_of_callback FOREIGN KEY(callback_id) REFERENCES callback_inbox (callback_id)
);
CREATE INDEX replays_by_callback ON callback_replays (callback_id);

GRANT SELECT, INSERT ON callback_replays TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (REQUESTS, INBOX):
        op.get_bind().exec_driver_sql(statements)
