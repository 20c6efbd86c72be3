"""What the fake tells a passenger."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from payment_client.contract import payment_pb2
from payment_client.contract import payment_service_pb2 as pb

_Status = payment_pb2.PaymentStatus
# Not the service's own sentences, which follow the reason as well: enough to see that a page shows one.
SENTENCES: Final = {
    _Status.PAYMENT_STATUS_PENDING: "Your payment is being started.",
    _Status.PAYMENT_STATUS_PROCESSING: "Check your phone and enter your M-Pesa PIN.",
    _Status.PAYMENT_STATUS_COMPLETED: "Your payment was received.",
    _Status.PAYMENT_STATUS_FAILED: "The payment did not go through. You can try again.",
    _Status.PAYMENT_STATUS_CANCELLED: "The payment was cancelled. You can try again.",
    _Status.PAYMENT_STATUS_EXPIRED: "The payment was not confirmed in time.",
    _Status.PAYMENT_STATUS_REFUNDED: "Your money was sent back.",
}
_Next = payment_pb2.NextStep
NEXT_STEPS: Final = {
    _Status.PAYMENT_STATUS_PENDING: _Next.NEXT_STEP_WAIT,
    _Status.PAYMENT_STATUS_PROCESSING: _Next.NEXT_STEP_ENTER_PIN,
    _Status.PAYMENT_STATUS_COMPLETED: _Next.NEXT_STEP_NOTHING,
    _Status.PAYMENT_STATUS_FAILED: _Next.NEXT_STEP_TRY_AGAIN,
    _Status.PAYMENT_STATUS_CANCELLED: _Next.NEXT_STEP_TRY_AGAIN,
    _Status.PAYMENT_STATUS_EXPIRED: _Next.NEXT_STEP_TRY_AGAIN,
    _Status.PAYMENT_STATUS_REFUNDED: _Next.NEXT_STEP_NOTHING,
}


_Reason = payment_pb2.StatusReason
_NOT_BY_HAND: Final = (
    _Reason.STATUS_REASON_SERVICE_MISCONFIGURED,
    _Reason.STATUS_REASON_RECEIVER_LIMIT_REACHED,
    _Reason.STATUS_REASON_AMOUNT_NOT_ALLOWED,
    _Reason.STATUS_REASON_WITHDRAWN,
)
_FOUND_WITHIN: Final = timedelta(minutes=1)
PAY_BILL_NUMBER: Final = "174379"


def offer_pay_bill(payment: payment_pb2.Payment, asked: pb.InitiatePaymentRequest, now: datetime) -> None:
    """How to pay by hand, of a payment that has ended without money for sure, while the hold leaves the time."""
    hold = asked.hold_expire_time.ToDatetime(now.tzinfo)
    if not asked.HasField("hold_expire_time") or not payment.outcome_certain or payment.status_reason in _NOT_BY_HAND:
        return
    if hold - _FOUND_WITHIN > now:
        payment.pay_bill.business_number = asked.shortcode or PAY_BILL_NUMBER
        payment.pay_bill.account_number = asked.account_reference or payment.reference
        payment.pay_bill.pay_until_time.FromDatetime(hold - _FOUND_WITHIN)


def next_step(payment: payment_pb2.Payment) -> payment_pb2.NextStep.ValueType:
    """What the passenger does next, as the service says it."""
    if payment.status_reason == payment_pb2.STATUS_REASON_INSUFFICIENT_FUNDS:
        return _Next.NEXT_STEP_TOP_UP
    if payment.booking_action == payment_pb2.BOOKING_ACTION_REVIEW:
        return _Next.NEXT_STEP_WAIT
    releasing = payment.booking_action == payment_pb2.BOOKING_ACTION_RELEASE
    if releasing and payment.refund.status == payment_pb2.REFUND_STATUS_PENDING:
        return _Next.NEXT_STEP_WAIT
    return NEXT_STEPS[payment.status]
