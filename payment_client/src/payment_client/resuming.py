"""How a stream goes on after it was cut: from which cursor, after which pause, and without what came already.

Nothing here reads from a network or waits. Both clients open the stream, hand over each message and each error, and do
what they are told. The service ends streams in several ways that all mean "go on from your cursor": it drains, it is
replaced, a proxy resets the connection, a reader was too slow. Only a refusal is final.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from payment_client.contract import payment_pb2
from payment_client.errors import PaymentsError, Unanswered

SILENCE_MAX_SECONDS: Final = 45.0
"""The service says something every 15 seconds. After three silences the connection is taken for dead."""
REMEMBERED_EVENTS: Final = 10_000
"""So many ids of events are remembered to recognise a repeat: far more than are under way around a reconnect."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double, each between half of it and all of it, so that many clients do not come back at once."""

    first_seconds: float = 0.1
    most_seconds: float = 5.0

    def pause(self, attempt: int) -> float:
        """Before the attempt of this number, from 0."""
        # 2 ** 30 of any first pause is beyond every limit, and no float overflows on the way.
        longest = self.first_seconds * 2.0 ** min(attempt, 30)
        return min(self.most_seconds, longest) * random.uniform(0.5, 1)

    def pause_for(self, error: PaymentsError, attempt: int) -> float:
        """The same, and no shorter than the service asks for."""
        pause, asked = self.pause(attempt), error.retry_after
        return pause if asked is None else max(pause, asked.total_seconds())


class Message(Protocol):
    """What every stream sends."""

    @classmethod
    def FromString(cls, content: bytes) -> Self:
        """As the wire has it."""

    @property
    def events(self) -> Iterable[payment_pb2.PaymentEvent]:
        """New events, oldest first."""

    @property
    def cursor(self) -> str:
        """Where to resume."""


class Following:
    """One stream, however often it is opened."""

    def __init__(self, cursor: str, backoff: Backoff) -> None:
        self.cursor = cursor
        self._backoff = backoff
        self._attempt = 0
        self._connected = False
        self._seen: OrderedDict[str, None] = OrderedDict()

    def took(self, message: Message) -> list[payment_pb2.PaymentEvent]:
        """The events of a message that have not come before."""
        self._connected, self._attempt = True, 0
        self.cursor = message.cursor
        return [event for event in message.events if self._is_new(event.event_id)]

    def pause_after(self, error: PaymentsError) -> float:
        """How many seconds to wait before the stream is opened again; raises the error where that makes no sense."""
        if not isinstance(error, Unanswered):
            raise error
        if error.lasting and not self._connected:
            raise error
        self._attempt += 1
        return self._backoff.pause_for(error, self._attempt - 1)

    def restart(self, cursor: str) -> None:
        """Go on from another place, in a log of which nothing is known yet."""
        self.cursor = cursor
        self._seen.clear()

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._seen:
            return False
        self._seen[event_id] = None
        if len(self._seen) > REMEMBERED_EVENTS:
            self._seen.popitem(last=False)
        return True


def is_over(payment: payment_pb2.Payment) -> bool:
    """Whether the booking knows what to do: where a watch of one payment ends."""
    waiting = (payment_pb2.PAYMENT_STATUS_PENDING, payment_pb2.PAYMENT_STATUS_PROCESSING)
    return payment.status not in waiting and payment.booking_action != payment_pb2.BOOKING_ACTION_WAIT
