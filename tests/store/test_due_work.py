"""One look for the work of many steps shows each step's own."""

from datetime import UTC, datetime

from payment_service.store.due_work import DueWork, look_for_work
from payment_service.store.engines import read_engine
from tests.databases import Database
from tests.writers import Writers, a_request

CALLER, SHORTCODE = "development", "174379"

REFUND = """INSERT INTO refunds (refund_id, payment_id, caller, reference, shortcode, receipt, amount, reason,
    requested_at, method, state, sent_as, sent_at, not_sent_count, originator_conversation_id, {due})
SELECT payment_id, payment_id, caller, 'back', shortcode, 'RECEIPT001', 1, 'OTHER', created_at, 'B2C', {state},
    created_at FROM payment_transactions"""

WORK = {
    "timers": "UPDATE payment_transactions SET due_at = created_at",
    "callbacks": """INSERT INTO callback_inbox (callback_id, kind, reference, body, body_hash, source_address,
            received_at, stored_at, status, next_try_at)
        SELECT payment_id, 'stk', reference, '', '', '', created_at, created_at, 'PENDING', created_at
        FROM payment_transactions""",
    "refund_timers": REFUND.format(due="due_at", state="'ACCEPTED', 'operator', created_at, 0, 'o'"),
    "refunds": REFUND.format(due="send_at", state="'REQUESTED', NULL, NULL, 0, 'o'"),
    "receipts": "INSERT INTO receipts_due (payment_id, due_at) SELECT payment_id, created_at FROM payment_transactions",
    "queries": "UPDATE payment_transactions SET query_at = created_at",
    "doubts": """INSERT INTO cases (case_id, payment_id, reference, kind, is_money, fact_id, mpesa_receipt_number,
            opened_at, deadline_at)
        SELECT payment_id, payment_id, reference, 'UNCLAIMED_MONEY', true, 'fact', 'RECEIPT001', created_at, created_at
        FROM payment_transactions""",
    "books": "UPDATE daraja_pulls SET next_pull_at = '2000-01-01'",
}
"""By the step's field: what gives it something to do."""
AT_REST = (
    f"INSERT INTO daraja_pulls (shortcode, next_pull_at) VALUES ('{SHORTCODE}', '2100-01-01')",
    """INSERT INTO mpesa_receipts (receipt, payment_id, amount, counted, seen_at, proven_by)
        SELECT 'RECEIPT001', payment_id, 1, true, created_at, 'QUERY' FROM payment_transactions""",
)
UNBACKED = "UPDATE payment_transactions SET back_at = created_at"
"""Queries are also due for money that only a callback has told of."""


async def test_a_look_shows_the_work_of_each_step_and_no_other(writers: Writers, database: Database) -> None:
    await writers.create(CALLER, a_request(), None, None)
    engine = read_engine(database.owner_url)

    async def shown(*statements: str) -> DueWork:
        async with engine.connect() as conn:
            for statement in (*AT_REST, *statements):
                await conn.exec_driver_sql(statement)
            return await look_for_work(conn, writers.clock(), [SHORTCODE])

    found = {field: await shown(work) for field, work in WORK.items()}
    idle, unbacked, never_pulled = await shown(), await shown(UNBACKED), await shown("DELETE FROM daraja_pulls")
    standby = await shown("SET TRANSACTION READ ONLY")
    await engine.dispose()
    nothing = dict.fromkeys(WORK, False)
    assert set(WORK) | {"read_at", "takes_writes"} == set(DueWork._fields)
    assert {field: _work_in(due) for field, due in found.items()} == {field: nothing | {field: True} for field in WORK}
    assert _work_in(idle) == nothing
    assert _work_in(unbacked) == nothing | {"queries": True}
    assert _work_in(never_pulled) == nothing | {"books": True}
    assert (idle.takes_writes, standby.takes_writes) == (True, False)
    assert abs(datetime.now(UTC) - idle.read_at).total_seconds() < 3600


def _work_in(due: DueWork) -> dict[str, bool]:
    return {field: getattr(due, field) for field in WORK}
