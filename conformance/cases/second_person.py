"""Money that one operator wants to move: nothing moves before another one agrees, whom a certificate tells apart."""

from __future__ import annotations

from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

from conformance.account import Account, Seen
from conformance.bodies import success_body
from conformance.caller import Caller, has_action, has_status, refused
from conformance.cases.casework import decision, operations, the_case
from conformance.cases.refunds import orders_of
from conformance.installation import Installation
from conformance.judgement import PATIENCE_SECONDS, expect
from conformance.running import case_with_certificates
from conformance.simulator import a_number
from development.certificates import APPROVER, OPERATOR

SECOND_RECEIPT = "TKS2M8V4Q7"


async def asked_back(town: Installation, phone: str) -> tuple[Account, Caller, pb.Approval]:
    """A paid booking of KES 500 that an operator wants to send back: above the amount, so it waits for another one."""
    account = (await town.lived(phone)).must(status="COMPLETED", action="CONFIRM")
    asker = await town.operator(OPERATOR)
    request = pb.RefundBookingRequest(
        booking_id=account.payment.booking_id,
        refund_reason=payment_pb2.REFUND_REASON_BOOKING_CANCELLED,
        operator="amina",
        reason="the bus broke down",
    )
    waits = (await operations(asker).RefundBooking(request, timeout=PATIENCE_SECONDS)).approval
    expect("what waits", waits.amount.units, 500)
    expect("orders to send money back", await orders_of(town, phone), [])
    return account, asker, waits


def agreed(waits: pb.Approval, operator: str = "brian") -> pb.DecideApprovalRequest:
    """That somebody who goes by this name approves what waits."""
    return pb.DecideApprovalRequest(
        approval_id=waits.approval_id,
        etag=waits.etag,
        decision=pb.DecideApprovalRequest.DECISION_APPROVE,
        operator=operator,
        reason="seen the ticket",
    )


@case_with_certificates
async def a_refund_above_the_amount_with_a_second_person(town: Installation) -> Seen:
    """One operator asks for KES 500 back, and a second one, with another certificate, approves; then it is sent."""
    phone = a_number()
    account, _, waits = await asked_back(town, phone)
    approver = await town.operator(APPROVER)
    await operations(approver).DecideApproval(agreed(waits), timeout=PATIENCE_SECONDS)
    payment = await town.first.when(account.payment.payment_id, has_status("REFUNDED"), "REFUNDED")
    expect("shillings that went back", [order["sent_kes"] for order in await orders_of(town, phone)], [500])
    account = (await town.account_of(payment, list(account.events))).must(action="RELEASE")
    return account.seen("nothing before the second agreed", "KES 500 returned once")


@case_with_certificates
async def a_refund_that_its_asker_approves_by_another_name(town: Installation) -> Seen:
    """One operator asks for KES 500 back, and approves it with the same certificate as somebody else."""
    phone = a_number()
    account, asker, waits = await asked_back(town, phone)
    refusal = await refused(operations(asker).DecideApproval(agreed(waits), timeout=PATIENCE_SECONDS))
    expect("the refusal", refusal.reason, "SECOND_PERSON_NEEDED")
    expect("orders to send money back", await orders_of(town, phone), [])
    found = await town.first.get(account.payment.payment_id)
    account = (await town.account_of(found, list(account.events))).must(status="COMPLETED", action="CONFIRM")
    return account.seen(f"the asker heard {refusal.name}")


@case_with_certificates
async def a_second_payment_that_two_operators_move(town: Installation) -> Seen:
    """A booking is paid twice; two operators move the second money to another booking, which nobody had paid."""
    phone = a_number()
    source = (await town.lived(phone)).must(status="COMPLETED")
    push = await town.simulator.prompted(phone)
    posted = await town.edge.post(push["callback_url"], content=success_body(push, SECOND_RECEIPT))
    expect("the answer to the second receipt", posted.status_code, 200)
    unpaid = (await town.lived(a_number("001"))).must(status="FAILED")
    asker, approver = await town.operator(OPERATOR), await town.operator(APPROVER)
    one = await the_case(asker, mpesa_receipt_number=SECOND_RECEIPT)
    moved = decision(one, resolution=pb.CASE_RESOLUTION_MOVE)
    moved.to_payment_id = unpaid.payment.payment_id
    waits = (await operations(asker).ResolveCase(moved, timeout=PATIENCE_SECONDS)).approval
    await operations(approver).DecideApproval(agreed(waits), timeout=PATIENCE_SECONDS)
    payment = await town.first.when(unpaid.payment.payment_id, has_action("CONFIRM"), "CONFIRM")
    expect("its receipt", payment.mpesa_receipt_number, SECOND_RECEIPT)
    kept = await town.first.get(source.payment.payment_id)
    expect("the receipt of the first booking", kept.mpesa_receipt_number, source.receipt)
    account = (await town.account_of(kept, list(source.events))).must(status="COMPLETED", action="CONFIRM")
    return account.seen("then the other booking CONFIRM")
