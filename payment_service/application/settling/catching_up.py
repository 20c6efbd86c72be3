"""Whether what the gateways kept while nobody could take it may still be on its way.

Gateways answer Safaricom while this service or its database is away, and deliver what they kept as soon as they can.
Until they have, silence about a payment says nothing, not even that its time has passed without news. So a timer that
ends a payment waits a little after a start and after an outage: as long as nothing older than the return has come for a
while, and never longer than a bounded time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from payment_service.domain.payment import Times

LOOKS_APART_MAX = timedelta(seconds=2.5)
"""Between two looks at the timers after which the database took what they said. A longer pause is an outage, of the
database or of this process. A round whose look hangs takes STEP_SECONDS + LOOK_WAIT_SECONDS of the schedule, 1.5 s, and
then the timers need a new connection and their own statements: with a second for these, one such round is no outage.

A gateway waits 3 s for the service before it keeps a callback itself, unless its settings say otherwise. So a database
that is away for so long is noticed. Where a gateway keeps callbacks and this process lacks nothing, as when only the
network between the two is cut, no outage is noticed here."""


class CatchingUp:
    """What one process knows of how far the gateways have come with delivering."""

    def __init__(self, clock: Callable[[], datetime], times: Times) -> None:
        self._clock = clock
        # Shares of the time that payments have: 10 s and 60 s of two minutes.
        self._quiet, self._longest = times.expire_after / 12, times.expire_after / 2
        self._back_since: datetime | None = None
        self._last_looked: datetime | None = None
        self._last_kept: datetime | None = None

    def look(self) -> bool:
        """To be called when the timers are looked at; whether what was kept may still be on its way."""
        now = self._clock()
        if self._last_looked is None or now - self._last_looked > LOOKS_APART_MAX:
            self._back_since, self._last_kept = now, None
        back_since = self._back_since or now
        quiet_since = max(back_since, self._last_kept or back_since)
        return now < min(quiet_since + self._quiet, back_since + self._longest)

    def looked(self) -> None:
        """To be called when what the timers said has been recorded: time that this took is no outage.

        A database that shows its timers and records nothing, as a standby does, is away.
        """
        self._last_looked = self._clock()

    def found_nothing(self) -> None:
        """To be called when a look has shown that no timer is due, in a transaction that was not read-only."""
        self.look()
        self.looked()

    def callback_stored(self, received_at: datetime) -> None:
        """To be called for each callback. One that is older than the return was kept by a gateway: more may follow."""
        if self._back_since is not None and received_at < self._back_since:
            self._last_kept = self._clock()
