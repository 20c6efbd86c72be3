"""Money that goes back by itself: what came too late, by its caller's words, and what is one too many for its booking.

It is decided when the receipt is recorded, and never again: whatever is not sent back then is in the hands of whoever
settles its case. The money must be in no other doubt, and no other attempt of the booking may still be decided, since
RELEASE frees a seat for good.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from payment_service.domain.cases import OWN_MONEY, OpenCase
from payment_service.domain.payment import ENDED_UNPAID, BookingAction, LatePaymentPolicy, Payment, State
from payment_service.domain.reasons import Reason

_UNDECIDED = frozenset({BookingAction.WAIT, BookingAction.REVIEW})


@dataclass(frozen=True, slots=True)
class AutomaticRefunds:
    """What this service may send back without a person."""

    amount_max: int = 0
    """Whole shillings; above it a person decides, and so about everything where it is 0."""
    duplicates: bool = False
    """Also the second payment of a booking that another attempt has confirmed."""
    shortcodes: Collection[str] = ()
    """Those that money can go back from."""


def held_until(payment: Payment) -> datetime:
    """Until when money for a payment is in time."""
    return payment.hold_expire_at or payment.expires_at


def came_late(payment: Payment) -> bool:
    """Whether the news of the money reached us after the booking's hold."""
    return payment.completed_at is not None and payment.completed_at > held_until(payment)


def goes_back(
    before: Payment,
    after: Payment,
    siblings: Sequence[Payment],
    open_cases: Sequence[OpenCase],
    allowed: AutomaticRefunds,
) -> Reason | None:
    """Why money whose receipt has just been recorded goes back without a person; None where it does not."""
    if before.receipt is not None or after.receipt is None or after.amount > allowed.amount_max:
        return None
    doubts = [case.kind for case in open_cases if case.is_money]
    if not doubts or any(kind not in OWN_MONEY for kind in doubts):
        return None
    if after.late_payment_policy is LatePaymentPolicy.REFUND and came_late(after):
        return None if any(_may_be_paid_in_time(one, after) for one in siblings) else Reason.PAID_LATE
    confirmed = any(one.state is State.COMPLETED and one.booking_action is BookingAction.CONFIRM for one in siblings)
    return Reason.PAID_TWICE if allowed.duplicates and confirmed else None


def _may_be_paid_in_time(sibling: Payment, late: Payment) -> bool:
    """Whether another attempt may yet confirm the booking that the late money's RELEASE would free."""
    uncertain = sibling.state in ENDED_UNPAID and not sibling.outcome_certain
    in_time = late.completed_at is None or late.completed_at <= held_until(sibling)
    return sibling.booking_action in _UNDECIDED or (uncertain and in_time)
