"""The timers of refunds: a lease that ran out, a result that did not come, a doubt that has lasted too long.

A timer only reminds: what follows is decided under the lock, against the refund as it is then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.tell_each import tell_each
from payment_service.domain.refund_facts import RefundDue
from payment_service.store.refunds import due_refunds

BATCH = 200
"""Refunds of one step; a longer backlog is worked off by the next steps."""


@dataclass(frozen=True, slots=True)
class RefundTimerTools:
    """What acting on timers needs."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    clock: Callable[[], datetime]


async def run_refund_timers(tools: RefundTimerTools) -> int:
    """Act on the refunds whose timer has run out; how many there were. Raises what went wrong, after all others."""
    async with tools.engine.connect() as conn:
        due = await due_refunds(conn, tools.clock(), BATCH)
    told = [Submission(RefundDue(), refund.payment_id, refund_id=refund.refund_id) for refund in due]
    failures = await tell_each(tools.facts, told)
    if failures:
        raise ExceptionGroup("timers of refunds that could not be acted on", failures)
    return len(due)
