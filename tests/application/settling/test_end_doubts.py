"""Doubts about money that proves to be another payment's end by themselves."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from payment_service.application.settling.end_doubts import DoubtTools, end_doubts
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.store.engines import read_engine
from payment_service.store.reads import payments_of_booking
from tests.databases import Database
from tests.rows import rows_of
from tests.stories import Stories
from tests.writers import Writers

pytestmark = pytest.mark.every_postgres


async def shown_reason(engine: AsyncEngine, payment: Payment) -> str | None:
    """What a caller reads."""
    async with engine.connect() as conn:
        (row,) = await payments_of_booking(conn, payment.caller, payment.booking_id)
    return row.status_reason


async def test_a_booking_is_barred_no_longer_than_the_doubt_about_its_payment(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    stories, engine = Stories(writers, tmp_path), read_engine(database.application_url)
    doubted, owner = await stories.prompted(), await stories.prompted()
    await stories.pulled(doubted, "RCPT0000E1", in_doubt=True)
    shown = [await shown_reason(engine, doubted)]
    tools = DoubtTools(engine, writers.facts)
    try:
        assert await end_doubts(tools) == 0, "nobody has proven whose it is"
        await stories.callback(owner.reference, receipt="RCPT0000E1")
        assert await end_doubts(tools) == 1
        assert await end_doubts(tools) == 0
        shown.append(await shown_reason(engine, doubted))
    finally:
        await engine.dispose()
    assert shown == ["MONEY_IN_DOUBT", "AWAITING_CUSTOMER"], "its own reason has stood all the while"
    told = "SELECT status_reason FROM payment_events WHERE payment_id = %s ORDER BY version DESC LIMIT 2"
    assert await rows_of(database, told, (doubted.payment_id,)) == [(shown[1],), (shown[0],)]
    actions = "SELECT booking_action, money_case_open FROM payment_transactions ORDER BY created_at, payment_id"
    assert await rows_of(database, actions) == [("WAIT", False), ("CONFIRM", False)]
    assert await rows_of(database, "SELECT settled_at IS NULL, settled_by FROM cases") == [(False, "proven:RCPT0000E1")]


async def test_a_callback_with_foreign_ids_bars_until_its_receipt_is_proven_elsewhere(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    stories, engine = Stories(writers, tmp_path), read_engine(database.application_url)
    doubted, owner, claimed = await stories.prompted(), await stories.prompted(), await stories.prompted()
    tools = DoubtTools(engine, writers.facts)
    foreign = ResultReported("odd", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt="RCPT0000F1")
    try:
        await stories.tell(doubted, replace(foreign, checkout_request_id="ws_CO_999912345678"))
        assert await end_doubts(tools) == 0
        writers.clock.move(1)
        await stories.callback(owner.reference, receipt="RCPT0000F1")
        writers.clock.move(1)
        # Two payments with one receipt: that is no doubt that its proof has ended.
        await stories.callback(claimed.reference, receipt="RCPT0000F1")
        assert await end_doubts(tools) == 1
        assert await end_doubts(tools) == 0
    finally:
        await engine.dispose()
    actions = "SELECT booking_action FROM payment_transactions ORDER BY created_at, payment_id"
    assert await rows_of(database, actions) == [("WAIT",), ("CONFIRM",), ("REVIEW",)]


async def test_a_doubt_that_cannot_be_ended_holds_up_no_other_and_fails_the_step(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    stories, engine = Stories(writers, tmp_path), read_engine(database.application_url)
    doubted = [await stories.prompted() for _ in range(3)]
    for number, payment in enumerate(doubted):
        await stories.pulled(payment, f"RCPT0000G{number}", in_doubt=True)
        await stories.callback((await stories.prompted()).reference, receipt=f"RCPT0000G{number}")
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        spoil = "UPDATE payment_transactions SET checkout_request_id = 'torn' WHERE payment_id = ANY(%s)"
        await owner.execute(spoil, ([payment.payment_id for payment in doubted[:2]],))
    try:
        with capture_logs() as lines, pytest.raises(ExceptionGroup) as failed:
            await end_doubts(DoubtTools(engine, writers.facts))
    finally:
        await engine.dispose()
    assert len(failed.value.exceptions) == 2
    assert len([line for line in lines if line.get("what") == "fact could not be recorded"]) == 2
    held = "SELECT payment_id FROM payment_transactions WHERE money_case_open ORDER BY payment_id"
    assert await rows_of(database, held) == sorted((payment.payment_id,) for payment in doubted[:2])
