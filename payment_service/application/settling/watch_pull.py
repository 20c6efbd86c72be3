"""Noticing that the provider's books are not read: that they are behind, or that a part of them could not be read.

Reading them settles payments one by one and complains of each failure in the log. That nothing has been read for a
while, whatever the reason, is seen only from beside it. Every process looks for itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import PULL_BEHIND, PULL_INCOMPLETE
from payment_service.domain.pull_spans import KEPT
from payment_service.store.pull_progress import latest_read, not_read
from runtime.alarms import LastingAlarm

LOOK_SECONDS = 20.0

BEHIND_MAX = timedelta(minutes=15)
"""How old the newest reading may be."""
READING_MAX = timedelta(minutes=5)
"""How long reading may take: with a long interval between readings, the newest one may be so much older than that."""


@dataclass(frozen=True, slots=True)
class PullWatch:
    """What looking takes, and the alarms that it raises and ends."""

    engine: AsyncEngine
    shortcodes: Sequence[str]
    interval: timedelta
    started_at: datetime
    """A shortcode that was never read counts as read until then."""
    clock: Callable[[], datetime]
    behind: LastingAlarm = field(default_factory=lambda: LastingAlarm(PULL_BEHIND))
    incomplete: LastingAlarm = field(default_factory=lambda: LastingAlarm(PULL_INCOMPLETE))


async def watch_pull(watch: PullWatch) -> None:
    """Look once how far the books are read, and raise or end each alarm."""
    now = watch.clock()
    async with watch.engine.connect() as conn:
        read = await latest_read(conn, watch.shortcodes)
        unread = await not_read(conn, watch.shortcodes, now - KEPT)
    until, shortcode = min((read.get(number, watch.started_at), number) for number in watch.shortcodes)
    behind = now - until > max(BEHIND_MAX, watch.interval + READING_MAX)
    watch.behind.set(behind, shortcode=shortcode, read_until=until.isoformat())
    first = unread[0] if unread else None
    watch.incomplete.set(
        first is not None,
        shortcode=first.shortcode if first else None,
        why=first.reading.value if first else None,
        spans=len(unread),
    )
