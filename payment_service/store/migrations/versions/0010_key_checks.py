"""Which keys this database belongs to.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE key_checks (
    purpose TEXT NOT NULL,
    key_id TEXT NOT NULL,
    check_value BYTEA NOT NULL,
    CONSTRAINT key_checks_pk PRIMARY KEY (purpose, key_id)
);
GRANT SELECT, INSERT ON key_checks TO mpesa_payments_application;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLE)
