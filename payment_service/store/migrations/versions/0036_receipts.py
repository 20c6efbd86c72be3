"""Receipts that passengers hold, and those that are to be issued or amended.

Revision ID: 0036
Revises: 0034
"""

from alembic import op

revision = "0036"
down_revision = "0034"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE issued_receipts (
    payment_id UUID NOT NULL,
    revision INTEGER NOT NULL,
    number TEXT NOT NULL,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    standing TEXT NOT NULL,
    amount NUMERIC(10, 2) NOT NULL,
    mpesa_receipt_number TEXT NOT NULL,
    refunded_amount NUMERIC(10, 2) NOT NULL,
    returned JSONB NOT NULL,
    issuer JSONB NOT NULL,
    tax_invoice JSONB,
    CONSTRAINT issued_receipts_pk PRIMARY KEY (payment_id, revision),
    CONSTRAINT issued_receipts_one_per_number UNIQUE (number, revision),
    CONSTRAINT issued_receipts_of_payment FOREIGN KEY (payment_id) REFERENCES payment_transactions (payment_id),
    CONSTRAINT issued_receipts_revision_counts_up CHECK (revision > 0)
);
CREATE TABLE receipts_due (
    payment_id UUID NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT receipts_due_pk PRIMARY KEY (payment_id),
    CONSTRAINT receipts_due_of_payment FOREIGN KEY (payment_id) REFERENCES payment_transactions (payment_id)
);
CREATE INDEX receipts_due_by_time ON receipts_due (due_at);
"""

# What a receipt has said is never altered.
GRANTS = """
GRANT SELECT, INSERT ON issued_receipts TO mpesa_payments_application;
GRANT SELECT, INSERT, UPDATE, DELETE ON receipts_due TO mpesa_payments_application;
"""


def upgrade() -> None:
    for statements in (TABLES, GRANTS):
        op.get_bind().exec_driver_sql(statements)
