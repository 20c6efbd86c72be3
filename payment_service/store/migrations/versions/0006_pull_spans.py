"""Which spans of the provider's books have been read.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Readers of the release before go on writing `pulled_upto` and `swept_at` until they stop.
CHANGES = """
CREATE TABLE daraja_pull_spans (
    shortcode TEXT NOT NULL,
    start_at TIMESTAMP WITH TIME ZONE NOT NULL,
    end_at TIMESTAMP WITH TIME ZONE NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE NOT NULL,
    reading TEXT NOT NULL,
    CONSTRAINT pull_spans_pk PRIMARY KEY (shortcode, start_at, reading),
    CONSTRAINT pull_spans_forward CHECK (start_at < end_at)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON daraja_pull_spans TO mpesa_payments_application;

ALTER TABLE daraja_pulls
    ADD COLUMN proved_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN window_began_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN window_flaw TEXT,
    ADD COLUMN page_digest TEXT,
    ADD COLUMN rows_told INTEGER,
    ADD COLUMN slice_seconds INTEGER DEFAULT 3600 NOT NULL;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(CHANGES)
