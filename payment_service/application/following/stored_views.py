"""From stored rows to what callers see: the phone number is opened here, masked at once, and goes no further.

While a newer release is rolled out, rows may hold names that this one does not know. One row must not stop the log for
everybody: an unknown reason or warning is left out, an unknown event says that the payment changed, and on an unknown
action or state the booking waits, which is the one that does nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from payment_service.alarms import PROGRAM_FAULT
from payment_service.daraja.result_codes import meaning_of
from payment_service.domain.facts import Verdict
from payment_service.domain.pay_bill import ByHand, pay_bill
from payment_service.domain.payment import STATUS_OF, BookingAction, PhoneWarning, RefundStatus, State, Status
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import RefundReason
from payment_service.domain.views import EventType, EventView, PaymentView, RefundView, masked
from payment_service.security.sealing import PHONE_NUMBER, SealBroken, Sealer
from payment_service.store.reads import EventRow, PaymentRow
from runtime.alarms import raise_alarm

UNREADABLE_PHONE: Final = "*" * 12
"""Shown where a number does not open: one damaged row must not stop the log for everybody."""

_STATUSES = {status.value: status for status in Status}
_STATUS_OF_NAME = {state.value: status for state, status in STATUS_OF.items()}
_REASONS = {reason.value: reason for reason in Reason}
_ACTIONS = {action.value: action for action in BookingAction}
_EVENT_TYPES = {event_type.value: event_type for event_type in EventType}
_REFUND_STATUSES = {status.value: status for status in RefundStatus}
_REFUND_REASONS = {reason.value: reason for reason in RefundReason}
_WARNINGS = {warning.value: warning for warning in PhoneWarning}


def states_of(statuses: frozenset[Status]) -> tuple[str, ...]:
    """The stored states that callers see as one of these statuses."""
    return tuple(state.value for state in State if STATUS_OF[state] in statuses)


def payment_view(row: PaymentRow, sealer: Sealer) -> PaymentView:
    """A payment as it stands."""
    return _view(row, _STATUSES.get(row.status, Status.PROCESSING), row.updated_at, sealer)


def event_view(row: EventRow, sealer: Sealer) -> EventView:
    """An event, with its payment as it was right after it."""
    payment = _view(row, _status(row.state), row.occurred_at, sealer)
    previous = None if row.previous_state is None else _status(row.previous_state)
    return EventView(row.position, row.tag, _EVENT_TYPES.get(row.event_type, EventType.UPDATED), previous, payment)


def _view(row: PaymentRow | EventRow, status: Status, updated_at: datetime, sealer: Sealer) -> PaymentView:
    refunds = tuple(_refund(told) for told in row.refunds or ())
    reason, action = _REASONS.get(row.status_reason or ""), _ACTIONS.get(row.booking_action, BookingAction.WAIT)
    by_hand = pay_bill(
        ByHand(row.shortcode, row.account_reference, row.pay_by_hand_until),
        status=status,
        reason=reason,
        unanswered=_unanswered(row.provider_result_code),
        booking_action=action,
        outcome_certain=row.outcome_certain,
        retry_allowed_at=row.retry_allowed_at,
        updated_at=updated_at,
    )
    return PaymentView(
        payment_id=row.payment_id,
        caller=row.caller,
        reference=row.reference,
        booking_id=row.booking_id,
        attempt=row.attempt,
        retry_of=row.retry_of,
        status=status,
        reason=reason,
        result_code=row.provider_result_code,
        language_code=row.language_code,
        booking_action=action,
        outcome_certain=row.outcome_certain,
        retry_allowed_at=row.retry_allowed_at,
        amount=row.amount,
        masked_phone=_masked_phone(row.payment_id, row.phone_number, sealer),
        phone_warning=_WARNINGS.get(row.phone_warning or ""),
        receipt=row.receipt,
        paid_late=row.paid_late,
        created_at=row.created_at,
        updated_at=updated_at,
        expires_at=row.expires_at,
        completed_at=row.completed_at,
        metadata=row.metadata,
        version=row.version,
        refund=next((refund for refund in refunds if refund.refund_id == row.refund_id), None),
        refunds=refunds,
        refunded_amount=row.refunded_amount,
        pay_bill=by_hand,
    )


def _unanswered(code: str | None) -> bool:
    """Whether Safaricom has said that the phone gave no answer."""
    return code is not None and meaning_of(code).verdict is Verdict.UNCERTAIN


def _refund(told: Mapping[str, Any]) -> RefundView:
    """One refund; one with a word that is not known here is shown as pending."""
    status = _REFUND_STATUSES.get(told["status"], RefundStatus.PENDING)
    ended = status is not RefundStatus.PENDING and told["ended_at"] is not None
    return RefundView(
        refund_id=UUID(told["refund_id"]),
        receipt=told["receipt"],
        status=status,
        amount=int(told["amount"]),
        reason=_REFUND_REASONS.get(told["reason"], RefundReason.OTHER),
        requested_at=datetime.fromisoformat(told["requested_at"]),
        ended_at=datetime.fromisoformat(told["ended_at"]) if ended else None,
    )


def _status(state: str) -> Status:
    return _STATUS_OF_NAME.get(state, Status.PROCESSING)


def _masked_phone(payment_id: UUID, sealed: bytes, sealer: Sealer) -> str:
    try:
        return masked(sealer.open(PHONE_NUMBER, payment_id.bytes, sealed).decode())
    except SealBroken:
        raise_alarm(PROGRAM_FAULT, what="phone number does not open", payment_id=str(payment_id), exc_info=True)
        return UNREADABLE_PHONE
