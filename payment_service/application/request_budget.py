"""How fast this process pushes: a bucket of requests per shortcode, and a pause when Daraja says "too fast".

Daraja's limits are set per app and shortcode and are not published, so the rate is a setting. Each process has its own
bucket. Waiting is first come, first served, and bounded: a payment whose turn does not come in time is better told so.
What is sent is decided by the caller.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

WAIT_MAX_SECONDS = 10.0
"""Half of the time in which a payment has to be sent at all."""

SLOW_SECONDS = 30.0
"""After a pause the rate is a quarter for so long: whoever returns at full speed meets the same limit."""
SLOW_FACTOR = 4.0


class BudgetExhausted(Exception):
    """No turn within the bound: more pushes are waiting than the rate lets through."""


@dataclass(slots=True)
class _Bucket:
    """The requests that may still go out at once; refilled with time."""

    left: float
    filled_at: float
    paused_until: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while waiting, so that whoever came first goes first."""


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """The pushes this process may send. One per process."""

    per_second: float = 50.0
    """Far above what one shortcode sells, far below what the platform carries."""
    burst: int = 100
    """Requests that may go out at once after a quiet time."""
    wait_max_seconds: float = WAIT_MAX_SECONDS
    clock: Callable[[], float] = time.monotonic
    """Monotonic seconds."""
    buckets: dict[str, _Bucket] = field(default_factory=dict, repr=False)

    async def take(self, shortcode: str) -> None:
        """Wait for a turn; raises `BudgetExhausted` if it does not come within the bound."""
        bucket = self._bucket(shortcode)
        try:
            async with asyncio.timeout(self.wait_max_seconds), bucket.turn:
                while (wait := self._wait_seconds(bucket)) > 0:
                    await asyncio.sleep(wait)
                bucket.left -= 1
        except TimeoutError:
            raise BudgetExhausted(f"no turn within {self.wait_max_seconds:g} s") from None

    def take_at_once(self, shortcode: str) -> bool:
        """Take a turn if there is one and nobody waits for it."""
        bucket = self._bucket(shortcode)
        if bucket.turn.locked() or self._wait_seconds(bucket) > 0:
            return False
        bucket.left -= 1
        return True

    def give_back(self, shortcode: str) -> None:
        """Return a turn that was not used after all."""
        self._bucket(shortcode).left += 1

    def slow_down(self, shortcode: str, pause: timedelta) -> None:
        """Daraja refused a push as too fast: send nothing for the pause, and slowly for a while after it."""
        bucket = self._bucket(shortcode)
        self._fill(bucket)
        bucket.left = min(bucket.left, 1.0)
        bucket.paused_until = max(bucket.paused_until, self.clock() + pause.total_seconds())

    def _bucket(self, shortcode: str) -> _Bucket:
        if shortcode not in self.buckets:
            # The caller's shortcodes are the configured ones, so there are few.
            self.buckets[shortcode] = _Bucket(left=float(self.burst), filled_at=self.clock())
        return self.buckets[shortcode]

    def _wait_seconds(self, bucket: _Bucket) -> float:
        """Zero when a request may go out; otherwise how long to wait before asking again."""
        rate = self._fill(bucket)
        pause = bucket.paused_until - self.clock()
        return max(pause, (1.0 - bucket.left) / rate if bucket.left < 1.0 else 0.0)

    def _fill(self, bucket: _Bucket) -> float:
        """Bring the bucket up to now, and give back the rate that holds."""
        now = self.clock()
        slow = bucket.paused_until > 0 and now < bucket.paused_until + SLOW_SECONDS
        rate = self.per_second / SLOW_FACTOR if slow else self.per_second
        since = max(bucket.filled_at, min(bucket.paused_until, now))
        ceiling = 1.0 if slow else float(self.burst)
        bucket.left = min(ceiling, bucket.left + (now - since) * rate)
        bucket.filled_at = now
        return rate
