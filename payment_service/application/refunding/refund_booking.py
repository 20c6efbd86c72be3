"""Sending the money of a booking back, as operators ask for it: looked at first, then asked for, once and for all.

This only finds the payment and names the request. That it is refunded once is held by the request id, which is made of
the payment, and by all that holds for every refund.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.following.stored_views import payment_view
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.refunding.refund_payment import refund_payment
from payment_service.domain.booking_refunds import (
    RefundTry,
    bar_by_booking,
    fee_of,
    holding_money,
    latest_try,
    payment_to_refund,
    request_ids,
)
from payment_service.domain.errors import PaymentNotFound, RefundBarred
from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund, RefundBar, RefundOrder, RefundReason, RefundRequest, left_of
from payment_service.domain.refund_requests import bar_to_refund
from payment_service.domain.views import PaymentView
from payment_service.store import reads
from payment_service.store.audit import receipts_of
from payment_service.store.caller_requests import kept_ids
from payment_service.store.engines import driver_connection
from payment_service.store.payments import callers_of_booking, read_attempts
from payment_service.store.reads import PaymentRow
from payment_service.store.refunds import refunds_about

ATTEMPTS_MAX = 200
"""Payments of one booking that are looked through, the newest; a caller that tries so often is at fault."""


@dataclass(frozen=True, slots=True)
class BookingRefundRequest:
    """What an operator asks for, parsed."""

    booking_id: str
    caller: str
    """Whose booking it is; empty where only one caller can be meant."""
    payment_id: UUID | None
    """Which payment of the booking; None where only one holds money."""
    reason: RefundReason
    operator: str
    why: str
    fee_percent: int
    """What is kept of what is left, in whole per cent."""
    only_look: bool


@dataclass(frozen=True, slots=True)
class BookingRefund:
    """The money of a booking: what goes back, or would, and what has become of it."""

    view: PaymentView
    shortcode: str
    amount: int
    fee: int
    """Of a refund that is not asked for yet."""
    refund: Refund | None
    """The latest one; None while there is none."""


async def refund_booking(
    facts: GroupCommit[Submission, Recorded],
    using: PaymentReads,
    shortcodes: Collection[str],
    asked: BookingRefundRequest,
) -> BookingRefund:
    """The refund of a booking as it stands, asked for now unless it has been or is only looked at.

    Raises PaymentNotFound, NeedsApproval, RefundBarred, RequestIdReused, Overloaded or StoreUnavailable; none of them
    leaves a row.
    """
    money = await _money_of(using, asked)
    tried = money.tried
    if tried.refund is not None and tried.settled:
        return _answer(using, money, tried.refund.amount)
    amount, fee = _amount_and_fee(money, shortcodes, asked)
    if asked.only_look:
        return _answer(using, money, amount, fee)
    request = RefundRequest(
        request_id=tried.next_request_id,
        payment_id=money.payment.payment_id,
        reason=asked.reason,
        amount=amount if fee else None,
        operator=asked.operator,
        why=asked.why,
    )
    await refund_payment(facts, using, shortcodes, money.payment.caller, request)
    return _answer(using, await _money_of(using, asked), amount)


@dataclass(frozen=True, slots=True)
class _Money:
    """The payment of a booking whose money goes back, and what is known of its refunds."""

    row: PaymentRow
    payment: Payment
    shortcode: str
    received: Mapping[str, int]
    """By receipt, where the amount is known."""
    refunds: Sequence[Refund]
    tried: RefundTry


async def _money_of(using: PaymentReads, asked: BookingRefundRequest) -> _Money:
    """What stands of a booking now. Raises PaymentNotFound, or RefundBarred where no one payment can be meant."""
    async with using.lists, reading(using) as connection:
        driver = await driver_connection(connection)
        callers = await callers_of_booking(driver, asked.booking_id)
        caller = asked.caller or (callers[0] if callers else "")
        attempts = await read_attempts(driver, using.sealer, caller, asked.booking_id, ATTEMPTS_MAX)
        if not attempts:
            whose = f" of caller {asked.caller}" if asked.caller else ""
            raise PaymentNotFound(f"There is no payment of booking {asked.booking_id}{whose}.")
        if len(callers) > 1 and not asked.caller:
            # Whose passenger is meant cannot be told from the payments, whatever has become of them.
            raise RefundBarred(RefundBar.SEVERAL_CALLERS, attempts[-1])
        payment = _meant(attempts, asked)
        (row,) = await reads.payments_named(connection, [payment.payment_id])
        made = await reads.request_of(connection, payment.caller, payment.payment_id)
        refunds = await refunds_about(driver, [payment.payment_id])
        receipts = await receipts_of(driver, [payment.payment_id])
        names = request_ids(payment.payment_id, len(refunds))
        used = await kept_ids(connection, payment.caller, names)
    assert made is not None, "its row has been read"
    return _Money(
        row=row,
        payment=payment,
        shortcode=made.shortcode,
        received={receipt.receipt: int(receipt.amount) for receipt in receipts if receipt.amount is not None},
        refunds=refunds,
        tried=latest_try(names, used, refunds),
    )


def _meant(attempts: Sequence[Payment], asked: BookingRefundRequest) -> Payment:
    """The payment of a booking whose money goes back: the one that is named, or the only one it can be."""
    if asked.payment_id is not None:
        named = [one for one in attempts if one.payment_id == asked.payment_id]
        if not named:
            raise PaymentNotFound(f"Booking {asked.booking_id} has no payment {asked.payment_id}.")
        return named[0]
    payment = payment_to_refund(attempts)
    if isinstance(payment, RefundBar):
        raise RefundBarred(payment, attempts[-1], one_of=holding_money(attempts))
    return payment


def _amount_and_fee(money: _Money, shortcodes: Collection[str], asked: BookingRefundRequest) -> tuple[int, int]:
    """What goes back and what is kept; raises what bars it. The writer decides once more, under the payment's lock."""
    receipt = money.payment.receipt
    received = money.received.get(receipt or "")
    left = left_of(receipt, received, money.refunds) if receipt is not None else None
    fee = fee_of(left or 0, asked.fee_percent)
    amount = left - fee if left is not None and fee else None
    order = RefundOrder("", money.shortcode, asked.reason, amount, possible=money.shortcode in shortcodes)
    bar = bar_to_refund(money.payment, order, received, left, by_case=False)
    if bar is not None or left is None:
        raise RefundBarred(bar_by_booking(money.payment, bar or RefundBar.AMOUNT_UNKNOWN), money.payment, left or 0)
    return left - fee, fee


def _answer(using: PaymentReads, money: _Money, amount: int, fee: int = 0) -> BookingRefund:
    return BookingRefund(payment_view(money.row, using.sealer), money.shortcode, amount, fee, money.tried.refund)
