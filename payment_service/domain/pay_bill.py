"""When a passenger may pay by hand, in the M-Pesa menu, for an attempt that ended without money. Pure.

Money that is paid so has no callback: it is found in the provider's books, by the account number that names the
attempt. So it is offered only where the books are read, and so early that it is found before the hold ends. And only
once nothing more can come of the prompt: whoever is offered two ways at once pays twice.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from payment_service.domain.payment import BookingAction, Status
from payment_service.domain.reasons import Reason

LISTED_AFTER: Final = timedelta(minutes=1)
"""From the movement of money until the books have it. No figure is published; on a good day it is seconds."""

_NOT_BY_HAND: Final[Collection[Reason]] = frozenset(
    {
        Reason.SERVICE_MISCONFIGURED,
        Reason.RECEIVER_LIMIT_REACHED,
        Reason.AMOUNT_NOT_ALLOWED,
        # The passenger has left, or the booking has been changed.
        Reason.WITHDRAWN,
    }
)
"""Reasons that money which is sent by hand would meet as well."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """What a payment has to be paid by hand with, offered or not."""

    business_number: str
    account_number: str
    until: datetime | None
    """Until when money is found before the hold ends; None where it would not be found, where the hold has no end, or
    where another attempt of the booking stands in the way."""


@dataclass(frozen=True, slots=True)
class PayBill:
    """What the passenger types, and when."""

    business_number: str
    account_number: str
    since: datetime | None
    """Not before; None: at once."""
    until: datetime


def found_until(hold_expire_at: datetime | None, found_within: timedelta | None) -> datetime | None:
    """`ByHand.until` of a new payment; `found_within` is None where its shortcode's books show no payment by hand."""
    if hold_expire_at is None or found_within is None:
        return None
    return hold_expire_at - found_within


def pay_bill(
    by_hand: ByHand,
    *,
    status: Status,
    reason: Reason | None,
    unanswered: bool,
    booking_action: BookingAction,
    outcome_certain: bool,
    retry_allowed_at: datetime | None,
    updated_at: datetime,
) -> PayBill | None:
    """What to offer for a payment as it stands; None for nothing.

    An end that is proven leaves no prompt behind. After one that is not, only Safaricom's word that the phone gave no
    answer is enough (`unanswered`), once another attempt may begin: silence may be a callback that was lost, and a code
    that nobody knows may mean money.
    """
    if booking_action is not BookingAction.OFFER_RETRY or reason in _NOT_BY_HAND or by_hand.until is None:
        return None
    since = None
    if not outcome_certain:
        if status is not Status.EXPIRED or not unanswered or retry_allowed_at is None:
            return None
        since = retry_allowed_at
    if by_hand.until <= (since or updated_at):
        return None
    return PayBill(by_hand.business_number, by_hand.account_number, since, by_hand.until)
