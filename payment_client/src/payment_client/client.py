"""The client for asyncio: calls that may be repeated, and streams that resume by themselves."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from payment_client import requests
from payment_client.calls import PaymentCalls
from payment_client.consumer import Consumer, Handler
from payment_client.consuming import ATTEMPTS, Batches
from payment_client.contract import payment_pb2
from payment_client.contract import payment_service_pb2 as pb
from payment_client.cursors import AsyncCursorStore
from payment_client.errors import CannotConnect, LogDiverged, ServiceUnavailable, StillOpen
from payment_client.requests import PaymentFilter, Purchase
from payment_client.resuming import Following, Message, is_over

PATIENCE_SECONDS: Final = 180.0
"""A prompt expires after two minutes by default, and the news of it takes a moment."""

StreamMessage = TypeVar("StreamMessage", bound=Message)
Transaction = TypeVar("Transaction")

log = logging.getLogger("payment_client")


class PaymentsClient(PaymentCalls):
    """Calls the payment service and follows its events. Make one for the whole process, and close it at the end."""

    async def pay_and_wait(self, purchase: Purchase, *, patience: float = PATIENCE_SECONDS) -> payment_pb2.Payment:
        """Ask for a payment and wait until the booking knows what to do: `booking_action` of what comes back.

        While the service is away, it is asked again with the same request id. After so many seconds StillOpen says
        where the payment stands, or the last error why nobody knows; the payment goes on in both cases.
        """
        end = time.monotonic() + patience
        started = await self._patiently(lambda left: self.initiate(purchase, timeout=min(left, self._timeout)), end)
        last = started.payment
        if is_over(last):
            return last
        try:
            async with asyncio.timeout(end - time.monotonic()):
                async with aclosing(self.watch_payment(last.payment_id, cursor=started.cursor)) as payments:
                    async for payment in payments:
                        last = payment
        except TimeoutError:
            raise StillOpen(last, started.cursor) from None
        return last

    async def watch_payment(
        self, payment_id: str, *, cursor: str = "", follow: bool = False
    ) -> AsyncGenerator[payment_pb2.Payment, None]:
        """One payment, each time it has changed, until the booking knows what to do.

        Without a cursor it begins with the payment as it stands. With `follow` it goes on until `outcome_certain`.
        """
        following = Following(cursor, self._backoff)

        def request() -> pb.WatchPaymentRequest:
            return requests.watch_one_request(payment_id=payment_id, cursor=following.cursor, follow=follow)

        async with aclosing(self._changes(following, request, ends=True)) as changes:
            async for payment in changes:
                yield payment

    async def watch_booking(self, booking_id: str, *, cursor: str = "") -> AsyncGenerator[payment_pb2.Payment, None]:
        """Every attempt of one booking, each time it has changed, those to come included; it never ends by itself."""
        following = Following(cursor, self._backoff)

        def request() -> pb.WatchPaymentRequest:
            return requests.watch_one_request(booking_id=booking_id, cursor=following.cursor, follow=False)

        async with aclosing(self._changes(following, request, ends=False)) as changes:
            async for payment in changes:
                yield payment

    async def watch_payments(
        self,
        *,
        cursor: str = "",
        from_now: bool = False,
        statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = (),
        resynchronise: timedelta | None = None,
    ) -> AsyncGenerator[payment_pb2.PaymentEvent, None]:
        """The events of all payments that this caller may see, in order, for ever. Keep `event.cursor` with the effect.

        It starts after the cursor; without one at the first event there is, or from now on. A cursor of another
        database, or of one that was restored, raises LogDiverged. With `resynchronise` the stream goes on instead:
        first come the payments of so long a time, each as it stands, as events of type UNSPECIFIED, then what is new.
        """
        batches = self.watch_batches(cursor=cursor, from_now=from_now, statuses=statuses, resynchronise=resynchronise)
        async with aclosing(batches):
            async for events, _ in batches:
                for event in events:
                    yield event

    async def watch_batches(
        self,
        *,
        cursor: str = "",
        from_now: bool = False,
        statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = (),
        resynchronise: timedelta | None = None,
    ) -> Batches:
        """The same, message by message: the events, which may be none, and the cursor after them."""
        following = Following(cursor, self._backoff)

        def request() -> pb.WatchPaymentsRequest:
            return requests.watch_all_request(cursor=following.cursor, from_now=from_now, statuses=statuses)

        while True:
            messages = self._messages(following, lambda: self._stub().WatchPayments(request(), metadata=self._sent()))
            try:
                async with aclosing(messages):
                    async for message in messages:
                        yield following.took(message), following.cursor
            except LogDiverged:
                if resynchronise is None:
                    raise
                async with aclosing(self._standing(following, resynchronise, statuses)) as standing:
                    async for batch in standing:
                        yield batch

    async def consume(
        self,
        store: AsyncCursorStore[Transaction],
        handle: Handler[Transaction],
        *,
        from_now: bool = False,
        statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = (),
        resynchronise: timedelta | None = None,
        attempts: int = ATTEMPTS,
        acknowledge_as: str = "",
    ) -> None:
        """Deal with each event once, for ever: `handle(event, transaction)` runs in the transaction of the store.

        With a name in `acknowledge_as` the service's operators see how far this consumer is, and can offer it events
        again. An event on which the handler fails so many times is set aside, and the others go on; it is tried again
        from time to time, and when the consumer is started. The rest is as in `watch_payments`.
        """

        def batches(cursor: str) -> Batches:
            return self.watch_batches(cursor=cursor, from_now=from_now, statuses=statuses, resynchronise=resynchronise)

        acknowledge = partial(self.acknowledge, acknowledge_as) if acknowledge_as else None
        consumer = Consumer(batches, store, handle, acknowledge, attempts=attempts, backoff=self._backoff)
        await consumer.run()

    async def _standing(
        self, following: Following, span: timedelta, statuses: Sequence[payment_pb2.PaymentStatus.ValueType]
    ) -> Batches:
        """The payments of a span of time as they stand now; only the last of them moves the cursor."""
        log.warning("the log of payments is another one: reading the payments of the last %s as they stand", span)
        wanted = PaymentFilter(created_from=datetime.now(UTC) - span, statuses=statuses)
        token, old = "", following.cursor
        while True:
            page = await self._patiently(partial(self._page, wanted, token), math.inf)
            events = [requests.standing_event(payment, old) for payment in page.payments]
            token = page.next_page_token
            if not token:
                break
            yield events, old
        if events:
            events[-1].cursor = page.cursor
        following.restart(page.cursor)
        yield events, page.cursor

    async def _page(self, wanted: PaymentFilter, token: str, _seconds_left: float) -> pb.ListPaymentsResponse:
        return await self.list_page(wanted, page_token=token)

    async def _changes(
        self, following: Following, request: Callable[[], pb.WatchPaymentRequest], *, ends: bool
    ) -> AsyncGenerator[payment_pb2.Payment, None]:
        """Payments as they change. Where the cursor is refused, a snapshot tells as much as all the events would."""
        versions: dict[str, int] = {}
        while True:
            messages = self._messages(following, lambda: self._stub().WatchPayment(request(), metadata=self._sent()))
            try:
                async with aclosing(messages):
                    async for message in messages:
                        for payment in [*message.snapshot.payments, *(e.payment for e in following.took(message))]:
                            if payment.version > versions.get(payment.payment_id, 0):
                                versions[payment.payment_id] = payment.version
                                yield payment
            except LogDiverged:
                following.restart("")
                versions.clear()
                continue
            if ends:
                return

    async def _messages(
        self, following: Following, call: Callable[[], grpc.aio.UnaryStreamCall[Any, StreamMessage]]
    ) -> AsyncGenerator[StreamMessage, None]:
        """The messages of a stream that is opened again as often as it is cut, until it ends with OK."""
        while True:
            stream = call()
            messages = aiter(stream)
            try:
                while True:
                    # Not `wait_for`, which forgets that it was cancelled when a message comes at that moment.
                    async with asyncio.timeout(self._silence_max):
                        message = await anext(messages)
                    yield message
            except StopAsyncIteration:
                return
            except grpc.aio.AioRpcError as failure:
                error = await self._explained(failure)
            except TimeoutError:
                error = ServiceUnavailable(grpc.StatusCode.UNAVAILABLE, "The stream has fallen silent.")
            finally:
                stream.cancel()
            pause = following.pause_after(error)
            level = logging.WARNING if isinstance(error, CannotConnect) else logging.INFO
            log.log(level, "the stream was cut, and goes on in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
