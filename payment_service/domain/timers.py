"""When a payment's timer is due, and what it says when it is: the two halves of one rule, side by side.

The timer only reminds: the fact it makes is checked again under the payment's lock, against the row as it is then.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payment_service.domain.facts import BackingOverdue, DeadlinePassed, Fact, LeaseDead, ReceiptOverdue, WatchEnded
from payment_service.domain.payment import Backing, Payment, State, Times, backing_end, deadline, watch_end
from payment_service.domain.pull import CLOCKS_APART_MAX, PROMPT_LIVES_MAX
from payment_service.domain.standings import Standing, standing


@dataclass(frozen=True, slots=True)
class Due:
    """A payment whose timer has run out, and what is needed to say of which kind it is."""

    payment_id: UUID
    state: State
    claim_id: UUID | None
    created_at: datetime
    sent_at: datetime | None
    shortcode: str
    receipt_known: bool = False
    books_cover: bool = False
    """The provider's books have been read over the payment's whole window."""


def due_at(before: Payment, payment: Payment, times: Times) -> datetime | None:
    """When something is to be done for the payment unless something else happens first; None for never.

    The watch of a payment that ended without money is set when it ends, and never again: it may have ended with a case.
    """
    match standing(payment):
        case Standing.CREATED:
            orphaned = (payment.send_at or payment.created_at) + times.orphaned_after
            return min(orphaned, deadline(payment, times))
        case Standing.SENDING:
            return payment.lease_expires_at
        case Standing.PROMPTED | Standing.UNCERTAIN_NO_RESULT | Standing.UNCERTAIN_RESULT_SEEN:
            return deadline(payment, times)
        case Standing.RECEIPT_PENDING if payment.completed_at is not None and not payment.money_case_open:
            return payment.completed_at + times.receipt_within
        case Standing.COMPLETED_BY_CALLBACK if payment.backing is Backing.AWAITED:
            return payment.due_at if standing(before) is Standing.COMPLETED_BY_CALLBACK else backing_end(payment, times)
        case Standing.EXPIRED | Standing.FAILED_BY_QUERY | Standing.CANCELLED_BY_QUERY if not payment.outcome_certain:
            return payment.due_at if payment.state is before.state else watch_end(payment, times)
        case _:
            return None


def books_window(due: Due) -> tuple[datetime, datetime] | None:
    """From when to when the provider's books have to be read, to say that an ended payment was not paid.

    None where no more is to be known: only the end of a watch asks.
    """
    if due.state not in (State.EXPIRED, State.FAILED, State.CANCELLED):
        return None
    prompted_at = due.sent_at or due.created_at
    return prompted_at - CLOCKS_APART_MAX, prompted_at + PROMPT_LIVES_MAX + CLOCKS_APART_MAX


def is_orphan(due: Due, now: datetime, times: Times) -> bool:
    """Whether a payment should have been sent by now, and still may be: any process sends it."""
    return due.state is State.CREATED and now < due.created_at + times.send_within


def fact_when_due(due: Due, now: datetime, times: Times) -> Fact | None:
    """What the timer says; None where it says nothing but that the payment is to be sent."""
    match due.state:
        case State.CREATED:
            return None if is_orphan(due, now, times) else DeadlinePassed()
        case State.SENDING if due.claim_id is not None:
            return LeaseDead(due.claim_id)
        case State.PROMPTED | State.UNCERTAIN:
            return DeadlinePassed()
        case State.COMPLETED:
            return BackingOverdue() if due.receipt_known else ReceiptOverdue()
        case State.EXPIRED | State.FAILED | State.CANCELLED:
            return WatchEnded(due.books_cover)
        case _:
            return None
