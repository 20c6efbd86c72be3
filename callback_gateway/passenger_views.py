"""A payment as a browser gets it: JSON, alone or as a server-sent event."""

import json

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import passenger_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

UNSPECIFIED = "UNSPECIFIED"


def shown(payment: pb.PassengerPayment) -> dict[str, object]:
    """The fields of a payment; one that is unset is null, so that a page need not ask whether it is there."""
    refund = payment.refund if payment.HasField("refund") else None
    return {
        "payment_id": payment.payment_id,
        "version": payment.version,
        "status": _name(payment_pb2.PaymentStatus.DESCRIPTOR, "PAYMENT_STATUS_", payment.status),
        "status_reason": _name(payment_pb2.StatusReason.DESCRIPTOR, "STATUS_REASON_", payment.status_reason),
        "customer_message": payment.customer_message,
        "next_step": _name(payment_pb2.NextStep.DESCRIPTOR, "NEXT_STEP_", payment.next_step),
        "booking_action": _name(payment_pb2.BookingAction.DESCRIPTOR, "BOOKING_ACTION_", payment.booking_action),
        "outcome_certain": payment.outcome_certain,
        "currency": payment.amount.currency_code,
        "amount": payment.amount.units,
        "masked_phone": payment.masked_phone,
        "mpesa_receipt_number": payment.mpesa_receipt_number or None,
        "refund": refund
        and {
            "status": _name(payment_pb2.RefundStatus.DESCRIPTOR, "REFUND_STATUS_", refund.status),
            "amount": refund.amount.units,
        },
        "refunded_amount": payment.refunded_amount.units,
        "pay_bill": _pay_bill(payment.pay_bill) if payment.HasField("pay_bill") else None,
        **{
            name: _time(getattr(payment, name)) if payment.HasField(name) else None
            for name in ("create_time", "update_time", "expire_time", "complete_time", "retry_allowed_time")
        },
    }


def event(message: pb.WatchPassengerPaymentResponse) -> bytes:
    """A server-sent event; a comment where there is nothing new."""
    if not message.HasField("payment"):
        return b": still here\n\n"
    # JSON has no line break outside of its strings, and none inside but as an escape: it is one line.
    told = json.dumps(shown(message.payment))
    return f"id: {message.event_id}\nevent: payment\ndata: {told}\n\n".encode()


def _pay_bill(offer: payment_pb2.PayBill) -> dict[str, object]:
    return {
        "business_number": offer.business_number,
        "account_number": offer.account_number,
        "pay_from_time": _time(offer.pay_from_time) if offer.HasField("pay_from_time") else None,
        "pay_until_time": _time(offer.pay_until_time),
    }


def _name(names: EnumDescriptor, prefix: str, value: int) -> str:
    """A newer service may know words that this gateway does not."""
    known = names.values_by_number.get(value)
    return known.name.removeprefix(prefix) if known is not None else UNSPECIFIED


def _time(moment: Timestamp) -> str:
    return moment.ToJsonString()
