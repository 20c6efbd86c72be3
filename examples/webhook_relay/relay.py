"""The relay: one task reads events into the outbox, the other posts what is due.

The two meet in the outbox alone. A receiver that is away for a day holds up nothing but its own events, and a restart
goes on from what the file says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from examples.webhook_relay.outbox import Delivery, Outbox
from examples.webhook_relay.webhook import Receiver, entry_of
from payment_client import ConsumerRewound, PaymentsClient, PaymentsError

FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 6 * 3600.0
GIVEN_UP_AFTER_SECONDS: Final = 3 * 24 * 3600.0
"""From the first try to the dead letter list: a weekend, and the morning after it."""
AT_ONCE: Final = 16
WAITING_MOST: Final = 50_000
"""With so many still to be posted it reads no further. The payment service keeps events for longer than that lasts."""
LOOK_SECONDS: Final = 1.0
ACKNOWLEDGED_EVERY_SECONDS: Final = 5.0
CONSUMER: Final = "webhooks"

log = logging.getLogger("webhook_relay")


class Relay:
    """Reads and posts until it is cancelled."""

    def __init__(
        self,
        client: PaymentsClient,
        outbox: Outbox,
        receiver: Receiver,
        clock: Callable[[], float] = time.time,
        consumer: str = CONSUMER,
    ) -> None:
        self.outbox = outbox
        self._consumer, self._acknowledge_at = consumer, 0.0
        self._client, self._receiver, self._clock = client, receiver, clock
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Both tasks; the first that fails ends the other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.read())
            tasks.create_task(self._post_for_ever())

    async def read(self) -> None:
        """Keep all events in the outbox, from where it stands, or from where an operator offers them again."""
        while True:
            try:
                await self._read_on()
            except ConsumerRewound as rewound:
                log.warning("an operator offers events again")
                self.outbox.take((), rewound.metadata["cursor"])

    async def _read_on(self) -> None:
        async with aclosing(self._client.watch_batches(cursor=self.outbox.cursor)) as batches:
            async for events, cursor in batches:
                self.outbox.take(map(entry_of, events), cursor)
                self._more.set()
                await self._acknowledge()
                while self.outbox.waiting() >= WAITING_MOST:
                    await asyncio.sleep(LOOK_SECONDS)

    async def _acknowledge(self) -> None:
        """Tell the operators of the payment service how far this has read. What is in the outbox is safe."""
        if not self.outbox.cursor or time.monotonic() < self._acknowledge_at:
            return
        self._acknowledge_at = time.monotonic() + ACKNOWLEDGED_EVERY_SECONDS
        try:
            await self._client.acknowledge(self._consumer, self.outbox.cursor)
        except ConsumerRewound:
            raise
        except PaymentsError as error:
            # For operators only: the events are posted all the same.
            log.warning("not acknowledged: %s", error)

    async def post_what_is_due(self) -> int:
        """Post the oldest event of each booking, if it is due; how many were posted, with whatever answer."""
        due = self.outbox.due(self._clock(), AT_ONCE)
        await asyncio.gather(*(self._post(delivery) for delivery in due))
        return len(due)

    async def _post_for_ever(self) -> None:
        while True:
            self._more.clear()
            if not await self.post_what_is_due():
                # What is due for another try makes no noise, so it is looked for.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._more.wait()

    async def _post(self, delivery: Delivery) -> None:
        answer = await self._receiver.post(delivery.event_id, delivery.body, self._clock())
        if answer.taken:
            self.outbox.delivered(delivery)
            return
        now = self._clock()
        since = delivery.first_tried_at if delivery.first_tried_at is not None else now
        if now - since >= GIVEN_UP_AFTER_SECONDS:
            log.error("event %s is given up after %d tries: %s", delivery.event_id, delivery.tries + 1, answer.error)
            self.outbox.give_up(delivery, answer.error)
            return
        wait = min(max(_pause(delivery.tries), answer.retry_after), LONGEST_PAUSE_SECONDS)
        log.warning("event %s was not taken (%s); next try in %d s", delivery.event_id, answer.error, wait)
        self.outbox.failed(delivery, now, now + wait, answer.error)


def _pause(tries: int) -> float:
    """Twice as long each time; up to a tenth shorter, so that many events do not come back at one moment."""
    longest: float = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(tries, 20))
    return longest * random.uniform(0.9, 1.0)
