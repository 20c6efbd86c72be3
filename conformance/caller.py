"""The booking service: asks for payments over gRPC, follows them, and knows nothing but the contract."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from conformance.judgement import PATIENCE_SECONDS, NotSo, until
from development.certificates import BOOKING, Certificates
from development.system import channel_to

Holds = Callable[[payment_pb2.Payment], bool]
Answer = TypeVar("Answer")


class Started(Protocol):
    """What every call that begins a payment answers."""

    @property
    def payment(self) -> payment_pb2.Payment:
        """The payment as it stands."""

    @property
    def cursor(self) -> str:
        """Where to watch from."""


def status_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.PaymentStatus.Name(payment.status).removeprefix("PAYMENT_STATUS_")


def reason_of(payment: payment_pb2.Payment) -> str:
    """The reason's name; empty where there is none."""
    if payment.status_reason == payment_pb2.STATUS_REASON_UNSPECIFIED:
        return ""
    return payment_pb2.StatusReason.Name(payment.status_reason).removeprefix("STATUS_REASON_")


def action_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.BookingAction.Name(payment.booking_action).removeprefix("BOOKING_ACTION_")


def ended(payment: payment_pb2.Payment) -> bool:
    """Whether the booking may do something now."""
    return status_of(payment) not in ("PENDING", "PROCESSING") and action_of(payment) != "WAIT"


def has_status(status: str) -> Holds:
    return lambda payment: status_of(payment) == status


def has_reason(reason: str) -> Holds:
    return lambda payment: reason_of(payment) == reason


def has_action(action: str) -> Holds:
    return lambda payment: action_of(payment) == action


def refund_is(status: str) -> Holds:
    """Whether the latest refund stands so."""
    wanted = payment_pb2.RefundStatus.Value(f"REFUND_STATUS_{status}")
    return lambda payment: payment.refund.status == wanted


def has_receipt(payment: payment_pb2.Payment) -> bool:
    return bool(payment.mpesa_receipt_number)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error, as a caller reads it."""

    code: str
    reason: str
    metadata: Mapping[str, str]
    # Seconds, where waiting helps.
    retry_after: float | None

    @property
    def name(self) -> str:
        return f"{self.code}/{self.reason}"


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The details of an error."""
    info, retry, retry_after = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), None
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is needed of a call
    for detail in status.details if status is not None else ():
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        else:
            detail.Unpack(info)
    return Refusal(error.code().name, info.reason, dict(info.metadata), retry_after)


async def refused(call: Awaitable[object]) -> Refusal:
    """The error that a call must end in."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise NotSo(f"not refused, but answered: {answer}")


def a_request(phone: str, **fields: Any) -> pb.InitiatePaymentRequest:
    """A request for KES 500, with a booking and a request id of its own unless they are given."""
    defaults: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "booking_id": f"BK-{uuid.uuid4()}",
        "phone_number": phone,
        "amount": money_pb2.Money(currency_code="KES", units=500),
    }
    return pb.InitiatePaymentRequest(**(defaults | fields))


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of one payment service process."""

    stub: PaymentServiceStub
    channel: grpc.aio.Channel

    async def ask(self, request: pb.InitiatePaymentRequest) -> pb.InitiatePaymentResponse:
        """InitiatePayment, once."""
        return await self.stub.InitiatePayment(request, timeout=PATIENCE_SECONDS)

    async def initiate(self, phone: str, **fields: Any) -> pb.InitiatePaymentResponse:
        """InitiatePayment for a new request."""
        return await self.ask(a_request(phone, **fields))

    async def prompt(self, phone: str, **fields: Any) -> pb.InitiatePaymentResponse:
        """InitiatePayment for a new request, and the payment once its push is answered and the phone has the prompt.

        Where the push is answered late, the call has been answered before.
        """
        started = await self.initiate(phone, **fields)
        if status_of(started.payment) == "PENDING":
            events = await self.followed(started, has_status("PROCESSING"), "the answer to the push")
            started.payment.CopyFrom(events[-1].payment)
        return started

    async def retry(self, payment: payment_pb2.Payment, **fields: Any) -> pb.RetryPaymentResponse:
        """RetryPayment, with a request id of its own unless it is given."""
        defaults = {"request_id": str(uuid.uuid4()), "payment_id": payment.payment_id}
        return await self.stub.RetryPayment(pb.RetryPaymentRequest(**(defaults | fields)), timeout=PATIENCE_SECONDS)

    async def cancel(self, payment: payment_pb2.Payment) -> pb.CancelPaymentResponse:
        """CancelPayment, with a request id of its own."""
        request = pb.CancelPaymentRequest(request_id=str(uuid.uuid4()), payment_id=payment.payment_id)
        return await self.stub.CancelPayment(request, timeout=PATIENCE_SECONDS)

    async def refund(self, payment: payment_pb2.Payment, **fields: Any) -> pb.RefundPaymentResponse:
        """RefundPayment of all of it, with a request id of its own unless it is given."""
        defaults: dict[str, Any] = {
            "request_id": str(uuid.uuid4()),
            "payment_id": payment.payment_id,
            "reason": payment_pb2.REFUND_REASON_CANNOT_DELIVER,
        }
        return await self.stub.RefundPayment(pb.RefundPaymentRequest(**(defaults | fields)), timeout=PATIENCE_SECONDS)

    async def get(self, payment_id: str) -> payment_pb2.Payment:
        """GetPayment; waits for a process that is starting."""
        request = pb.GetPaymentRequest(payment_id=payment_id)
        return (await _read(lambda: self.stub.GetPayment(request, timeout=PATIENCE_SECONDS))).payment

    async def listed(self, **filters: Any) -> list[payment_pb2.Payment]:
        """ListPayments, first page; waits for a process that is starting."""
        request = pb.ListPaymentsRequest(**filters)
        return list((await _read(lambda: self.stub.ListPayments(request, timeout=PATIENCE_SECONDS))).payments)

    async def when(self, payment_id: str, holds: Holds, what: str) -> payment_pb2.Payment:
        """The payment, as soon as something holds for it."""

        async def look() -> payment_pb2.Payment | None:
            payment = await self.get(payment_id)
            return payment if holds(payment) else None

        return await until(look, what)

    async def followed(self, started: Started, holds: Holds, what: str) -> list[payment_pb2.PaymentEvent]:
        """What a watcher of the booking is told of a payment, from the cursor of `started` until something holds.

        A stream that is cut is resumed, as the contract asks of a client; an event that then comes again is left out.
        """
        request = pb.WatchPaymentRequest(booking_id=started.payment.booking_id, cursor=started.cursor)
        events: dict[str, payment_pb2.PaymentEvent] = {}

        async def read_on() -> list[payment_pb2.PaymentEvent] | None:
            async for message in self.stub.WatchPayment(request, timeout=PATIENCE_SECONDS):
                for event in message.events:
                    if event.payment.payment_id == started.payment.payment_id:
                        events[event.event_id] = event
                        if holds(event.payment):
                            return list(events.values())
                request.cursor = message.cursor
            return None

        try:
            return await until(lambda: _unless_away(read_on()), what)
        except NotSo as error:
            raise NotSo(f"{error}; told {[status_of(event.payment) for event in events.values()]}") from None

    async def watch(self, cursor: str) -> AsyncGenerator[pb.WatchPaymentsResponse, None]:
        """WatchPayments from a cursor, until the stream is cut."""
        request = pb.WatchPaymentsRequest(cursor=cursor)
        async for message in self.stub.WatchPayments(request, timeout=PATIENCE_SECONDS):
            yield message

    async def told(self, cursor: str, holds: Holds, what: str) -> payment_pb2.Payment:
        """The first payment of which WatchPayments tells after a cursor that something holds for it."""
        async with contextlib.aclosing(self.watch(cursor)) as messages:
            async for message in messages:
                for event in message.events:
                    if holds(event.payment):
                        return event.payment
        raise NotSo(f"the stream ended before it told: {what}")


async def _read(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """A read, repeated while its process or the database is away."""
    return await until(lambda: _unless_away(call()), "an answer to a read")


async def _unless_away(call: Awaitable[Answer]) -> Answer | None:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return None
        raise


@contextlib.asynccontextmanager
async def caller_of(
    address: str, certificates: Certificates | None = None, name: str = BOOKING
) -> AsyncIterator[Caller]:
    """A client with the channel options that we ship; where callers prove who they are, the one of this name."""
    async with channel_to(address, certificates, name) as channel:
        yield Caller(PaymentServiceStub(channel), channel)
