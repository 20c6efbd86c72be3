"""How much one caller may ask of one process: so that none of them takes what is there for all.

Each process counts for itself, in memory, and nothing is divided by the number of processes: what a caller may do
altogether is this times the processes that it calls. A limit that is exact over all of them would cost every payment a
statement, and the rules against unwanted prompts are exact already. What Safaricom's callbacks need has no limit here.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final, Self

from opentelemetry import metrics
from pydantic import BaseModel, ConfigDict, Field

from payment_service.domain.errors import PaymentsError

BUSY_RETRY: Final = timedelta(milliseconds=500)
"""Places are free again when other calls end, and nobody knows when that is."""
BYTES_BURST_SECONDS: Final = 4
"""Of what a caller may send in a second, so much may come at once."""

_meter = metrics.get_meter("payment_service")
_limited = _meter.create_counter(
    "payment_service.calls.limited", description="Calls that a limit refused, by limit and caller"
)


class CallLimit(StrEnum):
    """What is limited, by the name that a caller is told."""

    PAYMENTS = "payments_per_second"
    OPEN_CALLS = "open_calls"
    STREAMS = "streams"
    REQUEST_BYTES = "request_bytes_per_second"
    PROCESS = "process"
    READING = "reading"
    SENDING = "sending"


_WHAT: Final = {
    CallLimit.PAYMENTS: "You have started as many payments and retries as you may for now.",
    CallLimit.OPEN_CALLS: "You have as many calls open as you may.",
    CallLimit.STREAMS: "You have as many streams open as you may.",
    CallLimit.REQUEST_BYTES: "You have sent as many bytes as you may for now.",
    CallLimit.PROCESS: "Too many calls of this kind are open.",
    CallLimit.READING: "You read too slowly: resume from your cursor.",
    CallLimit.SENDING: "Your call was open for long and sent no message: send it again.",
}


class TooManyCalls(PaymentsError):
    """A limit is reached."""

    def __init__(self, limit: CallLimit, caller: str, retry_after: timedelta = BUSY_RETRY) -> None:
        super().__init__(_WHAT[limit])
        _limited.add(1, {"limit": limit.value, "caller": caller})
        self.limit, self.retry_after = limit, retry_after


class CallerLimits(BaseModel):
    """What the list of callers may say of each, and what holds where it says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    payments_per_second: float = Field(default=100, gt=0, le=100_000)
    """New payments and retries; a repeat of one counts as well."""
    payments_burst: int = Field(default=200, ge=1, le=1_000_000)
    """So many of them at once, after a quiet time."""
    open_calls: int = Field(default=1_000, ge=1, le=100_000)
    """Of all kinds together, and of each kind no more than half of what a process takes; a stream is none."""
    streams: int = Field(default=5_000, ge=1, le=100_000)
    request_bytes_per_second: int = Field(default=2_097_152, ge=65_536, le=1_073_741_824)
    """Never less than the longest request."""


@dataclass(slots=True)
class Bucket:
    """Fills by `rate` a second, holds `most`, and is full at first."""

    rate: float
    most: float
    level: float
    at: float
    """When it had this level, in seconds of a clock that only runs on."""

    @classmethod
    def full(cls, rate: float, most: float, now: float) -> Self:
        """A new one."""
        return cls(rate, most, most, now)

    def take(self, amount: float, now: float) -> float:
        """Take so much if it is there, and give 0; or take nothing, and give the seconds until it will be."""
        self.level = min(self.most, self.level + (now - self.at) * self.rate)
        self.at = now
        if amount > self.level:
            return (amount - self.level) / self.rate
        self.level -= amount
        return 0.0


@dataclass(slots=True)
class CallerUse:
    """What one caller has open here, and has left."""

    caller: str
    limits: CallerLimits
    payments: Bucket = field(init=False)
    request_bytes: Bucket = field(init=False)
    open_calls: int = 0
    streams: int = 0
    in_lanes: Counter[str] = field(default_factory=Counter)

    def begin(self, now: float) -> Self:
        """Fill the buckets of a caller that was not seen before."""
        limits, bytes_rate = self.limits, self.limits.request_bytes_per_second
        self.payments = Bucket.full(limits.payments_per_second, limits.payments_burst, now)
        self.request_bytes = Bucket.full(bytes_rate, bytes_rate * BYTES_BURST_SECONDS, now)
        return self

    def enter(self, lane: str, lane_most: int, *, stream: bool) -> None:
        """One more is open, or TooManyCalls; of the lane's places no more than `lane_most` are this caller's."""
        if stream:
            if self.streams >= self.limits.streams:
                raise TooManyCalls(CallLimit.STREAMS, self.caller)
            self.streams += 1
        else:
            if self.open_calls >= self.limits.open_calls or self.in_lanes[lane] >= lane_most:
                raise TooManyCalls(CallLimit.OPEN_CALLS, self.caller)
            self.open_calls += 1
        self.in_lanes[lane] += 1

    def leave(self, lane: str, *, stream: bool) -> None:
        """It has ended."""
        self.in_lanes[lane] -= 1
        if stream:
            self.streams -= 1
        else:
            self.open_calls -= 1

    def take(self, size: int, now: float, *, payment: bool) -> None:
        """A request of so many bytes, or TooManyCalls, which says when to come again."""
        if wait := self.request_bytes.take(size, now):
            raise TooManyCalls(CallLimit.REQUEST_BYTES, self.caller, timedelta(seconds=wait))
        if payment and (wait := self.payments.take(1, now)):
            raise TooManyCalls(CallLimit.PAYMENTS, self.caller, timedelta(seconds=wait))
