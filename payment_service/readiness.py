"""Whether this process should be sent calls, looked at every second and told by its health service.

It should while the database answers and takes writes, this clock and the database's agree, and the feed is near.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.following.event_feed import EventFeed
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.database import first_line
from payment_service.rpc.server import RpcServer
from payment_service.store.health import database_health

LOOK_SECONDS = 1.0
FEED_LAG_MAX_SECONDS = 2.0
"""A process whose streams are further behind sends its callers elsewhere."""

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def reporting_readiness(
    server: RpcServer, feed: EventFeed, engine: AsyncEngine, clock: DatabaseClock
) -> AsyncIterator[None]:
    """Keep saying whether this process is ready, for the length of the block."""

    async def report() -> None:
        ready = None
        while True:
            problem = await _problem(feed, engine, clock)
            if (problem is None) is not ready:
                ready = problem is None
                await server.set_ready(ready)
                _log.log(logging.INFO if ready else logging.WARNING, "readiness changed", ready=ready, problem=problem)
            await asyncio.sleep(LOOK_SECONDS)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(report())
        yield
        task.cancel()


async def _problem(feed: EventFeed, engine: AsyncEngine, clock: DatabaseClock) -> str | None:
    try:
        async with asyncio.timeout(LOOK_SECONDS * 2), engine.connect() as conn:
            asked_at = clock.own_time()
            health = await database_health(conn)
            clock.learn(asked_at, health.now)
    except Exception as error:
        return f"the database does not answer: {first_line(error)}"
    if health.read_only:
        return "the database takes no writes: it is a standby, or set to default_transaction_read_only"
    if not clock.agrees:
        return f"this clock and the database's differ by {clock.skew.total_seconds():.1f} s"
    if feed.lag_seconds > FEED_LAG_MAX_SECONDS:
        return "the event feed is behind"
    return None
