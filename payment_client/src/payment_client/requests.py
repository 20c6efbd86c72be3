"""Requests from plain values: whole shillings as int, times as datetime, and a request id wherever there is one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from payment_client.contract import money_pb2, payment_pb2
from payment_client.contract import payment_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter:
    """Chooses payments: all that is set must match."""

    booking_id: str = ""
    reference: str = ""
    request_id: str = ""
    mpesa_receipt_number: str = ""
    statuses: Sequence[payment_pb2.PaymentStatus.ValueType] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None

    def request(self, page_size: int, page_token: str) -> pb.ListPaymentsRequest:
        """The request for one page."""
        return pb.ListPaymentsRequest(
            booking_id=self.booking_id,
            reference=self.reference,
            request_id=self.request_id,
            mpesa_receipt_number=self.mpesa_receipt_number,
            statuses=self.statuses,
            create_time_from=timestamp("created_from", self.created_from),
            create_time_before=timestamp("created_before", self.created_before),
            page_size=page_size,
            page_token=page_token,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a passenger is to pay for. Keep it, and ask with it again: it carries the request id."""

    booking_id: str
    phone_number: str
    amount: int
    """Whole shillings."""
    request_id: str = field(default_factory=lambda: new_request_id())
    """One for each purchase. Store your own before you ask, and a restart of your program repeats nothing either."""
    account_reference: str = ""
    description: str = ""
    shortcode: str = ""
    language_code: str = ""
    metadata: Mapping[str, str] | None = None
    hold_expire_time: datetime | None = None
    late_payment_policy: payment_pb2.LatePaymentPolicy.ValueType = payment_pb2.LATE_PAYMENT_POLICY_UNSPECIFIED

    def request(self) -> pb.InitiatePaymentRequest:
        """The request. Repeated as it is, it means the same payment."""
        return pb.InitiatePaymentRequest(
            request_id=self.request_id,
            booking_id=self.booking_id,
            phone_number=self.phone_number,
            amount=shillings(self.amount),
            account_reference=self.account_reference,
            description=self.description,
            shortcode=self.shortcode,
            language_code=self.language_code,
            metadata=self.metadata or {},
            hold_expire_time=timestamp("hold_expire_time", self.hold_expire_time),
            late_payment_policy=self.late_payment_policy,
        )


def new_request_id() -> str:
    """An id for one logical call."""
    return str(uuid.uuid4())


def shillings(amount: int) -> money_pb2.Money:
    """Money, from whole shillings only: a fraction is the mistake of whoever computed it, never ours to round."""
    if type(amount) is not int:
        raise TypeError(f"amount: expected whole shillings as an int, got {amount!r}.")
    return money_pb2.Money(currency_code="KES", units=amount)


def timestamp(name: str, moment: datetime | None) -> Timestamp | None:
    """A time with its zone; one without says nothing about when it is."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{name}: expected a datetime with a time zone, such as datetime.now(UTC).")
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def watch_one_request(
    *, payment_id: str = "", booking_id: str = "", cursor: str, follow: bool
) -> pb.WatchPaymentRequest:
    """The request to follow one payment, or one booking."""
    if payment_id:
        return pb.WatchPaymentRequest(payment_id=payment_id, cursor=cursor, follow=follow)
    return pb.WatchPaymentRequest(booking_id=booking_id, cursor=cursor, follow=follow)


def watch_all_request(
    *, cursor: str, from_now: bool, statuses: Sequence[payment_pb2.PaymentStatus.ValueType]
) -> pb.WatchPaymentsRequest:
    """The request to follow all payments: from the cursor where there is one, else from the start or from now."""
    if cursor:
        return pb.WatchPaymentsRequest(cursor=cursor, statuses=statuses)
    positions = pb.WatchPaymentsRequest
    position = positions.POSITION_LATEST if from_now else positions.POSITION_EARLIEST
    return pb.WatchPaymentsRequest(position=position, statuses=statuses)


def get_request(*, payment_id: str, reference: str) -> pb.GetPaymentRequest:
    """The request to read one payment, by one of its two names."""
    if bool(payment_id) == bool(reference):
        raise ValueError("Name the payment by payment_id or by reference: expected exactly one of them.")
    return pb.GetPaymentRequest(payment_id=payment_id) if payment_id else pb.GetPaymentRequest(reference=reference)


def refund_request(
    payment_id: str, reason: payment_pb2.RefundReason.ValueType, amount: int | None, request_id: str
) -> pb.RefundPaymentRequest:
    """The request to send money back: all that is left, or a part."""
    return pb.RefundPaymentRequest(
        request_id=request_id or new_request_id(),
        payment_id=payment_id,
        reason=reason,
        amount=None if amount is None else shillings(amount),
    )


def standing_event(payment: payment_pb2.Payment, cursor: str) -> payment_pb2.PaymentEvent:
    """A payment as it stands, in the shape of the event that has made it so."""
    return payment_pb2.PaymentEvent(
        event_id=f"{payment.payment_id}-{payment.version}",
        cursor=cursor,
        payment=payment,
        event_time=payment.update_time,
    )
