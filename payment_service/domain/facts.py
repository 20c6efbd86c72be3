"""What we can learn about a payment. A fact is evidence, never an instruction.

Every fact has an id of its own: the same news told twice carries the same id,
so applying it again changes nothing. What a fact leads to is decided in
`transitions`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from payment_service.domain.case_facts import CaseAccepted, CaseDismissed, CaseRefundFound, CaseReturned
from payment_service.domain.consent import act_digest, marked
from payment_service.domain.reasons import Reason
from payment_service.domain.refund_ends import RefundDone, RefundEnd, RefundFailed
from payment_service.domain.tax_invoices import TaxInvoice


class Verdict(StrEnum):
    """What a result code says, on the closed list of `payment_service.daraja.result_codes`."""

    PAID = "PAID"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNCERTAIN = "UNCERTAIN"
    """Listed, but the money may have moved all the same."""
    UNKNOWN = "UNKNOWN"
    """Not listed: proves nothing."""
    STILL_PROCESSING = "STILL_PROCESSING"


class Source(StrEnum):
    """Where a result came from."""

    CALLBACK = "CALLBACK"
    QUERY = "QUERY"
    PULL = "PULL"
    """A row of the provider's books: money that arrived, with its receipt."""
    STATUS = "STATUS"
    """The result of asking for a transaction's status: it names the receipt, and which request it came of."""


@dataclass(frozen=True, slots=True)
class SendClaimed:
    """One process wants to send the prompt; granted only to a CREATED payment."""

    claim_id: UUID

    @property
    def fact_id(self) -> str:
        return f"claim:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class PromptAccepted:
    """Safaricom took the push. Accepted is not paid."""

    claim_id: UUID
    merchant_request_id: str
    checkout_request_id: str

    @property
    def fact_id(self) -> str:
        return f"answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class PromptRefused:
    """Safaricom refused the push in a way that proves no prompt was shown."""

    claim_id: UUID
    code: str
    reason: Reason

    @property
    def fact_id(self) -> str:
        return f"answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing of the push reached Safaricom's M-Pesa: it may be sent again."""

    claim_id: UUID
    code: str

    @property
    def fact_id(self) -> str:
        return f"answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The push may have been taken; its answer is lost or unreadable."""

    claim_id: UUID

    @property
    def fact_id(self) -> str:
        return f"answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class LeaseDead:
    """The process that claimed the send has not reported in time."""

    claim_id: UUID

    @property
    def fact_id(self) -> str:
        return f"lease:{self.claim_id}"


UNREADABLE = "UNREADABLE"
"""An amount that is present but is no whole number of shillings."""


@dataclass(frozen=True, slots=True)
class ResultReported:
    """A result: by callback with a valid token, as the answer to a query, or from the provider's books.

    `amount` is whole shillings, None when absent, or `UNREADABLE`. `asked_at` is when the query was asked: an answer
    says how things stood then, however late it is applied, and two readings of one answer are one look. Whether money
    is late follows from when its news reached us, not from when it is applied: `known_at`.
    """

    fact_id: str
    source: Source
    verdict: Verdict
    code: str
    reason: Reason | None = None
    merchant_request_id: str | None = None
    checkout_request_id: str | None = None
    amount: int | str | None = None
    receipt: str | None = None
    transaction_at: datetime | None = None
    asked_at: datetime | None = None
    """None for a callback."""
    received_at: datetime | None = None
    """When our edge received the callback; None for what we asked for."""
    in_doubt: bool = False
    """Money that may as well be another payment's: nothing that came with it names this one beyond doubt."""
    unnamed: bool = False
    """The provider's books list a receipt that is recorded, and name no payment, as they do of a till's money."""

    def known_at(self, now: datetime) -> datetime:
        """When the news reached us; never in the future, whatever the clock of the edge says."""
        return min(now, self.asked_at or self.received_at or now)

    def brought(self, asked: int | None) -> int | None:
        """What the receipt brought, as far as it is known: what was asked for, where no amount is said."""
        return self.amount if isinstance(self.amount, int) else asked if self.amount is None else None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A callback with a true token whose body cannot be read. It may tell of money, so a person looks."""

    fact_id: str
    """Not that of the result which a later release may read in the same body: see `unread_fact_id`."""
    why: str


@dataclass(frozen=True, slots=True)
class NothingTold:
    """A callback that was read, and says nothing of money."""

    fact_id: str
    why: str


def unread_fact_id(callback_fact_id: str) -> str:
    """The id of the fact that a callback could not be read, by the id of the fact that it would have told."""
    return f"unread:{callback_fact_id}"


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """No send, or no result, in time. Made by a timer, and checked again when it is applied."""

    @property
    def fact_id(self) -> str:
        return "deadline"


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """A payment that ended without money has been watched long enough. By itself this proves nothing."""

    books_cover: bool = False
    """The provider's books have been read over the payment's whole window; whatever they had was told as a fact."""

    @property
    def fact_id(self) -> str:
        return "watch-ended"


@dataclass(frozen=True, slots=True)
class ReceiptOverdue:
    """The money is said to have come, and no receipt number has followed."""

    @property
    def fact_id(self) -> str:
        return "receipt-overdue"


@dataclass(frozen=True, slots=True)
class BackingOverdue:
    """A callback told of money, and no other source has told of it in time."""

    @property
    def fact_id(self) -> str:
        return "backing-overdue"


@dataclass(frozen=True, slots=True)
class ReceiptProven:
    """A receipt that this payment has a doubt about is recorded with proof, on this payment or on another."""

    receipt: str

    @property
    def fact_id(self) -> str:
        return f"proven:{self.receipt}"


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The caller withdraws the payment."""

    fact_id: str


@dataclass(frozen=True, slots=True)
class SiblingPaid:
    """Another attempt of the same booking was paid."""

    sibling_id: UUID

    @property
    def fact_id(self) -> str:
        return f"sibling:{self.sibling_id}"


@dataclass(frozen=True, slots=True)
class RefundRequested:
    """The money is to be returned, as the caller wants it."""

    refund_id: UUID
    by_itself: Reason | None = None
    """Why it goes back without a person; None where somebody asked for it."""
    part: bool = False
    """Money of the payment stays here, or some has gone back before."""
    frees_seat: bool = True
    """The booking is not to travel on what is left of the money."""
    operator: str | None = None
    """Who asks, and why in their own words, where an operator does."""
    why: str | None = None
    consent: str | None = None
    """The mark of the second person who has agreed, where one had to."""

    @property
    def fact_id(self) -> str:
        if self.by_itself is not None:
            return f"refund-by-itself:{self.refund_id}"
        return marked(refund_request_id(self.refund_id, self.operator, self.why), self.consent)


def refund_request_id(refund_id: UUID, operator: str | None, why: str | None) -> str:
    """An operator's ends as that of a decided case: so the chain of the log vouches for who asked and why."""
    asked = f"refund:{refund_id}"
    return f"{asked}:{act_digest(['REFUND', operator, why or ''])}" if operator else asked


REFUND_DUE = "refund-due"
"""The id of the fact that a timer of the refund has run out."""


@dataclass(frozen=True, slots=True)
class RefundInDoubt:
    """What was learned of a refund contradicts it, or nobody can find out what became of it."""

    refund_id: UUID
    learned_from: str
    """The id of the fact about the refund."""
    is_money: bool

    @property
    def fact_id(self) -> str:
        return f"refund-doubt:{self.refund_id}:{self.learned_from}"


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The books show that money of a payment went back to its payer. Where no refund of ours sent it, Safaricom did, at
    the payer's request."""

    fact_id: str
    source: Source
    shown_as: str | None
    """The receipt number that it is listed under: the reversal's own, or that of the payment."""
    amount: int | str
    receipt: str | None = None
    """Of the money that went back, where that is told."""
    conversation_id: str | None = None
    """That of the payment, where that is told; it must be right."""
    in_doubt: bool = False
    """It may be other money than what the payment stands on."""


@dataclass(frozen=True, slots=True)
class ReceiptDue:
    """The passenger's receipt has to say something that it does not say yet. Whether that is so, and what it says then,
    is found under the payment's lock: the revision and its digest are known only there."""

    tax_invoice: TaxInvoice | None = None
    """One that a caller hands in."""
    replaces: str = ""
    """Number of the one that it replaces."""
    revision: int = 0
    digest: str = ""

    @property
    def fact_id(self) -> str:
        return f"receipt:{self.revision}:{self.digest}"


Fact = (
    SendClaimed
    | PromptAccepted
    | PromptRefused
    | NotSent
    | AnswerLost
    | LeaseDead
    | ResultReported
    | Unreadable
    | NothingTold
    | DeadlinePassed
    | WatchEnded
    | ReceiptOverdue
    | BackingOverdue
    | ReceiptProven
    | CancelRequested
    | SiblingPaid
    | RefundRequested
    | RefundDone
    | RefundFailed
    | RefundInDoubt
    | TakenBack
    | ReceiptDue
    | CaseAccepted
    | CaseDismissed
    | CaseReturned
    | CaseRefundFound
)


def refund_end(fact: Fact) -> RefundEnd | None:
    """How a refund has ended, where the fact says so: by a result, or by what a person has found."""
    match fact:
        case RefundDone() | RefundFailed():
            return fact
        case CaseRefundFound():
            return fact.means
        case _:
            return None
