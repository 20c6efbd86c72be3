"""The fake's gRPC server: a real one, on a port of this machine, so that a client meets what it meets in earnest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message as Wire

from payment_client.contract import payment_pb2, receipt_pb2
from payment_client.contract import payment_service_pb2 as pb
from payment_client.error_details import DETAILS_KEY, write_details
from payment_client.options import SERVICE
from payment_client.resuming import is_over
from payment_client.testing import checks
from payment_client.testing.ledger import Ledger
from payment_client.testing.receipts import receipt_pdf
from payment_client.testing.refusals import FakeRefusal, invalid

STREAMS_MAX: Final = 64
"""Each stream holds a thread; a test that opens more has forgotten to end some."""
LOOK_AGAIN_SECONDS: Final = 0.1
"""A stream whose caller has gone is noticed so soon."""
HEARTBEAT_SECONDS: Final = 5.0
EVENTS_A_MESSAGE: Final = 100
PAGE_SIZE: Final = 50

Answer = TypeVar("Answer", bound=Wire)
Context = grpc.ServicerContext


@dataclass
class Failure:
    """What a method answers instead, for so many calls."""

    refusal: FakeRefusal
    times: int


@dataclass
class FakeServer:
    """Answers the methods of PaymentService from a ledger, all but AttachTaxInvoice."""

    ledger: Ledger
    after_creation: Callable[[payment_pb2.Payment], None]
    failures: dict[str, Failure] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    """How often each method was called."""
    stopping: bool = False
    drains: int = 0
    """Streams end with SERVICE_DRAINING whenever this number grows."""
    address: str = ""
    issuer: receipt_pb2.ReceiptIssuer | None = None
    """Who issues receipts; None where nobody does."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """After how many events each consumer is."""
    rewound: dict[str, str] = field(default_factory=dict)
    """The cursor from which events are offered to a consumer again, until it hears of that."""

    def start(self, port: int = 0) -> None:
        """Serve, on the port or on a free one."""
        threads = ThreadPoolExecutor(STREAMS_MAX + 16, thread_name_prefix="fake-payments")
        self._server = grpc.server(threads, options=[("grpc.so_reuseport", 0)])
        unary: dict[str, tuple[Any, Callable[[Any], Wire]]] = {
            "InitiatePayment": (pb.InitiatePaymentRequest, self._initiate),
            "RetryPayment": (pb.RetryPaymentRequest, self._retry),
            "CancelPayment": (pb.CancelPaymentRequest, self._cancel),
            "RefundPayment": (pb.RefundPaymentRequest, self._refund),
            "GetPayment": (pb.GetPaymentRequest, self._get),
            "GetReceipt": (pb.GetReceiptRequest, self._get_receipt),
            "ListPayments": (pb.ListPaymentsRequest, self._list),
            "AcknowledgeEvents": (pb.AcknowledgeEventsRequest, self._acknowledge),
        }
        streams: dict[str, tuple[Any, Callable[[Any, Context], Iterator[Wire]]]] = {
            "WatchPayment": (pb.WatchPaymentRequest, self._watch_one),
            "WatchPayments": (pb.WatchPaymentsRequest, self._watch_all),
        }
        handlers = {name: self._unary(name, *method) for name, method in unary.items()}
        handlers |= {name: self._stream(name, *method) for name, method in streams.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self.stopping = False
        self._server.start()

    def stop(self) -> None:
        """End every call, and serve no more."""
        with self.ledger.changed:
            self.stopping = True
            self.ledger.changed.notify_all()
        self._server.stop(grace=None).wait()

    def _initiate(self, request: pb.InitiatePaymentRequest) -> pb.InitiatePaymentResponse:
        payment, replayed = self.ledger.initiate(request)
        return self._made(pb.InitiatePaymentResponse, payment, replayed)

    def _retry(self, request: pb.RetryPaymentRequest) -> pb.RetryPaymentResponse:
        payment, replayed = self.ledger.retry(request)
        return self._made(pb.RetryPaymentResponse, payment, replayed)

    def _made(self, kind: Callable[..., Answer], payment: payment_pb2.Payment, replayed: bool) -> Answer:
        """The answer as the payment stands once its prompt is sent; what the passenger does comes after it."""
        cursor = self.ledger.cursor()
        if not replayed:
            self.after_creation(payment)
        answer = next(
            (
                event.payment
                for event in reversed(self.ledger.events)
                if event.payment.payment_id == payment.payment_id and (replayed or event.payment.version <= 3)
            ),
            payment,
        )
        return kind(payment=answer, cursor=cursor, replayed=replayed)

    def _cancel(self, request: pb.CancelPaymentRequest) -> pb.CancelPaymentResponse:
        cursor = self.ledger.cursor()
        payment, replayed = self.ledger.cancel(request)
        return pb.CancelPaymentResponse(payment=payment, cursor=cursor, replayed=replayed)

    def _refund(self, request: pb.RefundPaymentRequest) -> pb.RefundPaymentResponse:
        cursor = self.ledger.cursor()
        payment, replayed = self.ledger.refund(request)
        return pb.RefundPaymentResponse(payment=payment, cursor=cursor, replayed=replayed)

    def _get(self, request: pb.GetPaymentRequest) -> pb.GetPaymentResponse:
        target = request.WhichOneof("target")
        if target is None:
            raise invalid({"target": "expected payment_id or reference"})
        if target == "payment_id" and (wrong := checks.wrong_with_payment_id(request.payment_id)):
            raise invalid(wrong)
        if target == "reference" and not checks.REFERENCE.fullmatch(request.reference.lower()):
            raise invalid({"reference": "expected 12 letters and digits"})
        return pb.GetPaymentResponse(
            payment=self.ledger.found(request.payment_id or request.reference), cursor=self.ledger.cursor()
        )

    def _get_receipt(self, request: pb.GetReceiptRequest) -> pb.GetReceiptResponse:
        if wrong := checks.wrong_with_payment_id(request.payment_id):
            raise invalid(wrong)
        payment = self.ledger.found(request.payment_id)
        if payment.payment_id not in self.ledger.receipts and self.issuer is not None:
            # As the service does: a receipt that lacks is issued by the call.
            self.ledger.issue_receipt(payment, self.issuer)
        receipt = self.ledger.receipts.get(payment.payment_id)
        if receipt is None:
            cause = {"cause": "NOT_ISSUED_YET" if self.issuer is not None else "NO_ISSUER"}
            message = "The payment has no receipt."
            raise FakeRefusal(grpc.StatusCode.FAILED_PRECONDITION, "RECEIPT_NOT_ISSUED", message, metadata=cause)
        return pb.GetReceiptResponse(receipt=receipt, pdf=receipt_pdf(receipt))

    def _list(self, request: pb.ListPaymentsRequest) -> pb.ListPaymentsResponse:
        """A page token is the place in the list, the filters it was made for, and the cursor of the first page."""
        filters = pb.ListPaymentsRequest()
        filters.CopyFrom(request)
        filters.ClearField("page_token")
        filters.ClearField("page_size")
        mark = filters.SerializeToString(deterministic=True).hex()
        after, cursor = "", self.ledger.cursor()
        if request.page_token:
            match request.page_token.split("/"):
                case [after, cursor, kept] if kept == mark:
                    pass
                case _:
                    expected = {"page_token": "expected the token of the page before, with the same filters"}
                    message = "This is not the token of a page."
                    raise FakeRefusal(
                        grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", message, violations=expected
                    )
        found = self.ledger.listed(filters)
        ids = [payment.payment_id for payment in found]
        start = ids.index(after) + 1 if after in ids else 0
        size = request.page_size or PAGE_SIZE
        page = found[start : start + size]
        token = f"{page[-1].payment_id}/{cursor}/{mark}" if start + size < len(found) else ""
        return pb.ListPaymentsResponse(payments=page, next_page_token=token, cursor=cursor)

    def _acknowledge(self, request: pb.AcknowledgeEventsRequest) -> pb.AcknowledgeEventsResponse:
        """How far a consumer is: never back, unless it is offered events again."""
        position, total = self.ledger.position(request.cursor), len(self.ledger.events)
        if cursor := self.rewound.pop(request.consumer, ""):
            message, there = "Events are offered to this consumer again.", {"cursor": cursor}
            self.acknowledged[request.consumer] = self.ledger.position(cursor)
            raise FakeRefusal(grpc.StatusCode.FAILED_PRECONDITION, "CONSUMER_REWOUND", message, metadata=there)
        position = self.acknowledged[request.consumer] = max(position, self.acknowledged.get(request.consumer, 0))
        return pb.AcknowledgeEventsResponse(cursor=self.ledger.cursor(position), lag_events=total - position)

    def _watch_one(self, request: pb.WatchPaymentRequest, context: Context) -> Iterator[pb.WatchPaymentResponse]:
        ledger, target = self.ledger, request.WhichOneof("target")
        if target is None:
            raise invalid({"target": "expected payment_id or booking_id"})
        if target == "payment_id":
            if wrong := checks.wrong_with_payment_id(request.payment_id):
                raise invalid(wrong)
            ledger.found(request.payment_id)
        position = ledger.position(request.cursor) if request.cursor else len(ledger.events)

        def followed(payment: payment_pb2.Payment) -> bool:
            return payment.payment_id == request.payment_id or payment.booking_id == request.booking_id

        def over() -> bool:
            payment = ledger.payments.get(request.payment_id)
            return payment is not None and is_over(payment) and (payment.outcome_certain or not request.follow)

        if not request.cursor:
            payments = [payment for payment in ledger.payments.values() if followed(payment)]
            snapshot = pb.WatchPaymentResponse(cursor=ledger.cursor())
            snapshot.snapshot.payments.extend(payments)
            yield snapshot
            if over():
                return
        for events, cursor, caught_up in self._following(position, context):
            yield pb.WatchPaymentResponse(events=[one for one in events if followed(one.payment)], cursor=cursor)
            if caught_up and over():
                return

    def _watch_all(self, request: pb.WatchPaymentsRequest, context: Context) -> Iterator[pb.WatchPaymentsResponse]:
        start = request.WhichOneof("start")
        if start == "cursor":
            position = self.ledger.position(request.cursor)
        elif start == "position" and request.position:
            earliest = request.position == pb.WatchPaymentsRequest.POSITION_EARLIEST
            position = 0 if earliest else len(self.ledger.events)
        else:
            raise invalid({"start": "expected a cursor or a position: a stream does not start by itself"})
        for events, cursor, caught_up in self._following(position, context):
            wanted = [one for one in events if not request.statuses or one.payment.status in request.statuses]
            yield pb.WatchPaymentsResponse(events=wanted, cursor=cursor, caught_up=caught_up)

    def _following(self, position: int, context: Context) -> Iterator[tuple[list[payment_pb2.PaymentEvent], str, bool]]:
        """Events after a position, and a word where there are none for a while, until the server drains."""
        ledger, drains, waited = self.ledger, self.drains, HEARTBEAT_SECONDS
        while context.is_active():
            if self.stopping or self.drains != drains:
                yield [], ledger.cursor(position), False
                raise FakeRefusal(grpc.StatusCode.UNAVAILABLE, "SERVICE_DRAINING", "This process is stopping.")
            new = ledger.events[position : position + EVENTS_A_MESSAGE]
            if new or waited >= HEARTBEAT_SECONDS:
                position, waited = position + len(new), 0.0
                yield new, ledger.cursor(position), position == len(ledger.events)
            elif not ledger.changed.wait(LOOK_AGAIN_SECONDS):
                waited += LOOK_AGAIN_SECONDS

    def _unary(self, name: str, kind: Any, method: Callable[[Any], Wire]) -> grpc.RpcMethodHandler[Any, Any]:
        def answer(request: Wire, context: Context) -> Wire:
            try:
                with self.ledger.changed:
                    self._count(name)
                    return method(request)
            except FakeRefusal as refusal:
                _refuse(context, refusal)

        return grpc.unary_unary_rpc_method_handler(answer, kind.FromString, _written)

    def _stream(
        self, name: str, kind: Any, method: Callable[[Any, Context], Iterator[Wire]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        def answer(request: Wire, context: Context) -> Iterator[Wire]:
            try:
                with self.ledger.changed:
                    self._count(name)
                messages = method(request, context)
                while True:
                    # Held while the next message is made, and never while it is sent.
                    with self.ledger.changed:
                        message = next(messages, None)
                    if message is None:
                        return
                    yield message
            except FakeRefusal as refusal:
                _refuse(context, refusal)

        return grpc.unary_stream_rpc_method_handler(answer, kind.FromString, _written)

    def _count(self, name: str) -> None:
        """Note the call, and let it fail where the test wants so."""
        self.calls[name] = self.calls.get(name, 0) + 1
        failure = self.failures.get(name)
        if failure is not None and failure.times > 0:
            failure.times -= 1
            raise failure.refusal


def _written(message: Wire) -> bytes:
    return message.SerializeToString()


def _refuse(context: Context, refusal: FakeRefusal) -> NoReturn:
    content = write_details(refusal.code.value[0], refusal.message, refusal.details)
    context.set_trailing_metadata(((DETAILS_KEY, content),))
    context.abort(refusal.code, refusal.message)
    raise AssertionError("abort has not ended the call")
