"""Money that goes back: once or not at all, and the caller is told which."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc.aio
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money

from conformance.account import Account, Seen
from conformance.caller import Holds, Started, has_status, refund_is, refusal_of, refused
from conformance.installation import Installation
from conformance.judgement import expect
from conformance.running import case, case_asked_soon
from conformance.simulator import UNTIL_TOLD


async def paid_before(town: Installation) -> tuple[str, Started]:
    """A payment that is confirmed, and its phone. The callback comes after the answer to the push is recorded."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    await town.simulator.settle(phone, ending="paid")
    (await town.account(started)).must(action="CONFIRM", debited=500)
    return phone, started


async def orders_of(town: Installation, phone: str) -> list[dict[str, Any]]:
    """What M-Pesa was asked to send back to a phone."""
    return list((await town.simulator.shown("orders", phone=phone))["orders"])


async def told_so(town: Installation, started: Started, phone: str, holds: Holds, returned: int) -> Account:
    """The account once the stream has told of the refund; M-Pesa was asked once, and so much has gone back."""
    account = await town.account(started, holds, "news of the refund")
    orders = await orders_of(town, phone)
    expect("orders to send money back", len(orders), 1)
    expect("shillings that went back", sum(order["sent_kes"] for order in orders), returned)
    return account.must(action="RELEASE")


@case
async def refund_carried_out(town: Installation) -> Seen:
    """A booking service cannot deliver what was paid for, and asks for the money to go back."""
    phone, started = await paid_before(town)
    answer = await town.second.refund(started.payment)
    expect("the refund as it was answered", refund_is("PENDING")(answer.payment), True)
    account = await told_so(town, started, phone, has_status("REFUNDED"), 500)
    account.must(path="PENDING → PROCESSING → COMPLETED → REFUNDED")
    expect("the amount that went back", account.payment.refunded_amount.units, 500)
    return account.seen(ledger="KES 500 returned")


@case
async def refund_asked_for_again_and_again(town: Installation) -> Seen:
    """RefundPayment comes five times with one request id, and five times with others, through two processes."""
    phone, started = await paid_before(town)
    one = str(uuid.uuid4())
    ids = [one if number % 2 else str(uuid.uuid4()) for number in range(10)]
    calls = [
        (town.first if number < 5 else town.second).refund(started.payment, request_id=request_id)
        for number, request_id in enumerate(ids)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    made = {answer.payment.refund.refund_id for answer in answers if isinstance(answer, pb.RefundPaymentResponse)}
    refusals = {refusal_of(answer).name for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
    expect("refunds", len(made), 1)
    expect("refusals", refusals, {"FAILED_PRECONDITION/REFUND_NOT_POSSIBLE"})
    account = await told_so(town, started, phone, has_status("REFUNDED"), 500)
    return account.seen("REFUND_NOT_POSSIBLE", "KES 500 returned once")


@case
async def refund_of_what_nobody_paid(town: Installation) -> Seen:
    """RefundPayment comes while the prompt is on the phone; then the passenger pays, and the booking is confirmed."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    refusal = await refused(town.first.refund(started.payment))
    expect("the refusal", refusal.name, "FAILED_PRECONDITION/REFUND_NOT_POSSIBLE")
    expect("its cause", refusal.metadata["cause"], "NOT_PAID")
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started, has_status("COMPLETED"))
    expect("orders to send money back", await orders_of(town, phone), [])
    return account.must(action="CONFIRM").seen("REFUND_NOT_POSSIBLE")


@case
async def refund_refused_by_mpesa(town: Installation) -> Seen:
    """M-Pesa has too little money for the refund; then there is enough, and the caller asks once more."""
    phone, started = await paid_before(town)
    await town.simulator.control(f"phones/{phone}/orders", carries_out=False, result_code=1)
    await town.first.refund(started.payment)
    failed = await told_so(town, started, phone, refund_is("FAILED"), 0)
    failed.must(status="COMPLETED")
    await town.first.refund(started.payment)
    account = await town.account(started, has_status("REFUNDED"))
    expect("orders to send money back", [order["sent_kes"] for order in await orders_of(town, phone)], [0, 500])
    return account.must(action="RELEASE").seen("failed, then done", "KES 500 returned once")


@case_asked_soon
async def refund_whose_answer_is_lost(town: Installation) -> Seen:
    """M-Pesa takes the refund and carries it out; its answer and its result are lost."""
    phone, started = await paid_before(town)
    await town.simulator.control(f"phones/{phone}/orders", answer="lost", result="never")
    await town.first.refund(started.payment)
    account = await told_so(town, started, phone, has_status("REFUNDED"), 500)
    return account.seen(ledger="1 order, KES 500 returned")


@case_asked_soon
async def refund_that_nobody_knows_of(town: Installation) -> Seen:
    """M-Pesa carries the refund out, and posts to the timeout address that nobody knows what became of it."""
    phone, started = await paid_before(town)
    await town.simulator.control(f"phones/{phone}/orders", result="queue_timeout")
    await town.first.refund(started.payment)
    account = await told_so(town, started, phone, has_status("REFUNDED"), 500)
    return account.seen(ledger="1 order, KES 500 returned")


def shillings(units: int) -> Money:
    return Money(currency_code="KES", units=units)


def has_returned(units: int) -> Holds:
    """Whether so much is said to have gone back."""
    return lambda payment: payment.refunded_amount.units == units


@case
async def part_of_a_payment_refunded(town: Installation) -> Seen:
    """A passenger cancels, the booking service keeps a fee of 50, and the rest goes back."""
    phone, started = await paid_before(town)
    cancelled = payment_pb2.REFUND_REASON_BOOKING_CANCELLED
    answer = await town.second.refund(started.payment, amount=shillings(450), reason=cancelled)
    expect("the reason that is kept", answer.payment.refund.reason, cancelled)
    account = await town.account(started, has_returned(450), "news of the part")
    orders = await orders_of(town, phone)
    expect("orders to send money back", [order["sent_kes"] for order in orders], [450])
    expect("refunds of the payment", [refund.amount.units for refund in account.payment.refunds], [450])
    return account.must(status="COMPLETED", action="RELEASE").seen(ledger="KES 450 returned")


@case
async def parts_and_one_too_much(town: Installation) -> Seen:
    """Four calls at once, through two processes, each for 150 of 500 shillings."""
    phone, started = await paid_before(town)
    other = payment_pb2.REFUND_REASON_OTHER
    calls = [
        caller.refund(started.payment, amount=shillings(150), reason=other)
        for caller in (town.first, town.second, town.first, town.second)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [refusal_of(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    expect("refusals", [refusal.metadata["cause"] for refusal in refusals], ["ABOVE_WHAT_IS_LEFT"])
    account = await town.account(started, has_returned(450), "news of the parts")
    orders = await orders_of(town, phone)
    expect("orders to send money back", [order["sent_kes"] for order in orders], [150] * 3)
    account.must(status="COMPLETED", action="CONFIRM")
    await town.first.refund(started.payment, reason=other)
    account = await town.account(started, has_status("REFUNDED"))
    expect("shillings that went back", sum(order["sent_kes"] for order in await orders_of(town, phone)), 500)
    return account.must(action="RELEASE").seen("ABOVE_WHAT_IS_LEFT", "KES 450, then 50 returned")


@case_asked_soon
async def part_whose_answer_is_lost(town: Installation) -> Seen:
    """M-Pesa takes the order for a part and carries it out; its answer and its result are lost."""
    phone, started = await paid_before(town)
    await town.simulator.control(f"phones/{phone}/orders", answer="lost", result="never")
    await town.first.refund(started.payment, amount=shillings(200), reason=payment_pb2.REFUND_REASON_OTHER)
    account = await town.account(started, has_returned(200), "news of the part")
    orders = await orders_of(town, phone)
    expect("orders to send money back", [order["sent_kes"] for order in orders], [200])
    return account.must(status="COMPLETED", action="CONFIRM").seen(ledger="1 order, KES 200 returned")
