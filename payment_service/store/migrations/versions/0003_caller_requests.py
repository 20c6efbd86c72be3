"""Requests of callers that make no payment: their ids are taken all the same.

Revision ID: 0003
Revises: 0001
"""

from alembic import op

revision = "0003"
down_revision = "0001"
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


def upgrade() -> None:
    op.get_bind().exec_driver_sql(REQUESTS)
