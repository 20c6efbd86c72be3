"""The methods of OperationsService: parse, call, render, as in `methods`."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.application.approving import ask_second_person as asking
from payment_service.application.approving import decide_approval as deciding
from payment_service.application.approving import show_approvals as showing_approvals
from payment_service.application.approving.ask_second_person import ApprovalTools
from payment_service.application.casework import find_payments as finding
from payment_service.application.casework import show_cases as showing
from payment_service.application.casework import take_case as taking
from payment_service.application.collecting import prompt_switch as switching
from payment_service.application.collecting import risk_list as listing
from payment_service.application.following import consumers as looking_after
from payment_service.application.following.read_payments import reading
from payment_service.application.inspecting import explain_payment as explaining
from payment_service.application.privacy import erase_person as erasing
from payment_service.application.privacy import export_person as exporting
from payment_service.application.refunding import ask_float as asking_float
from payment_service.rpc import approval_replies, privacy_replies
from payment_service.rpc import operations_replies as replies
from payment_service.rpc import operations_requests as requests
from payment_service.rpc.calls import Call, Unary
from payment_service.rpc.cursors import Page, page_token, read_page_token
from payment_service.rpc.methods import Core
from payment_service.store.engines import driver_connection


async def list_cases(core: Core, _call: Call, message: pb.ListCasesRequest) -> pb.ListCasesResponse:
    """ListCases."""
    wanted, page_size = requests.parse_case_list(message, core.clock())
    filters = f"cases {message.kind} {message.owner} {message.booking_id} {message.overdue}".encode()
    after = read_page_token(message.page_token, filters, core.token_keys).before if message.page_token else None
    page = await showing.list_cases(core.reads, wanted, after, page_size)
    last = page.cases[-1].case_id if page.more else None
    return replies.cases_listed(page.cases, _next_page(core, last, filters))


async def get_case(core: Core, _call: Call, message: pb.GetCaseRequest) -> pb.GetCaseResponse:
    """GetCase."""
    return replies.case_found(await showing.get_case(core.reads, requests.parse_case_id(message)))


async def take_case(core: Core, _call: Call, message: pb.TakeCaseRequest) -> pb.TakeCaseResponse:
    """TakeCase."""
    asked = requests.parse_taking(message)
    file = await taking.take_case(core.reads, core.clock, asked.case_id, asked.seen, asked.operator, asked.why)
    return replies.case_taken(file)


async def resolve_case(core: Core, call: Call, message: pb.ResolveCaseRequest) -> pb.ResolveCaseResponse:
    """ResolveCase."""
    asked = requests.parse_decision(message)
    person = call.person(asked.operator)
    return replies.case_resolved(*await asking.resolve_or_ask(_approving(core), asked, person, core.clock()))


async def find_payments(core: Core, _call: Call, message: pb.FindPaymentsRequest) -> pb.FindPaymentsResponse:
    """FindPayments."""
    wanted, page_size = requests.parse_search(message, core.reads.sealer)
    filters = f"payments {wanted!r}".encode()
    before = read_page_token(message.page_token, filters, core.token_keys).before if message.page_token else None
    found = await finding.find_payments(core.reads, wanted, before, page_size)
    last = found.payments[-1].payment_id if found.more else None
    return replies.payments_found(found, _next_page(core, last, filters))


async def explain_payment(core: Core, _call: Call, message: pb.ExplainPaymentRequest) -> pb.ExplainPaymentResponse:
    """ExplainPayment."""
    reference = requests.parse_explanation(message)
    async with core.reads.lists, reading(core.reads) as connection:
        story = await explaining.explain_payment(core.reads.sealer, await driver_connection(connection), reference)
    return replies.payment_explained(story)


async def get_prompt_switch(core: Core, _call: Call, _message: pb.GetPromptSwitchRequest) -> pb.GetPromptSwitchResponse:
    """GetPromptSwitch."""
    turn = await switching.read_switch(core.reads)
    return pb.GetPromptSwitchResponse(prompt_switch=replies.prompt_switch(turn))


async def turn_prompt_switch(
    core: Core, _call: Call, message: pb.TurnPromptSwitchRequest
) -> pb.TurnPromptSwitchResponse:
    """TurnPromptSwitch."""
    asked = requests.parse_switch_turn(message)
    turn = await switching.turn_prompt_switch(core.reads, stop=asked.stop, operator=asked.operator, reason=asked.reason)
    return pb.TurnPromptSwitchResponse(prompt_switch=replies.prompt_switch(turn))


async def refund_booking(core: Core, call: Call, message: pb.RefundBookingRequest) -> pb.RefundBookingResponse:
    """RefundBooking."""
    asked = requests.parse_booking_refund(message)
    return replies.booking_refunded(*await asking.refund_or_ask(_approving(core), asked, call.caller, core.clock()))


async def get_float(core: Core, _call: Call, message: pb.GetFloatRequest) -> pb.GetFloatResponse:
    """GetFloat."""
    payment_id, for_parts = requests.parse_float_question(message)
    return replies.float_found(await asking_float.ask_float(core.questions, core.reads, payment_id, for_parts))


async def list_approvals(core: Core, _call: Call, message: pb.ListApprovalsRequest) -> pb.ListApprovalsResponse:
    """ListApprovals."""
    page_size = requests.parse_approval_list(message)
    after = read_page_token(message.page_token, b"approvals", core.token_keys).before if message.page_token else None
    page = await showing_approvals.list_approvals(core.reads, after, page_size)
    last = page.approvals[-1].approval_id if page.more else None
    return approval_replies.approvals_listed(page.approvals, _next_page(core, last, b"approvals"))


async def get_approval(core: Core, _call: Call, message: pb.GetApprovalRequest) -> pb.GetApprovalResponse:
    """GetApproval."""
    file = await showing_approvals.get_approval(core.reads, requests.parse_approval_id(message))
    return approval_replies.approval_found(file)


async def decide_approval(core: Core, call: Call, message: pb.DecideApprovalRequest) -> pb.DecideApprovalResponse:
    """DecideApproval."""
    asked = requests.parse_approval_decision(message, call.person(message.operator))
    return approval_replies.approval_decided(await deciding.decide_approval(_approving(core), asked, core.clock()))


def _approving(core: Core) -> ApprovalTools:
    return ApprovalTools(core.reads, core.facts, core.refund_shortcodes)


async def get_risk(core: Core, _call: Call, message: pb.GetRiskRequest) -> pb.GetRiskResponse:
    """GetRisk."""
    phone = requests.parse_risk_question(message, core.reads.sealer)
    return replies.risk_found(core.risk, await listing.read_risk(core.reads, phone, core.clock()))


async def list_phone(core: Core, _call: Call, message: pb.ListPhoneRequest) -> pb.ListPhoneResponse:
    """ListPhone."""
    asked = requests.parse_listing(message, core.reads.sealer, core.clock())
    return pb.ListPhoneResponse(turn=replies.list_turn(await listing.list_phone(core.reads, asked)))


async def list_consumers(core: Core, _call: Call, _message: pb.ListConsumersRequest) -> pb.ListConsumersResponse:
    """ListConsumers."""
    now, states = core.clock(), await looking_after.list_consumers(core.reads)
    return pb.ListConsumersResponse(consumers=[replies.consumer(one, now) for one in states])


async def rewind_consumer(core: Core, _call: Call, message: pb.RewindConsumerRequest) -> pb.RewindConsumerResponse:
    """RewindConsumer."""
    asked, now = requests.parse_rewinding(message), core.clock()
    state = await looking_after.rewind_consumer(core.reads, asked, now)
    return pb.RewindConsumerResponse(consumer=replies.consumer(state, now))


async def forget_consumer(core: Core, _call: Call, message: pb.ForgetConsumerRequest) -> pb.ForgetConsumerResponse:
    """ForgetConsumer."""
    await looking_after.forget_consumer(core.reads, requests.parse_forgetting(message), core.clock())
    return pb.ForgetConsumerResponse()


async def export_person(core: Core, call: Call, message: pb.ExportPersonRequest) -> pb.ExportPersonResponse:
    """ExportPerson."""
    asked = requests.parse_export(message, core.reads.sealer, call.caller)
    filters = f"export {asked.whose!r}".encode()
    before = read_page_token(message.page_token, filters, core.token_keys).before if message.page_token else None
    page = await exporting.export_person(core.reads, asked, before)
    return privacy_replies.exported(page, _next_page(core, page.next_before, filters))


async def erase_person(core: Core, call: Call, message: pb.ErasePersonRequest) -> pb.ErasePersonResponse:
    """ErasePerson."""
    asked = requests.parse_erasure(message, call.caller)
    return privacy_replies.erased(await erasing.erase_person(core.erasing, asked, core.clock()))


def _next_page(core: Core, last: UUID | None, filters: bytes) -> str:
    if last is None:
        return ""
    return page_token(Page(last, core.reads.feed.bookmark), filters, core.token_keys)


OPERATIONS: Final[Mapping[str, Unary]] = {
    "mpesa_payments.v1.OperationsService/ListCases": Unary(list_cases),
    "mpesa_payments.v1.OperationsService/GetCase": Unary(get_case),
    "mpesa_payments.v1.OperationsService/TakeCase": Unary(take_case),
    "mpesa_payments.v1.OperationsService/ResolveCase": Unary(resolve_case),
    "mpesa_payments.v1.OperationsService/FindPayments": Unary(find_payments),
    "mpesa_payments.v1.OperationsService/ExplainPayment": Unary(explain_payment),
    "mpesa_payments.v1.OperationsService/GetPromptSwitch": Unary(get_prompt_switch),
    "mpesa_payments.v1.OperationsService/TurnPromptSwitch": Unary(turn_prompt_switch),
    "mpesa_payments.v1.OperationsService/RefundBooking": Unary(refund_booking),
    "mpesa_payments.v1.OperationsService/GetFloat": Unary(get_float),
    "mpesa_payments.v1.OperationsService/ListApprovals": Unary(list_approvals),
    "mpesa_payments.v1.OperationsService/GetApproval": Unary(get_approval),
    "mpesa_payments.v1.OperationsService/DecideApproval": Unary(decide_approval),
    "mpesa_payments.v1.OperationsService/GetRisk": Unary(get_risk),
    "mpesa_payments.v1.OperationsService/ListPhone": Unary(list_phone),
    "mpesa_payments.v1.OperationsService/ListConsumers": Unary(list_consumers),
    "mpesa_payments.v1.OperationsService/RewindConsumer": Unary(rewind_consumer),
    "mpesa_payments.v1.OperationsService/ForgetConsumer": Unary(forget_consumer),
    "mpesa_payments.v1.OperationsService/ExportPerson": Unary(export_person),
    "mpesa_payments.v1.OperationsService/ErasePerson": Unary(erase_person),
}
"""Every method for operators."""
