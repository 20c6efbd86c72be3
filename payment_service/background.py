"""What happens by itself: timers and orphans; and how such steps are run.

Every step is one bounded function over rows, safe to run in any number of
processes at once: what it finds it turns into facts, which are checked again
under the lock. A test calls the step; only `run_every` knows of time passing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.group_commit import GroupCommit
from payment_service.application.record_facts import Recorded, Submission
from payment_service.domain.facts import DeadlinePassed, Fact, LeaseDead, ReceiptOverdue, WatchEnded
from payment_service.domain.payment import State, Times
from payment_service.security.sealing import Sealer
from payment_service.store.payments import Due, Prompt, due_payments, read_prompts

STEP_SECONDS = 0.5
"""Between two looks at the timers: small against every time they keep."""
QUERY_STEP_SECONDS = 1.0
"""Between two looks for payments to ask about: they are due at times that are seconds apart."""
MATCH_SECONDS = 30.0
"""Between two looks for payments of parked callbacks: only a person's work on the database makes one appear."""
STEP_WAIT_SECONDS = 60.0
"""A step that hangs is given up, so that the next one can begin; everything in it is bounded far below this."""
BATCH = 200

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StepTools:
    """What the steps need."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    send_beside: Callable[[Prompt, datetime], None]
    """Sends a payment, created at that time, in a task of its own."""
    sealer: Sealer
    clock: Callable[[], datetime]
    times: Times


async def run_every(seconds: float, step: Callable[[], Awaitable[object]]) -> NoReturn:
    """Run a step for ever. A step that fails is logged and tried again: the rows are still there."""
    while True:
        await asyncio.sleep(seconds)
        try:
            async with asyncio.timeout(STEP_WAIT_SECONDS):
                await step()
        except Exception:
            _log.exception("background step failed", step=getattr(step, "__name__", repr(step)))


async def turn_timers(tools: StepTools) -> int:
    """Act on the payments whose timer has run out; how many there were."""
    now = tools.clock()
    async with tools.engine.connect() as conn:
        due = await due_payments(conn, now, BATCH)
        orphaned = [row.payment_id for row in due if _is_orphan(row, now, tools.times)]
        prompts = await read_prompts(conn, tools.sealer, orphaned) if orphaned else []
    created = {row.payment_id: row.created_at for row in due}
    for prompt in prompts:
        tools.send_beside(prompt, created[prompt.payment_id])
    facts = [(row, fact) for row in due if (fact := _fact(row, now, tools.times)) is not None]
    await asyncio.gather(*(tools.facts.submit(Submission(fact, row.payment_id)) for row, fact in facts))
    return len(due)


def _is_orphan(due: Due, now: datetime, times: Times) -> bool:
    return due.state is State.CREATED and now < due.created_at + times.send_within


def _fact(due: Due, now: datetime, times: Times) -> Fact | None:
    match due.state:
        case State.CREATED:
            return None if _is_orphan(due, now, times) else DeadlinePassed()
        case State.SENDING if due.claim_id is not None:
            return LeaseDead(due.claim_id)
        case State.PROMPTED | State.UNCERTAIN:
            return DeadlinePassed()
        case State.COMPLETED:
            return ReceiptOverdue()
        case State.EXPIRED:
            return WatchEnded()
        case _:
            return None
