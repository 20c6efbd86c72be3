"""Money that goes back: what the fake sends, what it refuses, and what a payment says of it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

import grpc

from payment_client.contract import payment_pb2
from payment_client.contract import payment_service_pb2 as pb
from payment_client.requests import shillings
from payment_client.testing.refusals import FakeRefusal, status_name

PART_MIN: Final = 10

_Status = payment_pb2.PaymentStatus
_Reason = payment_pb2.StatusReason
FREEING: Final = (payment_pb2.REFUND_REASON_CANNOT_DELIVER, payment_pb2.REFUND_REASON_BOOKING_CANCELLED)
"""A refund for these reasons frees the booking, however little goes back."""


def refundable(payment: payment_pb2.Payment, request: pb.RefundPaymentRequest) -> int:
    """How many shillings are left, or the refusal."""
    pending = sum(one.amount.units for one in payment.refunds if one.status == payment_pb2.REFUND_STATUS_PENDING)
    left = payment.amount.units - payment.refunded_amount.units - pending
    cause, violations = "", {}
    if payment.status == _Status.PAYMENT_STATUS_REFUNDED:
        cause = "REFUNDED"
    elif payment.status != _Status.PAYMENT_STATUS_COMPLETED:
        cause = "NOT_PAID"
    elif left == 0:
        cause = "REFUND_UNDER_WAY"
    elif request.amount.units > left:
        cause, violations = "ABOVE_WHAT_IS_LEFT", {"amount.units": f"expected at most {left}"}
    elif request.HasField("amount") and request.amount.units < PART_MIN and request.amount.units != left:
        cause, violations = "PART_TOO_SMALL", {"amount.units": f"expected {PART_MIN} or more for a part"}
    if cause:
        raise FakeRefusal(
            grpc.StatusCode.FAILED_PRECONDITION,
            "REFUND_NOT_POSSIBLE",
            "The money cannot go back as it was asked for.",
            metadata={"payment_id": payment.payment_id, "status": status_name(payment), "cause": cause},
            violations=violations,
        )
    return left


def ask_refund(
    payment: payment_pb2.Payment,
    *,
    now: datetime,
    reason: payment_pb2.RefundReason.ValueType,
    amount: int,
    whole: bool,
) -> None:
    """A refund is on its way."""
    refund = payment_pb2.Refund(
        refund_id=str(uuid.uuid4()),
        status=payment_pb2.REFUND_STATUS_PENDING,
        amount=shillings(amount),
        reason=reason,
        mpesa_receipt_number=payment.mpesa_receipt_number,
    )
    refund.request_time.FromDatetime(now)
    payment.refund.CopyFrom(refund)
    payment.refunds.append(refund)
    if whole or reason in FREEING:
        payment.booking_action = payment_pb2.BOOKING_ACTION_RELEASE
        payment.status_reason = _Reason.STATUS_REASON_UNSPECIFIED


def is_all_back(payment: payment_pb2.Payment) -> bool:
    """Whether nothing is left once the latest refund is done."""
    return payment.refunded_amount.units + payment.refund.amount.units == payment.amount.units


def end_refund(payment: payment_pb2.Payment, *, now: datetime) -> None:
    """The money of the latest refund has gone back."""
    if is_all_back(payment):
        payment.status, payment.status_reason = _Status.PAYMENT_STATUS_REFUNDED, _Reason.STATUS_REASON_UNSPECIFIED
    payment.refunded_amount.CopyFrom(shillings(payment.refunded_amount.units + payment.refund.amount.units))
    payment.refund.status = payment_pb2.REFUND_STATUS_DONE
    payment.refund.end_time.FromDatetime(now)
    payment.refunds[-1].CopyFrom(payment.refund)
