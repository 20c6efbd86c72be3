"""What may be asked for: whether the money of a payment can go back as it is wanted, and by which way."""

from payment_service.domain.payment import Backing, Payment, State
from payment_service.domain.refund import B2C_AMOUNT_MAX, B2C_AMOUNT_MIN, RefundBar, RefundMethod, RefundOrder
from payment_service.domain.standings import Standing, standing


def method_of(amount: int, received: int, left: int) -> RefundMethod:
    """How an amount goes back: only the whole of what a receipt brought can be reversed."""
    return RefundMethod.REVERSAL if amount == left == received else RefundMethod.B2C


def needs_approval(order: RefundOrder, amount: int, approval_above: int) -> bool:
    """Whether a second person has to agree before so much goes back. Agreed is agreed to this amount only."""
    return order.by_person and amount > approval_above and amount != order.approved


def bar_to_refund(
    payment: Payment, order: RefundOrder, received: int | None, left: int | None, *, by_case: bool
) -> RefundBar | None:
    """Why the money of a payment cannot go back as it is asked for. Whether it may at all, its own table decides.

    Money that came a second time goes back wherever the payment stands: it stands on other money.
    """
    if not order.is_beside(payment.receipt) and (bar := _bar_by_standing(payment, by_case=by_case)) is not None:
        return bar
    if not order.possible:
        return RefundBar.NOT_SET_UP
    if received is None or left is None:
        return RefundBar.AMOUNT_UNKNOWN
    if left <= 0:
        # Nothing of it is left, and the payment is not refunded yet: all of it is on its way.
        return RefundBar.REFUND_UNDER_WAY
    amount = order.amount or left
    if amount > left:
        return RefundBar.ABOVE_WHAT_IS_LEFT
    return _bar_to_part(payment, amount) if method_of(amount, received, left) is RefundMethod.B2C else None


def _bar_by_standing(payment: Payment, *, by_case: bool) -> RefundBar | None:
    column = standing(payment)
    if column is Standing.REFUNDING:
        return RefundBar.REFUND_UNDER_WAY
    if column is Standing.REFUNDED:
        return RefundBar.REFUNDED
    if column is Standing.UNDER_REVIEW and not by_case:
        return RefundBar.UNDER_REVIEW
    if column is Standing.COMPLETED_BY_CALLBACK and payment.backing is Backing.DOUBTED:
        # What only a callback told, and another source denies, is looked at by a person first.
        return RefundBar.UNDER_REVIEW
    if column is Standing.RECEIPT_PENDING:
        return RefundBar.RECEIPT_PENDING
    if payment.state is not State.COMPLETED and column is not Standing.UNDER_REVIEW:
        return RefundBar.NOT_PAID
    return RefundBar.NOT_PAID if column is Standing.REFUTED else None


def _bar_to_part(payment: Payment, amount: int) -> RefundBar | None:
    # B2C sends our own money, whether the payer's has come or not.
    if standing(payment) is Standing.UNDER_REVIEW:
        return RefundBar.UNDER_REVIEW
    if amount < B2C_AMOUNT_MIN:
        return RefundBar.PART_TOO_SMALL
    return RefundBar.PART_TOO_LARGE if amount > B2C_AMOUNT_MAX else None
