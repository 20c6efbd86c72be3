"""What is answered to JSON: the payment, or what is wrong, under the names that gRPC callers know."""

from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf.descriptor import EnumDescriptor
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.domain.advice import LANGUAGES
from payment_service.rpc.errors import Answer
from payment_service.rpc.passenger_sentences import SENTENCES

HTTP_STATUS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""Every code that a call is refused with."""
TIMES: Final = ("create_time", "update_time", "expire_time", "complete_time", "retry_allowed_time")


def initiated_json(response: pb.InitiatePaymentResponse) -> dict[str, object]:
    """The answer to a payment that was asked for."""
    return {
        "payment": payment_json(response.payment),
        "replayed": response.replayed,
        "status_token": response.status_token,
    }


def payment_json(payment: payment_pb2.Payment) -> dict[str, object]:
    """A payment; what is unset is null."""
    return {
        "payment_id": payment.payment_id,
        "reference": payment.reference,
        "booking_id": payment.booking_id,
        "attempt": payment.attempt,
        "retry_of": payment.retry_of or None,
        "version": payment.version,
        "status": _word(payment_pb2.PaymentStatus.DESCRIPTOR, payment.status),
        "status_reason": _word(payment_pb2.StatusReason.DESCRIPTOR, payment.status_reason),
        "booking_action": _word(payment_pb2.BookingAction.DESCRIPTOR, payment.booking_action),
        "next_step": _word(payment_pb2.NextStep.DESCRIPTOR, payment.next_step),
        "customer_message": payment.customer_message,
        "outcome_certain": payment.outcome_certain,
        "currency": payment.amount.currency_code,
        "amount": payment.amount.units,
        "masked_phone": payment.masked_phone,
        "phone_warning": _word(payment_pb2.PhoneWarning.DESCRIPTOR, payment.phone_warning),
        "mpesa_receipt_number": payment.mpesa_receipt_number or None,
        "metadata": dict(payment.metadata),
        "pay_bill": _pay_bill_json(payment.pay_bill) if payment.HasField("pay_bill") else None,
        **{name: getattr(payment, name).ToJsonString() if payment.HasField(name) else None for name in TIMES},
    }


def refused_json(answer: Answer, language: str) -> dict[str, object]:
    """What is wrong, with every bad field, and the sentence for the passenger."""
    sentence = SENTENCES[answer.reason]
    return {
        "error": {
            "reason": answer.reason,
            "message": answer.message,
            "fields": [{"field": one.field, "description": one.description} for one in answer.violations],
            "metadata": dict(answer.metadata),
            "retry_after_s": answer.retry_after.total_seconds() if answer.retry_after is not None else None,
            "customer_message": sentence.spoken(language if language in LANGUAGES else LANGUAGES[0])
            if sentence is not None
            else None,
        }
    }


def _pay_bill_json(offer: payment_pb2.PayBill) -> dict[str, object]:
    """How to pay by hand, and in which time."""
    since = offer.pay_from_time.ToJsonString() if offer.HasField("pay_from_time") else None
    return {
        "business_number": offer.business_number,
        "account_number": offer.account_number,
        "pay_from_time": since,
        "pay_until_time": offer.pay_until_time.ToJsonString(),
    }


def _word(words: EnumDescriptor, number: int) -> str:
    """A value's name without what all names of its kind begin with, which that of 0 ends in UNSPECIFIED."""
    beginning = words.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return words.values_by_number[number].name.removeprefix(beginning)
