"""Timers: every live payment has a way out, whoever started it and whoever is still there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service import background
from payment_service.application.record_facts import Submission
from payment_service.background import StepTools, turn_timers
from payment_service.domain.facts import PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.store.engines import read_engine
from payment_service.store.payments import Prompt
from tests.conftest import Database
from tests.core.rows import rows_of
from tests.core.writers import Writers, a_request

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
def steps(writers: Writers, engine: AsyncEngine, sends: Sends) -> StepTools:
    return StepTools(engine, writers.facts, sends.send_beside, writers.sealer, writers.clock, writers.times)


async def a_payment(writers: Writers) -> Payment:
    return (await writers.create(CALLER, a_request(), None, None)).payment


async def row(database: Database, payment: Payment) -> tuple[str, str | None]:
    query = "SELECT state, status_reason FROM payment_transactions WHERE payment_id = %s"
    ((state, reason),) = await rows_of(database, query, (payment.payment_id,))
    return state, reason


async def test_an_orphan_is_sent_by_whoever_finds_it_but_never_too_late(
    steps: StepTools, writers: Writers, sends: Sends, database: Database
) -> None:
    payment = await a_payment(writers)
    await turn_timers(steps)
    assert sends.found == [], "its own process has the first turn"
    writers.clock.move(3)
    await turn_timers(steps)
    assert sends.found == [payment.payment_id]
    writers.clock.move(18)
    await turn_timers(steps)
    assert await row(database, payment) == ("FAILED", "NOT_SENT")
    assert len(sends.found) == 1


async def test_a_dead_sender_leaves_an_uncertain_payment_that_expires(
    steps: StepTools, writers: Writers, database: Database
) -> None:
    payment = await a_payment(writers)
    await writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id))
    await turn_timers(steps)
    assert await row(database, payment) == ("SENDING", None)
    writers.clock.move(46)
    await turn_timers(steps)
    assert await row(database, payment) == ("UNCERTAIN", "CONFIRMING")
    writers.clock.move(75)
    await turn_timers(steps)
    assert await row(database, payment) == ("EXPIRED", "NO_ANSWER")
    assert await rows_of(database, "SELECT outcome_certain FROM payment_transactions") == [(False,)]
    writers.clock.move(48 * 3600)
    await turn_timers(steps)
    assert await rows_of(database, "SELECT outcome_certain, due_at FROM payment_transactions") == [(True, None)]


async def test_a_receipt_that_does_not_come_is_looked_at(
    steps: StepTools, writers: Writers, database: Database
) -> None:
    payment, claim = await a_payment(writers), uuid4()
    await writers.facts.submit(Submission(SendClaimed(claim), payment.payment_id))
    await writers.facts.submit(Submission(PromptAccepted(claim, "m", "ws_CO_1"), payment.payment_id))
    paid = ResultReported("callback:x", Source.CALLBACK, Verdict.PAID, "0", amount=500)
    await writers.facts.submit(Submission(paid, payment.payment_id))
    assert await row(database, payment) == ("COMPLETED", "RECEIPT_PENDING")
    writers.clock.move(15 * 60)
    await turn_timers(steps)
    assert await rows_of(database, "SELECT booking_action FROM payment_transactions") == [("REVIEW",)]
    assert await rows_of(database, "SELECT kind FROM cases") == [("RECEIPT_OVERDUE",)]


async def test_a_step_that_fails_is_tried_again() -> None:
    tries: list[int] = []

    async def step() -> None:
        tries.append(1)
        raise RuntimeError("not this time")

    running = asyncio.create_task(background.run_every(0.001, step))
    while len(tries) < 3:
        await asyncio.sleep(0.001)
    running.cancel()
