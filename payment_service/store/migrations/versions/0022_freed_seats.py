"""The seats that refunds have freed, whoever asked for them; and the time of every turn of the prompt switch.

Revision ID: 0022
Revises: 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# A database may have been made by an earlier 0017, whose column had no default.
SWITCH = "ALTER TABLE prompt_switch ALTER COLUMN turned_at SET DEFAULT clock_timestamp()"

# Only the refund of a whole is a reversal, and it has freed its seat. In steps, so that no row is locked for long. The
# payments are found by their refunds, which are few. Run again, it changes nothing.
FILL = """
WITH refunded AS (
    SELECT DISTINCT payment_id FROM refunds WHERE payment_id > %s AND method = 'REVERSAL'
    ORDER BY payment_id LIMIT 1000
), filled AS (
    UPDATE payment_transactions p
    SET seat_freed = true, refund_under_way = p.refund_under_way OR p.state = 'REFUNDING'
    FROM refunded r
    WHERE p.payment_id = r.payment_id AND NOT (p.seat_freed AND (p.refund_under_way OR p.state <> 'REFUNDING'))
)
SELECT max(payment_id::text)::uuid FROM refunded
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SWITCH)
    with op.get_context().autocommit_block():
        after: object = "00000000-0000-0000-0000-000000000000"
        while after is not None:
            after = op.get_bind().exec_driver_sql(FILL, (after,)).scalar()
