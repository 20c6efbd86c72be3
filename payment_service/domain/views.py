"""What a caller sees of a payment and of its events.

A view holds no more than the wire does: the phone number is masked here, and
nothing behind this file knows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from payment_service.domain.advice import Advice, advice_of
from payment_service.domain.facts import Fact, ReceiptDue
from payment_service.domain.pay_bill import PayBill
from payment_service.domain.payment import (
    STATUS_OF,
    BookingAction,
    Payment,
    PaymentRequest,
    PhoneWarning,
    RefundStatus,
    State,
    Status,
)
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import Refund, RefundReason, RefundState


class EventType(StrEnum):
    """What an event is about; the names are those of the wire enum."""

    CREATED = "CREATED"
    SENDING = "SENDING"
    NOT_SENT = "NOT_SENT"
    PROMPTED = "PROMPTED"
    UNCERTAIN = "UNCERTAIN"
    COMPLETED = "COMPLETED"
    COMPLETED_LATE = "COMPLETED_LATE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    UPDATED = "UPDATED"
    REFUND_REQUESTED = "REFUND_REQUESTED"
    REFUNDED = "REFUNDED"
    REFUND_FAILED = "REFUND_FAILED"
    PART_REFUNDED = "PART_REFUNDED"
    RECEIPT_ISSUED = "RECEIPT_ISSUED"
    RECEIPT_AMENDED = "RECEIPT_AMENDED"


_TYPE_ON_ENTERING = {
    State.CREATED: EventType.NOT_SENT,
    State.SENDING: EventType.SENDING,
    State.PROMPTED: EventType.PROMPTED,
    State.UNCERTAIN: EventType.UNCERTAIN,
    State.COMPLETED: EventType.COMPLETED,
    State.FAILED: EventType.FAILED,
    State.CANCELLED: EventType.CANCELLED,
    State.EXPIRED: EventType.EXPIRED,
    State.REFUNDING: EventType.REFUND_REQUESTED,
    State.REFUNDED: EventType.REFUNDED,
}


_TYPE_OF_PART = {
    RefundStatus.PENDING: EventType.REFUND_REQUESTED,
    RefundStatus.DONE: EventType.PART_REFUNDED,
    RefundStatus.FAILED: EventType.REFUND_FAILED,
}


def event_type(before: Payment, after: Payment, fact: Fact | None = None) -> EventType:
    """The type of the event that tells of this change; a receipt that is written changes nothing of the payment."""
    if isinstance(fact, ReceiptDue):
        return EventType.RECEIPT_ISSUED if fact.revision == 1 else EventType.RECEIPT_AMENDED
    if after.state is before.state:
        told_of_refund = (after.refund_id, after.refund_status) != (before.refund_id, before.refund_status)
        return _TYPE_OF_PART[after.refund_status] if told_of_refund and after.refund_status else EventType.UPDATED
    if before.state is State.REFUNDING and after.state is not State.REFUNDED:
        return EventType.REFUND_FAILED
    if after.state is State.COMPLETED and after.paid_late and not before.paid_late:
        return EventType.COMPLETED_LATE
    return _TYPE_ON_ENTERING[after.state]


@dataclass(frozen=True, slots=True)
class RefundView:
    """A refund as the payment's caller sees it. `amount` is whole shillings."""

    refund_id: UUID
    receipt: str
    """Of the money that goes back."""
    status: RefundStatus
    amount: int
    reason: RefundReason
    requested_at: datetime
    ended_at: datetime | None


def refund_view(refund: Refund) -> RefundView:
    """A refund as it stands, as it is seen from outside."""
    return RefundView(
        refund_id=refund.refund_id,
        receipt=refund.receipt,
        status=_REFUND_STATUSES.get(refund.state, RefundStatus.PENDING),
        amount=refund.amount,
        reason=refund.reason,
        requested_at=refund.requested_at,
        ended_at=refund.ended_at,
    )


_REFUND_STATUSES = {RefundState.DONE: RefundStatus.DONE, RefundState.FAILED: RefundStatus.FAILED}


@dataclass(frozen=True, slots=True)
class PaymentView:
    """One payment as its caller sees it. `amount` is whole shillings."""

    payment_id: UUID
    caller: str
    reference: str
    booking_id: str
    attempt: int
    retry_of: UUID | None
    status: Status
    reason: Reason | None
    result_code: str | None
    language_code: str
    booking_action: BookingAction
    outcome_certain: bool
    retry_allowed_at: datetime | None
    amount: int
    masked_phone: str
    phone_warning: PhoneWarning | None
    receipt: str | None
    paid_late: bool
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    completed_at: datetime | None
    metadata: Mapping[str, str]
    version: int
    refund: RefundView | None = None
    """The one that the payment was last told of."""
    refunds: Sequence[RefundView] = ()
    """All of them, the oldest first."""
    refunded_amount: int = 0
    pay_bill: PayBill | None = None
    """How the passenger may pay by hand instead, where that is offered."""

    @property
    def advice(self) -> Advice:
        """What the passenger is told, and does next."""
        return advice_of(
            self.status.value,
            self.reason,
            self.booking_action.value,
            self.outcome_certain,
            self.part_returned,
            self.return_failed,
        )

    @property
    def part_returned(self) -> bool:
        """Money has gone back, and none is on its way back now."""
        return self.refunded_amount > 0 and all(one.status is not RefundStatus.PENDING for one in self.refunds)

    @property
    def return_failed(self) -> bool:
        """Money was to go back, and none has gone back or is on its way."""
        return bool(self.refunds) and all(one.status is RefundStatus.FAILED for one in self.refunds)


@dataclass(frozen=True, slots=True)
class EventView:
    """One event as a watcher sees it; `tag` is the random id that its cursor carries."""

    position: int
    tag: bytes
    event_type: EventType
    previous_status: Status | None
    payment: PaymentView


def masked(phone_number: str) -> str:
    """A phone number with its middle hidden: 2547*****678."""
    return f"{phone_number[:4]}*****{phone_number[-3:]}"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call that asks for a change is answered with. `replayed` when an earlier call of the same id made it."""

    view: PaymentView
    """The payment as it stands by now."""
    replayed: bool


def view_of(payment: Payment, request: PaymentRequest, warning: PhoneWarning | None) -> PaymentView:
    """The view of a payment whose request is at hand, and that has not ended without money: its row tells more."""
    return PaymentView(
        payment_id=payment.payment_id,
        caller=payment.caller,
        reference=payment.reference,
        booking_id=payment.booking_id,
        attempt=payment.attempt,
        retry_of=payment.retry_of,
        status=STATUS_OF[payment.state],
        reason=payment.shown_reason,
        result_code=payment.result_code,
        language_code=request.language_code,
        booking_action=payment.booking_action,
        outcome_certain=payment.outcome_certain,
        retry_allowed_at=payment.retry_allowed_at,
        amount=payment.amount,
        masked_phone=masked(request.phone_number),
        phone_warning=warning,
        receipt=payment.receipt,
        paid_late=payment.paid_late,
        created_at=payment.created_at,
        updated_at=payment.updated_at,
        expires_at=payment.expires_at,
        completed_at=payment.completed_at,
        metadata=request.metadata,
        version=payment.version,
    )
