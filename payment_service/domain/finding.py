"""Findings: the nouns. Which of them a fact is for a payment is found in `findings`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from payment_service.domain.cases import OpenCase
from payment_service.domain.payment import Payment


class Finding(StrEnum):
    """The rows of the table: what the facts can say."""

    CLAIM = "a process may send the prompt"
    CLAIM_BARRED = "a process may not send the prompt any more"
    PROMPT_ACCEPTED = "Safaricom accepted the push"
    PROMPT_OTHERWISE = "Safaricom accepted another push than the recorded one"
    PROMPT_REFUSED = "Safaricom refused the push"
    NOT_SENT = "the push reached nobody"
    NOT_SENT_TOO_OFTEN = "the push reached nobody, once too often"
    ANSWER_LOST = "the answer was lost, or the sender died"
    PAID_KNOWN_RECEIPT = "paid, with a receipt already on this payment"
    PAID_LISTED = "paid, with the receipt of this payment, as M-Pesa's own records say"
    PAID_NEW_RECEIPT = "paid, with a new receipt"
    PAID_NO_RECEIPT = "paid, without a receipt"
    QUERY_PAID = "a query says paid"
    FINAL_FAILURE = "a listed final failure"
    FAILURE_QUERIED = "a listed final failure, as only a query says"
    UNCERTAIN_CODE = "a listed uncertain code"
    UNCERTAIN_AGREED = "a listed uncertain code, confirmed by a late query"
    UNKNOWN_CODE = "an unknown code"
    WRONG_AMOUNT = "paid, with a wrong amount"
    FOREIGN_PAID = "paid, but with an id or receipt that is not this payment's"
    PAID_IN_DOUBT = "money in the books that may be this payment's"
    FOREIGN_OTHER = "another result with an id that is not this payment's"
    UNREAD_BODY = "a callback that cannot be read"
    NO_NEWS = "still processing, or too early to say"
    DEADLINE = "no send or no result in time"
    WATCH_COVERED = "watched to the end, and evidence covers it"
    WATCH_UNCOVERED = "watched to the end, and nothing proves what became of it"
    RECEIPT_OVERDUE = "the receipt has not come in time"
    BACKING_OVERDUE = "no source but a callback has told of the money in time"
    RECEIPT_PROVEN = "a receipt in doubt is recorded with proof"
    CANCEL = "the caller withdraws"
    SIBLING_PAID = "another attempt of the booking was paid"
    REFUND_REQUESTED = "a refund is asked for"
    REFUND_BY_CASE = "an operator returns the money of a case"
    REFUND_PART_ASKED = "a refund of a part is asked for"
    BESIDE_ASKED = "an operator returns money that came beside the payment's own"
    REFUND_DONE = "the refund is proven"
    REFUND_PART_DONE = "the refund of a part is proven, and some money is left"
    REFUND_REST_DONE = "the refund of a part is proven, and no money is left"
    BESIDE_DONE = "the refund of money beside the payment's own is proven"
    REFUND_FAILED = "the refund is proven to have failed"
    REFUND_PART_FAILED = "the refund of a part is proven to have failed"
    RETURN_FAILED = "the refund that was begun for an open case has failed"
    RETURN_PART_FAILED = "the refund of a part that was begun for an open case has failed"
    BESIDE_FAILED = "the refund of money beside the payment's own is proven to have failed"
    BESIDE_NOT_RETURNED = "the refund of money beside the payment's own, begun for an open case, has failed"
    REFUND_UNCLEAR = "nobody knows what became of the refund, or its results disagree"
    REFUND_OVERPAID = "money may have gone back twice, or by another way"
    TAKEN_BACK = "the books show the money as returned, and we did not ask for it"
    RECEIPT_DUE = "the passenger's receipt is issued or amended"
    TAKEN_BACK_IN_DOUBT = "the books show some money as returned, and it may be other money than the payment's"
    CASE_ACCEPTED = "an operator accepts money in doubt"
    OWN_ACCEPTED = "an operator accepts the payment's own money"
    ACCEPTED_ANOTHERS = "an operator accepts or returns money that is recorded on another payment"
    ACCEPTED_BESIDE = "an operator accepts money beside the payment that confirmed the booking"
    ACCEPTED_FREED = "an operator accepts money that was to go back, and the seat is released"
    ACCEPTED_UNNAMED = "an operator accepts money, and no receipt names it"
    BACKED_BY_PERSON = "an operator finds money that only a callback told of"
    CASE_DISMISSED = "an operator dismisses a case"
    DISMISSED_UNPAID = "an operator finds that nothing was paid"
    DISMISSED_UNBACKED = "an operator finds that money which only a callback told of never came"
    DISMISSED_OWN = "an operator dismisses money that the payment stands on, or a refund under way"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else must be known, read under the same locks as the payment."""

    siblings: Sequence[Payment] = ()
    """The other attempts for the same booking."""
    receipt_holder: UUID | None = None
    """The payment the fact's receipt number is recorded on."""
    checkout_holder: UUID | None = None
    """The payment the fact's CheckoutRequestID is recorded on."""
    open_cases: Sequence[OpenCase] = ()
    """The payment's own."""
    callback_waiting: bool = False
    """A callback with a true token is kept for the payment and not applied: it may tell of money."""
    receipt_brought: int | None = None
    """Whole shillings that were recorded with the fact's receipt number; None where nobody could read them."""
