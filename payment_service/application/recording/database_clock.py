"""The one clock that decides: the database's.

Whatever changes a payment reads it in the round trip that takes the locks, so a
process whose own clock is wrong can neither expire a live payment nor allow a
second prompt. Between two readings a process goes by its own clock, put right by
the last reading: good enough to choose what to look at, and never to decide.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.health import database_now

SKEW_MAX = timedelta(seconds=2)
"""A process whose own clock is off by more is not ready, takes no periodic step and claims no send."""


def _own_time() -> datetime:
    return datetime.now(UTC)


class DatabaseClock:
    """The database's time as this process knows it, and how far its own clock is from that."""

    def __init__(self, own_time: Callable[[], datetime] = _own_time) -> None:
        self.own_time = own_time
        self._offset = timedelta(0)

    def __call__(self) -> datetime:
        """The database's time, by this process's own clock and the last reading."""
        return self.own_time() + self._offset

    def learn(self, asked_at: datetime, reading: datetime) -> datetime:
        """The time to decide by: a reading that was asked for when this process's own clock said `asked_at`."""
        # The reading was taken at some moment between question and answer, and says no more than that. However slow
        # an answer is, a clock that may be right is taken to be.
        least, most = reading - self.own_time(), reading - asked_at
        self._offset = max(least, min(self._offset, most))
        return reading

    async def look(self, conn: AsyncConnection) -> datetime:
        """Read the database's clock by itself."""
        asked_at = self.own_time()
        return self.learn(asked_at, await database_now(conn))

    @property
    def skew(self) -> timedelta:
        """By how much this process's own clock is off, at least."""
        return abs(self._offset)

    @property
    def agrees(self) -> bool:
        """Whether this process may take periodic steps and claim sends."""
        return self.skew <= SKEW_MAX
