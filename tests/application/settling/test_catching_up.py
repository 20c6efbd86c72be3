"""Nobody is told that their time has passed while the news of their money may still be on its way."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from callback_gateway.config import GatewaySettings
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.application.settling.run_timers import TimerTools, run_timers
from payment_service.domain.payment import Times
from payment_service.schedule import timer_step
from payment_service.store.engines import read_engine
from tests.databases import Database
from tests.rows import rows_of
from tests.stories import Stories
from tests.writers import Clock, Writers

STEP = 0.5


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catching_up(clock: Clock) -> CatchingUp:
    return CatchingUp(clock, Times())


def looked_for(catching_up: CatchingUp, clock: Clock, seconds: float) -> float | None:
    """Look at the timers twice a second; after how many seconds silence first counts, None if never."""
    begun = clock()
    while clock() < begun + timedelta(seconds=seconds):
        if not catching_up.look():
            return (clock() - begun).total_seconds()
        catching_up.looked()
        clock.move(STEP)
    return None


def test_after_a_start_silence_counts_after_ten_seconds(catching_up: CatchingUp, clock: Clock) -> None:
    assert looked_for(catching_up, clock, 60) == 10


def test_what_was_kept_and_still_comes_prolongs_it_for_a_minute_at_most(catching_up: CatchingUp, clock: Clock) -> None:
    before = clock() - timedelta(seconds=30)
    begun = clock()
    while catching_up.look():
        catching_up.looked()
        catching_up.callback_stored(before)
        clock.move(STEP)
    assert clock() - begun == timedelta(seconds=60)


def test_ten_quiet_seconds_after_the_last_of_them_are_enough(catching_up: CatchingUp, clock: Clock) -> None:
    before = clock() - timedelta(seconds=30)
    assert looked_for(catching_up, clock, 7) is None
    catching_up.callback_stored(before)
    assert looked_for(catching_up, clock, 60) == 10


def test_callbacks_of_the_day_prolong_nothing(catching_up: CatchingUp, clock: Clock) -> None:
    assert catching_up.look()
    clock.move(9)
    catching_up.looked()
    catching_up.callback_stored(clock())
    assert looked_for(catching_up, clock, 60) == 1


def test_an_outage_begins_it_anew_and_a_long_step_does_not(catching_up: CatchingUp, clock: Clock) -> None:
    looked_for(catching_up, clock, 60)
    clock.move(30)
    catching_up.looked()
    clock.move(STEP)
    assert not catching_up.look(), "the step before took thirty seconds, and the database answered"
    catching_up.looked()
    clock.move(2.4)
    assert not catching_up.look(), "one look hung"
    catching_up.looked()
    clock.move(GatewaySettings.model_fields["forward_time_s"].default)
    assert looked_for(catching_up, clock, 60) == 10, "nobody could look for as long as a gateway waits"


async def test_a_minute_in_which_no_timer_is_due_is_no_outage(timers: TimerTools, writers: Writers) -> None:
    step = timer_step(timers)
    for _ in range(120):
        writers.clock.move(STEP)
        step.in_vain()
    assert not timers.catching_up.look(), "the time of the next payment passes without news, and its caller is told"


async def take_writes(database: Database, timers: TimerTools, whether: Literal["on", "off"]) -> None:
    """Of connections that are opened from now on, and the timers open theirs anew."""
    read_only = "off" if whether == "on" else "on"
    async with await psycopg.AsyncConnection.connect(database.server.dsn(), autocommit=True) as owner:
        await owner.execute(
            f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = {read_only}'.encode()
        )
    await timers.engine.dispose()


async def test_a_time_without_writes_is_an_outage(timers: TimerTools, writers: Writers, database: Database) -> None:
    """As a standby is: the gateways keep what comes until the database takes it."""
    step = timer_step(timers)
    for _ in range(120):
        writers.clock.move(STEP)
        step.in_vain()
    await take_writes(database, timers, whether="off")
    for _ in range(10):
        writers.clock.move(STEP)
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await run_timers(timers)
    await take_writes(database, timers, whether="on")
    writers.clock.move(STEP)
    assert timers.catching_up.look(), "what was kept meanwhile is on its way"


# The outage that was seen: thirty payments paid in time, and told EXPIRED, OFFER_RETRY, then late, REVIEW.


@pytest.fixture
async def timers(writers: Writers, database: Database) -> AsyncIterator[TimerTools]:
    engine = read_engine(database.application_url)
    yield TimerTools(
        engine=engine,
        facts=writers.facts,
        send_beside=lambda _prompt, _created_at: None,
        sealer=writers.sealer,
        clock=writers.clock,
        times=writers.times,
        catching_up=CatchingUp(writers.clock, writers.times),
    )
    await engine.dispose()


async def test_payments_whose_callbacks_a_gateway_kept_are_confirmed_and_never_told_expired(
    writers: Writers, timers: TimerTools, database: Database, tmp_path: Path
) -> None:
    """Method: the real writers and timers on a clock that is turned. The service is away from 60 s to 200 s after the
    send; the edge receives a success for each payment at 100 s, and delivers half of them at once, half 4 s later."""
    stories, clock = Stories(writers, tmp_path, timers.catching_up), writers.clock
    payments = [await stories.prompted() for _ in range(30)]
    unpaid = await stories.prompted()
    sent = clock()
    clock.move(200)
    received = sent + timedelta(seconds=100)
    await run_timers(timers)
    for number, payment in enumerate(payments[:15]):
        await stories.callback(payment.reference, receipt=f"RCPT0001{number:02d}", received_at=received)
    for _ in range(8):
        clock.move(STEP)
        await run_timers(timers)
    for number, payment in enumerate(payments[15:]):
        await stories.callback(payment.reference, receipt=f"RCPT0002{number:02d}", received_at=received)
    for _ in range(40):
        clock.move(STEP)
        await run_timers(timers)
    told = "SELECT booking_action, paid_late, count(*) FROM payment_events WHERE state = 'COMPLETED' GROUP BY 1, 2"
    assert await rows_of(database, told) == [("CONFIRM", False, 30)]
    assert await rows_of(database, "SELECT count(*) FROM cases") == [(0,)]
    expired = await rows_of(database, "SELECT payment_id FROM payment_events WHERE state = 'EXPIRED'")
    assert expired == [(unpaid.payment_id,)], "whose time has passed is told so, some seconds later"
