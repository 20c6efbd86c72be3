"""How far the provider's books have been read, and what has been asked of them: Pull and Transaction Status.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE daraja_pulls (
    shortcode TEXT NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE,
    window_start TIMESTAMP WITH TIME ZONE,
    window_end TIMESTAMP WITH TIME ZONE,
    page_offset INTEGER DEFAULT 0 NOT NULL,
    pulled_upto TIMESTAMP WITH TIME ZONE,
    swept_at TIMESTAMP WITH TIME ZONE,
    next_pull_at TIMESTAMP WITH TIME ZONE NOT NULL,
    failures INTEGER DEFAULT 0 NOT NULL,
    lease_id UUID,
    lease_expires_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pulls_pk PRIMARY KEY (shortcode),
    CONSTRAINT pulls_window_is_whole CHECK ((window_start IS NULL) = (window_end IS NULL))
);

CREATE TABLE daraja_questions (
    payment_id UUID NOT NULL,
    receipt TEXT NOT NULL,
    tries INTEGER NOT NULL,
    next_ask_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT questions_pk PRIMARY KEY (payment_id, receipt),
    CONSTRAINT questions_of_payment FOREIGN KEY(payment_id) REFERENCES payment_transactions (payment_id)
);

CREATE TABLE daraja_initiators (
    initiator TEXT NOT NULL,
    asked_reference TEXT,
    asked_at TIMESTAMP WITH TIME ZONE,
    next_ask_at TIMESTAMP WITH TIME ZONE NOT NULL,
    refused_code TEXT,
    CONSTRAINT initiators_pk PRIMARY KEY (initiator),
    CONSTRAINT initiators_question_is_whole CHECK ((asked_reference IS NULL) = (asked_at IS NULL))
);

GRANT SELECT, INSERT, UPDATE ON daraja_pulls, daraja_questions, daraja_initiators TO mpesa_payments_application;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLES)
