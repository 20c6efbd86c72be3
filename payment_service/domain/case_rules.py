"""How each kind of case may be settled, which way is the usual one, and until when somebody should have done it.

One row for each kind. What a resolution does to the payment, and whether it may be done where the payment stands, is
decided by the rows CASE_… of the table in `transitions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from payment_service.domain.case_facts import CaseAccepted, CaseDecided, CaseDismissed, CaseRefundFound, CaseReturned
from payment_service.domain.cases import CaseKind
from payment_service.domain.refund import RefundReason


class Resolution(StrEnum):
    """How a person settles a case; the names are those of the wire enum."""

    ACCEPT = "ACCEPT"
    """The money is this payment's, and enough."""
    DISMISS = "DISMISS"
    """Nothing in the case is for this payment, or it has been dealt with elsewhere."""
    RETURN = "RETURN"
    """The money goes back to its payer: a refund is begun, and the case ends once it is done."""
    REFUNDED = "REFUNDED"
    """A refund that nobody could tell of has gone back to the payer: the M-Pesa portal shows it."""
    NOT_REFUNDED = "NOT_REFUNDED"
    """It has not: it counts as failed, and another one may be begun."""
    MOVE = "MOVE"
    """The money belongs to another payment of the same caller, which it settles: a second person has to agree."""


@dataclass(frozen=True, slots=True)
class CaseRules:
    """What may be done about one kind of case."""

    resolutions: tuple[Resolution, ...]
    """The usual one first; none where the case ends by what is done elsewhere."""
    settle_within: timedelta
    advice: str
    """What to look at before deciding, for the operator."""

    @property
    def suggested(self) -> Resolution | None:
        """The usual way; None where it ends by what is done elsewhere."""
        return self.resolutions[0] if self.resolutions else None


_ACCEPT, _DISMISS, _RETURN, _MOVE = Resolution.ACCEPT, Resolution.DISMISS, Resolution.RETURN, Resolution.MOVE
_PASSENGER_WAITS = timedelta(hours=2)
"""Money is here or may be, and a booking cannot go on before somebody decides."""
_MONEY_WAITS = timedelta(hours=24)
"""The booking is decided, and money lies where it does not belong."""
_NOBODY_WAITS = timedelta(hours=72)

RULES: Mapping[CaseKind, CaseRules] = {
    CaseKind.LATE_PAYMENT: CaseRules(
        (_ACCEPT, _RETURN, _DISMISS),
        _PASSENGER_WAITS,
        "The money came after the hold. Accept it if the seat can still be given and no other attempt has confirmed the"
        " booking; if not, return it. Dismiss it only where a refund has failed, and you have given the money back by"
        " other means.",
    ),
    CaseKind.WRONG_AMOUNT: CaseRules(
        (_ACCEPT, _RETURN, _DISMISS),
        _PASSENGER_WAITS,
        "Another amount came than was asked for. Accept it if it is enough for the booking; if not, return it.",
    ),
    CaseKind.UNCLAIMED_MONEY: CaseRules(
        (_DISMISS, _ACCEPT, _MOVE),
        _PASSENGER_WAITS,
        "Ask the passenger for the M-Pesa message. Accept if its receipt is the one of this case; else dismiss.",
    ),
    CaseKind.FOREIGN_IDS: CaseRules(
        (_DISMISS, _ACCEPT, _MOVE),
        _PASSENGER_WAITS,
        "The news names another request than this payment's. Look the receipt up in the M-Pesa portal. Accept the money"
        " only if it was paid for this booking.",
    ),
    CaseKind.PAID_AFTER_END: CaseRules(
        (_ACCEPT, _DISMISS),
        _PASSENGER_WAITS,
        "A query says paid, and brings no receipt. Find it in the M-Pesa portal or in the passenger's message, and"
        " accept with that receipt; dismiss if there is none.",
    ),
    CaseKind.RECEIPT_OVERDUE: CaseRules(
        (_ACCEPT,),
        _PASSENGER_WAITS,
        "Safaricom says paid, and no receipt has followed. Find it in the M-Pesa portal or in the passenger's message,"
        " and accept with that receipt.",
    ),
    CaseKind.UNBACKED_MONEY: CaseRules(
        (_ACCEPT, _DISMISS),
        _PASSENGER_WAITS,
        "Only a callback told of this money: M-Pesa itself denies it, or has not told of it in time. The callback may"
        " be forged. Look the receipt up in the M-Pesa portal. Accept if the money is there. If it is not, dismiss: the"
        " booking is told to RELEASE, nobody must travel on it, and it can be paid again.",
    ),
    CaseKind.UNREAD_CALLBACK: CaseRules(
        (_DISMISS, _ACCEPT),
        _PASSENGER_WAITS,
        "A callback cannot be read, and may tell of money. Read it below. If it tells of a payment, accept with the"
        " receipt in it.",
    ),
    CaseKind.OUTCOME_UNKNOWN: CaseRules(
        (_DISMISS, _ACCEPT),
        _MONEY_WAITS,
        "Nothing proves that the payment was not paid. Look for it in the M-Pesa portal: dismiss if it is not there,"
        " accept with its receipt if it is.",
    ),
    CaseKind.DUPLICATE_PAYMENT: CaseRules(
        (_RETURN, _DISMISS, _ACCEPT),
        _MONEY_WAITS,
        "Another attempt of the booking was paid, too. If that one has confirmed the booking, return this money; if"
        " none has, accept one of them and return the other.",
    ),
    CaseKind.SECOND_RECEIPT: CaseRules(
        (_RETURN, _DISMISS, _MOVE),
        _MONEY_WAITS,
        "The payment was told as paid twice, with two receipts. Look up both in the M-Pesa portal. If both are there,"
        " return the money: it is that of the second receipt, and the payment keeps the other. If only one is there,"
        " nothing was paid twice. Dismiss then, if it is the one that counts. If it is the second, and the first never"
        " came, the passenger has paid: move it to another attempt of the booking, or return it where there is none.",
    ),
    CaseKind.REFUND: CaseRules(
        (_DISMISS, Resolution.REFUNDED, Resolution.NOT_REFUNDED),
        _MONEY_WAITS,
        "A refund did not go as asked. Look for it in the M-Pesa portal. If it is UNCERTAIN, settle it as refunded,"
        " with the receipt number under which the money went back, or, a day after the send, as not refunded. If it has"
        " ended, dismiss when the money is where it belongs.",
    ),
    CaseKind.TAKEN_BACK: CaseRules(
        (_DISMISS,),
        _PASSENGER_WAITS,
        "Safaricom has sent money back to the payer, and we did not ask for it. Look the receipt up in the M-Pesa"
        " portal. Where a second payment was returned from its own case, the books list that: dismiss then."
        " If the payment is REFUNDED, see that its seat is free or paid for in another way, and dismiss. If it"
        " is not, and the money was its own, have it refunded: M-Pesa answers that it has gone back already. If it was"
        " other money, dismiss.",
    ),
    CaseKind.UNKNOWN_PAYMENT: CaseRules(
        (_DISMISS,),
        _MONEY_WAITS,
        "A callback names a payment that this database does not have. It is applied by itself if the payment appears,"
        " as after a restore. Dismiss when the money has been dealt with.",
    ),
    CaseKind.CALLBACK_GIVEN_UP: CaseRules(
        (),
        _MONEY_WAITS,
        "A callback could not be applied, and it may tell of money. Replay it, with payment-service callbacks: the case"
        " ends when it is applied.",
    ),
    CaseKind.OTHER_PROMPT: CaseRules(
        (_DISMISS,),
        _NOBODY_WAITS,
        "The phone may have had two prompts. Look for a second payment in the M-Pesa portal before you dismiss.",
    ),
    CaseKind.CONTRADICTION: CaseRules(
        (_DISMISS,),
        _NOBODY_WAITS,
        "Two pieces of evidence cannot both be true. The payment stands as it did; dismiss when you know why.",
    ),
    CaseKind.PAID_AFTER_FAILURE: CaseRules(
        (_DISMISS,),
        _NOBODY_WAITS,
        "The payment was paid after a callback had told of its failure. It is complete; dismiss when you know why.",
    ),
}
"""The rules of every kind, which a test holds to be all of them."""

_OF_NEWER_RELEASES: Final = CaseRules(
    (),
    _MONEY_WAITS,
    "A newer release has opened this case, and this one does not know the kind. Settle it there.",
)


def rules_of(kind: str) -> CaseRules:
    """The rules of a kind, or of one whose word only a newer release knows: that one is settled there."""
    return RULES[CaseKind(kind)] if kind in CaseKind.__members__ else _OF_NEWER_RELEASES


def resolution_of(fact: CaseDecided) -> Resolution:
    """What an operator has decided."""
    match fact:
        case CaseAccepted():
            return Resolution.ACCEPT
        case CaseDismissed():
            return Resolution.DISMISS if fact.moved_to is None else Resolution.MOVE
        case CaseReturned():
            return Resolution.RETURN
        case CaseRefundFound():
            return Resolution.REFUNDED if fact.returned else Resolution.NOT_REFUNDED
        case _:
            assert_never(fact)


def refund_reason_of(kind: str) -> RefundReason:
    """Why the money of a case of this kind goes back, as its refund tells it."""
    match kind:
        case CaseKind.LATE_PAYMENT:
            return RefundReason.PAID_LATE
        case CaseKind.DUPLICATE_PAYMENT | CaseKind.SECOND_RECEIPT:
            return RefundReason.PAID_TWICE
        case _:
            return RefundReason.OTHER


@dataclass(frozen=True, slots=True)
class CaseMarks:
    """How a case and what it is about stood when it was shown: numbers, one of which any change makes another."""

    case: int
    """Its version."""
    payments: int
    """The money versions of all attempts of its booking, added up."""
    open_cases: int
    """How many cases of its payment are open."""


def deadline_of(kind: CaseKind, opened_at: datetime) -> datetime:
    """When a case of this kind should have been settled."""
    return opened_at + RULES[kind].settle_within
