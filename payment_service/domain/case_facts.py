"""What operators decide about cases, as facts of the payment that a case is about."""

from dataclasses import dataclass
from uuid import UUID

from payment_service.domain.consent import act_digest, marked
from payment_service.domain.refund_ends import RefundEnd


@dataclass(frozen=True, slots=True)
class CaseAccepted:
    """An operator settled a case: its money is this payment's, and enough."""

    case_id: UUID
    opened_by: str
    """The id of the fact that opened the case."""
    operator: str
    why: str
    receipt: str | None = None
    """Of the money: the case's own, or the one that the operator has found. None where it is the payment's already."""
    amount: int | None = None
    """Whole shillings, where the case tells them."""
    moved_from: UUID | None = None
    """The payment whose case it is, where the money belongs to this one instead."""

    @property
    def fact_id(self) -> str:
        act = "ACCEPT" if self.moved_from is None else "MOVED_HERE"
        return settlement_id(self.case_id, act, self.operator, self.why, self.receipt, self.moved_from)


@dataclass(frozen=True, slots=True)
class CaseDismissed:
    """An operator settled a case: nothing in it is for this payment, or it has been dealt with elsewhere."""

    case_id: UUID
    opened_by: str
    operator: str
    why: str
    moved_to: UUID | None = None
    """The payment that its money belongs to, and goes to; so are the rest."""
    receipt: str | None = None
    amount: int | None = None
    """Whole shillings; None where the case does not tell them."""
    consent: str | None = None
    """The mark of the second person who has agreed."""

    @property
    def fact_id(self) -> str:
        if self.moved_to is None:
            return settlement_id(self.case_id, "DISMISS", self.operator, self.why, None)
        own = settlement_id(self.case_id, "MOVE", self.operator, self.why, self.receipt, self.moved_to)
        return marked(own, self.consent)


@dataclass(frozen=True, slots=True)
class CaseReturned:
    """An operator has the money of a case sent back. The case ends once that is proven."""

    case_id: UUID
    opened_by: str
    operator: str
    why: str
    refund_id: UUID
    receipt: str | None = None
    """Of the money, as the case names it. None where it is the payment's."""
    part: bool = False
    """Some of the money has gone back before."""
    beside: bool = False
    """It is other money than the payment stands on, which stays as it is."""
    frees_seat: bool = True
    consent: str | None = None
    """The mark of the second person who has agreed, where one had to."""

    @property
    def fact_id(self) -> str:
        own = settlement_id(self.case_id, "RETURN", self.operator, self.why, self.receipt, self.refund_id)
        return marked(own, self.consent)


@dataclass(frozen=True, slots=True)
class CaseRefundFound:
    """An operator has found out what became of a refund that nobody could tell of."""

    case_id: UUID
    opened_by: str
    operator: str
    why: str
    refund_id: UUID | None
    """None where the case is about no refund: nothing can be found of it then."""
    returned: bool
    """The money has gone back; otherwise it has not, and never will by this refund."""
    receipt: str | None = None
    """Under which the M-Pesa portal shows that the money went back."""
    means: RefundEnd | None = None
    """What it says to the payment. None where the reversal of another refund has returned the same money."""

    @property
    def fact_id(self) -> str:
        resolution = "REFUNDED" if self.returned else "NOT_REFUNDED"
        return settlement_id(self.case_id, resolution, self.operator, self.why, self.receipt)


CaseSettled = CaseAccepted | CaseDismissed | CaseRefundFound
"""What ends the case that it is about."""
CaseDecided = CaseSettled | CaseReturned


def settlement_id(
    case_id: UUID, resolution: str, operator: str, why: str, receipt: str | None, beside: UUID | None = None
) -> str:
    """Ends in a digest of who did what and why, so that the chain of the log vouches for it and names nobody.

    `beside` is the refund that is begun, or the other payment.
    """
    parts = [resolution, operator, why, receipt or "", *([str(beside)] if beside is not None else [])]
    return f"case:{case_id}:{act_digest(parts)}"
