"""The client for threads: Django and Flask shops, scripts. Any number of threads may share one.

What it does is described in `calls.py` and `client.py`; only the loops around streams are its own. A channel belongs to
the process that has opened it, so a server that forks its workers makes the client in each worker, or uses it there
only.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message as Wire

from payment_client import requests
from payment_client.calls import CALL_TIMEOUT_SECONDS, PAGE_SIZE
from payment_client.channels import Channels
from payment_client.client import PATIENCE_SECONDS
from payment_client.consuming import ATTEMPTS
from payment_client.contract import payment_pb2
from payment_client.contract import payment_service_pb2 as pb
from payment_client.cursors import CursorStore
from payment_client.diagnosis import Endpoint, why_not_connected
from payment_client.errors import (
    CannotConnect,
    LogDiverged,
    PaymentsError,
    ServiceUnavailable,
    StillOpen,
    Unanswered,
    error_of,
)
from payment_client.options import SERVICE
from payment_client.requests import PaymentFilter, Purchase
from payment_client.resuming import Backoff, Following, Message, is_over
from payment_client.sync_consumer import Batches, Handler, SyncConsumer
from payment_client.tls import TlsFiles
from payment_client.tracing import Headers, headers_of_the_current_trace

STREAM_SECONDS: Final = 300.0
"""A stream is opened anew after so long, from its cursor. A thread that waits for a dead one waits no longer."""

Answer = TypeVar("Answer", bound=Wire)
StreamMessage = TypeVar("StreamMessage", bound=Message)
Transaction = TypeVar("Transaction")

log = logging.getLogger("payment_client")


class SyncPaymentsClient:
    """Calls the payment service. Make one for each process, and close it at the end."""

    def __init__(
        self,
        target: str,
        *,
        tls: TlsFiles | None = None,
        proxy: bool = False,
        timeout: float = CALL_TIMEOUT_SECONDS,
        backoff: Backoff | None = None,
        headers: Headers | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """As `PaymentsClient`. `channel` is one of your own, as for tests with grpcio-testing."""
        self._endpoint = Endpoint(target, tls, proxy)
        self._channels = Channels(self._endpoint, grpc.secure_channel, grpc.insecure_channel, channel)
        self._timeout = timeout
        self._backoff = backoff or Backoff()
        self._headers = headers or headers_of_the_current_trace()
        self._closed = threading.Event()

    def __enter__(self) -> SyncPaymentsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. Calls that are open fail; streams end."""
        self._closed.set()
        for channel in self._channels.take_all():
            channel.close()

    def initiate(self, purchase: Purchase, *, timeout: float | None = None) -> pb.InitiatePaymentResponse:
        """Ask for a payment. Asked again with the same purchase, it is the same payment, and no second prompt."""
        request = purchase.request()
        return self._ask("InitiatePayment", request, pb.InitiatePaymentResponse, timeout, request.request_id)

    def retry(
        self, payment_id: str, *, phone_number: str = "", request_id: str = "", timeout: float | None = None
    ) -> pb.RetryPaymentResponse:
        """Start another attempt for the booking of a payment that has ended unpaid."""
        request_id = request_id or requests.new_request_id()
        request = pb.RetryPaymentRequest(request_id=request_id, payment_id=payment_id, phone_number=phone_number)
        return self._ask("RetryPayment", request, pb.RetryPaymentResponse, timeout, request_id)

    def cancel(
        self, payment_id: str, *, request_id: str = "", timeout: float | None = None
    ) -> pb.CancelPaymentResponse:
        """Withdraw a payment whose prompt has not been sent."""
        request_id = request_id or requests.new_request_id()
        request = pb.CancelPaymentRequest(request_id=request_id, payment_id=payment_id)
        return self._ask("CancelPayment", request, pb.CancelPaymentResponse, timeout, request_id)

    def refund(
        self,
        payment_id: str,
        reason: payment_pb2.RefundReason.ValueType,
        *,
        amount: int | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> pb.RefundPaymentResponse:
        """Send money back: all that is left, or so many shillings of it."""
        request = requests.refund_request(payment_id, reason, amount, request_id)
        return self._ask("RefundPayment", request, pb.RefundPaymentResponse, timeout, request.request_id)

    def get(self, payment_id: str = "", *, reference: str = "", timeout: float | None = None) -> pb.GetPaymentResponse:
        """Read one payment."""
        request = requests.get_request(payment_id=payment_id, reference=reference)
        return self._ask("GetPayment", request, pb.GetPaymentResponse, timeout)

    def get_receipt(self, payment_id: str, *, timeout: float | None = None) -> pb.GetReceiptResponse:
        """The receipt as it stands: its fields, and the bytes of its PDF. As in `PaymentsClient`."""
        request = pb.GetReceiptRequest(payment_id=payment_id)
        return self._ask("GetReceipt", request, pb.GetReceiptResponse, timeout)

    def list_page(
        self,
        wanted: PaymentFilter | None = None,
        *,
        page_size: int = PAGE_SIZE,
        page_token: str = "",
        timeout: float | None = None,
    ) -> pb.ListPaymentsResponse:
        """One page of payments, newest first, and the cursor to watch from."""
        request = (wanted or PaymentFilter()).request(page_size, page_token)
        return self._ask("ListPayments", request, pb.ListPaymentsResponse, timeout)

    def list_payments(self, wanted: PaymentFilter | None = None) -> Iterator[payment_pb2.Payment]:
        """All payments of a filter, newest first, page by page."""
        page = self.list_page(wanted)
        yield from page.payments
        while page.next_page_token:
            page = self.list_page(wanted, page_token=page.next_page_token)
            yield from page.payments

    def acknowledge(self, consumer: str, cursor: str, *, timeout: float | None = None) -> pb.AcknowledgeEventsResponse:
        """Tell the service's operators how far a consumer is; ConsumerRewound where they offer events again."""
        request = pb.AcknowledgeEventsRequest(consumer=consumer, cursor=cursor)
        return self._ask("AcknowledgeEvents", request, pb.AcknowledgeEventsResponse, timeout)

    def pay_and_wait(self, purchase: Purchase, *, patience: float = PATIENCE_SECONDS) -> payment_pb2.Payment:
        """Ask for a payment and wait until the booking knows what to do. As in `PaymentsClient`."""
        end = time.monotonic() + patience
        started = self._patiently(lambda left: self.initiate(purchase, timeout=min(left, self._timeout)), end)
        last = started.payment
        if is_over(last):
            return last
        following = Following(started.cursor, self._backoff)
        request = partial(requests.watch_one_request, payment_id=last.payment_id, follow=False)
        try:
            for payment in self._changes(following, request, ends=True, end=end):
                last = payment
        except Unanswered:
            raise StillOpen(last, started.cursor) from None
        return last

    def watch_payment(
        self, payment_id: str, *, cursor: str = "", follow: bool = False
    ) -> Iterator[payment_pb2.Payment]:
        """One payment, each time it has changed, until the booking knows what to do. As in `PaymentsClient`."""
        request = partial(requests.watch_one_request, payment_id=payment_id, follow=follow)
        return self._changes(Following(cursor, self._backoff), request, ends=True)

    def watch_booking(self, booking_id: str, *, cursor: str = "") -> Iterator[payment_pb2.Payment]:
        """Every attempt of one booking, each time it has changed, also those to come; until the client is closed."""
        request = partial(requests.watch_one_request, booking_id=booking_id, follow=False)
        return self._changes(Following(cursor, self._backoff), request, ends=False)

    def watch_payments(
        self,
        *,
        cursor: str = "",
        from_now: bool = False,
        statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = (),
        resynchronise: timedelta | None = None,
    ) -> Iterator[payment_pb2.PaymentEvent]:
        """The events of all payments that this caller may see, until the client is closed. As in `PaymentsClient`."""
        batches = self.watch_batches(cursor=cursor, from_now=from_now, statuses=statuses, resynchronise=resynchronise)
        for events, _ in batches:
            yield from events

    def watch_batches(
        self,
        *,
        cursor: str = "",
        from_now: bool = False,
        statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = (),
        resynchronise: timedelta | None = None,
    ) -> Batches:
        """The same, message by message: the events, which may be none, and the cursor after them."""
        following = Following(cursor, self._backoff)

        def request(cursor: str) -> pb.WatchPaymentsRequest:
            return requests.watch_all_request(cursor=cursor, from_now=from_now, statuses=statuses)

        while not self._closed.is_set():
            try:
                for message in self._messages("WatchPayments", following, request, pb.WatchPaymentsResponse):
                    yield following.took(message), following.cursor
            except LogDiverged:
                if resynchronise is None:
                    raise
                yield from self._standing(following, resynchronise, statuses)

    def consume(
        self,
        store: CursorStore[Transaction],
        handle: Handler[Transaction],
        *,
        from_now: bool = False,
        statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = (),
        resynchronise: timedelta | None = None,
        attempts: int = ATTEMPTS,
        acknowledge_as: str = "",
    ) -> None:
        """Deal with each event once, until the client is closed. As in `PaymentsClient`."""

        def batches(cursor: str) -> Batches:
            return self.watch_batches(cursor=cursor, from_now=from_now, statuses=statuses, resynchronise=resynchronise)

        acknowledge = partial(self.acknowledge, acknowledge_as) if acknowledge_as else None
        pauses = self._backoff
        SyncConsumer(batches, store, handle, self._closed, acknowledge, attempts=attempts, backoff=pauses).run()

    def _standing(
        self, following: Following, span: timedelta, statuses: Sequence[payment_pb2.PaymentStatus.ValueType]
    ) -> Batches:
        """The payments of a span of time as they stand now; only the last of them moves the cursor."""
        log.warning("the log of payments is another one: reading the payments of the last %s as they stand", span)
        wanted = PaymentFilter(created_from=datetime.now(UTC) - span, statuses=statuses)
        token, old = "", following.cursor
        while True:
            page = self._patiently(partial(self._page, wanted, token), math.inf)
            events = [requests.standing_event(payment, old) for payment in page.payments]
            token = page.next_page_token
            if not token:
                break
            yield events, old
        if events:
            events[-1].cursor = page.cursor
        following.restart(page.cursor)
        yield events, page.cursor

    def _page(self, wanted: PaymentFilter, token: str, _seconds_left: float) -> pb.ListPaymentsResponse:
        return self.list_page(wanted, page_token=token)

    def _changes(
        self,
        following: Following,
        request: Callable[..., pb.WatchPaymentRequest],
        *,
        ends: bool,
        end: float = math.inf,
    ) -> Iterator[payment_pb2.Payment]:
        """Payments as they change. Where the cursor is refused, a snapshot tells as much as all the events would."""
        versions: dict[str, int] = {}
        while not self._closed.is_set():
            try:
                for message in self._messages(
                    "WatchPayment", following, lambda cursor: request(cursor=cursor), pb.WatchPaymentResponse, end
                ):
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

    def _messages(
        self,
        method: str,
        following: Following,
        request: Callable[[str], Wire],
        kind: type[StreamMessage],
        end: float = math.inf,
    ) -> Iterator[StreamMessage]:
        """The messages of a stream that is opened again as often as it is cut, until it ends with OK, or time is up."""
        while not self._closed.is_set():
            left = end - time.monotonic()
            open_stream = self._channels.current().unary_stream(
                f"/{SERVICE}/{method}", request_serializer=_written, response_deserializer=kind.FromString
            )
            stream = open_stream(request(following.cursor), timeout=min(left, STREAM_SECONDS), metadata=self._sent())
            try:
                yield from stream
                return
            except grpc.RpcError as failure:
                error = self._explained(failure)
            finally:
                stream.cancel()  # type: ignore[no-untyped-call]  # its stub says nothing of it
            if self._closed.is_set():
                return
            pause = following.pause_after(error)
            if time.monotonic() + pause >= end:
                raise error
            level = logging.WARNING if isinstance(error, CannotConnect) else logging.INFO
            log.log(level, "the stream was cut, and goes on in %.1f s: %s", pause, error)
            self._closed.wait(pause)

    def _patiently(self, call: Callable[[float], Answer], end: float) -> Answer:
        """An answer, asked for again while the service is away; the last error once the time is over."""
        attempt = 0
        while True:
            try:
                return call(end - time.monotonic())
            except Unanswered as error:
                pause = self._backoff.pause_for(error, attempt)
                if error.lasting or time.monotonic() + pause >= end or self._closed.is_set():
                    raise
            attempt += 1
            self._closed.wait(pause)

    def _ask(
        self, method: str, request: Wire, kind: type[Answer], timeout: float | None, request_id: str = ""
    ) -> Answer:
        call = self._channels.current().unary_unary(
            f"/{SERVICE}/{method}", request_serializer=_written, response_deserializer=kind.FromString
        )
        try:
            answer: Answer = call(request, timeout=timeout or self._timeout, metadata=self._sent())
        except grpc.RpcError as failure:
            error = self._explained(failure)
            error.request_id = request_id
            raise error from failure
        return answer

    def _explained(self, failure: grpc.RpcError) -> PaymentsError:
        error = error_of(failure)
        if isinstance(error, ServiceUnavailable) and not error.reason:
            return why_not_connected(self._endpoint) or error
        return error

    def _sent(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers().items())


def _written(message: Wire) -> bytes:
    return message.SerializeToString()
