"""Why a payment has its status.

Which provider code leads to which reason is decided in `payment_service.daraja.result_codes`; what people are told of
each, and when another attempt makes sense, in `payment_service.domain.advice`.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a payment has its status; the names are those of the wire enum `StatusReason`."""

    AWAITING_CUSTOMER = "AWAITING_CUSTOMER"
    CONFIRMING = "CONFIRMING"
    REVIEW = "REVIEW"
    RECEIPT_PENDING = "RECEIPT_PENDING"
    NOT_SENT = "NOT_SENT"
    SERVICE_MISCONFIGURED = "SERVICE_MISCONFIGURED"
    PHONE_NUMBER_REFUSED = "PHONE_NUMBER_REFUSED"
    PHONE_BUSY = "PHONE_BUSY"
    NOT_AN_MPESA_NUMBER = "NOT_AN_MPESA_NUMBER"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    AMOUNT_NOT_ALLOWED = "AMOUNT_NOT_ALLOWED"
    DAILY_LIMIT_REACHED = "DAILY_LIMIT_REACHED"
    RECEIVER_LIMIT_REACHED = "RECEIVER_LIMIT_REACHED"
    REPEATED_TOO_SOON = "REPEATED_TOO_SOON"
    PROVIDER_BUSY = "PROVIDER_BUSY"
    PROMPT_FAILED = "PROMPT_FAILED"
    WRONG_PIN = "WRONG_PIN"
    PIN_LOCKED = "PIN_LOCKED"
    PAYMENT_NOT_ALLOWED = "PAYMENT_NOT_ALLOWED"
    DECLINED_BY_CUSTOMER = "DECLINED_BY_CUSTOMER"
    WITHDRAWN = "WITHDRAWN"
    NO_ANSWER = "NO_ANSWER"
    SIBLING_PAID = "SIBLING_PAID"
    PAID_LATE = "PAID_LATE"
    PAID_TWICE = "PAID_TWICE"
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
    IDS_DIFFER = "IDS_DIFFER"
    MONEY_IN_DOUBT = "MONEY_IN_DOUBT"
    RECEIPT_OVERDUE = "RECEIPT_OVERDUE"
    TAKEN_BACK = "TAKEN_BACK"
    MONEY_NEVER_CAME = "MONEY_NEVER_CAME"


UNDER_REVIEW = frozenset({Reason.REVIEW, Reason.AMOUNT_DIFFERS})
"""Reasons of an uncertain payment that a person has to look at before anything else may happen to it. REVIEW is what
payments have that came under review before the amount had a reason of its own."""

REVIEWS = frozenset(
    {
        Reason.REVIEW,
        Reason.PAID_LATE,
        Reason.PAID_TWICE,
        Reason.AMOUNT_DIFFERS,
        Reason.IDS_DIFFER,
        Reason.MONEY_IN_DOUBT,
        Reason.RECEIPT_OVERDUE,
    }
)
"""Reasons of a review; their sentences say that somebody is checking."""
SENT_BACK = frozenset({Reason.PAID_LATE, Reason.PAID_TWICE})
"""Reasons of money that goes back by itself, where no review is open about it."""
