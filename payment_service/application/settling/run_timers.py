"""Acting on timers that have run out, and sending payments whose process went away before it sent them.

When a timer is due and what it says is decided in `domain.timers`; that silence says nothing yet, in `catching_up`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.application.settling.tell_each import tell_each
from payment_service.domain.errors import StoreUnavailable
from payment_service.domain.payment import Times
from payment_service.domain.timers import Due, books_window, fact_when_due, is_orphan
from payment_service.security.sealing import Sealer
from payment_service.store.due_timers import claim_due_timers
from payment_service.store.prompts import Prompt, read_prompts
from payment_service.store.pull_progress import books_cover

LEASE = timedelta(seconds=10)
"""How long a claimed timer is left to the process that claimed it. Acting on it takes milliseconds."""

BATCH = 1_000
"""Payments of one step; a longer backlog is worked off by the next steps."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TimerTools:
    """What acting on timers needs."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    send_beside: Callable[[Prompt, datetime], None]
    """Sends a payment, created at that time, in a task of its own."""
    sealer: Sealer
    clock: DatabaseClock
    times: Times
    catching_up: CatchingUp
    paybills: Collection[str] = ()
    """Shortcodes whose books name the payment a row is for. A till's do not, and so prove nothing about a payment."""


async def run_timers(tools: TimerTools) -> int:
    """Act on the payments whose timer has run out; how many there were. Raises what went wrong, after all others."""
    async with tools.engine.begin() as conn:
        now = await tools.clock.look(conn)
        due = await claim_due_timers(conn, now, now + LEASE, BATCH, silence_may_break=tools.catching_up.look())
        due = [await _with_books(tools, conn, row) for row in due]
        orphaned = [row.payment_id for row in due if is_orphan(row, now, tools.times)]
        prompts = await read_prompts(conn, tools.sealer, orphaned) if orphaned else []
    created = {row.payment_id: row.created_at for row in due}
    for prompt in prompts:
        tools.send_beside(prompt, created[prompt.payment_id])
    facts = [(fact, row.payment_id) for row in due if (fact := fact_when_due(row, now, tools.times)) is not None]
    failures = await tell_each(tools.facts, [Submission(fact, payment_id) for fact, payment_id in facts])
    if not any(isinstance(failure, StoreUnavailable) for failure in failures):
        tools.catching_up.looked()
    if failures:
        raise ExceptionGroup("timers that could not be acted on", failures)
    return len(due)


async def _with_books(tools: TimerTools, conn: AsyncConnection, due: Due) -> Due:
    window = books_window(due)
    if window is None or due.shortcode not in tools.paybills:
        return due
    return replace(due, books_cover=await books_cover(conn, due.shortcode, *window))
