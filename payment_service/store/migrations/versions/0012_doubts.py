"""Doubts that end by proof, and the certainty of payments that ended before proofs were recorded.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# In steps, so that no row is locked for long. One that somebody else has locked is left out: its proof is noted when
# the payment next changes.
EARLIER = """
WITH unproven AS (
    SELECT payment_id FROM payment_transactions
    WHERE payment_id > %s AND outcome_certain AND unpaid_proof IS NULL AND state IN ('FAILED', 'CANCELLED', 'EXPIRED')
    ORDER BY payment_id LIMIT 2000 FOR NO KEY UPDATE SKIP LOCKED
), noted AS (
    UPDATE payment_transactions p SET unpaid_proof = 'EARLIER' FROM unproven u WHERE p.payment_id = u.payment_id
)
SELECT max(payment_id::text)::uuid FROM unproven
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        after: object = "00000000-0000-0000-0000-000000000000"
        while after is not None:
            after = op.get_bind().exec_driver_sql(EARLIER, (after,)).scalar()
        # Built beside the running service. A build that was broken off leaves an index that is not valid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS cases_doubted_money")
        op.execute(
            "CREATE INDEX CONCURRENTLY cases_doubted_money ON cases (mpesa_receipt_number)"
            " WHERE settled_at IS NULL AND kind IN ('UNCLAIMED_MONEY', 'FOREIGN_IDS')"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS cases_doubted_receipts")
