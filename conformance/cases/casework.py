"""What operators do when a passenger says "I paid": found by what is known, settled once, and told to the booking."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1.operations_service_pb2_grpc import OperationsServiceStub

from conformance.account import Account, Seen
from conformance.bodies import success_body
from conformance.caller import Caller, a_request, has_action, has_reason, has_status, refund_is, refusal_of, refused
from conformance.cases.late import paid_after_expiry
from conformance.cases.refunds import orders_of
from conformance.installation import Installation
from conformance.judgement import PATIENCE_SECONDS, expect
from conformance.running import case, case_alone, case_given_up_soon
from conformance.simulator import UNTIL_TOLD, a_number

SECOND_RECEIPT = "TKS2M8V4Q8"


def operations(caller: Caller) -> OperationsServiceStub:
    """The same process, as operators call it."""
    return OperationsServiceStub(caller.channel)


async def the_case(caller: Caller, **known: Any) -> pb.Case:
    """The one case of the payments that are found so."""
    found = await operations(caller).FindPayments(pb.FindPaymentsRequest(**known), timeout=PATIENCE_SECONDS)
    expect("cases", len(found.cases), 1)
    return found.cases[0]


def decision(
    one: pb.Case, operator: str = "amina", resolution: pb.CaseResolution.ValueType = pb.CASE_RESOLUTION_ACCEPT
) -> pb.ResolveCaseRequest:
    """That the money is accepted, or something else."""
    return pb.ResolveCaseRequest(
        case_id=one.case_id,
        etag=one.etag,
        resolution=resolution,
        operator=operator,
        reason="as the passenger wants it",
    )


async def confirmed(town: Installation, account: Account, one: pb.Case) -> Account:
    """The account once an operator has accepted the money."""
    await operations(town.second).ResolveCase(decision(one), timeout=PATIENCE_SECONDS)
    payment = await town.first.when(account.payment.payment_id, has_action("CONFIRM"), "CONFIRM")
    return (await town.account_of(payment, list(account.events))).must(action="CONFIRM")


@case_given_up_soon
async def late_money_that_an_operator_accepts(town: Installation) -> Seen:
    """Found by its receipt, late money under review is accepted; the booking's watch tells CONFIRM."""
    account = (await paid_after_expiry(town)).must(action="REVIEW")
    one = await the_case(town.second, mpesa_receipt_number=account.receipt)
    expect("the kind", one.kind, pb.CASE_KIND_LATE_PAYMENT)
    return (await confirmed(town, account, one)).seen("after an operator's ACCEPT")


@case
async def a_wrong_amount_that_an_operator_accepts(town: Installation) -> Seen:
    """A shilling too little comes; found by the phone number, it is accepted as enough."""
    phone = await town.simulator.phone({"callback_items": {"Amount": 499}, "pull": "never"})
    started = await town.first.initiate(phone)
    account = await town.account(started, has_reason("AMOUNT_DIFFERS"), "the wrong amount")
    one = await the_case(town.second, phone_number=phone)
    expect("the amount", one.amount.units, 499)
    account = await confirmed(town, account, one)
    return account.must(status="COMPLETED", prompts=1).seen("after an operator's ACCEPT")


@case
async def two_operators_settle_one_case(town: Installation) -> Seen:
    """Two operators see the same case and decide at once, through two processes."""
    phone = await town.simulator.phone({"callback_items": {"Amount": 499}, "pull": "never"})
    started = await town.first.initiate(phone)
    account = await town.account(started, has_reason("AMOUNT_DIFFERS"), "the wrong amount")
    one = await the_case(town.first, booking_id=account.payment.booking_id)
    answers = await asyncio.gather(
        *(
            operations(caller).ResolveCase(decision(one, operator), timeout=PATIENCE_SECONDS)
            for caller, operator in ((town.first, "amina"), (town.second, "brian"))
        ),
        return_exceptions=True,
    )
    refusals = [refusal_of(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    expect("refusals", [refusal.reason for refusal in refusals], ["CASE_SETTLED"])
    payment = await town.first.when(account.payment.payment_id, has_action("CONFIRM"), "CONFIRM")
    return (await town.account_of(payment, list(account.events))).seen(f"the other heard {refusals[0].name}")


@case
async def a_double_payment_that_an_operator_returns(town: Installation) -> Seen:
    """Both attempts of a booking are paid; an operator returns the second, twice over, and the first keeps the seat."""
    phone, second_phone = a_number("001"), await town.simulator.phone(UNTIL_TOLD)
    first = await town.first.initiate(phone)
    failed = await town.account(first, has_status("FAILED"))
    second = await town.second.initiate(second_phone, booking_id=failed.payment.booking_id)
    await town.simulator.settle(phone, ending="paid")
    await town.account(first, has_status("COMPLETED"))
    await town.simulator.settle(second_phone, ending="paid")
    double = (await town.account(second, has_status("COMPLETED"))).must(action="REVIEW")
    one = await the_case(town.first, mpesa_receipt_number=double.receipt)
    expect("the kind", one.kind, pb.CASE_KIND_DUPLICATE_PAYMENT)
    returned = decision(one, resolution=pb.CASE_RESOLUTION_RETURN)
    await operations(town.first).ResolveCase(returned, timeout=PATIENCE_SECONDS)
    refusal = await refused(operations(town.second).ResolveCase(decision(one), timeout=PATIENCE_SECONDS))
    account = await town.account(second, has_status("REFUNDED"))
    orders = await orders_of(town, second_phone)
    expect("shillings that went back", [order["sent_kes"] for order in orders], [500])
    ended = await the_case(town.second, mpesa_receipt_number=double.receipt)
    expect("how the case ended", ended.resolution, pb.CASE_RESOLUTION_RETURN)
    expect("the first attempt", (await town.account(first)).must(action="CONFIRM").payment.refunded_amount.units, 0)
    return account.must(action="FOLLOW_SIBLING").seen(f"then {refusal.reason}", "KES 500 returned once")


@case
async def a_second_receipt_that_m_pesa_does_not_have_is_not_reversed(town: Installation) -> Seen:
    """A callback tells of a second receipt, and an operator returns it. M-Pesa has no such receipt, and says so when
    it is asked; so nothing is ordered."""
    phone = a_number()
    paid = (await town.lived(phone)).must(status="COMPLETED", action="CONFIRM")
    push = await town.simulator.prompted(phone)
    posted = await town.edge.post(push["callback_url"], content=success_body(push, SECOND_RECEIPT))
    expect("the answer to the second receipt", posted.status_code, 200)
    one = await the_case(town.first, mpesa_receipt_number=SECOND_RECEIPT)
    expect("the kind", one.kind, pb.CASE_KIND_SECOND_RECEIPT)
    returned = decision(one, resolution=pb.CASE_RESOLUTION_RETURN)
    await operations(town.first).ResolveCase(returned, timeout=PATIENCE_SECONDS)
    await town.simulator.answered_about(SECOND_RECEIPT)
    payment = await town.second.get(paid.payment.payment_id)
    expect("the refund is pending", refund_is("PENDING")(payment), True)
    expect("orders to send money back", await orders_of(town, phone), [])
    expect("the receipt", payment.mpesa_receipt_number, paid.receipt)
    account = (await town.account_of(payment, list(paid.events))).must(status="COMPLETED", action="CONFIRM")
    return account.seen("the refund waits for a proof that never comes", "KES 500 kept")


@case
async def a_payment_that_nobody_knows_is_not_found(town: Installation) -> Seen:
    """A passenger names a phone number that never paid: nothing is found, and nothing is said of others."""
    found = await operations(town.first).FindPayments(
        pb.FindPaymentsRequest(phone_number=a_number()), timeout=PATIENCE_SECONDS
    )
    expect("payments", len(found.payments), 0)
    return Seen("nothing found", "nothing paid")


@case_alone
async def prompts_stopped_by_an_operator(arena: Installation) -> Seen:
    """An operator stops all new prompts while one is on a phone; the passenger pays; then prompts are allowed again."""
    phone, other = await arena.simulator.phone(UNTIL_TOLD), a_number()
    request = a_request(phone)
    started = await arena.first.ask(request)
    await arena.simulator.prompted(phone)
    await turn_prompt_switch(arena, pb.TurnPromptSwitchRequest.TURN_STOP)
    try:
        barred = await refused(arena.first.initiate(other))
        repeat = await arena.second.ask(request)
        await arena.simulator.settle(phone, ending="paid")
        account = await arena.account(started)
    finally:
        await turn_prompt_switch(arena, pb.TurnPromptSwitchRequest.TURN_ALLOW)
    expect("another payment", barred.name, "FAILED_PRECONDITION/PROMPTS_STOPPED")
    expect("pushes to its phone", await arena.simulator.pushes(phone=other), [])
    expect("a repeat of the first call", repeat.replayed, True)
    (await arena.lived(other)).must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen(f"another meanwhile: {barred.reason}, and later COMPLETED")


async def turn_prompt_switch(arena: Installation, turn: pb.TurnPromptSwitchRequest.Turn.ValueType) -> None:
    """Stop all new prompts, or allow them."""
    asked = pb.TurnPromptSwitchRequest(turn=turn, operator="amina", reason="wrong prices")
    await operations(arena.second).TurnPromptSwitch(asked, timeout=PATIENCE_SECONDS)
