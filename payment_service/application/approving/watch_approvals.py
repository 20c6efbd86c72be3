"""Noticing that what one person has asked for waits long for a second one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import APPROVALS_WAIT
from payment_service.store.approvals import longest_waiting
from runtime.alarms import LastingAlarm

LOOK_SECONDS = 60.0

WAITS_LONG = timedelta(hours=4)
"""A passenger waits as well, and the one who has asked may be off duty soon."""


@dataclass(frozen=True, slots=True)
class ApprovalWatch:
    """What looking takes, and the alarm that it raises and ends."""

    engine: AsyncEngine
    clock: Callable[[], datetime]
    waits: LastingAlarm = field(default_factory=lambda: LastingAlarm(APPROVALS_WAIT))


async def watch_approvals(watch: ApprovalWatch) -> None:
    """Look once at what waits, and raise or end the alarm."""
    async with watch.engine.connect() as conn:
        waiting = await longest_waiting(conn, watch.clock() - WAITS_LONG)
    if waiting is None:
        watch.waits.set(False)
        return
    watch.waits.set(
        True,
        approval_id=str(waiting.approval_id),
        payment_id=str(waiting.payment_id),
        asked_by=waiting.asked_by,
        waits_since=waiting.asked_at.isoformat(),
    )
