"""Money of a case that belongs to another payment: where it may go, and what that payment is told."""

from collections.abc import Sequence
from enum import StrEnum

from payment_service.domain.case_facts import CaseAccepted, CaseDismissed
from payment_service.domain.payment import LIVE_STATES, PAID_STATES, Payment
from payment_service.domain.standings import Standing, standing


class MoveBar(StrEnum):
    """Why money of a case cannot be moved to a payment."""

    UNKNOWN_PAYMENT = "There is no such payment."
    ANOTHER_CALLER = "The payment is another caller's: money is moved between the payments of one caller only."
    SAME_PAYMENT = "It is the payment that the case is about."
    NO_RECEIPT = "The case names no receipt, or not how much it brought: look it up in the M-Pesa portal, and dismiss."
    TOO_LITTLE = "The money is less than that payment asks for: it has to go back to its payer."
    PAID = "That payment has been paid, or its money has gone back: this money has to go back to its payer."
    PAID_BESIDE = "Another payment of that booking has been paid, or its money has gone back: this has to go back, too."
    LIVE_BESIDE = "Another payment of that booking may still be paid: wait until it has ended, or cancel it."
    OWN = "The payment stands on this money: return it, and let the passenger pay for the right booking."
    PROMISED = "Some of the money goes back, or has gone back, to its payer."


def bar_to_move(
    source: Payment, target: Payment | None, beside: Sequence[Payment], fact: CaseDismissed, *, promised: int
) -> MoveBar | None:
    """Why the money of a case cannot go to `target`. The table decides as well.

    `beside` are the other payments of the target's booking; `promised` is what of the money goes back.
    """
    if target is None:
        return MoveBar.UNKNOWN_PAYMENT
    if target.caller != source.caller:
        return MoveBar.ANOTHER_CALLER
    if target.payment_id == source.payment_id:
        return MoveBar.SAME_PAYMENT
    if fact.receipt is None or fact.amount is None:
        return MoveBar.NO_RECEIPT
    if fact.receipt == source.receipt:
        return MoveBar.OWN
    if target.state in PAID_STATES or standing(target) is Standing.UNDER_REVIEW:
        return MoveBar.PAID
    # A payment whose money never came bars no other. It takes no money itself: its booking was told that it is over.
    if any(other.was_paid or standing(other) is Standing.UNDER_REVIEW for other in beside):
        return MoveBar.PAID_BESIDE
    if any(other.state in LIVE_STATES for other in beside):
        return MoveBar.LIVE_BESIDE
    if fact.amount < target.amount:
        return MoveBar.TOO_LITTLE
    return MoveBar.PROMISED if promised else None


def arrival(source: Payment, fact: CaseDismissed) -> CaseAccepted:
    """What the payment is told that the money goes to."""
    return CaseAccepted(
        case_id=fact.case_id,
        opened_by=fact.opened_by,
        operator=fact.operator,
        why=fact.why,
        receipt=fact.receipt,
        amount=fact.amount,
        moved_from=source.payment_id,
    )
