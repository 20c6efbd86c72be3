"""Money that goes back by itself: what came too late, by its caller's words, and what is one too many for its booking.

It is decided when the receipt is recorded, and never again: whatever is not sent back then is in the hands of whoever
settles its case. The money must be in no other doubt, and no other attempt of the booking may still be decided, since
RELEASE frees a seat for good. Whatever is not plain is left to a person, since M-Pesa takes no refund back.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from payment_service.domain.cases import OWN_MONEY, OpenCase
from payment_service.domain.payment import ENDED_UNPAID, BookingAction, LatePaymentPolicy, Payment, State
from payment_service.domain.reasons import Reason

REFUNDS_PER_HOUR: Final = 100
KES_PER_HOUR: Final = 100_000
"""Late and double money of a busy day stays far below; an attack or a fault of ours that sends back what should be kept
does not."""
HOUR: Final = timedelta(hours=1)

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
    refunds_per_hour: int = REFUNDS_PER_HOUR
    """How many, of all processes together, and how many whole shillings; a person decides about the rest."""
    kes_per_hour: int = KES_PER_HOUR


@dataclass(frozen=True, slots=True)
class SentBack:
    """What has gone back without a person within the last hour."""

    refunds: int = 0
    amount: int = 0
    """Whole shillings."""

    def and_one_of(self, amount: int) -> "SentBack":
        """With one more refund."""
        return SentBack(self.refunds + 1, self.amount + amount)

    def is_within(self, allowed: AutomaticRefunds) -> bool:
        """Whether so much may go back in an hour."""
        return self.refunds <= allowed.refunds_per_hour and self.amount <= allowed.kes_per_hour


def held_until(payment: Payment) -> datetime:
    """Until when money for a payment is in time."""
    return payment.hold_expire_at or payment.expires_at


def came_late(payment: Payment) -> bool:
    """Whether the news of the money reached us after the booking's hold."""
    return payment.completed_at is not None and payment.completed_at > held_until(payment)


def may_go_back(payment: Payment, attempts: int, now: datetime, allowed: AutomaticRefunds) -> bool:
    """Whether news of money for one of so many attempts of a booking could send it back; `goes_back` decides it.

    A success of another attempt may come together with the news, so whether one has confirmed is not asked yet.
    """
    late = payment.late_payment_policy is LatePaymentPolicy.REFUND and now > held_until(payment)
    return allowed.amount_max > 0 and (late or (allowed.duplicates and attempts > 1))


def goes_back(
    before: Payment,
    after: Payment,
    siblings: Sequence[Payment],
    open_cases: Sequence[OpenCase],
    left: int | None,
    allowed: AutomaticRefunds,
) -> Reason | None:
    """Why money whose receipt has just been recorded goes back without a person; None where it does not.

    `left` is what would be sent back: what has come with the receipt, and is not sent back yet.
    """
    if before.receipt is not None or after.receipt is None or after.said_confirm:
        return None
    if left is None or left > allowed.amount_max:
        return None
    doubts = [case.kind for case in open_cases if case.is_money]
    if not doubts or any(kind not in OWN_MONEY for kind in doubts):
        return None
    if after.late_payment_policy is LatePaymentPolicy.REFUND and came_late(after):
        undecided = _moved_in_time(after) or any(_may_need_the_seat(one) for one in siblings)
        return None if undecided else Reason.PAID_LATE
    confirmed = any(_surely_confirmed(one) for one in siblings)
    return Reason.PAID_TWICE if allowed.duplicates and confirmed else None


def went_back_late(payment: Payment) -> bool:
    """Whether late money went back by itself: its RELEASE has freed the seat, so no other money confirms it unasked."""
    return payment.refund_id is not None and payment.reason is Reason.PAID_LATE


def _moved_in_time(late: Payment) -> bool:
    """Whether M-Pesa says that the passenger paid within the hold: then the news was late, not the passenger."""
    return late.transaction_at is not None and late.transaction_at <= held_until(late)


def _may_need_the_seat(sibling: Payment) -> bool:
    """Whether another attempt may yet confirm the booking that the late money's RELEASE would free, or was given up
    for that money. The news of an attempt that is not certain may be on its way, in time, from the gateway.
    """
    uncertain = sibling.state in ENDED_UNPAID and not sibling.outcome_certain
    given_up = sibling.state in ENDED_UNPAID and sibling.reason is Reason.SIBLING_PAID
    return sibling.booking_action in _UNDECIDED or sibling.money_case_open or uncertain or given_up


def _surely_confirmed(sibling: Payment) -> bool:
    """Whether the booking keeps the money of another attempt, which nobody doubts."""
    confirmed = sibling.state is State.COMPLETED and sibling.booking_action is BookingAction.CONFIRM
    return confirmed and sibling.receipt is not None and not sibling.money_case_open
