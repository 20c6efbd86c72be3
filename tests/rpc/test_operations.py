"""OperationsService over the wire: what operators find, see, take and settle, and what they are refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import callback_service_pb2 as callback_pb
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2, payment_service_pb2

from payment_service.domain.facts import WatchEnded
from runtime.callback_tokens import callback_token
from tests.application.casework.casefiles import expired, late, pulled
from tests.databases import Database
from tests.rows import count
from tests.rpc.answers import refused
from tests.rpc.processes import Process, paid, sent
from tests.rpc.test_methods import a_message
from tests.sending import CALLBACK_KEYS

STOP = pb.TurnPromptSwitchRequest.TURN_STOP
ACCEPT, DISMISS = pb.CASE_RESOLUTION_ACCEPT, pb.CASE_RESOLUTION_DISMISS


async def the_case(process: Process, **filters: Any) -> pb.Case:
    (case,) = (await process.operations.ListCases(pb.ListCasesRequest(**filters))).cases
    return case


def decision(case: pb.Case, **changed: Any) -> pb.ResolveCaseRequest:
    fields: dict[str, Any] = {
        "case_id": case.case_id,
        "etag": case.etag,
        "resolution": ACCEPT,
        "operator": "amina",
        "reason": "the passenger has the message, ticket 17",
    }
    return pb.ResolveCaseRequest(**(fields | changed))


async def found(process: Process, **known: Any) -> pb.FindPaymentsResponse:
    return await process.operations.FindPayments(pb.FindPaymentsRequest(**known))


async def test_a_passenger_who_says_i_paid_is_found_explained_accepted_and_confirmed(
    process: Process, database: Database
) -> None:
    payment = await late(process, 1, "RCPT000001")
    await process.caught_up()
    listed = await process.payments.GetPayment(
        payment_service_pb2.GetPaymentRequest(payment_id=str(payment.payment_id))
    )
    assert listed.payment.booking_action == payment_pb2.BOOKING_ACTION_REVIEW

    by_phone = await found(process, phone_number="0712 345 678")
    assert [one.payment.payment_id for one in by_phone.payments] == [str(payment.payment_id)]
    assert by_phone.payments[0].payment.masked_phone == "2547*****678"
    (case,) = by_phone.cases
    assert (case.kind, case.about_money) == (pb.CASE_KIND_LATE_PAYMENT, True)
    assert list(case.allowed_resolutions) == [ACCEPT, pb.CASE_RESOLUTION_RETURN, pb.CASE_RESOLUTION_DISMISS]

    shown = await process.operations.GetCase(pb.GetCaseRequest(case_id=case.case_id))
    assert shown.case == case
    assert "712345678" not in str(shown)

    settled = await process.operations.ResolveCase(decision(case))
    assert settled.attempts[0].payment.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM
    watched = process.payments.WatchPayment(
        payment_service_pb2.WatchPaymentRequest(payment_id=str(payment.payment_id), cursor=listed.cursor, follow=True)
    )
    told = [event async for message in watched for event in message.events]
    assert [event.payment.booking_action for event in told] == [payment_pb2.BOOKING_ACTION_CONFIRM]
    (act,) = (await process.operations.GetCase(pb.GetCaseRequest(case_id=case.case_id))).acts
    assert (act.kind, act.operator, act.reason) == (
        pb.CaseAct.KIND_ACCEPT,
        "amina",
        "the passenger has the message, ticket 17",
    )
    assert await count(database, "case_acts") == 1


async def test_cases_are_listed_by_deadline_page_by_page_and_by_filter(process: Process) -> None:
    clock = process.writers.clock
    for claim in (1, 2, 3):
        await late(process, claim, f"RCPT00000{claim}")
        clock.move(60)
    second = await process.tell(await process.create(booking_id="BK-SECOND"), *sent(4), paid("RCPT000004"))
    await process.tell(second, paid("RCPT000005"))
    everything = (await process.operations.ListCases(pb.ListCasesRequest())).cases
    deadlines = [case.deadline_time.ToNanoseconds() for case in everything]
    assert (deadlines, len(everything)) == (sorted(deadlines), 4)
    pages, token = [], ""
    while True:
        page = await process.operations.ListCases(pb.ListCasesRequest(page_size=3, page_token=token))
        pages.append(len(page.cases))
        if not (token := page.next_page_token):
            break
    assert pages == [3, 1]
    assert (await the_case(process, kind=pb.CASE_KIND_SECOND_RECEIPT)).booking_id == "BK-SECOND"
    assert (await the_case(process, booking_id="BK-SECOND")).kind == pb.CASE_KIND_SECOND_RECEIPT
    clock.move(3 * 3600)
    overdue = (await process.operations.ListCases(pb.ListCasesRequest(overdue=True))).cases
    assert {case.kind for case in overdue} == {pb.CASE_KIND_LATE_PAYMENT}
    taking = pb.TakeCaseRequest(case_id=overdue[0].case_id, etag=overdue[0].etag, operator="amina", reason="mine")
    taken = (await process.operations.TakeCase(taking)).case
    assert (taken.owner, taken.take_time.ToDatetime(clock.now.tzinfo)) == ("amina", clock.now)
    assert (await the_case(process, owner="amina")) == taken
    first = await process.operations.ListCases(pb.ListCasesRequest(page_size=1))
    wrong = process.operations.ListCases(pb.ListCasesRequest(owner="amina", page_token=first.next_page_token))
    assert (await refused(wrong)).reason == "PAGE_TOKEN_INVALID"


async def test_payments_are_found_by_whatever_is_known_of_them(process: Process) -> None:
    payment = await expired(process, 1, "BK-FOUND")
    await process.tell(payment, pulled("RCPT000001"))
    created = await process.create(request_id="the-other")
    other = await process.tell(created, *sent(2), paid("RCPT000002"))
    mine, others = [str(payment.payment_id)], [str(other.payment_id)]

    async def ids(**known: Any) -> list[str]:
        return [one.payment.payment_id for one in (await found(process, **known)).payments]

    both = [*others, *mine]
    for spelling in ("0712345678", "+254 712-345-678", "254712345678"):
        assert await ids(phone_number=spelling) == both
    assert await ids(phone_number="0712345679") == []
    assert await ids(booking_id="BK-FOUND") == mine
    assert await ids(reference=payment.reference.upper()) == mine
    assert await ids(request_id="the-other") == others
    assert await ids(mpesa_receipt_number="rcpt000002") == others
    # It stands in the case alone.
    assert await ids(mpesa_receipt_number="RCPT000001") == mine
    page = await found(process, phone_number="0712345678", page_size=1)
    rest = await found(process, phone_number="0712345678", page_size=1, page_token=page.next_page_token)
    assert [page.payments[0].payment.payment_id, rest.payments[0].payment.payment_id] == both
    assert rest.next_page_token == ""
    token = page.next_page_token
    refusal = await refused(process.operations.FindPayments(pb.FindPaymentsRequest(booking_id="x", page_token=token)))
    assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_a_receipt_in_a_case_about_no_payment_is_found_too(process: Process) -> None:
    reference, items = "bcdfghjknprt", [{"Name": "MpesaReceiptNumber", "Value": "RCPT000001"}]
    result = {"ResultCode": 0, "ResultDesc": "paid", "CallbackMetadata": {"Item": items}}
    callback = callback_pb.Callback(
        kind=callback_pb.CALLBACK_KIND_STK,
        reference=reference,
        token=callback_token(CALLBACK_KEYS, "stk", reference),
        body=json.dumps({"Body": {"stkCallback": result}}).encode(),
    )
    await process.callbacks.SubmitCallbacks(callback_pb.SubmitCallbacksRequest(callbacks=[callback]))
    answer = await found(process, mpesa_receipt_number="RCPT000001")
    assert list(answer.payments) == []
    assert [(case.kind, case.payment_id, case.reference) for case in answer.cases] == [
        (pb.CASE_KIND_UNKNOWN_PAYMENT, "", reference)
    ]


async def test_a_receipt_that_an_operator_has_found_is_found_again(process: Process) -> None:
    payment = await expired(process, 1)
    process.writers.clock.move(49 * 3600)
    await process.tell(payment, WatchEnded())
    await process.operations.ResolveCase(decision(await the_case(process), mpesa_receipt_number="RCPT000001"))
    answer = await found(process, mpesa_receipt_number="RCPT000001")
    assert [one.payment.payment_id for one in answer.payments] == [str(payment.payment_id)]
    assert [case.resolution for case in answer.cases] == [ACCEPT]


async def test_what_came_in_a_stretch_of_time_is_added_up(process: Process) -> None:
    clock = process.writers.clock
    began = clock.now
    for claim in (1, 2):
        await process.tell(await process.create(), *sent(claim), paid(f"RCPT00000{claim}"))
        clock.move(60)
    odd = await process.tell(await process.create(), *sent(3), paid("RCPT000003", 499))
    await process.operations.ResolveCase(decision(await the_case(process)))
    assert odd.amount == 500
    clock.move(3600)
    await process.tell(await process.create(), *sent(4), paid("RCPT000004"))

    def within(first: timedelta, end: timedelta) -> pb.FindPaymentsRequest.TimeRange:
        times = [Timestamp(), Timestamp()]
        for stamp, moment in zip(times, (began + first, began + end), strict=True):
            stamp.FromDatetime(moment)
        return pb.FindPaymentsRequest.TimeRange(from_time=times[0], before_time=times[1])

    answer = await found(process, complete_time=within(timedelta(seconds=-1), timedelta(minutes=30)), page_size=2)
    assert (answer.takings.payments, answer.takings.received.units) == (3, 1499)
    assert (answer.takings.returned_payments, answer.takings.returned.units) == (0, 0)
    assert len(answer.payments) == 2
    empty = await found(process, complete_time=within(timedelta(days=-2), timedelta(days=-1)))
    assert (empty.takings.payments, list(empty.payments)) == (0, [])
    for first, end in ((0, 0), (1, 0), (0, 32)):
        asked = pb.FindPaymentsRequest(complete_time=within(timedelta(days=first), timedelta(days=end)))
        refusal = await refused(process.operations.FindPayments(asked))
        assert list(refusal.fields) == ["complete_time.before_time"]


async def test_two_operators_at_once_and_a_second_decision_are_told_what_happened(process: Process) -> None:
    await late(process, 1, "RCPT000001")
    case = await the_case(process)
    taking = pb.TakeCaseRequest(case_id=case.case_id, etag=case.etag, operator="brian", reason="mine")
    await process.operations.TakeCase(taking)
    changed = await refused(process.operations.ResolveCase(decision(case)))
    assert (changed.code, changed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CASE_CHANGED")
    assert changed.metadata == {"changed": "the case, which brian has now", "owner": "brian"}
    now = await the_case(process)
    await process.operations.ResolveCase(decision(now, operator="brian"))
    for request in (decision(now), decision(now, operator="brian", reason="another")):
        settled = await refused(process.operations.ResolveCase(request))
        assert (settled.reason, settled.metadata) == ("CASE_SETTLED", {"how": "ACCEPT", "by": "brian"})
    again = await process.operations.ResolveCase(decision(now, operator="brian"))
    assert again.case.resolution == ACCEPT
    taken = await refused(process.operations.TakeCase(taking))
    assert taken.reason == "CASE_SETTLED"


async def test_what_cannot_be_done_says_which_ways_there_are(process: Process) -> None:
    await late(process, 1, "RCPT000001")
    refusal = await refused(process.operations.ResolveCase(decision(await the_case(process), resolution=DISMISS)))
    assert (refusal.reason, refusal.metadata) == ("RESOLUTION_REFUSED", {"allowed": "ACCEPT,RETURN"})


async def test_the_story_of_a_payment_is_told_in_order_and_without_its_number(process: Process) -> None:
    payment = await late(process, 1, "RCPT000001")
    story = await process.operations.ExplainPayment(pb.ExplainPaymentRequest(reference=payment.reference))
    assert story.payment.payment.payment_id == str(payment.payment_id)
    assert story.backing == "only a callback has told of it, and another source is being asked"
    told = [(one.what, one.by) for one in story.moments]
    assert [what for what, _ in told if what.startswith("version")] == [
        "version 1: CREATED",
        "version 2: CREATED → SENDING",
        "version 3: SENDING → PROMPTED",
        "version 4: PROMPTED → EXPIRED",
        "version 5: EXPIRED → COMPLETED",
    ]
    assert told[0] == ("version 1: CREATED", "the caller, development")
    times = [one.moment_time.ToNanoseconds() for one in story.moments]
    assert times == sorted(times)
    assert not story.left_out
    assert "712345678" not in str(story)
    refusal = await refused(process.operations.ExplainPayment(pb.ExplainPaymentRequest(reference="a" * 12)))
    assert refusal.reason == "PAYMENT_NOT_FOUND"


Broken = Callable[[Process], Awaitable[object]]
BAD: dict[str, tuple[Broken, set[str]]] = {
    "nothing known": (lambda p: p.operations.FindPayments(pb.FindPaymentsRequest()), {"known"}),
    "no phone number": (
        lambda p: p.operations.FindPayments(pb.FindPaymentsRequest(phone_number="12345")),
        {"phone_number"},
    ),
    "no receipt": (
        lambda p: p.operations.FindPayments(pb.FindPaymentsRequest(mpesa_receipt_number="?")),
        {"mpesa_receipt_number"},
    ),
    "no time": (
        lambda p: p.operations.FindPayments(
            pb.FindPaymentsRequest(
                complete_time=pb.FindPaymentsRequest.TimeRange(from_time=Timestamp(nanos=-1)), page_size=-1
            )
        ),
        {"complete_time.from_time", "page_size"},
    ),
    "no reference": (
        lambda p: p.operations.ExplainPayment(pb.ExplainPaymentRequest(reference="BK-1")),
        {"reference"},
    ),
    "no case id": (lambda p: p.operations.GetCase(pb.GetCaseRequest(case_id="7")), {"case_id"}),
    "nothing at all": (
        lambda p: p.operations.ResolveCase(pb.ResolveCaseRequest()),
        {"case_id", "etag", "operator", "reason", "resolution"},
    ),
    "a take of nothing": (
        lambda p: p.operations.TakeCase(pb.TakeCaseRequest(reason="x" * 201, operator="a b")),
        {"case_id", "etag", "operator", "reason"},
    ),
    "a number for a name": (
        lambda p: p.operations.TakeCase(
            pb.TakeCaseRequest(case_id=str(uuid4()), etag="1.1.1", operator="0712345670", reason="line\nbreak")
        ),
        {"operator", "reason"},
    ),
    "a switch that goes nowhere": (
        lambda p: p.operations.TurnPromptSwitch(pb.TurnPromptSwitchRequest(operator="a b")),
        {"turn", "operator", "reason"},
    ),
    "a kind of nowhere": (
        lambda p: p.operations.ListCases(pb.ListCasesRequest(kind=99, owner="a b", booking_id="?")),  # type: ignore[arg-type]  # a newer client's kind
        {"kind", "owner", "booking_id"},
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_by_its_fields(name: str, process: Process) -> None:
    call, fields = BAD[name]
    refusal = await refused(call(process))
    assert (refusal.reason, set(refusal.fields)) == ("INVALID_REQUEST", fields)
    assert "0712345670" not in refusal.message


async def test_a_case_that_nobody_has_is_not_found(process: Process) -> None:
    nowhere = str(uuid4())
    for call in (
        process.operations.GetCase(pb.GetCaseRequest(case_id=nowhere)),
        process.operations.TakeCase(pb.TakeCaseRequest(case_id=nowhere, etag="1.1.1", operator="amina", reason="mine")),
        process.operations.ResolveCase(decision(pb.Case(case_id=nowhere, etag="1.1.1"))),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CASE_NOT_FOUND")


async def test_a_reason_with_a_phone_number_is_kept_without_it(process: Process, database: Database) -> None:
    await late(process, 1, "RCPT000001")
    await process.operations.ResolveCase(decision(await the_case(process), reason="called 0712345678 back"))
    case = (await found(process, mpesa_receipt_number="RCPT000001")).cases[0]
    (act,) = (await process.operations.GetCase(pb.GetCaseRequest(case_id=case.case_id))).acts
    assert act.reason == "called [masked] back"


async def test_stopped_prompts_bar_new_payments_and_nothing_else(process: Process) -> None:
    first = await process.payments.InitiatePayment(a_message())
    waiting = await process.create(booking_id="BK-2", request_id="req-2")
    withdrawn = await process.create(booking_id="BK-3", request_id="req-3")
    cancel = payment_service_pb2.CancelPaymentRequest(request_id="cancel-3", payment_id=str(withdrawn.payment_id))
    await process.payments.CancelPayment(cancel)
    assert not (await process.operations.GetPromptSwitch(pb.GetPromptSwitchRequest())).prompt_switch.stopped

    stopped = await turned(process, STOP)
    assert (stopped.stopped, stopped.operator, stopped.reason) == (True, "amina", "wrong prices")
    assert (await turned(process, STOP, operator="brian")).operator == "brian"
    asked = a_message(request_id="req-4", booking_id="BK-4")
    retry = payment_service_pb2.RetryPaymentRequest(request_id="retry-3", payment_id=str(withdrawn.payment_id))
    for call in (process.payments.InitiatePayment(asked), process.payments.RetryPayment(retry)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMPTS_STOPPED")
        assert refusal.metadata["why"] == "wrong prices"
    again = await process.payments.InitiatePayment(a_message())
    assert (again.payment.payment_id, again.replayed) == (first.payment.payment_id, True)
    assert (await process.tell(waiting, *sent(2), paid("RCPT000002"))).receipt == "RCPT000002"

    allowed = await turned(process, pb.TurnPromptSwitchRequest.TURN_ALLOW, reason="prices are right")
    assert (allowed.stopped, allowed.reason) == (False, "prices are right")
    assert (await process.payments.InitiatePayment(asked)).payment.payment_id


async def turned(
    process: Process,
    turn: pb.TurnPromptSwitchRequest.Turn.ValueType,
    operator: str = "amina",
    reason: str = "wrong prices",
) -> pb.PromptSwitch:
    asked = pb.TurnPromptSwitchRequest(turn=turn, operator=operator, reason=reason)
    switch = (await process.operations.TurnPromptSwitch(asked)).prompt_switch
    assert (await process.operations.GetPromptSwitch(pb.GetPromptSwitchRequest())).prompt_switch == switch
    return switch


def test_the_wire_has_every_kind_and_every_resolution() -> None:
    from payment_service.domain.case_rules import Resolution
    from payment_service.domain.cases import CaseKind

    for enum, names in ((pb.CaseKind, CaseKind), (pb.CaseResolution, Resolution)):
        wire = {name.rpartition("CASE_KIND_" if enum is pb.CaseKind else "CASE_RESOLUTION_")[2] for name in enum.keys()}  # noqa: SIM118 -- the enum wrapper is not a mapping
        assert wire - {"UNSPECIFIED"} == set(itertools.chain(names))
