"""What follows from a payment's new row: for the booking, for its siblings, and for the next timer.

Everything here is decided from stored rows and the time of the change, never
from the time of reading, so that all readers see the same answer.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from payment_service.domain.automatic_refunds import came_late, went_back_late
from payment_service.domain.finding import Surroundings
from payment_service.domain.payment import (
    ENDED_UNPAID,
    LIVE_STATES,
    UNBACKED,
    BookingAction,
    LatePaymentPolicy,
    Payment,
    State,
    Times,
    UnpaidProof,
)
from payment_service.domain.query_schedule import back_at, query_at
from payment_service.domain.reasons import Reason
from payment_service.domain.retry_times import retry_makes_sense_at
from payment_service.domain.timers import due_at


class Bar(StrEnum):
    """Why no other attempt may be started for a booking."""

    LIVE_OR_PAID = "LIVE_OR_PAID"
    UNDER_REVIEW = "UNDER_REVIEW"
    TOO_EARLY = "TOO_EARLY"


def decided(before: Payment, after: Payment, around: Surroundings, now: datetime, times: Times) -> Payment:
    """`after` with its consequences, and a new version if anything but the provider's ids has changed."""
    if before.outcome_certain and after.state is before.state and after.state in ENDED_UNPAID:
        # What was certain before proofs were recorded may lose its certainty for a while, never for ever.
        after = after.but(unpaid_proof=after.unpaid_proof or UnpaidProof.EARLIER)
    after = after.but(outcome_certain=_outcome_certain(before, after, around))
    after = after.but(
        blocks_booking=_blocks_booking(before, after, around),
        retry_allowed_at=_retry_allowed_at(before, after, now, times),
        due_at=due_at(before, after, times),
        query_at=query_at(before, after, now, times),
        back_at=back_at(before, after, now, times),
    )
    action = booking_action(after, around)
    after = after.but(
        booking_action=action,
        said_confirm=after.said_confirm or action is BookingAction.CONFIRM,
        review_reason=_review_reason(after),
    )
    if _material(after) == _material(before):
        return after
    return after.but(version=before.version + 1, updated_at=now)


def certain_by_now(payment: Payment, around: Surroundings) -> bool:
    """Whether an outcome is certain that was not, because what barred it is gone."""
    return not payment.outcome_certain and _outcome_certain(payment, payment, around)


def first_row(payment: Payment, times: Times) -> Payment:
    """A payment as it is created, with its first timer."""
    return payment.but(due_at=due_at(payment, payment, times))


def duplicate(around: Surroundings) -> bool:
    """Whether money that arrives now is one payment too many for its booking."""
    return any(
        (s.was_paid and s.state is not State.REFUNDED) or s.said_confirm or went_back_late(s) for s in around.siblings
    )


def money_named(payment: Payment) -> bool:
    """Whether a receipt names the money, or what is as good as one."""
    return payment.receipt is not None or payment.paid_twice


def money_sure(payment: Payment) -> bool:
    """Whether the money is enough to confirm a booking by: it is named, and backed where that has to come first."""
    waits = payment.back_first and payment.backing in UNBACKED
    return money_named(payment) and not waits and not payment.refuted


def late(payment: Payment) -> bool:
    """Whether the money came after the booking's hold, and its caller does not want it however late it is."""
    return came_late(payment) and payment.late_payment_policy is not LatePaymentPolicy.CONFIRM


def bar_to_new_attempt(siblings: Sequence[Payment], now: datetime) -> tuple[Bar, Payment] | None:
    """Why no other attempt may be started for a booking, and which attempt stands in the way."""
    for payment in siblings:
        # The block is left where a process of an older release has noted that the money never came.
        if payment.state in LIVE_STATES or payment.was_paid or payment.blocks_booking:
            return Bar.LIVE_OR_PAID, payment
    for payment in siblings:
        if payment.money_case_open:
            return Bar.UNDER_REVIEW, payment
    for payment in siblings:
        if payment.retry_allowed_at is not None and now < payment.retry_allowed_at:
            return Bar.TOO_EARLY, payment
    return None


def booking_action(payment: Payment, around: Surroundings) -> BookingAction:
    """What the booking may do, from the row itself and what its siblings have said."""
    match payment.state:
        case State.REFUNDING | State.REFUNDED:
            return _without_the_money(payment, around)
        # The seat was given up when the refund was asked for: a refund that failed is made again, or made good by hand.
        case State.COMPLETED if payment.seat_freed:
            return _without_the_money(payment, around)
        case State.COMPLETED if payment.said_confirm:
            return BookingAction.CONFIRM
        case _ if payment.money_case_open:
            return BookingAction.REVIEW
        # A person has settled its own case; that the booking was told to confirm another payment stays true for ever.
        case State.COMPLETED if any(sibling.said_confirm for sibling in around.siblings):
            return BookingAction.FOLLOW_SIBLING
        case State.COMPLETED:
            return BookingAction.CONFIRM if money_sure(payment) else BookingAction.WAIT
        case state if state in LIVE_STATES:
            return BookingAction.WAIT
        case _ if payment.reason is Reason.SIBLING_PAID:
            return BookingAction.FOLLOW_SIBLING
        case _:
            return BookingAction.OFFER_RETRY


def booking_action_now_and_told(payment: Payment, siblings: Sequence[Payment]) -> tuple[BookingAction, BookingAction]:
    """What follows from the rows now, and what followed when the payment last changed.

    A payment is told nothing new when another attempt confirms the booking after that, be it in the same transaction,
    as where its money is moved to that one.
    """
    before = tuple(one for one in siblings if not one.said_confirm or one.updated_at < payment.updated_at)
    return booking_action(payment, Surroundings(tuple(siblings))), booking_action(payment, Surroundings(before))


def _without_the_money(payment: Payment, around: Surroundings) -> BookingAction:
    """Money that goes back frees the seat, unless the seat is that of another attempt."""
    beside_confirmed = not payment.said_confirm and any(sibling.said_confirm for sibling in around.siblings)
    return BookingAction.FOLLOW_SIBLING if beside_confirmed else BookingAction.RELEASE


def _review_reason(after: Payment) -> Reason | None:
    """That of the open case about its money, which `transitions` has put there."""
    return (after.review_reason or Reason.REVIEW) if after.money_case_open else None


def _outcome_certain(before: Payment, after: Payment, around: Surroundings) -> bool:
    """Whether nothing can change the outcome any more. Without money, only proof makes it so, while no money is in
    doubt and no callback is left to be applied; with money, only what names the receipt, or is as good.

    A callback that cannot be read takes even a certainty that was told.
    """
    match after.state:
        case State.COMPLETED if after.refuted:
            return not after.unread_callback
        case State.COMPLETED:
            return money_sure(after)
        case State.REFUNDING | State.REFUNDED:
            return True
        case state if state in LIVE_STATES:
            return False
        case _:
            was_certain = after.state is before.state and before.outcome_certain
            proven = after.unpaid_proof is not None and not after.money_case_open and not around.callback_waiting
            return not after.unread_callback and (proven or was_certain)


def _blocks_booking(before: Payment, after: Payment, around: Surroundings) -> bool:
    """A block is never won back by a payment that lost it to a paid sibling: that sibling stays paid. Nor by one whose
    money was found never to have come: another attempt may have the block."""
    if after.state in LIVE_STATES:
        return after.blocks_booking
    if after.state not in (State.COMPLETED, State.REFUNDING) or after.refuted:
        return False
    ended_unpaid = before.state not in LIVE_STATES and not before.refuted
    return after.blocks_booking or (ended_unpaid and not any(s.was_paid for s in around.siblings))


def _retry_allowed_at(before: Payment, after: Payment, now: datetime, times: Times) -> datetime | None:
    """After a proven failure, once another attempt makes sense; after a prompt that may still be open, once it is gone.

    A failure that only a query told is not proven. Never, where the booking is paid.
    """
    if after.state is before.state:
        return after.retry_allowed_at
    match after.state:
        case _ if after.reason is Reason.SIBLING_PAID:
            return None
        case State.FAILED if after.unpaid_proof is not None:
            return retry_makes_sense_at(after.reason, now)
        case State.FAILED | State.CANCELLED | State.EXPIRED:
            sensible = retry_makes_sense_at(after.reason, now)
            return sensible if after.sent_at is None else max(sensible, after.sent_at + times.retry_wait)
        case _:
            return None


def _material(payment: Payment) -> tuple[object, ...]:
    """What a reader of the log must hear of. The provider's ids alone are not news."""
    return (
        payment.state,
        payment.shown_reason,
        payment.result_code,
        payment.booking_action,
        payment.outcome_certain,
        payment.retry_allowed_at,
        payment.receipt,
        payment.paid_late,
        payment.completed_at,
        payment.expires_at,
        payment.blocks_booking,
        payment.said_confirm,
        payment.money_case_open,
        payment.refund_id,
        payment.refund_status,
        payment.refunded_amount,
    )
