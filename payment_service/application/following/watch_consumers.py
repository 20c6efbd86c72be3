"""Noticing that a consumer of the log has fallen behind, or has stopped. Every process looks for itself.

A booking that is paid and not confirmed, a passenger who is not told: that is what a consumer that stands still means.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from opentelemetry import metrics
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import CONSUMER_BEHIND
from payment_service.store.consumers import all_consumers, lag_of
from runtime.alarms import LastingAlarm

LOOK_SECONDS = 15.0

BEHIND_AFTER = timedelta(minutes=5)
"""A consumer that works acknowledges within seconds, and its deploys take a minute or two."""

_meter = metrics.get_meter("payment_service")
_events = _meter.create_gauge("payment_service.consumers.lag.events", description="Events not acknowledged, at least")
_seconds = _meter.create_gauge(
    "payment_service.consumers.lag", unit="s", description="Age of the oldest event not acknowledged"
)

Name = tuple[str, str]
"""A caller's, and its consumer's."""


@dataclass(frozen=True, slots=True)
class ConsumerWatch:
    """What looking takes, and the alarms that it raises and ends: one for each consumer."""

    engine: AsyncEngine
    clock: Callable[[], datetime]
    alarms: dict[Name, LastingAlarm] = field(default_factory=dict)


async def watch_consumers(watch: ConsumerWatch) -> None:
    """Look once at what each consumer has not acknowledged, and raise or end its alarm."""
    now, seen = watch.clock(), set[Name]()
    async with watch.engine.connect() as conn:
        for one in await all_consumers(conn):
            lag = await lag_of(conn, None if one.follows_all else one.caller, one.position)
            waits = lag.age(now)
            # Events that are offered again wait from then on.
            behind = waits >= BEHIND_AFTER and (one.rewound_at is None or now - one.rewound_at >= BEHIND_AFTER)
            _tell(watch, (one.caller, one.consumer), lag.events, waits, behind=behind)
            seen.add((one.caller, one.consumer))
    for name in watch.alarms.keys() - seen:
        # It was forgotten.
        _tell(watch, name, 0, timedelta(0), behind=False)
        del watch.alarms[name]


def _tell(watch: ConsumerWatch, name: Name, events: int, waits: timedelta, *, behind: bool) -> None:
    of = {"caller": name[0], "consumer": name[1]}
    _events.set(events, of)
    _seconds.set(waits.total_seconds(), of)
    alarm = watch.alarms.setdefault(name, LastingAlarm(CONSUMER_BEHIND))
    alarm.set(behind, **of, events=events, seconds=round(waits.total_seconds()))
