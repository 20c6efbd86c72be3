"""When the first post about a refund came; and what a receipt brought is what was read of it, not what was asked for.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE refunds ADD COLUMN posted_at TIMESTAMP WITH TIME ZONE"

# A receipt whose amount nobody could read returns nothing until it is known.
LIMIT = """
CREATE OR REPLACE FUNCTION refunds_within_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    received NUMERIC;
    promised NUMERIC;
BEGIN
    SELECT amount INTO received FROM mpesa_receipts
        WHERE receipt = NEW.receipt AND payment_id = NEW.payment_id FOR NO KEY UPDATE;
    SELECT COALESCE(sum(amount), 0) INTO promised FROM refunds WHERE receipt = NEW.receipt AND state <> 'FAILED';
    IF received IS NULL OR promised + NEW.amount > received THEN
        RAISE EXCEPTION 'more would be returned than was received'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'refunds_within_receipt', TABLE = 'refunds';
    END IF;
    RETURN NEW;
END $$;
"""


def upgrade() -> None:
    for statements in (COLUMN, LIMIT):
        op.get_bind().exec_driver_sql(statements)
