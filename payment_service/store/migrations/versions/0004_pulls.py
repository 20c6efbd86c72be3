"""How far the provider's books have been read: Pull Transactions, by shortcode.

Revision ID: 0004
Revises: 0001
"""

from alembic import op

revision = "0004"
down_revision = "0001"
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

GRANT SELECT, INSERT, UPDATE ON daraja_pulls TO mpesa_payments_application;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLES)
