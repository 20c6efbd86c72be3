"""News for open pages: PostgreSQL tells each process of a change as it is committed, and the process tells its pages.

What is told carries nothing but the booking: a page that hears it asks how the booking stands. So it may come twice,
and where it is lost, the page finds out at its next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import NoReturn

import psycopg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

CHANNEL = "booking_news"
STREAMS_MAX = 200
STREAMS_OF_A_BOOKING_MAX = 5
"""Its tabs, on a phone and at home. Without this, one passenger could take the streams of all others."""
AGAIN_SECONDS = 1.0

log = logging.getLogger("booking_service")


async def announce(conn: AsyncConnection, booking_id: str) -> None:
    """Told once the caller's transaction is committed, and never if it is not."""
    await conn.execute(select(func.pg_notify(CHANNEL, booking_id)))


class News:
    """What this process hears, for the streams of its pages."""

    def __init__(self, engine: AsyncEngine, streams_max: int = STREAMS_MAX) -> None:
        self._url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._streams: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._free = streams_max
        self.has_ended = False

    @contextlib.contextmanager
    def of(self, booking_id: str) -> Iterator[asyncio.Event | None]:
        """Set with each change of the booking; None where there are as many streams as may be, of it or of all."""
        of_it = len(self._streams.get(booking_id, ()))
        if self._free <= 0 or of_it >= STREAMS_OF_A_BOOKING_MAX or self.has_ended:
            yield None
            return
        changed = asyncio.Event()
        self._free -= 1
        self._streams[booking_id].add(changed)
        try:
            yield changed
        finally:
            self._free += 1
            self._streams[booking_id].discard(changed)
            if not self._streams[booking_id]:
                del self._streams[booking_id]

    async def keep_listening(self) -> NoReturn:
        """For ever; all pages look again after a time without a connection, for what was said meanwhile."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as conn:
                    await conn.execute(f"LISTEN {CHANNEL}")
                    self._wake(*self._streams)
                    async for notice in conn.notifies():
                        self._wake(notice.payload)
            except psycopg.Error as error:
                log.warning("no news of bookings comes, and pages look by themselves", exc_info=error)
            await asyncio.sleep(AGAIN_SECONDS)

    def end(self) -> None:
        """Every stream ends now."""
        self.has_ended = True
        self._wake(*self._streams)

    def _wake(self, *booking_ids: str) -> None:
        for booking_id in booking_ids:
            for changed in self._streams.get(booking_id, ()):
                changed.set()
