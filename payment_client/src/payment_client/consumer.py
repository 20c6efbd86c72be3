"""A consumer with asyncio: a stream, a store and a handler, for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from payment_client.consuming import AGAIN_AFTER_SECONDS, ATTEMPTS, Batches, Consumption, Step
from payment_client.contract import payment_pb2
from payment_client.cursors import AsyncCursorStore, CursorMoved
from payment_client.errors import ConsumerRewound, PaymentsError
from payment_client.resuming import Backoff

Transaction = TypeVar("Transaction")
Handler = Callable[[payment_pb2.PaymentEvent, Transaction], Awaitable[None]]
Acknowledge = Callable[[str], Awaitable[object]]

log = logging.getLogger("payment_client")


class Consumer(Generic[Transaction]):
    """Deals with each event once, in a transaction of the store."""

    def __init__(
        self,
        batches: Callable[[str], Batches],
        store: AsyncCursorStore[Transaction],
        handle: Handler[Transaction],
        acknowledge: Acknowledge | None = None,
        *,
        attempts: int = ATTEMPTS,
        backoff: Backoff | None = None,
        again_after: float = AGAIN_AFTER_SECONDS,
    ) -> None:
        """`batches` opens the stream after a cursor."""
        self._batches, self._store, self._handle, self._acknowledge = batches, store, handle, acknowledge
        self._attempts, self._backoff, self._again_after = attempts, backoff or Backoff(), again_after

    async def run(self) -> None:
        """Consume until cancelled, or until the stream is refused."""
        while True:
            consumption = Consumption(await self._store.load(), await self._store.waiting(), self._again_after)
            try:
                async with aclosing(self._batches(consumption.cursor)) as batches:
                    async for events, cursor in batches:
                        await self._try_again(consumption)
                        for step in consumption.steps(events, cursor):
                            await self._take(consumption, step)
                        await self._tell(consumption)
            except CursorMoved:
                log.info("the cursor of this consumer was moved elsewhere: beginning again where it is")
                await asyncio.sleep(self._backoff.pause(0))

    async def _take(self, consumption: Consumption, step: Step) -> None:
        """Take a step, as often as it needs; an event that fails again and again is set aside."""
        attempt = 0
        while True:
            try:
                async with self._store.moving(step.before, step.after) as transaction:
                    if step.event is not None and step.why_aside:
                        await self._store.set_aside(transaction, step.event, step.why_aside)
                    elif step.event is not None:
                        await self._handle(step.event, transaction)
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
            await asyncio.sleep(self._backoff.pause(attempt))

    async def _tell(self, consumption: Consumption) -> None:
        """Acknowledge, now and then. Where an operator offers events again, the cursor goes there."""
        if self._acknowledge is None or not consumption.to_acknowledge():
            return
        try:
            await self._acknowledge(consumption.cursor)
        except ConsumerRewound as rewound:
            async with self._store.moving(consumption.cursor, rewound.metadata["cursor"]):
                log.warning("an operator offers events to this consumer again")
            raise CursorMoved from rewound
        except PaymentsError as error:
            # For operators only. An older release does not know it, and refuses a cursor from before a restore.
            log.warning("not acknowledged: %s", error)

    async def _try_again(self, consumption: Consumption) -> None:
        """What is set aside, once it is due; a booking whose first event fails again waits on."""
        for events in consumption.to_try_again():
            for event in events:
                try:
                    async with self._store.retaking(event.event_id) as transaction:
                        await self._handle(event, transaction)
                except CursorMoved:
                    raise
                except Exception as error:
                    log.warning("event %s stays set aside", event.event_id, exc_info=error)
                    break
                consumption.done(event)
