"""A consumer with threads: a stream, a store and a handler, until its client is closed. See `consumer.py`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from payment_client.consuming import AGAIN_AFTER_SECONDS, ATTEMPTS, Consumption, Step
from payment_client.contract import payment_pb2
from payment_client.cursors import CursorMoved, CursorStore
from payment_client.errors import ConsumerRewound, PaymentsError
from payment_client.resuming import Backoff

Transaction = TypeVar("Transaction")
Handler = Callable[[payment_pb2.PaymentEvent, Transaction], None]
Acknowledge = Callable[[str], object]
Batches = Iterator[tuple[list[payment_pb2.PaymentEvent], str]]

log = logging.getLogger("payment_client")


class SyncConsumer(Generic[Transaction]):
    """Deals with each event once, in a transaction of the store."""

    def __init__(
        self,
        batches: Callable[[str], Batches],
        store: CursorStore[Transaction],
        handle: Handler[Transaction],
        closed: threading.Event,
        acknowledge: Acknowledge | None = None,
        *,
        attempts: int = ATTEMPTS,
        backoff: Backoff | None = None,
        again_after: float = AGAIN_AFTER_SECONDS,
    ) -> None:
        """`batches` opens the stream after a cursor; it ends once `closed` is set."""
        self._batches, self._store, self._handle, self._closed = batches, store, handle, closed
        self._acknowledge = acknowledge
        self._attempts, self._backoff, self._again_after = attempts, backoff or Backoff(), again_after

    def run(self) -> None:
        """Consume until closed, or until the stream is refused."""
        while not self._closed.is_set():
            consumption = Consumption(self._store.load(), self._store.waiting(), self._again_after)
            try:
                for events, cursor in self._batches(consumption.cursor):
                    self._try_again(consumption)
                    for step in consumption.steps(events, cursor):
                        if self._closed.is_set():
                            return
                        self._take(consumption, step)
                    self._tell(consumption)
            except CursorMoved:
                log.info("the cursor of this consumer was moved elsewhere: beginning again where it is")
                self._closed.wait(self._backoff.pause(0))

    def _take(self, consumption: Consumption, step: Step) -> None:
        """Take a step, as often as it needs; an event that fails again and again is set aside."""
        attempt = 0
        while not (attempt and self._closed.is_set()):
            try:
                with self._store.moving(step.before, step.after) as transaction:
                    if step.event is not None and step.why_aside:
                        self._store.set_aside(transaction, step.event, step.why_aside)
                    elif step.event is not None:
                        self._handle(step.event, transaction)
                return
            except CursorMoved:
                raise
            except Exception as error:
                attempt += 1
                log.warning("attempt %d at an event has failed", attempt, exc_info=error)
                if step.event is not None and not step.why_aside and attempt >= self._attempts:
                    log.warning("event %s is set aside, with what follows of its booking", step.event.event_id)
                    step, attempt = consumption.set_aside(step, repr(error)), 0
                    continue
            self._closed.wait(self._backoff.pause(attempt))

    def _tell(self, consumption: Consumption) -> None:
        """Acknowledge, now and then. Where an operator offers events again, the cursor goes there."""
        if self._acknowledge is None or not consumption.to_acknowledge():
            return
        try:
            self._acknowledge(consumption.cursor)
        except ConsumerRewound as rewound:
            with self._store.moving(consumption.cursor, rewound.metadata["cursor"]):
                log.warning("an operator offers events to this consumer again")
            raise CursorMoved from rewound
        except PaymentsError as error:
            # For operators only. An older release does not know it, and refuses a cursor from before a restore.
            log.warning("not acknowledged: %s", error)

    def _try_again(self, consumption: Consumption) -> None:
        """What is set aside, once it is due; a booking whose first event fails again waits on."""
        for events in consumption.to_try_again():
            for event in events:
                try:
                    with self._store.retaking(event.event_id) as transaction:
                        self._handle(event, transaction)
                except CursorMoved:
                    raise
                except Exception as error:
                    log.warning("event %s stays set aside", event.event_id, exc_info=error)
                    break
                consumption.done(event)
