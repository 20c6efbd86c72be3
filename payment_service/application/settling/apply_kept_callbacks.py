"""What becomes of callbacks that were kept without being applied: tried again, matched, replayed, or given up.

Nothing here decides what a callback means: it is handed to the writer of facts
as it came, under the same locks as on its first day, and a fact that is known by
then changes nothing. So each step may run in any number of processes at once.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from payment_service.alarms import CALLBACK_GIVEN_UP
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import PENDING_RETRY_AFTER, Recorded, Submission
from payment_service.application.settling.accept_callbacks import BodyRemoved, fact_id_of, kept_submission
from payment_service.domain.cases import Case, CaseKind
from payment_service.domain.errors import Overloaded
from payment_service.domain.facts import Fact, Unreadable
from payment_service.domain.refund_facts import AboutRefund
from payment_service.security.sealing import SealBroken, Sealer
from payment_service.store import evidence, inbox
from payment_service.store.inbox import REPLAY_FAILED, ReplayRow, StoredCallback
from runtime.alarms import raise_alarm

BATCH = 40
"""Callbacks of one step; with the two below, a step is over in 50 s even if every one of them hangs."""
AT_ONCE = 8
"""Applied side by side, so that one that hangs or fails holds up no other."""
APPLY_WAIT_SECONDS = 10.0

RETRY_WAIT_MAX = timedelta(hours=1)
TRIES_MAX = 34
"""Some 24 hours: ten tries in the first hour and a half, then one an hour. Time for a fault of ours to be noticed,
mended and rolled out; what is not cured by then needs a person."""
JITTER = 0.2
"""Waits vary by so much, that callbacks which failed together are not tried together for ever."""

_GIVEN_UP = Case(CaseKind.CALLBACK_GIVEN_UP, is_money=False)

_log = structlog.get_logger(__name__)


class CallbackNotFound(Exception):
    """The inbox holds no such callback."""


@dataclass(frozen=True, slots=True)
class InboxTools:
    """What settling takes."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    sealer: Sealer
    clock: Callable[[], datetime]


async def apply_pending_callbacks(tools: InboxTools) -> int:
    """Apply callbacks that could not be applied before; how many were due."""
    async with tools.engine.connect() as conn:
        due = await inbox.due_callbacks(conn, tools.clock(), BATCH)
    await _apply_each(tools, due)
    return len(due)


async def match_parked_callbacks(tools: InboxTools) -> int:
    """Apply callbacks that came for no payment, and for which there is one now; how many there were."""
    async with tools.engine.connect() as conn:
        matched = await inbox.matched_callbacks(conn, BATCH)
    await _apply_each(tools, matched)
    return len(matched)


async def replay_callback(tools: InboxTools, callback_id: UUID, operator: str, reason: str) -> Recorded:
    """Apply one callback again, whatever its status, and note who wanted it and why.

    Raises CallbackNotFound, or what stands in the way; that is noted, too.
    """
    async with tools.engine.connect() as conn:
        callback = await inbox.stored_callback(conn, callback_id)
    if callback is None:
        raise CallbackNotFound
    replay = ReplayRow(uuid7(), callback_id, operator, reason, REPLAY_FAILED, tools.clock())
    try:
        submission = replace(kept_submission(tools.sealer, callback), replay=replay)
        return await tools.facts.submit(submission)
    except Exception:
        async with tools.engine.begin() as conn:
            await inbox.insert_replay(conn, replay)
        raise


async def _apply_each(tools: InboxTools, callbacks: Sequence[StoredCallback]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def apply(callback: StoredCallback) -> None:
        async with places:
            await _apply(tools, callback)

    await asyncio.gather(*(apply(callback) for callback in callbacks))


async def _apply(tools: InboxTools, callback: StoredCallback) -> None:
    try:
        async with asyncio.timeout(APPLY_WAIT_SECONDS):
            await tools.facts.submit(kept_submission(tools.sealer, callback))
    except Overloaded:
        # No fault of the callback's: it is still due, and no try is counted.
        return
    except Exception as error:
        # An alarm is raised when it is first kept so, and when it is given up.
        _log.warning(
            "callback could not be applied", reference=callback.reference, tries=callback.tries + 1, exc_info=error
        )
        await _put_off(tools, callback, type(error).__name__)


async def _put_off(tools: InboxTools, callback: StoredCallback, error: str) -> None:
    now = tools.clock()
    async with tools.engine.begin() as conn:
        if callback.tries + 1 < TRIES_MAX:
            wait = min(PENDING_RETRY_AFTER * 2 ** min(callback.tries, 10), RETRY_WAIT_MAX)
            wait *= random.uniform(1 - JITTER, 1 + JITTER)
            await inbox.put_off(conn, callback, now + wait, error)
        elif await inbox.give_up(conn, callback, error):
            case = evidence.new_case(None, callback.reference, _GIVEN_UP, _fact(tools.sealer, callback), now)
            await evidence.open_case(conn, case)
            raise_alarm(CALLBACK_GIVEN_UP, reference=callback.reference, callback_id=str(callback.callback_id))


def _fact(sealer: Sealer, callback: StoredCallback) -> Fact | AboutRefund:
    """What the callback says, as far as it can be read: it may be its body that could not be opened."""
    try:
        return kept_submission(sealer, callback).fact
    except (SealBroken, BodyRemoved) as error:
        return Unreadable(fact_id_of(callback.body_hash), type(error).__name__)
