"""The payments of the fake: the same rules as the service's for what a caller sees, on a clock that the test turns.

It keeps no promise about money: it exists so that a team's own tests need neither the service nor Safaricom. Where it
and the service differ, the suite that runs against both fails (tests/payment_client/test_same_as_the_service.py).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import grpc

from payment_client.contract import payment_pb2, receipt_pb2
from payment_client.contract import payment_service_pb2 as pb
from payment_client.requests import shillings
from payment_client.testing import checks
from payment_client.testing.advice import SENTENCES, next_step, offer_pay_bill
from payment_client.testing.receipts import next_receipt
from payment_client.testing.refunds import ask_refund, end_refund, is_all_back, refundable
from payment_client.testing.refusals import FakeRefusal, invalid, status_name
from payment_client.testing.request_ids import RequestIds

EXPIRES_AFTER: Final = timedelta(seconds=120)
PROMPT_GONE_AFTER: Final = timedelta(seconds=180)
"""After sending: a retry before that could put two prompts on one phone."""

_Status = payment_pb2.PaymentStatus
_Type = payment_pb2.PaymentEventType
_Action = payment_pb2.BookingAction
_Reason = payment_pb2.StatusReason
OPEN: Final = (_Status.PAYMENT_STATUS_PENDING, _Status.PAYMENT_STATUS_PROCESSING)
PAID: Final = (_Status.PAYMENT_STATUS_COMPLETED,)


@dataclass
class Ledger:
    """Every payment and every event. All of it is used under `changed`."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    log_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    payments: dict[str, payment_pb2.Payment] = field(default_factory=dict)
    events: list[payment_pb2.PaymentEvent] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    request_ids: RequestIds = field(default_factory=RequestIds)
    receipts: dict[str, receipt_pb2.Receipt] = field(default_factory=dict)
    _asked: dict[str, pb.InitiatePaymentRequest] = field(default_factory=dict)
    _sent_at: dict[str, datetime] = field(default_factory=dict)

    def initiate(self, request: pb.InitiatePaymentRequest) -> tuple[payment_pb2.Payment, bool]:
        """The payment, and whether an earlier call had made it."""
        wrong = checks.wrong_with_initiation(request, self.now)
        if set(wrong) == {"hold_expire_time"} and request.request_id in self.request_ids:
            wrong = {}
        if wrong:
            raise invalid(wrong)
        parsed = pb.InitiatePaymentRequest.FromString(request.SerializeToString())
        parsed.phone_number = checks.phone_number(request.phone_number)
        parsed.language_code = request.language_code or "en"
        if known := self.request_ids.repeated(request.request_id, "InitiatePayment", parsed):
            return self.payments[known], True
        self._bar(request.booking_id)
        payment = self._create(parsed)
        self.request_ids.note(request.request_id, "InitiatePayment", parsed, payment.payment_id)
        return payment, False

    def retry(self, request: pb.RetryPaymentRequest) -> tuple[payment_pb2.Payment, bool]:
        """Another attempt."""
        wrong = dict(checks.wrong_with_call(request.request_id, request.payment_id))
        if request.phone_number and not checks.phone_number(request.phone_number):
            wrong["phone_number"] = "expected a Kenyan mobile number: 0712345678 or 254712345678"
        if wrong:
            raise invalid(wrong)
        if known := self.request_ids.repeated(request.request_id, "RetryPayment", request):
            return self.payments[known], True
        earlier = self.found(request.payment_id)
        self._bar(earlier.booking_id)
        asked = pb.InitiatePaymentRequest()
        asked.CopyFrom(self._asked[earlier.payment_id])
        asked.phone_number = checks.phone_number(request.phone_number) or asked.phone_number
        payment = self._create(asked)
        self.request_ids.note(request.request_id, "RetryPayment", request, payment.payment_id)
        return payment, False

    def cancel(self, request: pb.CancelPaymentRequest) -> tuple[payment_pb2.Payment, bool]:
        """The payment, withdrawn."""
        if wrong := checks.wrong_with_call(request.request_id, request.payment_id):
            raise invalid(wrong)
        if known := self.request_ids.repeated(request.request_id, "CancelPayment", request):
            return self.payments[known], True
        payment = self.found(request.payment_id)
        withdrawn = payment.status_reason == _Reason.STATUS_REASON_WITHDRAWN
        if not withdrawn and (payment.version > 1 or payment.status not in OPEN):
            raise FakeRefusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "CANCEL_TOO_LATE",
                "The payment cannot be withdrawn any more.",
                metadata={"payment_id": payment.payment_id, "status": status_name(payment)},
            )
        if not withdrawn:
            payment = self.end(payment.payment_id, _Status.PAYMENT_STATUS_CANCELLED, _Reason.STATUS_REASON_WITHDRAWN)
        self.request_ids.note(request.request_id, "CancelPayment", request, payment.payment_id)
        return payment, False

    def refund(self, request: pb.RefundPaymentRequest) -> tuple[payment_pb2.Payment, bool]:
        """The payment, with a refund that is on its way."""
        wrong = dict(checks.wrong_with_call(request.request_id, request.payment_id))
        if request.reason == payment_pb2.REFUND_REASON_UNSPECIFIED:
            wrong["reason"] = "expected a value of RefundReason other than REFUND_REASON_UNSPECIFIED"
        if request.HasField("amount"):
            wrong |= checks.wrong_with_amount(request.amount)
        if wrong:
            raise invalid(wrong)
        if known := self.request_ids.repeated(request.request_id, "RefundPayment", request):
            return self.payments[known], True
        payment = self.found(request.payment_id)
        left = refundable(payment, request)
        amount = request.amount.units if request.HasField("amount") else left
        asked = partial(ask_refund, now=self.now, reason=request.reason, amount=amount, whole=amount == left)
        payment = self._change(payment.payment_id, _Type.PAYMENT_EVENT_TYPE_REFUND_REQUESTED, asked)
        self.request_ids.note(request.request_id, "RefundPayment", request, payment.payment_id)
        return payment, False

    def found(self, name: str) -> payment_pb2.Payment:
        """The payment with this id or reference, or the refusal."""
        for payment in self.payments.values():
            if name.lower() in (payment.payment_id, payment.reference):
                return payment
        raise FakeRefusal(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND", "There is no such payment.")

    def listed(self, request: pb.ListPaymentsRequest) -> list[payment_pb2.Payment]:
        """All that match, newest first."""

        def matches(payment: payment_pb2.Payment) -> bool:
            return (
                request.booking_id in ("", payment.booking_id)
                and request.reference.lower() in ("", payment.reference)
                and request.mpesa_receipt_number.upper() in ("", payment.mpesa_receipt_number)
                and (not request.request_id or self.request_ids.payment_of(request.request_id) == payment.payment_id)
                and (not request.statuses or payment.status in request.statuses)
                and (
                    not request.HasField("create_time_from")
                    or payment.create_time.ToNanoseconds() >= request.create_time_from.ToNanoseconds()
                )
                and (
                    not request.HasField("create_time_before")
                    or payment.create_time.ToNanoseconds() < request.create_time_before.ToNanoseconds()
                )
            )

        return [payment for payment in reversed(self.payments.values()) if matches(payment)]

    def cursor(self, position: int | None = None) -> str:
        """The cursor after so many events; after all of them."""
        return f"fake.{self.log_id}.{len(self.events) if position is None else position}"

    def position(self, cursor: str) -> int:
        """After how many events a cursor stands, or the refusal."""
        match cursor.split("."):
            case ["fake", log_id, number] if number.isdecimal():
                if log_id == self.log_id and int(number) <= len(self.events):
                    return int(number)
                reason, message = "LOG_DIVERGED", "The cursor names an event that this log does not hold."
            case _:
                reason, message = "CURSOR_INVALID", "This is not a cursor of this service."
        raise FakeRefusal(grpc.StatusCode.INVALID_ARGUMENT, reason, message, violations={"cursor": "expected another"})

    def send(self, payment_id: str) -> payment_pb2.Payment:
        """The prompt is sent, and is on the phone."""
        self._change(payment_id, _Type.PAYMENT_EVENT_TYPE_SENDING, lambda payment: None)

        def prompted(payment: payment_pb2.Payment) -> None:
            payment.status = _Status.PAYMENT_STATUS_PROCESSING
            payment.status_reason = _Reason.STATUS_REASON_AWAITING_CUSTOMER

        self._sent_at[payment_id] = self.now
        return self._change(payment_id, _Type.PAYMENT_EVENT_TYPE_PROMPTED, prompted)

    def pay(self, payment_id: str, receipt: str) -> payment_pb2.Payment:
        """The money is received; late where the payment had ended before."""
        late = self.payments[payment_id].status not in OPEN

        confirm = self._is_held(payment_id) or self._wanted_however_late(payment_id)

        def paid(payment: payment_pb2.Payment) -> None:
            payment.status = _Status.PAYMENT_STATUS_COMPLETED
            payment.status_reason = _Reason.STATUS_REASON_UNSPECIFIED if confirm else _Reason.STATUS_REASON_PAID_LATE
            payment.booking_action = _Action.BOOKING_ACTION_CONFIRM if confirm else _Action.BOOKING_ACTION_REVIEW
            payment.outcome_certain, payment.paid_late, payment.mpesa_receipt_number = True, late, receipt
            payment.complete_time.FromDatetime(self.now)
            payment.ClearField("retry_allowed_time")
            payment.ClearField("pay_bill")

        kind = _Type.PAYMENT_EVENT_TYPE_COMPLETED_LATE if late else _Type.PAYMENT_EVENT_TYPE_COMPLETED
        return self._change(payment_id, kind, paid)

    def end(
        self, payment_id: str, status: payment_pb2.PaymentStatus.ValueType, reason: payment_pb2.StatusReason.ValueType
    ) -> payment_pb2.Payment:
        """The payment ends without money."""
        proven = status == _Status.PAYMENT_STATUS_FAILED

        def ended(payment: payment_pb2.Payment) -> None:
            payment.status, payment.status_reason = status, reason
            payment.booking_action = _Action.BOOKING_ACTION_OFFER_RETRY
            payment.outcome_certain = status != _Status.PAYMENT_STATUS_EXPIRED
            gone = self._sent_at.get(payment_id, self.now - PROMPT_GONE_AFTER) + PROMPT_GONE_AFTER
            payment.retry_allowed_time.FromDatetime(self.now if proven else gone)
            offer_pay_bill(payment, self._asked[payment_id], self.now)

        name = _Status.Name(status).removeprefix("PAYMENT_STATUS_")
        return self._change(payment_id, _Type.Value(f"PAYMENT_EVENT_TYPE_{name}"), ended)

    def refund_done(self, payment_id: str) -> payment_pb2.Payment:
        """The money of the latest refund has gone back."""
        whole = is_all_back(self.payments[payment_id])
        kind = _Type.PAYMENT_EVENT_TYPE_REFUNDED if whole else _Type.PAYMENT_EVENT_TYPE_PART_REFUNDED
        return self._change(payment_id, kind, partial(end_refund, now=self.now))

    def issue_receipts(self, issuer: receipt_pb2.ReceiptIssuer) -> None:
        """Issue the receipts that are due, and amend those that say less than the payment does."""
        for payment in list(self.payments.values()):
            self.issue_receipt(payment, issuer)

    def issue_receipt(self, payment: payment_pb2.Payment, issuer: receipt_pb2.ReceiptIssuer) -> None:
        """That of one payment, if it is due."""
        last = self.receipts.get(payment.payment_id)
        receipt = next_receipt(payment, last, self._asked[payment.payment_id], issuer, self.now)
        if receipt is not None:
            self.receipts[payment.payment_id] = receipt
            kind = _Type.PAYMENT_EVENT_TYPE_RECEIPT_AMENDED if last else _Type.PAYMENT_EVENT_TYPE_RECEIPT_ISSUED
            self._change(payment.payment_id, kind, lambda payment: None)

    def phone_of(self, payment_id: str) -> str:
        """The number that is prompted."""
        return self._asked[payment_id].phone_number

    def turn(self, until: datetime) -> None:
        """Turn the clock; payments expire on the way."""
        due = [one for one in self.payments.values() if one.status in OPEN]
        for payment in sorted(due, key=lambda one: one.expire_time.ToNanoseconds()):
            expires = payment.expire_time.ToDatetime(UTC)
            if expires <= until:
                self.now = max(self.now, expires)
                if payment.version == 1:
                    self.end(payment.payment_id, _Status.PAYMENT_STATUS_FAILED, _Reason.STATUS_REASON_NOT_SENT)
                else:
                    self.end(payment.payment_id, _Status.PAYMENT_STATUS_EXPIRED, _Reason.STATUS_REASON_NO_ANSWER)
        self.now = until

    def _is_held(self, payment_id: str) -> bool:
        """Whether the booking is held still."""
        asked = self._asked[payment_id]
        hold = asked.hold_expire_time if asked.HasField("hold_expire_time") else self.payments[payment_id].expire_time
        return self.now <= hold.ToDatetime(UTC)

    def _wanted_however_late(self, payment_id: str) -> bool:
        return self._asked[payment_id].late_payment_policy == payment_pb2.LATE_PAYMENT_POLICY_CONFIRM

    def _bar(self, booking_id: str) -> None:
        """Refuse another attempt while one is live, paid, or may still be on the phone."""
        attempts = [payment for payment in self.payments.values() if payment.booking_id == booking_id]
        refused = grpc.StatusCode.FAILED_PRECONDITION
        for payment in attempts:
            metadata = {"payment_id": payment.payment_id}
            if payment.status in (*OPEN, *PAID):
                text = "The booking has a payment that is live or paid."
                metadata["status"] = status_name(payment)
                raise FakeRefusal(refused, "BOOKING_HAS_LIVE_PAYMENT", text, metadata=metadata)
            allowed = payment.retry_allowed_time.ToDatetime(UTC)
            if payment.HasField("retry_allowed_time") and self.now < allowed:
                text, wait = "The prompt of the last attempt may still be on the phone.", allowed - self.now
                raise FakeRefusal(refused, "RETRY_TOO_EARLY", text, metadata=metadata, retry_after=wait)

    def _create(self, asked: pb.InitiatePaymentRequest) -> payment_pb2.Payment:
        earlier = [payment for payment in self.payments.values() if payment.booking_id == asked.booking_id]
        payment_id = str(uuid.uuid4())
        payment = payment_pb2.Payment(
            payment_id=payment_id,
            reference=uuid.uuid4().hex[:12],
            booking_id=asked.booking_id,
            attempt=len(earlier) + 1,
            retry_of=earlier[-1].payment_id if earlier else "",
            status=_Status.PAYMENT_STATUS_PENDING,
            booking_action=_Action.BOOKING_ACTION_WAIT,
            amount=shillings(asked.amount.units),
            masked_phone=f"{asked.phone_number[:4]}*****{asked.phone_number[-3:]}",
            metadata=asked.metadata,
            caller="development",
        )
        payment.create_time.FromDatetime(self.now)
        payment.expire_time.FromDatetime(self.now + EXPIRES_AFTER)
        self.payments[payment_id] = payment
        self._asked[payment_id] = asked
        return self._change(payment_id, _Type.PAYMENT_EVENT_TYPE_CREATED, lambda payment: None)

    def _change(
        self,
        payment_id: str,
        kind: payment_pb2.PaymentEventType.ValueType,
        change: Callable[[payment_pb2.Payment], None],
    ) -> payment_pb2.Payment:
        """The one way a payment changes: another version, one event, and everybody who watches is woken."""
        payment = payment_pb2.Payment()
        payment.CopyFrom(self.payments[payment_id])
        before = payment.status if payment.version else _Status.PAYMENT_STATUS_UNSPECIFIED
        change(payment)
        payment.version += 1
        payment.customer_message = SENTENCES[payment.status]
        payment.next_step = next_step(payment)
        payment.update_time.FromDatetime(self.now)
        self.payments[payment_id] = payment
        event = payment_pb2.PaymentEvent(
            event_id=f"{payment_id}-{payment.version}",
            cursor=self.cursor(len(self.events) + 1),
            type=kind,
            previous_status=before,
            payment=payment,
        )
        event.event_time.FromDatetime(self.now)
        self.events.append(event)
        self.changed.notify_all()
        return payment
