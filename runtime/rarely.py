"""What anybody can cause is told of now and then, with how often it has happened: nobody fills a log with it."""

import math
import time
from collections.abc import Callable

QUIET_S = 60.0
"""Between two lines about one thing, at least."""


class Rarely:
    """Counts one thing, and says when it is time to tell of it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen = 0
        self._quiet_until = -math.inf

    def happened(self) -> int:
        """Once more. How often since it was told of last, if it is to be told now; else 0."""
        self._seen += 1
        if self._now() < self._quiet_until:
            return 0
        seen, self._seen, self._quiet_until = self._seen, 0, self._now() + QUIET_S
        return seen
