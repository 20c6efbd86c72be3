"""Refunds by booking, as operators ask for them: which payment, under which request id, and what has become of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund, RefundBar, RefundState
from payment_service.domain.standings import Standing, standing

RESERVED_PREFIX: Final = "operations:"
"""Of request ids that are made here. Callers cannot use them, or a refund of theirs would pass for one by booking."""

_HOLDS_MONEY = frozenset(
    {
        Standing.COMPLETED_BY_CALLBACK,
        Standing.COMPLETED,
        Standing.RECEIPT_PENDING,
        Standing.UNDER_REVIEW,
        Standing.REFUNDING,
    }
)


@dataclass(frozen=True, slots=True)
class RefundTry:
    """How a payment's refund by booking stands: the latest one, and the request id of the next."""

    refund: Refund | None
    next_request_id: str

    @property
    def settled(self) -> bool:
        """No other is to be asked for: this one is under way, or done."""
        return self.refund is not None and self.refund.state is not RefundState.FAILED


def payment_to_refund(attempts: Sequence[Payment]) -> Payment | RefundBar:
    """Of all payments of a caller's booking, the oldest first, the one whose money goes back.

    One that holds money; else the latest that has been returned; else the latest that may still be paid; else the
    latest, of which there is nothing to return.
    """
    holding = holding_money(attempts)
    if len(holding) > 1:
        return RefundBar.SEVERAL_PAID
    returned = [one for one in attempts if standing(one) is Standing.REFUNDED]
    open_yet = [one for one in attempts if not one.outcome_certain]
    return (holding or returned or open_yet or attempts)[-1]


def holding_money(attempts: Sequence[Payment]) -> list[Payment]:
    """Those of a booking's payments whose money is here."""
    return [one for one in attempts if standing(one) in _HOLDS_MONEY]


def bar_by_booking(payment: Payment, bar: RefundBar) -> RefundBar:
    """Why a booking's payment cannot be refunded: of one without money, operators are told whether some may come."""
    return RefundBar.NOT_PAID_YET if bar is RefundBar.NOT_PAID and not payment.outcome_certain else bar


def fee_of(left: int, percent: int) -> int:
    """What is kept of so many shillings: rounded down to whole ones, in the passenger's favour."""
    return left * percent // 100


def request_ids(payment_id: UUID, refunds: int) -> list[str]:
    """The request ids that may have been used for a payment of so many refunds, and the next one.

    They are made of the payment alone. So whoever asks, from whichever list of bookings, however often and from however
    many machines at once, asks for one refund; only after one that has failed there is another id.
    """
    return [f"{RESERVED_PREFIX}{payment_id}:{number}" for number in range(refunds + 1)]


def latest_try(ids: Sequence[str], used: Mapping[str, UUID], refunds: Sequence[Refund]) -> RefundTry:
    """How the refund by booking stands; `used` is which refund each used id has made.

    It may have been read later than the refunds. An id whose refund is not among them was used meanwhile, so it is the
    next one still: whoever asks with it is given that refund.
    """
    by_id = {refund.refund_id: refund for refund in refunds}
    tried = [by_id[used[request_id]] for request_id in ids if used.get(request_id) in by_id]
    return RefundTry(tried[-1] if tried else None, ids[len(tried)])
