"""What a person has to decide: the kinds of cases, and when one ends by itself.

Which fact opens a case stands in the table of `transitions`, and so does what settling one does to its payment. How
each kind may be settled, and until when, stands in `case_rules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from payment_service.domain.facts import (
    REFUND_DUE,
    Fact,
    ReceiptProven,
    RefundInDoubt,
    RefundRequested,
    ResultReported,
    TakenBack,
    refund_end,
    unread_fact_id,
)
from payment_service.domain.payment import LIVE_STATES, UNBACKED, Payment, State
from payment_service.domain.refund_ends import RefundDone


class CaseKind(StrEnum):
    """Why a person has to look."""

    CONTRADICTION = "CONTRADICTION"
    """Two pieces of evidence cannot both be true."""
    PAID_AFTER_FAILURE = "PAID_AFTER_FAILURE"
    FOREIGN_IDS = "FOREIGN_IDS"
    UNCLAIMED_MONEY = "UNCLAIMED_MONEY"
    """The provider's books hold money that may be this payment's, and nothing proves whose it is."""
    OTHER_PROMPT = "OTHER_PROMPT"
    """Safaricom accepted a push we did not record: the phone may have two prompts."""
    WRONG_AMOUNT = "WRONG_AMOUNT"
    SECOND_RECEIPT = "SECOND_RECEIPT"
    DUPLICATE_PAYMENT = "DUPLICATE_PAYMENT"
    """Two attempts of one booking were paid."""
    LATE_PAYMENT = "LATE_PAYMENT"
    RECEIPT_OVERDUE = "RECEIPT_OVERDUE"
    UNBACKED_MONEY = "UNBACKED_MONEY"
    """Only a callback told of the payment's money: another source denies it, or none has told of it in time."""
    PAID_AFTER_END = "PAID_AFTER_END"
    """A query says paid where the payment ended otherwise."""
    UNKNOWN_PAYMENT = "UNKNOWN_PAYMENT"
    """A callback with a valid token names a payment that does not exist."""
    CALLBACK_GIVEN_UP = "CALLBACK_GIVEN_UP"
    """A callback could not be applied, however often it was tried."""
    UNREAD_CALLBACK = "UNREAD_CALLBACK"
    """A callback with a valid token cannot be read, and may tell of money."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """The watch has ended, and nothing proves that the payment was not paid."""
    REFUND = "REFUND"
    TAKEN_BACK = "TAKEN_BACK"
    """The books show that the payer has the money back, and no refund of ours sent it."""


UNAPPLIED = frozenset({CaseKind.UNKNOWN_PAYMENT, CaseKind.CALLBACK_GIVEN_UP})
"""Cases about a callback that has not been applied. They do not make its fact a known one, and end when it is."""

OWN_MONEY = frozenset({CaseKind.LATE_PAYMENT, CaseKind.DUPLICATE_PAYMENT})
"""Cases about the money that their payment is complete by. Until one of them ends, nobody keeps it in silence."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something a person has to look at. `is_money` bars new attempts for the booking."""

    kind: CaseKind
    is_money: bool


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A case of a payment that is still open."""

    kind: str
    """A `CaseKind`, or the word of a newer release, whose cases count all the same."""
    is_money: bool
    fact_id: str
    """Of the fact that opened it."""
    receipt: str | None = None
    refund_id: UUID | None = None
    """The refund by which an operator has its money sent back, while that is under way."""
    returns: Sequence[UUID] = ()
    """All refunds by which operators have had its money sent back. One that had failed may be done after all."""


def ends_by_itself(case: OpenCase, after: Payment, fact: Fact, proven_receipt: str | None) -> bool:
    """Whether a fact ends a case without a person: what was in doubt is proven.

    `after` is the payment as the fact leaves it, `proven_receipt` the receipt that the fact has proven to be its own.
    """
    end = refund_end(fact)
    if sent_back_by(case, fact):
        return True
    match case.kind:
        case CaseKind.UNCLAIMED_MONEY | CaseKind.FOREIGN_IDS:
            known = fact.receipt if isinstance(fact, ReceiptProven) else proven_receipt
            return known is not None and known == case.receipt
        case CaseKind.RECEIPT_OVERDUE:
            return after.receipt is not None
        case CaseKind.UNBACKED_MONEY:
            # Money that M-Pesa has sent back was there.
            return after.backing not in UNBACKED or after.state is State.REFUNDED
        case CaseKind.OUTCOME_UNKNOWN:
            return after.receipt is not None or after.paid_twice or after.unpaid_proof is not None
        case kind if kind in OWN_MONEY:
            sent_back = isinstance(fact, RefundRequested) and fact.by_itself is not None
            went_back = isinstance(end, RefundDone) or isinstance(fact, TakenBack)
            return sent_back or (went_back and after.state is State.REFUNDED) or after.refuted
        case CaseKind.REFUND if end is not None:
            # Nobody knew for a day, and now it is known.
            return case.fact_id == RefundInDoubt(end.refund_id, REFUND_DUE, is_money=False).fact_id
        case CaseKind.UNREAD_CALLBACK:
            return isinstance(fact, ResultReported) and case.fact_id == unread_fact_id(fact.fact_id)
        case _:
            return False


def sent_back_by(case: OpenCase, fact: Fact) -> bool:
    """Whether a fact proves that the money of a case has gone back as an operator has decided."""
    end = refund_end(fact)
    return isinstance(end, RefundDone) and end.refund_id in case.returns


def may_have_ending_case(payment: Payment) -> bool:
    """Whether a case that a fact can end may be open for a payment."""
    doubted = payment.money_case_open or payment.unread_callback or payment.awaits_refund
    # Also money whose receipt is still to come: it may have come after the watch had ended with a case.
    return doubted or (payment.state not in LIVE_STATES and not payment.outcome_certain)
