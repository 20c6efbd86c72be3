"""How fast pushes go out, counted on a clock that the test moves."""

import asyncio
from datetime import timedelta

import pytest

from payment_service.application.request_budget import SLOW_SECONDS, BudgetExhausted, RequestBudget


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def budget_on(clock: Clock, per_second: float = 10.0, burst: int = 5) -> RequestBudget:
    return RequestBudget(per_second=per_second, burst=burst, wait_max_seconds=0.01, clock=clock)


async def turns(budget: RequestBudget, shortcode: str = "600998") -> int:
    """How many requests get a turn now."""
    for number in range(1_000):
        try:
            await budget.take(shortcode)
        except BudgetExhausted:
            return number
    raise AssertionError("no end")


async def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    budget = budget_on(clock)
    assert await turns(budget) == 5
    clock.now += 0.3125
    assert await turns(budget) == 3
    clock.now += 3_600
    assert await turns(budget) == 5


async def test_each_shortcode_has_its_own() -> None:
    budget = budget_on(Clock())
    assert [await turns(budget, "600998"), await turns(budget, "174379"), await turns(budget, "600998")] == [5, 5, 0]


async def test_after_a_rate_limit_nothing_goes_out_for_the_pause_and_then_a_quarter_for_a_while() -> None:
    clock = Clock()
    budget = budget_on(clock)
    await budget.take("600998")
    budget.slow_down("600998", timedelta(seconds=7))
    # A shorter pause that is named later does not cut the longer one.
    budget.slow_down("600998", timedelta(seconds=1))
    clock.now += 6.9
    assert await turns(budget) == 0
    assert await turns(budget, "174379") == 5
    clock.now += 0.2
    assert await turns(budget) == 1
    served = 0
    for _ in range(20):
        clock.now += 0.2
        served += await turns(budget)
    assert served == 10, "four seconds at a quarter of ten a second"
    clock.now += SLOW_SECONDS
    assert await turns(budget) >= 4
    clock.now += 1.0
    assert await turns(budget) == 5


async def test_those_who_wait_are_served_in_the_order_they_came() -> None:
    budget = RequestBudget(per_second=200.0, burst=1, wait_max_seconds=30.0)
    served: list[int] = []

    async def one(number: int) -> None:
        await budget.take("600998")
        served.append(number)

    async with asyncio.timeout(30):
        await asyncio.gather(*(one(number) for number in range(20)))
    assert served == list(range(20))


async def test_a_wait_that_would_be_too_long_ends_and_costs_the_others_nothing() -> None:
    clock = Clock()
    budget = budget_on(clock, burst=1)
    await budget.take("600998")
    with pytest.raises(BudgetExhausted, match="no turn"):
        await budget.take("600998")
    waiting = asyncio.create_task(budget.take("600998"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clock.now += 0.11
    assert await turns(budget) == 1
