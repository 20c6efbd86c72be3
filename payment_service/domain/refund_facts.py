"""What we can learn about a refund. What a fact leads to is decided in `refunds`.

As with payments, a fact is evidence, never an instruction, and an answer to a request speaks of one claim only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from payment_service.domain.facts import REFUND_DUE
from payment_service.domain.refund import Refund


@dataclass(frozen=True, slots=True)
class RefundClaimed:
    """One process wants to send the refund."""

    claim_id: UUID
    sent_as: str | None = None
    """Names the initiator, without giving name or password away."""

    @property
    def fact_id(self) -> str:
        return f"refund-claim:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class RefundAccepted:
    """Safaricom took the request. Accepted is not returned."""

    claim_id: UUID
    originator_conversation_id: str
    conversation_id: str | None

    @property
    def fact_id(self) -> str:
        return f"refund-answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class RefundRefused:
    """Safaricom refused the request in a way that proves that no money moves."""

    claim_id: UUID
    code: str

    @property
    def fact_id(self) -> str:
        return f"refund-answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class RefundNotSent:
    """Nothing of the request reached M-Pesa: it may be sent again."""

    claim_id: UUID
    code: str

    @property
    def fact_id(self) -> str:
        return f"refund-answer:{self.claim_id}"


@dataclass(frozen=True, slots=True)
class RefundAnswerLost:
    """The request may have been taken; its answer is lost or proves nothing."""

    claim_id: UUID

    @property
    def fact_id(self) -> str:
        return f"refund-answer:{self.claim_id}"


class RefundVerdict(StrEnum):
    """What a result says about a refund."""

    DONE = "DONE"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    """The receipt has been reversed; nothing says by which request."""
    FAILED = "FAILED"
    """A listed refusal: no money moved."""
    UNPROVEN = "UNPROVEN"


@dataclass(frozen=True, slots=True)
class RefundReported:
    """A result: posted by Safaricom, or what the question for its status was answered with."""

    fact_id: str
    verdict: RefundVerdict
    code: str | None
    receipt: str | None = None
    """Of the payment whose money went back, as far as the result proves which one that is."""
    amount: int | str | None = None
    """Whole shillings, or a text that is no such number, as the result says it; None where it says none."""


@dataclass(frozen=True, slots=True)
class RefundTimedOut:
    """A post to the timeout address, or a body that cannot be read: nobody knows what became of the request."""

    fact_id: str


@dataclass(frozen=True, slots=True)
class RefundDue:
    """A timer of the refund has run out. Which one, follows from the row when it is applied."""

    @property
    def fact_id(self) -> str:
        return REFUND_DUE


@dataclass(frozen=True, slots=True)
class RefundLookedUp:
    """A person has found out what became of a refund that nobody could tell of."""

    fact_id: str
    returned: bool


@dataclass(frozen=True, slots=True)
class RefundOvertaken:
    """The receipt is reversed by another refund, so this one is not needed any more."""

    @property
    def fact_id(self) -> str:
        return "refund-overtaken"


@dataclass(frozen=True, slots=True)
class RefundPost:
    """A post whose meaning depends on what the refund was: it is read once that is known."""

    fact_id: str
    read: Callable[[Refund], RefundReported]


RefundAnswer = RefundAccepted | RefundRefused | RefundNotSent | RefundAnswerLost
RefundFact = (
    RefundClaimed | RefundAnswer | RefundReported | RefundTimedOut | RefundDue | RefundLookedUp | RefundOvertaken
)

AboutRefund = RefundFact | RefundPost
"""What is told of a refund, not of its payment."""
