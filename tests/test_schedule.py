"""Steps that run by themselves go on, whatever one of them meets."""

import asyncio

from payment_service.schedule import run_every


async def test_a_step_that_fails_is_tried_again() -> None:
    tries: list[int] = []

    async def step() -> None:
        tries.append(1)
        raise RuntimeError("not this time")

    running = asyncio.create_task(run_every(0.001, step))
    while len(tries) < 3:
        await asyncio.sleep(0.001)
    running.cancel()
