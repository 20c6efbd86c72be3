"""A role that only reads, and an index of the log by time.

Revision ID: 0025
Revises: 0024
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# Roles belong to the whole server, so another database may have made it already, even at this very moment.
READER_ROLE = """
DO $$
BEGIN
    CREATE ROLE mpesa_payments_reader NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO mpesa_payments_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mpesa_payments_reader;
REVOKE ALL ON daraja_access_token FROM mpesa_payments_reader;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(READER_ROLE)
    with op.get_context().autocommit_block():
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS events_by_time")
        # The log is appended to as time passes, so a few bytes for each stretch of it are enough.
        op.execute("CREATE INDEX CONCURRENTLY events_by_time ON payment_events USING brin (occurred_at)")
