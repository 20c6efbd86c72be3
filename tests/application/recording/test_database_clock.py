"""Processes whose own clocks are wrong, beside one whose clock is right: the database's decides for all."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from payment_service.application.recording.database_clock import SKEW_MAX, DatabaseClock
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.run_timers import TimerTools, run_timers
from payment_service.domain.facts import DeadlinePassed, PromptAccepted, SendClaimed
from payment_service.domain.payment import Payment, State
from payment_service.store.engines import read_engine
from payment_service.store.prompts import Prompt
from tests.databases import Database
from tests.rows import rows_of
from tests.writers import Writers, WrongClock, a_request, caught_up, running_writers

CALLER = "development"


async def database_time(database: Database) -> datetime:
    ((moment,),) = await rows_of(database, "SELECT clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


async def claimed(writers: Writers, payment: Payment) -> Recorded:
    return await writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id))


async def prompted(writers: Writers) -> Payment:
    payment, claim = (await writers.create(CALLER, a_request(), None, None)).payment, uuid4()
    await writers.facts.submit(Submission(SendClaimed(claim), payment.payment_id))
    accepted = PromptAccepted(claim, f"merchant-{claim}", f"ws_CO_{claim}")
    recorded = await writers.facts.submit(Submission(accepted, payment.payment_id))
    assert recorded.payment is not None
    return recorded.payment


async def test_a_process_that_is_ahead_expires_no_live_payment(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    payment = await prompted(writers)
    async with running_writers(database.application_url, tmp_path, clock=WrongClock(300)) as ahead:
        told = await ahead.facts.submit(Submission(DeadlinePassed(), payment.payment_id))
    assert told.payment is not None
    assert told.payment.state is State.PROMPTED


async def test_a_process_that_is_ahead_takes_no_timer_before_its_time(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    payment = await prompted(writers)
    engine = read_engine(database.application_url)
    sent: list[Prompt] = []
    async with running_writers(database.application_url, tmp_path, clock=WrongClock(300)) as ahead:
        steps = TimerTools(
            engine=engine,
            facts=ahead.facts,
            send_beside=lambda prompt, _created_at: sent.append(prompt),
            sealer=ahead.sealer,
            clock=ahead.clock,
            times=ahead.times,
            catching_up=caught_up(writers.clock, ahead.times),
        )
        assert await run_timers(steps) == 0
    await engine.dispose()
    assert await rows_of(database, "SELECT due_at FROM payment_transactions") == [(payment.due_at,)]


@pytest.mark.parametrize("seconds_off", [-200, 300])
async def test_a_process_whose_clock_is_wrong_claims_no_send(
    writers: Writers, database: Database, tmp_path: Path, seconds_off: float
) -> None:
    async with running_writers(database.application_url, tmp_path, clock=WrongClock(seconds_off)) as wrong:
        at_once = (await wrong.create(CALLER, a_request(), None, None, claim_id=uuid4())).payment
        assert at_once.state is State.CREATED, "it is left to a process whose clock is right"
        assert (await claimed(wrong, at_once)).refused
        assert not (await claimed(writers, at_once)).refused


async def test_the_times_of_a_payment_are_the_databases_whichever_process_makes_it(
    database: Database, tmp_path: Path
) -> None:
    # 200 s behind, a send would have been dated so far back that a second prompt was allowed at once.
    async with running_writers(database.application_url, tmp_path, clock=WrongClock(-200)) as behind:
        before = await database_time(database)
        payment = (await behind.create(CALLER, a_request(), None, None)).payment
        async with running_writers(database.application_url, tmp_path, clock=WrongClock(0)) as right:
            sent = (await claimed(right, payment)).payment
        after = await database_time(database)
    assert sent is not None
    assert sent.sent_at is not None
    assert before <= payment.created_at <= sent.sent_at <= after


async def test_between_readings_a_wrong_clock_is_put_right(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path, clock=WrongClock(300)) as ahead:
        await ahead.create(CALLER, a_request(), None, None)
        assert not ahead.clock.agrees
        assert ahead.clock() < ahead.clock.own_time() - timedelta(seconds=200)


def test_a_slow_answer_does_not_make_a_clock_wrong() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    own = [start]
    clock = DatabaseClock(lambda: own[0])
    own[0] += timedelta(seconds=30)
    assert clock.learn(start, start + timedelta(seconds=15)) == start + timedelta(seconds=15)
    assert (clock.skew, clock()) == (timedelta(0), own[0])
    clock.learn(start, start + timedelta(seconds=40))
    assert clock.skew == timedelta(seconds=10)
    assert clock.skew > SKEW_MAX
