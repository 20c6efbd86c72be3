"""What somebody who is not Safaricom posts: nothing of it becomes money, and operators hear of what is a lie."""

from __future__ import annotations

import itertools

from mpesa_payments.v1 import operations_service_pb2 as pb

from conformance.account import Seen
from conformance.bodies import success_body
from conformance.caller import has_action, refund_is
from conformance.cases.casework import operations
from conformance.cases.refunds import orders_of
from conformance.installation import Installation
from conformance.judgement import PATIENCE_SECONDS, expect, until
from conformance.running import case, case_asked_soon
from conformance.simulator import NO_NEWS, a_number

HINT_PATH = "/api/v1/payments/mpesa/callback"
# The prompt stays open until the case ends it, and nobody is told of its end.
UNHEARD = {**NO_NEWS, "callback_delay_seconds": 3600}
ALARM = '"alarm":"success_unbacked"'
_RECEIPTS = itertools.count(1)


def a_receipt() -> str:
    """A receipt number that M-Pesa has never given."""
    return f"FRGD{next(_RECEIPTS):06d}"


@case
async def a_hint_without_a_token(town: Installation) -> Seen:
    """The passenger cancels and no callback comes; a stranger posts a success to the address without a token."""
    phone = await town.simulator.phone(UNHEARD)
    started = await town.first.prompt(phone)
    push = await town.simulator.prompted(phone)
    await town.simulator.settle(phone, ending="cancelled")
    answer = await town.edge.post(HINT_PATH, content=success_body(push, a_receipt()))
    expect("the answer to the stranger", answer.status_code, 200)
    account = await town.account(started)
    account.must(path="PENDING → PROCESSING → CANCELLED", reason="DECLINED_BY_CUSTOMER", receipt="", debited=0)
    return account.seen("a query told the truth", "no callback")


@case_asked_soon
async def a_success_forged_at_the_right_address(town: Installation) -> Seen:
    """A proxy's log leaks a callback's address, and a thief posts a perfect success; the passenger never pays."""
    phone = await town.simulator.phone(UNHEARD)
    started = await town.first.prompt(phone)
    push = await town.simulator.prompted(phone)
    forged = await town.edge.post(push["callback_url"], content=success_body(push, a_receipt()))
    expect("the answer to the thief", forged.status_code, 200)
    await town.first.followed(started, has_action("CONFIRM"), "what a thief can have: a booking that is confirmed")
    await town.simulator.settle(phone, ending="cancelled")
    reference = started.payment.reference
    found = await until(lambda: _open_case(town, reference), "a case about money that M-Pesa denies")
    expect("the kind", found.kind, pb.CASE_KIND_UNBACKED_MONEY)
    await until(lambda: _alarm(town, reference), "the alarm")
    expect("shillings paid", [one["debited_kes"] for one in await town.simulator.pushes(phone=phone)], [0])
    return Seen("COMPLETED, CONFIRM; a money case and an alarm as soon as a query denied it", "1 prompt, nothing paid")


@case
async def a_refund_of_a_success_forged_with_the_receipt_of_somebody_else(town: Installation) -> Seen:
    """A thief posts a success with the receipt of a stranger, who has paid the same PayBill for something else. The
    booking service cannot deliver, and asks for the money to go back."""
    stranger, phone = a_number(), await town.simulator.phone(UNHEARD)
    receipt = await town.simulator.pay_by_hand(stranger, account="RENT12", kes=500)
    started = await town.first.prompt(phone)
    push = await town.simulator.prompted(phone)
    forged = await town.edge.post(push["callback_url"], content=success_body(push, receipt))
    expect("the answer to the thief", forged.status_code, 200)
    await town.first.followed(started, has_action("CONFIRM"), "what a thief can have: a booking that is confirmed")
    await town.second.refund(started.payment)
    await town.simulator.answered_about(receipt)
    payment = await town.first.get(started.payment.payment_id)
    expect("the refund is pending", refund_is("PENDING")(payment), True)
    expect("orders to send the stranger's money back", await orders_of(town, stranger), [])
    expect(
        "shillings paid by the passenger", [one["debited_kes"] for one in await town.simulator.pushes(phone=phone)], [0]
    )
    return Seen("COMPLETED, RELEASE; the refund waits for a proof that never comes", "the stranger's KES 500 stay")


async def _open_case(town: Installation, reference: str) -> pb.Case | None:
    asked = pb.FindPaymentsRequest(reference=reference)
    found = await operations(town.second).FindPayments(asked, timeout=PATIENCE_SECONDS)
    return next(iter(found.cases), None)


async def _alarm(town: Installation, reference: str) -> bool | None:
    """Whether a process has called for a person; by its log, as whoever watches it."""
    lines = [line for log in town.system.logs.glob("*.log") for line in log.read_text(encoding="utf-8").splitlines()]
    return any(ALARM in line and reference in line for line in lines) or None
