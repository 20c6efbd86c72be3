"""What a person hears of refunds that wait and of the sender's password; and what a refund's case shows of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.casework.show_cases import CaseEvidence, get_case
from payment_service.application.following.event_feed import EventFeed
from payment_service.application.following.read_payments import payment_reads
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.refunding.send_refunds import HELD_UP_AFTER
from payment_service.application.refunding.watch_refunds import RefundWatch, WatchedInitiator, watch_refunds
from payment_service.domain.refunds import SEND_WITHIN
from payment_service.store.engines import connect_writer
from tests.application.refunding.returning import Returning, returning
from tests.application.refunding.test_send_refunds import with_wrong_password
from tests.databases import Database
from tests.rows import rows_of

NUMBER = "254712345678"


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


def watch_of(refunds: Returning, password_set_on: date | None = None, *, initiator: bool = True) -> RefundWatch:
    tools = refunds.tools
    sender = WatchedInitiator(tools.operator.key, list(tools.safaricom.shortcodes), password_set_on)
    return RefundWatch(tools.engine, tools.safaricom.clock, [sender] if initiator else [])


async def told(watch: RefundWatch) -> list[tuple[str, str, str | None]]:
    """What one look tells: (event, alarm, why)."""
    with capture_logs() as lines:
        await watch_refunds(watch)
    return [(line["event"], line["alarm"], line.get("why")) for line in lines]


async def test_a_refund_that_the_rate_alone_holds_back_is_told_and_its_story_says_until_when(
    refunds: Returning,
) -> None:
    clock = refunds.tools.safaricom.clock
    budget = RequestBudget("refund", 0.000_001, refunds.tools.engine, clock)
    await budget.take("174379")
    starved = replace(refunds, tools=replace(refunds.tools, budget=replace(budget, wait_max_seconds=0.01)))
    refund_id, watch = await refunds.ask(await refunds.paid()), watch_of(refunds)
    asked_at = clock()
    await starved.send()
    assert await refunds.state(refund_id) == ("REQUESTED", None)
    assert await told(watch) == []
    refunds.enquiring.books.clock.move(HELD_UP_AFTER.total_seconds())
    assert await told(watch) == [("alarm", "refunds_wait", "NO_TURN")]
    assert await told(watch) == [], "it is told once"
    async with await psycopg.AsyncConnection.connect(refunds.enquiring.books.database.owner_url) as owner:
        sealer = refunds.tools.safaricom.sealer
        story = await explain_payment(sealer, owner, refunds.payments[refund_id].payment_id)
    (details,) = [moment.details for moment in story.moments if moment.what.startswith(f"refund {refund_id}")]
    assert any("waits for its first send" in line for line in details)
    assert any(f"fails at {asked_at + SEND_WITHIN:%Y-%m-%d %H:%M:%S}" in line for line in details)
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await told(watch) == [("alarm is over", "refunds_wait", None)]


async def test_why_a_refund_waits_is_told_by_what_holds_it_back(refunds: Returning, tmp_path: Path) -> None:
    await refunds.ask(await refunds.paid(phone_number="254712000001"))
    await refunds.script(error="spike_arrest")
    assert await refunds.send() == 1
    refunds.enquiring.books.clock.move(HELD_UP_AFTER.total_seconds())
    assert await told(watch_of(refunds, initiator=False)) == [("alarm", "refunds_wait", "NO_INITIATOR")]
    assert await told(watch_of(refunds)) == [("alarm", "refunds_wait", "REACHED_NOBODY")]
    refused = with_wrong_password(refunds, tmp_path)
    assert await refused.send() == 1
    await refunds.enquiring.heard(1)
    await refunds.ask(await refunds.paid(phone_number="254712000002"))
    refunds.enquiring.books.clock.move(HELD_UP_AFTER.total_seconds())
    assert await told(watch_of(refused)) == [("alarm", "refunds_wait", "INITIATOR_REFUSED")]


async def test_the_password_is_warned_of_two_weeks_before_it_expires_and_when_it_is_refused_after(
    refunds: Returning, tmp_path: Path
) -> None:
    clock = refunds.enquiring.books.clock
    refused = with_wrong_password(refunds, tmp_path)
    # At noon in Nairobi.
    clock.now = datetime.combine(clock.now.date(), datetime.min.time(), clock.now.tzinfo) + timedelta(days=1, hours=9)
    today = clock.now.date()
    assert await told(watch_of(refused)) == []
    assert await told(watch_of(refused, today - timedelta(days=75))) == []
    warned = watch_of(refused, today - timedelta(days=76))
    assert await told(warned) == [("alarm", "initiator_password_expires", None)]
    await refused.refunded()
    await refunds.enquiring.heard(1)
    assert await told(warned) == [], "wrong, and not for its age"
    old = watch_of(refused, today - timedelta(days=90))
    assert [alarm for _, alarm, _ in await told(old)] == ["initiator_password_expires", "initiator_password_expired"]
    changed = watch_of(refunds, today)
    assert await told(changed) == []


async def evidence_of(refunds: Returning) -> list[CaseEvidence]:
    """What the only case shows."""
    books = refunds.enquiring.books
    ((case_id,),) = await rows_of(books.database, "SELECT case_id FROM cases")
    connect = partial(connect_writer, books.database.application_url, autocommit=True)
    sealer = refunds.tools.safaricom.sealer
    reads = payment_reads(refunds.tools.engine, connect, sealer, EventFeed(connect, sealer))
    return list((await get_case(reads, case_id)).evidence)


async def test_the_case_of_a_refund_shows_what_was_sent_and_what_came(refunds: Returning) -> None:
    refund_id = await refunds.refunded(carries_out=False, result_code=1)
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("FAILED", "1")
    evidence = await evidence_of(refunds)
    kinds = [one.what.split(" from ")[0] for one in evidence]
    assert kinds[:2] == ["what was sent as reversal", "Safaricom's answer to reversal"]
    assert "callback" in kinds[2:]
    texts = " ".join(one.body for one in evidence)
    assert "TransactionID" in texts
    assert NUMBER not in texts
    assert NUMBER[-9:] not in texts
