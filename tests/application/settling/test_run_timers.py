"""Timers: every live payment has a way out, whoever started it and whoever is still there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.run_timers import LEASE, TimerTools, run_timers
from payment_service.domain.facts import PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.security.sealing import SealBroken
from payment_service.store.due_timers import claim_due_timers
from payment_service.store.engines import read_engine
from payment_service.store.prompts import Prompt
from tests.databases import Database
from tests.rows import rows_of
from tests.writers import Writers, a_request, caught_up

CALLER = "development"


@dataclass
class Sends:
    """Takes the orphans that a sweep finds, in place of the sends of a process."""

    found: list[UUID]

    def send_beside(self, prompt: Prompt, _created_at: object) -> None:
        self.found.append(prompt.payment_id)


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = read_engine(database.application_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def sends() -> Sends:
    return Sends([])


@pytest.fixture
def steps(writers: Writers, engine: AsyncEngine, sends: Sends) -> TimerTools:
    return TimerTools(
        engine=engine,
        facts=writers.facts,
        send_beside=sends.send_beside,
        sealer=writers.sealer,
        clock=writers.clock,
        times=writers.times,
        catching_up=caught_up(writers.clock, writers.times),
        paybills=["174379"],
    )


async def a_payment(writers: Writers) -> Payment:
    return (await writers.create(CALLER, a_request(), None, None)).payment


async def row(database: Database, payment: Payment) -> tuple[str, str | None]:
    query = "SELECT state, status_reason FROM payment_transactions WHERE payment_id = %s"
    ((state, reason),) = await rows_of(database, query, (payment.payment_id,))
    return state, reason


async def test_an_orphan_is_sent_by_whoever_finds_it_but_never_too_late(
    steps: TimerTools, writers: Writers, sends: Sends, database: Database
) -> None:
    payment = await a_payment(writers)
    await run_timers(steps)
    assert sends.found == [], "its own process has the first turn"
    writers.clock.move(3)
    await run_timers(steps)
    assert sends.found == [payment.payment_id]
    writers.clock.move(18)
    await run_timers(steps)
    assert await row(database, payment) == ("FAILED", "NOT_SENT")
    assert len(sends.found) == 1


async def test_a_dead_sender_leaves_an_uncertain_payment_that_expires(
    steps: TimerTools, writers: Writers, database: Database
) -> None:
    payment = await a_payment(writers)
    await writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id))
    await run_timers(steps)
    assert await row(database, payment) == ("SENDING", None)
    writers.clock.move(46)
    await run_timers(steps)
    assert await row(database, payment) == ("UNCERTAIN", "CONFIRMING")
    writers.clock.move(75)
    await run_timers(steps)
    assert await row(database, payment) == ("EXPIRED", "NO_ANSWER")
    assert await rows_of(database, "SELECT outcome_certain FROM payment_transactions") == [(False,)]
    writers.clock.move(48 * 3600)
    await run_timers(steps)
    assert await rows_of(database, "SELECT outcome_certain, due_at FROM payment_transactions") == [(False, None)]
    assert await rows_of(database, "SELECT kind FROM cases") == [("OUTCOME_UNKNOWN",)], "silence proves nothing"


async def test_a_receipt_that_does_not_come_is_looked_at(
    steps: TimerTools, writers: Writers, database: Database
) -> None:
    payment, claim = await a_payment(writers), uuid4()
    await writers.facts.submit(Submission(SendClaimed(claim), payment.payment_id))
    await writers.facts.submit(Submission(PromptAccepted(claim, "m", "ws_CO_1"), payment.payment_id))
    paid = ResultReported("callback:x", Source.CALLBACK, Verdict.PAID, "0", amount=500)
    await writers.facts.submit(Submission(paid, payment.payment_id))
    assert await row(database, payment) == ("COMPLETED", "RECEIPT_PENDING")
    writers.clock.move(15 * 60)
    await run_timers(steps)
    assert await rows_of(database, "SELECT booking_action FROM payment_transactions") == [("REVIEW",)]
    assert await rows_of(database, "SELECT kind FROM cases") == [("RECEIPT_OVERDUE",)]


async def test_processes_share_the_timers_instead_of_repeating_them(steps: TimerTools, writers: Writers) -> None:
    for _ in range(20):
        await a_payment(writers)
    writers.clock.move(21)
    shares = await asyncio.gather(*(run_timers(steps) for _ in range(4)))
    assert sum(shares) == 20


async def test_a_payment_that_a_person_has_locked_holds_up_no_other_timer(
    steps: TimerTools, writers: Writers, database: Database
) -> None:
    locked, other = await a_payment(writers), await a_payment(writers)
    writers.clock.move(21)
    async with await psycopg.AsyncConnection.connect(database.owner_url) as console:
        await console.execute("SELECT FROM payment_transactions WHERE payment_id = %s FOR UPDATE", (locked.payment_id,))
        await run_timers(steps)
        assert (await row(database, other))[0] == "FAILED"
    await run_timers(steps)
    assert (await row(database, locked))[0] == "FAILED"


async def test_a_timer_whose_process_died_is_due_again(
    steps: TimerTools, writers: Writers, engine: AsyncEngine
) -> None:
    await a_payment(writers)
    writers.clock.move(21)
    async with engine.begin() as conn:
        assert len(await claim_due_timers(conn, writers.clock(), writers.clock() + LEASE, 10)) == 1
    assert await run_timers(steps) == 0
    writers.clock.move(LEASE.total_seconds())
    assert await run_timers(steps) == 1


async def test_two_payments_that_cannot_be_read_hold_up_no_other(
    steps: TimerTools, writers: Writers, database: Database
) -> None:
    torn, sound = [await a_payment(writers) for _ in range(2)], [await a_payment(writers) for _ in range(3)]
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        spoil = "UPDATE payment_transactions SET checkout_request_id = 'torn' WHERE payment_id = ANY(%s)"
        await owner.execute(spoil, ([payment.payment_id for payment in torn],))
    writers.clock.move(21)
    with capture_logs() as lines, pytest.raises(ExceptionGroup) as failed:
        await run_timers(steps)
    assert [type(one) for one in failed.value.exceptions] == [SealBroken, SealBroken]
    told = [line["payment_id"] for line in lines if line.get("what") == "fact could not be recorded"]
    assert sorted(told) == sorted(str(payment.payment_id) for payment in torn)
    assert {(await row(database, payment))[0] for payment in sound} == {"FAILED"}
