"""How fast all processes together call Daraja: real budgets on one real database, on a clock that the test moves.

An instance is what a process has: its own engine and its own block of turns.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.calling.request_budget import (
    BLOCK_LIVES,
    BURST_SECONDS,
    SLOW_FOR,
    BudgetExhausted,
    Kind,
    RequestBudget,
)
from payment_service.store.engines import read_engine
from tests.daraja_simulator.simulators import until
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import open_transactions, rows_of
from tests.writers import Clock


class Processes:
    """Makes the budget of one more process at a time."""

    def __init__(self, database: Database, stack: AsyncExitStack) -> None:
        self.clock = Clock(datetime(2026, 3, 1, 9, tzinfo=UTC))
        self._database, self._stack = database, stack

    def engine(self) -> AsyncEngine:
        engine = read_engine(self._database.application_url)
        self._stack.push_async_callback(engine.dispose)
        return engine

    def budget(
        self, per_second: float = 10.0, kind: Kind = "push", wait_max_seconds: float = PATIENCE_SECONDS
    ) -> RequestBudget:
        return RequestBudget(kind, per_second, self.engine(), self.clock, wait_max_seconds)


@pytest.fixture
async def processes(database: Database) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(database, stack)


async def turns(*budgets: RequestBudget, shortcode: str = "600998", most: int = 100_000) -> int:
    """How many requests get a turn now, the processes taking one each in turn."""
    got, idle = 0, 0
    for budget in itertools.cycle(budgets):
        taken = await budget.take_up_to(shortcode, 1)
        got, idle = got + taken, 0 if taken else idle + 1
        if idle == len(budgets) or got == most:
            return got
    raise AssertionError("no end")


async def test_a_burst_and_then_the_rate(processes: Processes) -> None:
    budget = processes.budget()
    assert await turns(budget) == 20
    processes.clock.move(0.35)
    assert await turns(budget) == 3
    processes.clock.move(3_600)
    assert await turns(budget) == 20


async def test_two_processes_together_never_exceed_the_rate(processes: Processes) -> None:
    first, second = processes.budget(), processes.budget()
    begun, counted = processes.clock(), 0
    for step in range(150):
        # They wake at odd moments, sometimes both and sometimes one, and do not always have something to send.
        who = [(first,), (second,), (first, second)][step % 3]
        counted += await turns(*who, most=1 + step % 7)
        elapsed = (processes.clock() - begun).total_seconds()
        assert counted <= 10 * (BURST_SECONDS + elapsed)
        processes.clock.move(0.05 + 0.01 * (step % 11))
    elapsed = (processes.clock() - begun).total_seconds()
    assert counted > 5 * elapsed, "and what is left unused in a block is little"


async def test_a_busy_process_gets_the_whole_rate_beside_an_idle_one(processes: Processes) -> None:
    busy, idle = processes.budget(), processes.budget()
    await turns(busy, idle)
    counted = 0
    for _ in range(100):
        processes.clock.move(0.1)
        counted += await turns(busy)
    assert counted >= 99


async def test_a_busy_process_asks_the_database_a_few_times_a_second(processes: Processes) -> None:
    engine = processes.engine()
    transactions: list[object] = []
    event.listen(engine.sync_engine, "commit", transactions.append)
    budget = RequestBudget("push", 1_000.0, engine, processes.clock, PATIENCE_SECONDS)
    for _ in range(1_000):
        await budget.take("600998")
        processes.clock.move(0.001)
    assert len(transactions) < 20


async def test_a_quiet_process_takes_no_more_than_it_uses(processes: Processes) -> None:
    quiet, busy = processes.budget(), processes.budget()
    await turns(quiet)
    taken = 0
    for _ in range(30):
        processes.clock.move(3)
        await quiet.take("600998")
        taken += 1 + await turns(busy)
    assert taken >= 30 * 18, "twenty flow in each time, and two are held at hand in vain"


async def test_turns_are_at_hand_once_requests_come_one_after_the_other(processes: Processes) -> None:
    budget = processes.budget(per_second=100.0)
    assert not budget.take_at_once("600998"), "none is held yet"
    await budget.take("600998")
    for _ in range(50):
        await until(lambda: budget.blocks["600998"].taking is None)
        assert budget.take_at_once("600998")
        processes.clock.move(0.1)
    budget.give_back("600998")
    assert budget.take_at_once("600998")


async def test_a_turn_that_comes_back_in_a_pause_is_not_used_in_it(processes: Processes) -> None:
    budget = processes.budget(per_second=100.0)
    await budget.take("600998")
    await budget.slow_down("600998", timedelta(seconds=1))
    budget.give_back("600998")
    assert not budget.take_at_once("600998")


async def test_whoever_waits_goes_before_whoever_would_not(processes: Processes) -> None:
    budget = processes.budget()
    await turns(budget)
    waiting = asyncio.create_task(budget.take("600998"))
    await until(budget.blocks["600998"].turn.locked)
    budget.give_back("600998")
    assert not budget.take_at_once("600998")
    processes.clock.move(1.0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting


async def test_unused_turns_are_lost_after_a_while(processes: Processes) -> None:
    budget = processes.budget(per_second=100.0)
    await turns(budget, most=10)
    held = budget.blocks["600998"].left
    assert held > 0
    processes.clock.move(BLOCK_LIVES.total_seconds())
    assert await budget.take_up_to("600998", 100_000) == 200, "the bucket alone, full again"


async def test_each_shortcode_and_kind_has_its_own(processes: Processes, database: Database) -> None:
    pushes, queries = processes.budget(), processes.budget(5 / 60, "query")
    assert [await turns(pushes), await turns(pushes, shortcode="174379"), await turns(pushes)] == [20, 20, 0]
    assert [await turns(queries), await turns(queries)] == [1, 0]
    rows = await rows_of(database, "SELECT shortcode, kind FROM request_budgets ORDER BY kind, shortcode")
    assert rows == [("174379", "push"), ("600998", "push"), ("600998", "query")]


async def test_five_queries_a_minute_are_twelve_seconds_apart(processes: Processes) -> None:
    first, second = processes.budget(5 / 60, "query"), processes.budget(5 / 60, "query")
    asked = []
    for second_number in range(120):
        asked += [second_number] * await turns(first, second)
        processes.clock.move(1)
    assert asked == list(range(0, 120, 12))


async def test_a_clock_behind_the_other_makes_no_turns(processes: Processes) -> None:
    ahead, behind = processes.budget(), processes.budget()
    behind_clock = Clock(processes.clock() - timedelta(seconds=2))
    slow = RequestBudget("push", 10.0, behind.engine, behind_clock)
    counted = 0
    for _ in range(50):
        counted += await turns(ahead) + await turns(slow)
        processes.clock.move(0.1)
        behind_clock.move(0.1)
    assert counted <= 10 * (BURST_SECONDS + 5)


async def test_a_clock_that_was_wrong_by_days_stops_nobody_for_days(processes: Processes) -> None:
    sound = processes.budget()
    wrong = RequestBudget("push", 10.0, processes.engine(), Clock(processes.clock() + timedelta(days=3)))
    await turns(wrong, most=1)
    await wrong.slow_down("600998", timedelta(minutes=5))
    assert await turns(sound) <= 1
    processes.clock.move(1)
    assert await turns(sound) >= 9


async def test_turns_that_were_under_way_when_a_pause_began_are_not_used(processes: Processes) -> None:
    budget = processes.budget(per_second=100.0)
    await turns(budget, most=3)
    budget.blocks["600998"].left = 0
    taking = asyncio.create_task(budget.take_up_to("600998", 1))
    await asyncio.sleep(0)
    await asyncio.gather(budget.slow_down("600998", timedelta(seconds=60)), taking)
    assert await turns(budget) == 0


async def test_after_a_rate_limit_no_process_sends_for_the_pause_and_then_a_quarter_for_a_while(
    processes: Processes,
) -> None:
    refused, other = processes.budget(), processes.budget()
    await refused.take("600998")
    await refused.slow_down("600998", timedelta(seconds=7))
    # A shorter pause that is named later does not cut the longer one.
    await refused.slow_down("600998", timedelta(seconds=1))
    processes.clock.move(6.9)
    assert await turns(refused, other) == 0
    assert await turns(other, shortcode="174379") == 20
    processes.clock.move(0.2)
    assert await turns(refused, other) == 1
    served = 0
    for _ in range(20):
        processes.clock.move(0.2)
        served += await turns(refused, other)
    assert served == 10, "four seconds at a quarter of ten a second"
    processes.clock.move(SLOW_FOR.total_seconds())
    await turns(refused, other)
    processes.clock.move(1.0)
    assert await turns(refused, other) == 10


async def test_a_process_that_holds_turns_hears_of_a_pause_with_its_next_block(processes: Processes) -> None:
    refused, other = processes.budget(per_second=100.0), processes.budget(per_second=100.0)
    await turns(other, most=50)
    held = other.blocks["600998"].left
    await refused.slow_down("600998", timedelta(seconds=60))
    assert await turns(other) <= held
    processes.clock.move(59)
    assert await turns(other) == 0


async def test_those_who_wait_are_served_in_the_order_they_came(processes: Processes) -> None:
    def now() -> datetime:
        return datetime.now(UTC)

    budget = RequestBudget("push", 50.0, processes.engine(), now, PATIENCE_SECONDS)
    served: list[int] = []

    async def one(number: int) -> None:
        await budget.take("600998")
        served.append(number)

    await asyncio.gather(*(one(number) for number in range(120)))
    assert served == list(range(120))


async def test_a_wait_that_would_be_too_long_ends_and_costs_the_others_nothing(processes: Processes) -> None:
    budget = processes.budget(wait_max_seconds=0.2)
    await turns(budget)
    with pytest.raises(BudgetExhausted, match="no turn"):
        await budget.take("600998")
    waiting = asyncio.create_task(budget.take("600998"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    processes.clock.move(1.0)
    assert await turns(budget) == 10


async def test_no_transaction_is_open_while_a_turn_is_waited_for(processes: Processes, database: Database) -> None:
    budget = processes.budget()
    await turns(budget)
    waiting = asyncio.create_task(budget.take("600998"))
    while budget.blocks["600998"].taking is not None or budget.blocks["600998"].next_try_at <= processes.clock():
        await asyncio.sleep(0.01)
    assert await open_transactions(database) == 0
    processes.clock.move(1.0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting


async def test_without_the_database_there_is_no_turn(processes: Processes) -> None:
    unreachable = read_engine("postgresql://nobody@127.0.0.1:1/none")
    budget = RequestBudget("push", 10.0, unreachable, processes.clock, PATIENCE_SECONDS)
    with pytest.raises(BudgetExhausted, match="cannot be read"):
        await budget.take("600998")
    await budget.slow_down("600998", timedelta(seconds=1))
    assert budget.blocks["600998"].next_try_at == processes.clock() + timedelta(seconds=1)
    await unreachable.dispose()
