"""Steps that run by themselves go on, whatever one of them meets."""

import asyncio
from datetime import UTC, datetime, timedelta

from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.schedule import run_every


async def test_a_step_that_fails_is_tried_again() -> None:
    tries: list[int] = []

    async def step() -> None:
        tries.append(1)
        raise RuntimeError("not this time")

    running = asyncio.create_task(run_every(DatabaseClock(), 0.001, step))
    while len(tries) < 3:
        await asyncio.sleep(0.001)
    running.cancel()


async def test_a_process_whose_clock_is_wrong_takes_no_step_until_it_is_right() -> None:
    off = [300.0]
    clock, stepped = DatabaseClock(lambda: datetime.now(UTC) + timedelta(seconds=off[0])), asyncio.Event()
    clock.learn(clock.own_time(), datetime.now(UTC))

    async def step() -> None:
        stepped.set()

    running = asyncio.create_task(run_every(clock, 0.001, step))
    await asyncio.sleep(0.05)
    assert not stepped.is_set()
    off[0] = 0.0
    clock.learn(clock.own_time(), datetime.now(UTC))
    await stepped.wait()
    running.cancel()
