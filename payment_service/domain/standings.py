"""How a payment stands: the columns of the table of payments."""

from enum import StrEnum
from typing import assert_never

from payment_service.domain.payment import UNBACKED, Payment, State
from payment_service.domain.reasons import UNDER_REVIEW


class Standing(StrEnum):
    """The columns of the table: the states, some of them told apart further."""

    CREATED = "CREATED"
    SENDING = "SENDING"
    PROMPTED = "PROMPTED"
    UNCERTAIN_NO_RESULT = "UNCERTAIN, no result seen"
    UNCERTAIN_RESULT_SEEN = "UNCERTAIN, some result seen"
    UNDER_REVIEW = "UNCERTAIN, under review"
    RECEIPT_PENDING = "COMPLETED, receipt pending"
    COMPLETED_BY_CALLBACK = "COMPLETED, as only a callback says"
    COMPLETED = "COMPLETED"
    REFUTED = "COMPLETED, and the money never came"
    FAILED_BY_QUERY = "FAILED, as only a query says"
    CANCELLED_BY_QUERY = "CANCELLED, as only a query says"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REFUNDING = "REFUNDING"
    REFUNDED = "REFUNDED"


def standing(payment: Payment) -> Standing:
    """The column of the table a payment is in."""
    match payment.state:
        case State.CREATED:
            return Standing.CREATED
        case State.SENDING:
            return Standing.SENDING
        case State.PROMPTED:
            return Standing.PROMPTED
        case State.UNCERTAIN:
            if payment.reason in UNDER_REVIEW:
                return Standing.UNDER_REVIEW
            return Standing.UNCERTAIN_RESULT_SEEN if payment.result_seen else Standing.UNCERTAIN_NO_RESULT
        case State.COMPLETED:
            if payment.refuted:
                return Standing.REFUTED
            if not payment.receipt:
                return Standing.RECEIPT_PENDING
            return Standing.COMPLETED_BY_CALLBACK if payment.backing in UNBACKED else Standing.COMPLETED
        case State.FAILED:
            return Standing.FAILED_BY_QUERY if _only_queried(payment) else Standing.FAILED
        case State.CANCELLED:
            return Standing.CANCELLED_BY_QUERY if _only_queried(payment) else Standing.CANCELLED
        case State.EXPIRED:
            return Standing.EXPIRED
        case State.REFUNDING:
            return Standing.REFUNDING
        case State.REFUNDED:
            return Standing.REFUNDED
        case _:
            assert_never(payment.state)


def _only_queried(payment: Payment) -> bool:
    return payment.unpaid_proof is None and not payment.outcome_certain
