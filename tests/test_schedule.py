"""Steps that run by themselves go on, whatever one of them meets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from structlog.testing import capture_logs

from callback_gateway.config import GatewaySettings
from callback_gateway.forwarding import RETRY_PAUSE_S
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.settling.catching_up import LOOKS_APART_MAX
from payment_service.schedule import LOOK_WAIT_SECONDS, STEP_SECONDS, DueStep, run_due, run_every
from payment_service.store.due_work import DueWork


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


async def test_a_step_that_goes_on_failing_is_logged_once_in_full_and_then_counted() -> None:
    tries, works = 0, asyncio.Event()

    async def look_for_work(tools: str) -> None:
        nonlocal tries
        tries += 1
        if tries <= 40:
            raise (RuntimeError if tries <= 30 else OSError)(f"not at {tries} with {tools}")
        works.set()

    with capture_logs() as lines:
        running = asyncio.create_task(run_every(DatabaseClock(), 0, partial(look_for_work, "everything it holds")))
        await works.wait()
        await asyncio.sleep(0)
        running.cancel()
    assert {line["step"] for line in lines} == {"look_for_work"}
    assert [line["event"] for line in lines if line.get("alarm") == "step_fails"] == ["alarm", "alarm is over"]
    steps = [line for line in lines if "alarm" not in line]
    told = [(line["event"].removeprefix("background step "), line.get("failures")) for line in steps]
    assert told == [
        ("failed", None),
        *[("still fails", count) for count in (2, 4, 8, 16)],
        ("failed", None),
        *[("still fails", count) for count in (2, 4, 8)],
        ("works again", 10),
    ]
    assert [str(line["exc_info"])[:9] for line in lines if "exc_info" in line] == ["not at 1 ", "not at 31"]


async def test_a_new_failure_beside_one_that_goes_on_is_logged_in_full() -> None:
    met: list[list[Exception]] = [[RuntimeError("a")], [RuntimeError("b")], [RuntimeError("c"), OSError("new")]]
    over = asyncio.Event()

    async def step() -> None:
        if not met:
            over.set()
            return
        raise ExceptionGroup("some of it", met.pop(0))

    with capture_logs() as lines:
        running = asyncio.create_task(run_every(DatabaseClock(), 0, step))
        await over.wait()
        running.cancel()
    told = [line["event"] for line in lines]
    assert told[:3] == ["background step failed", "background step still fails", "background step failed"]


IDLE = DueWork(datetime.now(UTC), True, *[False] * 8)
"""What a look shows when there is nothing to do."""


async def taken(looks: Sequence[DueWork | Exception], *steps: DueStep) -> None:
    """So many looks, and whatever steps follow from them."""
    left, over = list(looks), asyncio.Event()

    async def look_for_work() -> DueWork:
        if not left:
            over.set()
            return IDLE
        if isinstance(found := left.pop(0), Exception):
            raise found
        return found

    running = asyncio.create_task(run_due(DatabaseClock(), 0, look_for_work, steps))
    await over.wait()
    running.cancel()


def noted(seen: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def step() -> None:
        seen.append(name)

    return step


async def test_a_step_is_taken_when_a_look_has_shown_something_for_it() -> None:
    seen: list[str] = []
    steps = [
        DueStep(noted(seen, "timers"), lambda due: due.timers, in_vain=lambda: seen.append("no timers")),
        DueStep(noted(seen, "refunds"), lambda due: due.refunds),
    ]
    await taken([IDLE, IDLE._replace(timers=True)], *steps)
    assert seen[:2] == ["no timers", "timers"]
    assert "refunds" not in seen


async def test_every_step_is_taken_where_nobody_knows_what_there_is_to_do() -> None:
    seen: list[str] = []
    steps = [DueStep(noted(seen, name), lambda _: False) for name in ("timers", "refunds")]
    await taken([RuntimeError("no answer")], *steps)
    await taken([IDLE._replace(takes_writes=False)], *steps)
    assert seen == ["timers", "refunds"] * 2


async def test_a_look_that_hangs_holds_up_no_step() -> None:
    taken_at_last = asyncio.Event()

    async def look_for_work() -> DueWork:
        await asyncio.Event().wait()
        return IDLE

    async def step() -> None:
        taken_at_last.set()

    running = asyncio.create_task(run_due(DatabaseClock(), 0, look_for_work, [DueStep(step, lambda _: False)]))
    await taken_at_last.wait()
    running.cancel()


def test_a_look_that_hangs_is_no_outage_and_what_a_gateway_waits_is_one() -> None:
    round_seconds = STEP_SECONDS + LOOK_WAIT_SECONDS
    assert round_seconds + 1 <= LOOKS_APART_MAX.total_seconds(), "a second is for a new connection and the timers"
    # Its last try may begin just before the database is back.
    waited = GatewaySettings.model_fields["forward_time_s"].default - RETRY_PAUSE_S
    assert LOOKS_APART_MAX.total_seconds() < waited


async def test_a_process_whose_clock_is_wrong_does_not_look_for_work() -> None:
    clock, looked = DatabaseClock(lambda: datetime.now(UTC) + timedelta(seconds=300)), asyncio.Event()
    clock.learn(clock.own_time(), datetime.now(UTC))

    async def look_for_work() -> DueWork:
        looked.set()
        return IDLE

    running = asyncio.create_task(run_due(clock, 0.001, look_for_work, []))
    await asyncio.sleep(0.05)
    running.cancel()
    assert not looked.is_set()


async def test_a_step_for_which_fewer_looks_count_is_taken_as_seldom() -> None:
    seen: list[str] = []
    each, seldom = (DueStep(noted(seen, name), lambda _: True, each=n) for name, n in (("each", 1), ("seldom", 3)))
    await taken([IDLE] * 6, each, seldom)
    assert (seen.count("each"), seen.count("seldom")) == (6, 2)


async def test_a_step_that_is_still_at_work_is_not_taken_again_and_holds_up_no_other() -> None:
    seen: list[str] = []

    async def long() -> None:
        seen.append("long")
        await asyncio.Event().wait()

    await taken([IDLE] * 4, DueStep(long, lambda _: True), DueStep(noted(seen, "other"), lambda _: True))
    assert (seen.count("long"), seen.count("other")) == (1, 4)


async def test_a_failure_is_over_when_there_is_nothing_left_to_do() -> None:
    async def apply_callbacks() -> None:
        raise OSError

    step = DueStep(apply_callbacks, lambda due: due.callbacks)
    with capture_logs() as lines:
        await taken([*[IDLE._replace(callbacks=True)] * 8, IDLE], step)
    told = [line["event"] for line in lines if line["step"] == "apply_callbacks"]
    assert told[-2:] == ["background step works again", "alarm is over"]
