"""Money that one person wants to move and a second person has to agree to: the nouns.

What is asked for waits beside the payment and changes nothing of it. When a second person approves, it is done under
the locks of the payment, in the transaction that records who has approved, and only if all is as the first one saw it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.refund import RefundReason

APPROVAL_ABOVE: Final = 10_000
"""Whole shillings, unless the setting says otherwise: what a few seats cost goes back by one person's word."""


class ApprovalAct(StrEnum):
    """What is to be done with the money; the names are those of the wire enum."""

    RETURN = "RETURN"
    """The money of a case goes back to its payer."""
    REFUND = "REFUND"
    """The money of a booking goes back, without a case."""
    MOVE = "MOVE"
    """The money of a case goes to another payment."""


class ApprovalState(StrEnum):
    """What has become of what was asked for."""

    WAITING = "WAITING"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    """By a second person."""
    WITHDRAWN = "WITHDRAWN"
    """By the one who had asked."""
    OVERTAKEN = "OVERTAKEN"
    """It was asked for again after the facts had changed."""


@dataclass(frozen=True, slots=True)
class MoneyMove:
    """What a second person has to agree to."""

    act: ApprovalAct
    payment_id: UUID
    amount: int
    """Whole shillings that are to move."""
    receipt: str | None = None
    """Of the money, as the case names it."""
    case_id: UUID | None = None
    refund_reason: RefundReason | None = None
    """So are the rest, of a refund without a case: as it is recorded once it is approved."""
    request_id: str | None = None
    part: bool = False
    """Only this amount of what is left of the payment."""
    to_payment_id: UUID | None = None
    """The payment that it goes to, and the money versions of its booking's payments, added up."""
    seen_target: int | None = None
    seen: CaseMarks | None = None
    """How the case stood when it was asked for; None where the asker has seen the payment alone."""


class NeedsApproval(Exception):
    """A second person has to agree before the money moves."""

    def __init__(self, move: MoneyMove) -> None:
        super().__init__()
        self.move = move
