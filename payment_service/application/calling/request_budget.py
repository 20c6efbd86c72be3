"""How fast all processes together call Daraja: one budget of turns per kind of request and what it is counted for.

Pushes and refunds are counted for their shortcode, and queries for the Daraja app that asks, as Safaricom's sandbox
counts them. The limits of production are not published, so the rates are settings, and a refusal as "too fast" slows
every process down. The budget is a row: a bucket that refills with time. A process takes turns from it in blocks that
grow with what it uses, up to a quarter of a second's worth, and the next block before the last is used up: a busy
process asks the database a few times a second however much it sends, and its sends do not wait for that. What it does
not use soon is lost, as if it had been used.

Over any time, all processes together get no more turns than the bucket holds and what flows into it meanwhile. A pause
reaches the other processes with their next block, after `BLOCK_LIVES` at the latest.

No lock and no transaction is held while waiting for a turn. Waiting is first come, first served within a process, and
bounded: a payment whose turn does not come in time is better told so. What is sent is decided by the caller.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_service.alarms import CLOCKS_DIFFER
from payment_service.store.request_budgets import StoredBudget, lock_budget, save_budget
from runtime.alarms import raise_alarm

Kind = Literal["push", "query", "refund"]

WAIT_MAX_SECONDS = 10.0
"""Half of the time in which a payment has to be sent at all."""

BURST_SECONDS = 2.0
"""The turns of so long may be had at once after a quiet time, and one at least."""

BLOCK_SECONDS = 0.25
"""The turns of so long are taken from the row at once, at most."""
BLOCK_LIVES = timedelta(seconds=2)
"""How long a process may keep turns that it does not use."""

SLOW_FOR = timedelta(seconds=30)
"""After a pause the rate is a quarter for so long: whoever returns at full speed meets the same limit."""
SLOW_FACTOR = 4.0

CLOCKS_DIFFER_MAX = timedelta(minutes=1)
"""A row that is dated further ahead was written by a clock that was wrong, and would give no turn until then."""

ROUNDING = 1e-6
"""Of a turn: ten times a tenth of a second at one a second is a whole turn, whatever the fractions add up to."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_log = structlog.get_logger(__name__)


class BudgetExhausted(Exception):
    """No turn within the bound: more is waiting than the rate lets through, or the budget cannot be read."""


@dataclass(slots=True)
class _Block:
    """The turns of one shortcode or app that this process holds."""

    left: int = 0
    taken: int = 0
    """How many there were when the latest were taken."""
    taken_at: datetime = _LONG_AGO
    next_try_at: datetime = _LONG_AGO
    """When the row has turns again, as far as is known."""
    paused_until: datetime = _LONG_AGO
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while waiting, so that whoever came first goes first."""
    taking: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """The requests of one kind that this process may send. One per process and kind."""

    kind: Kind
    per_second: float
    """For one shortcode or app, over all processes."""
    engine: AsyncEngine
    clock: Callable[[], datetime]
    wait_max_seconds: float = WAIT_MAX_SECONDS
    blocks: dict[str, _Block] = field(default_factory=dict, repr=False)

    async def take(self, counted_as: str) -> None:
        """Wait for a turn; raises `BudgetExhausted` if it does not come within the bound."""
        block = self._block(counted_as)
        try:
            async with asyncio.timeout(self.wait_max_seconds), block.turn:
                while not self._spend(block, counted_as):
                    wait = (block.next_try_at - self.clock()).total_seconds()
                    if wait > 0:
                        await asyncio.sleep(wait)
                    else:
                        await self._take_block(block, counted_as)
        except TimeoutError:
            raise BudgetExhausted(f"no turn within {self.wait_max_seconds:g} s") from None
        except (SQLAlchemyError, psycopg.Error) as error:
            raise BudgetExhausted(f"the budget cannot be read: {type(error).__name__}") from error

    def take_at_once(self, counted_as: str) -> bool:
        """Take a turn if this process holds one and nobody waits for it."""
        block = self._block(counted_as)
        return not block.turn.locked() and self._spend(block, counted_as)

    def give_back(self, counted_as: str) -> None:
        """Return a turn that was not used after all. One that was had before a pause is not to be used in it."""
        block = self._block(counted_as)
        if self.clock() >= block.paused_until:
            block.left += 1

    async def take_up_to(self, counted_as: str, most: int) -> int:
        """As many turns as can be had without waiting for any, `most` at the most. Raises what the database raises."""
        block, got = self._block(counted_as), 0
        while got < most:
            if self._held(block) < 1 and self.clock() >= block.next_try_at:
                await self._take_block(block, counted_as)
            if self._held(block) < 1:
                break
            block.left -= 1
            got += 1
        return got

    async def slow_down(self, counted_as: str, pause: timedelta) -> None:
        """Daraja refused a request as too fast: send nothing for the pause, and slowly for a while after it."""
        block, until = self._block(counted_as), self.clock() + pause
        block.left, block.next_try_at, block.paused_until = 0, max(block.next_try_at, until), until
        try:
            async with self.engine.begin() as conn:
                stored = await self._lock(conn, counted_as)
                paused_until = max(stored.paused_until or until, until)
                stored = replace(stored, turns=min(stored.turns, 1.0), paused_until=paused_until)
                await save_budget(conn, counted_as, self.kind, stored)
        except (SQLAlchemyError, psycopg.Error) as error:
            _log.warning("request budget could not be slowed down", kind=self.kind, cause=type(error).__name__)
        _log.warning("daraja asks for fewer requests", kind=self.kind, pause_seconds=pause.total_seconds())

    def _block(self, counted_as: str) -> _Block:
        # What is counted as is a configured shortcode or app, so there are few.
        return self.blocks.setdefault(counted_as, _Block())

    def _ceiling(self, rate: float) -> float:
        return max(1.0, self.per_second * BURST_SECONDS) if rate == self.per_second else 1.0

    @property
    def _size_max(self) -> int:
        return max(1, math.ceil(self.per_second * BLOCK_SECONDS))

    def _wanted(self, block: _Block) -> int:
        """How many to take: to hold twice of what was used of the last, so that few are lost."""
        used = block.taken - block.left
        return max(1, min(self._size_max, 2 * used) - self._held(block))

    def _held(self, block: _Block) -> int:
        return block.left if self.clock() < block.taken_at + BLOCK_LIVES else 0

    def _spend(self, block: _Block, counted_as: str) -> bool:
        if self._held(block) < 1:
            return False
        block.left -= 1
        low = block.left < max(1, block.taken // 4) or self.clock() >= block.taken_at + BLOCK_LIVES / 2
        # Not at rates so low that a turn which is not used in time would be missed.
        if low and self._size_max > 1 and block.taking is None and self.clock() >= block.next_try_at:
            self._start_taking(block, counted_as)
        return True

    async def _take_block(self, block: _Block, counted_as: str) -> None:
        # Shielded: the block belongs to everybody who waits, not to the one whose time has run out.
        await asyncio.shield(block.taking or self._start_taking(block, counted_as))

    def _start_taking(self, block: _Block, counted_as: str) -> asyncio.Task[None]:
        block.taking = asyncio.create_task(self._take_from_row(block, counted_as), name="take-request-turns")
        # Its failure is told to whoever waits, and logged, since it may be that nobody does.
        block.taking.add_done_callback(_look_at_failure)
        return block.taking

    async def _take_from_row(self, block: _Block, counted_as: str) -> None:
        wanted = self._wanted(block)
        try:
            async with self.engine.begin() as conn:
                stored = await self._lock(conn, counted_as)
                paused = stored.paused_until is not None and self.clock() < stored.paused_until
                got = 0 if paused else min(wanted, math.floor(stored.turns + ROUNDING))
                stored = replace(stored, turns=stored.turns - got)
                await save_budget(conn, counted_as, self.kind, stored)
        finally:
            block.taking = None
        now = self.clock()
        if now < block.next_try_at:
            # A pause was asked for meanwhile; what was taken before it is not to be used in it.
            return
        if got:
            block.left = block.taken = self._held(block) + got
            block.taken_at = block.next_try_at = now
            return
        # Half of what is wanted is waited for, not one turn: else, when all wait, each would cost a look at the row.
        rate = self._rate(stored, now)
        missing = max(1.0, min(wanted / 2, self._ceiling(rate))) - stored.turns
        more_at = now + timedelta(seconds=missing / rate)
        block.next_try_at = max(more_at, stored.paused_until) if paused and stored.paused_until else more_at

    async def _lock(self, conn: AsyncConnection, counted_as: str) -> StoredBudget:
        """The budget as it is now, its row locked."""
        now = self.clock()
        stored = await lock_budget(
            conn, counted_as, self.kind, StoredBudget(self._ceiling(self.per_second), now, paused_until=None)
        )
        if stored.filled_at > now + CLOCKS_DIFFER_MAX:
            raise_alarm(CLOCKS_DIFFER, kind=self.kind)
            stored = StoredBudget(min(stored.turns, 1.0), now, paused_until=None)
        return self._filled(stored)

    def _rate(self, stored: StoredBudget, now: datetime) -> float:
        slow = stored.paused_until is not None and now < stored.paused_until + SLOW_FOR
        return self.per_second / SLOW_FACTOR if slow else self.per_second

    def _filled(self, stored: StoredBudget) -> StoredBudget:
        """The budget brought up to now; by the clock that is furthest ahead, so that no second counts twice."""
        now, paused_until = max(self.clock(), stored.filled_at), stored.paused_until
        rate = self._rate(stored, now)
        since = stored.filled_at if paused_until is None else max(stored.filled_at, min(paused_until, now))
        turns = min(self._ceiling(rate), stored.turns + (now - since).total_seconds() * rate)
        return StoredBudget(turns, now, paused_until)


def _look_at_failure(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.warning("request turns could not be taken", cause=type(error).__name__)
