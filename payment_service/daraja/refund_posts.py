"""What a post about an order to send money says of the refund that it was sent for, in the words of the domain."""

from collections.abc import Callable
from typing import assert_never

from payment_service.daraja.b2c import B2cResult, read_b2c_result, read_b2c_status
from payment_service.daraja.orders import CarriedOut, Failed, Unproven
from payment_service.daraja.reversal import (
    AlreadyReversed,
    ReversalResult,
    Reversed,
    read_reversal_result,
    read_reversal_status,
)
from payment_service.domain.refund import Refund
from payment_service.domain.refund_facts import RefundPost, RefundReported, RefundVerdict

_DONE, _ALREADY_REVERSED = "0", "R000001"


def read_reversal_post(body: bytes, fact_id: str) -> RefundReported:
    """The result of a reversal."""
    return _reported(read_reversal_result(body), fact_id)


def read_reversal_status_post(body: bytes, fact_id: str) -> RefundPost:
    """The answer to a question about a reversal: to be compared with what was asked for."""

    def read(refund: Refund) -> RefundReported:
        return _reported(read_reversal_status(body, refund.receipt, refund.originator_conversation_id), fact_id)

    return RefundPost(fact_id, read)


def read_b2c_post(body: bytes, fact_id: str) -> RefundPost:
    """The result of a B2C payment: to be compared with the name that it was ordered under."""
    return RefundPost(fact_id, lambda refund: _reported_part(read_b2c_result, body, refund, fact_id))


def read_b2c_status_post(body: bytes, fact_id: str) -> RefundPost:
    """The answer to a question about a B2C payment, compared in the same way."""
    return RefundPost(fact_id, lambda refund: _reported_part(read_b2c_status, body, refund, fact_id))


def _reported_part(
    read: Callable[[bytes, str], B2cResult], body: bytes, refund: Refund, fact_id: str
) -> RefundReported:
    result = read(body, refund.originator_conversation_id or "")
    if isinstance(result, CarriedOut):
        # It names the transfer's own receipt. Whose money it was, our name of the order proves.
        return RefundReported(fact_id, RefundVerdict.DONE, _DONE, refund.receipt, result.amount)
    return _reported(result, fact_id)


def _reported(result: ReversalResult, fact_id: str) -> RefundReported:
    match result:
        case Reversed():
            return RefundReported(fact_id, RefundVerdict.DONE, _DONE, result.original_receipt, result.amount)
        case AlreadyReversed():
            return RefundReported(fact_id, RefundVerdict.ALREADY_REVERSED, _ALREADY_REVERSED)
        case Failed():
            return RefundReported(fact_id, RefundVerdict.FAILED, result.code)
        case Unproven():
            return RefundReported(fact_id, RefundVerdict.UNPROVEN, None)
        case _:
            assert_never(result)
