"""Which keys each process holds, and until when each key made what is new.

Revision ID: 0023
Revises: 0022
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE key_holders (
    holder TEXT NOT NULL,
    keys JSONB NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_holders_pk PRIMARY KEY (holder)
);
CREATE TABLE key_uses (
    purpose TEXT NOT NULL,
    key_id TEXT NOT NULL,
    last_used_at TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ,
    CONSTRAINT key_uses_pk PRIMARY KEY (purpose, key_id)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON key_holders TO mpesa_payments_application;
GRANT SELECT, INSERT, UPDATE ON key_uses TO mpesa_payments_application;
"""

# Of the keys that are there nobody knows which was current until when: each may have been until now.
KNOWN_SO_FAR = "INSERT INTO key_uses (purpose, key_id, last_used_at) SELECT purpose, key_id, now() FROM key_checks"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLES)
    op.get_bind().exec_driver_sql(KNOWN_SO_FAR)
