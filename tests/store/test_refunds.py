"""What the table of refunds holds by itself, whoever writes to it."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund, RefundReason, RefundState, RefundTimes
from payment_service.domain.refunds import first_refund
from payment_service.store.engines import connect_writer
from payment_service.store.pipeline import BEGIN, COMMIT, Connection, run_together
from payment_service.store.refunds import insert_refunds
from runtime.callback_tokens import new_reference
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.rpc.processes import Process, paid, sent

RECEIPT = "TKA1B2C3D4"


def refund_of(payment: Payment, amount: int = 500, receipt: str = RECEIPT) -> Refund:
    return first_refund(
        Refund(
            refund_id=uuid4(),
            payment_id=payment.payment_id,
            caller=payment.caller,
            reference=new_reference(),
            shortcode="174379",
            receipt=receipt,
            amount=amount,
            reason=RefundReason.OTHER,
            requested_at=payment.created_at,
        ),
        RefundTimes(),
    )


async def insert(conn: Connection, refund: Refund) -> None:
    await run_together(conn, [insert_refunds([refund])])


async def waiting(database: Database) -> None:
    """Until somebody waits for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await rows_of(database, query):
            await asyncio.sleep(0.02)


async def test_two_transactions_at_once_cannot_promise_more_than_a_receipt_brought(
    process: Process, database: Database
) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid(RECEIPT))
    first = await connect_writer(database.application_url, autocommit=True)
    second = await connect_writer(database.application_url, autocommit=True)
    await run_together(first, [BEGIN, insert_refunds([refund_of(payment, 300)])])
    late = asyncio.create_task(insert(second, refund_of(payment, 300)))
    await waiting(database)
    await run_together(first, [COMMIT])
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        await late
    assert refused.value.diag.constraint_name == "refunds_within_receipt"
    assert await count(database, "refunds") == 1
    await first.close()
    await second.close()


async def test_what_has_failed_counts_no_more_and_a_receipt_of_nobody_returns_nothing(
    process: Process, database: Database
) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid(RECEIPT))
    conn = await connect_writer(database.application_url, autocommit=True)
    failed = replace(
        refund_of(payment), state=RefundState.FAILED, send_at=None, due_at=None, ended_at=payment.created_at
    )
    for refund in (failed, refund_of(payment, 200), refund_of(payment, 300)):
        await insert(conn, refund)
    with pytest.raises(psycopg.errors.CheckViolation):
        await insert(conn, refund_of(payment, 1))
    conn = await connect_writer(database.application_url, autocommit=True)
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.ForeignKeyViolation)):
        await insert(conn, refund_of(payment, 1, receipt="TKZ0000000"))
    assert await count(database, "refunds") == 3
    await conn.close()
