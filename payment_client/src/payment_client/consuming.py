"""What a consumer does next: deal with an event, note how far it is, or set an event aside.

Nothing here reads a stream, opens a transaction or waits. Both clients ask for the next step and take it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from payment_client.contract import payment_pb2

ATTEMPTS: Final = 5
"""So often an event is tried before it is set aside: with the pauses of `Backoff`, some seconds."""
NOTED_EVERY_SECONDS: Final = 60.0
"""A cursor that moves without events, past those that are left out, is noted so often."""
ACKNOWLEDGED_EVERY_SECONDS: Final = 5.0
"""Operators look at the lag of a consumer by the minute."""
AGAIN_AFTER_SECONDS: Final = 60.0
AGAIN_MOST_SECONDS: Final = 3600.0
"""What is set aside is tried again after a minute, and then ever more seldom, down to once an hour."""

Batches = AsyncGenerator[tuple[list[payment_pb2.PaymentEvent], str], None]
"""Message by message: the events, which may be none, and the cursor after them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: the cursor moves, and what happens with it."""

    before: str
    after: str
    event: payment_pb2.PaymentEvent | None = None
    why_aside: str = ""
    """Set where the event is not dealt with, but set aside."""


class Consumption:
    """How far one consumer is, and what it has set aside."""

    def __init__(self, cursor: str, waiting: Sequence[payment_pb2.PaymentEvent], again_after: float) -> None:
        self.cursor = cursor
        self._noted_at = time.monotonic()
        self._waiting: dict[tuple[str, str], list[payment_pb2.PaymentEvent]] = {}
        self._again_after = self._pause = again_after
        for event in waiting:
            self._hold(event)
        # What an earlier run has left is tried at once: a deploy may have mended the fault.
        self._again_at = 0.0
        self._acknowledge_at = 0.0

    def steps(self, events: Sequence[payment_pb2.PaymentEvent], cursor: str) -> Iterator[Step]:
        """What to do with a message. Each step has to be taken before the next one is asked for."""
        for event in events:
            step = Step(self.cursor, event.cursor, event)
            held = self._waiting.get(_booking(event), [])
            if any(one.event_id == event.event_id for one in held):
                # Offered again, by an operator or after a restore: it is set aside already, and only the cursor moves.
                step = Step(self.cursor, event.cursor)
            elif held:
                step = self.set_aside(step, "an earlier event of this booking is set aside")
            yield step
            self._moved(event.cursor)
        if not events and cursor != self.cursor:
            # Without a place to come back to, what happens from now on would be lost.
            if not self.cursor or time.monotonic() - self._noted_at >= NOTED_EVERY_SECONDS:
                yield Step(self.cursor, cursor)
                self._moved(cursor)

    def set_aside(self, step: Step, why: str) -> Step:
        """The same step, without dealing with the event."""
        assert step.event is not None, "a step without an event cannot fail"
        self._hold(step.event)
        return replace(step, why_aside=why)

    def to_acknowledge(self) -> bool:
        """Whether it is time to tell how far this consumer is. What is set aside counts as dealt with."""
        if not self.cursor or time.monotonic() < self._acknowledge_at:
            return False
        self._acknowledge_at = time.monotonic() + ACKNOWLEDGED_EVERY_SECONDS
        return True

    def to_try_again(self) -> list[list[payment_pb2.PaymentEvent]]:
        """What is set aside and due, booking by booking, each in order."""
        if not self._waiting or time.monotonic() < self._again_at:
            return []
        self._again_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, AGAIN_MOST_SECONDS)
        return [list(events) for events in self._waiting.values()]

    def done(self, event: payment_pb2.PaymentEvent) -> None:
        """An event is set aside no more."""
        left = self._waiting[_booking(event)]
        left.remove(event)
        if not left:
            del self._waiting[_booking(event)]
        if not self._waiting:
            self._pause = self._again_after

    def _hold(self, event: payment_pb2.PaymentEvent) -> None:
        if not self._waiting:
            self._again_at = time.monotonic() + self._pause
        self._waiting.setdefault(_booking(event), []).append(event)

    def _moved(self, cursor: str) -> None:
        self.cursor, self._noted_at = cursor, time.monotonic()


def _booking(event: payment_pb2.PaymentEvent) -> tuple[str, str]:
    """Booking ids are each caller's own."""
    return event.payment.caller, event.payment.booking_id
