"""Money that one operator wants to move and a second one has to agree to.

Revision ID: 0020
Revises: 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# What was asked for can be altered by nobody who serves: only what became of it is written, and no row is removed.
TABLE = """
CREATE TABLE approvals (
    approval_id UUID NOT NULL,
    payment_id UUID NOT NULL,
    case_id UUID,
    act TEXT NOT NULL,
    amount NUMERIC(10, 2) NOT NULL,
    mpesa_receipt_number TEXT,
    refund_reason TEXT,
    request_id TEXT,
    part BOOLEAN NOT NULL,
    seen_case INTEGER NOT NULL,
    seen_payments INTEGER NOT NULL,
    seen_open_cases INTEGER NOT NULL,
    asked_by TEXT NOT NULL,
    asked_as TEXT NOT NULL,
    asked_why TEXT NOT NULL,
    asked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    state TEXT NOT NULL,
    decided_by TEXT,
    decided_as TEXT,
    decided_why TEXT,
    decided_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT approvals_pk PRIMARY KEY (approval_id),
    CONSTRAINT approvals_of_payment FOREIGN KEY (payment_id) REFERENCES payment_transactions (payment_id),
    CONSTRAINT approvals_of_case FOREIGN KEY (case_id) REFERENCES cases (case_id),
    CONSTRAINT approvals_state_known CHECK (state IN ('WAITING', 'APPROVED', 'REFUSED', 'WITHDRAWN', 'OVERTAKEN')),
    CONSTRAINT approvals_waiting_is_undecided CHECK ((state = 'WAITING') = (decided_at IS NULL)),
    CONSTRAINT approvals_by_another CHECK (state NOT IN ('APPROVED', 'REFUSED') OR decided_by <> asked_by)
);
CREATE UNIQUE INDEX approvals_one_waiting ON approvals (payment_id) WHERE state = 'WAITING';
CREATE INDEX approvals_by_payment ON approvals (payment_id);
CREATE INDEX approvals_by_case ON approvals (case_id) WHERE case_id IS NOT NULL;
GRANT SELECT, INSERT ON approvals TO mpesa_payments_application;
GRANT UPDATE (state, decided_by, decided_as, decided_why, decided_at) ON approvals TO mpesa_payments_application;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLE)
