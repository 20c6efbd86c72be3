"""The calls of the client for asyncio, each with one answer; `client.py` adds the streams, which are made of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message as Wire

from payment_client import requests
from payment_client.channels import Channels
from payment_client.contract import payment_pb2, payment_service_pb2_grpc
from payment_client.contract import payment_service_pb2 as pb
from payment_client.diagnosis import Endpoint, why_not_connected
from payment_client.errors import PaymentsError, ServiceUnavailable, Unanswered, error_of
from payment_client.requests import PaymentFilter, Purchase
from payment_client.resuming import SILENCE_MAX_SECONDS, Backoff
from payment_client.tls import TlsFiles
from payment_client.tracing import Headers, headers_of_the_current_trace

CALL_TIMEOUT_SECONDS: Final = 10.0
"""InitiatePayment answers within 5 seconds; the rest is for the network, and for a process that is being replaced."""
PAGE_SIZE: Final = 200

Request = TypeVar("Request", bound=Wire, contravariant=True)
Answer = TypeVar("Answer", bound=Wire)


class PaymentCalls:
    """A channel to the payment service, and every call that gets one answer.

    The channel is opened by the first call, and in the process that makes it.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: TlsFiles | None = None,
        proxy: bool = False,
        timeout: float = CALL_TIMEOUT_SECONDS,
        backoff: Backoff | None = None,
        silence_max: float = SILENCE_MAX_SECONDS,
        headers: Headers | None = None,
    ) -> None:
        """`target` is HOST:PORT; without `tls` it is plaintext, for a service on this machine.

        `timeout` holds for each call that does not name its own. `headers` replaces the headers of OpenTelemetry.
        """
        self._endpoint = Endpoint(target, tls, proxy)
        self._channels = Channels(self._endpoint, grpc.aio.secure_channel, grpc.aio.insecure_channel)
        self._timeout = timeout
        self._backoff = backoff or Backoff()
        self._silence_max = silence_max
        self._headers = headers or headers_of_the_current_trace()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls and streams that are open end."""
        for channel in self._channels.take_all():
            await channel.close(None)

    async def initiate(self, purchase: Purchase, *, timeout: float | None = None) -> pb.InitiatePaymentResponse:
        """Ask for a payment. Asked again with the same purchase, it is the same payment, and no second prompt."""
        return await self._ask(self._stub().InitiatePayment, purchase.request(), timeout, purchase.request_id)

    async def retry(
        self, payment_id: str, *, phone_number: str = "", request_id: str = "", timeout: float | None = None
    ) -> pb.RetryPaymentResponse:
        """Start another attempt for the booking of a payment that has ended unpaid."""
        request_id = request_id or requests.new_request_id()
        request = pb.RetryPaymentRequest(request_id=request_id, payment_id=payment_id, phone_number=phone_number)
        return await self._ask(self._stub().RetryPayment, request, timeout, request_id)

    async def cancel(
        self, payment_id: str, *, request_id: str = "", timeout: float | None = None
    ) -> pb.CancelPaymentResponse:
        """Withdraw a payment whose prompt has not been sent."""
        request_id = request_id or requests.new_request_id()
        request = pb.CancelPaymentRequest(request_id=request_id, payment_id=payment_id)
        return await self._ask(self._stub().CancelPayment, request, timeout, request_id)

    async def refund(
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
        return await self._ask(self._stub().RefundPayment, request, timeout, request.request_id)

    async def get(
        self, payment_id: str = "", *, reference: str = "", timeout: float | None = None
    ) -> pb.GetPaymentResponse:
        """Read one payment."""
        request = requests.get_request(payment_id=payment_id, reference=reference)
        return await self._ask(self._stub().GetPayment, request, timeout)

    async def get_receipt(self, payment_id: str, *, timeout: float | None = None) -> pb.GetReceiptResponse:
        """The receipt as it stands: its fields, and the bytes of its PDF.

        ReceiptNotIssued where there is none, which says whether one is to come.
        """
        request = pb.GetReceiptRequest(payment_id=payment_id)
        return await self._ask(self._stub().GetReceipt, request, timeout)

    async def list_page(
        self,
        wanted: PaymentFilter | None = None,
        *,
        page_size: int = PAGE_SIZE,
        page_token: str = "",
        timeout: float | None = None,
    ) -> pb.ListPaymentsResponse:
        """One page of payments, newest first, and the cursor to watch from."""
        request = (wanted or PaymentFilter()).request(page_size, page_token)
        return await self._ask(self._stub().ListPayments, request, timeout)

    async def list_payments(self, wanted: PaymentFilter | None = None) -> AsyncGenerator[payment_pb2.Payment, None]:
        """All payments of a filter, newest first, page by page."""
        token = ""
        while True:
            page = await self.list_page(wanted, page_token=token)
            for payment in page.payments:
                yield payment
            token = page.next_page_token
            if not token:
                return

    async def acknowledge(
        self, consumer: str, cursor: str, *, timeout: float | None = None
    ) -> pb.AcknowledgeEventsResponse:
        """Tell the service's operators how far a consumer is; ConsumerRewound where they offer events again."""
        request = pb.AcknowledgeEventsRequest(consumer=consumer, cursor=cursor)
        return await self._ask(self._stub().AcknowledgeEvents, request, timeout)

    async def _patiently(self, call: Callable[[float], Awaitable[Answer]], end: float) -> Answer:
        """An answer, asked for again while the service is away; the last error once the time is over.

        `call` is told how many seconds are left.
        """
        attempt = 0
        while True:
            try:
                return await call(end - time.monotonic())
            except Unanswered as error:
                pause = self._backoff.pause_for(error, attempt)
                if error.lasting or time.monotonic() + pause >= end:
                    raise
            attempt += 1
            await asyncio.sleep(pause)

    async def _ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None,
        request_id: str = "",
    ) -> Answer:
        try:
            return await method(request, timeout=timeout or self._timeout, metadata=self._sent())
        except grpc.aio.AioRpcError as failure:
            error = await self._explained(failure)
            error.request_id = request_id
            raise error from failure

    async def _explained(self, failure: grpc.aio.AioRpcError) -> PaymentsError:
        """The error; where the service has not said a word, with the cause that is found by trying."""
        error = error_of(failure)
        if isinstance(error, ServiceUnavailable) and not error.reason:
            return await asyncio.to_thread(why_not_connected, self._endpoint) or error
        return error

    def _sent(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers().items())

    def _stub(self) -> payment_service_pb2_grpc.PaymentServiceStub:
        return payment_service_pb2_grpc.PaymentServiceStub(self._channels.current())
