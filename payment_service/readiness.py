"""What this process should be sent, looked at every second and told by its health service.

Callbacks, while the database answers and takes writes, this clock and the database's agree, and the feed is near.
Payments, if it has had a first token of one of its Daraja apps as well.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.calling.first_token import FirstTokens
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
    server: RpcServer, feed: EventFeed, first_tokens: FirstTokens, engine: AsyncEngine, clock: DatabaseClock
) -> AsyncIterator[None]:
    """Keep saying what this process is ready for, for the length of the block."""

    async def report() -> None:
        told = None
        while True:
            problem = await _problem(feed, engine, clock)
            missing = problem or first_tokens.problem
            ready, waiting = (
                {"callbacks": problem is None, "payments": missing is None},
                first_tokens.shortcodes_waiting,
            )
            if (ready, waiting) != told:
                told = ready, waiting
                await server.set_ready(**ready)
                level = logging.INFO if missing is None and not waiting else logging.WARNING
                _log.log(level, "readiness changed", ready_for=ready, problem=missing, shortcodes_without_token=waiting)
            await first_tokens.one_more_or_after(LOOK_SECONDS)

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
