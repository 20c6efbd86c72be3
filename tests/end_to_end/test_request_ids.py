"""Asking twice, asking badly, and hanging up: one payment for a request id, and one live payment for a booking."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from payment_service.rpc.methods import ANSWER_WITHIN_SECONDS
from tests.end_to_end.town import (
    UNTIL_TOLD,
    Town,
    a_phone,
    a_phone_that,
    a_request,
    events_to_the_end,
    events_until,
    initiate,
    lived,
    payment_when,
    prompt,
    status_of,
    told_by,
)
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.answers import refused

CALLERS = 50
FROM_NOW = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_LATEST)


@dataclass(frozen=True)
class Answered:
    """What one of many callers got."""

    payment_id: str
    replayed: bool


async def answered(call: Awaitable[pb.InitiatePaymentResponse]) -> Answered:
    response = await call
    return Answered(response.payment.payment_id, response.replayed)


async def test_fifty_callers_of_two_processes_make_one_payment_and_one_push(town: Town) -> None:
    phone, booking_id, request_id = a_phone(), f"BK-{uuid.uuid4()}", str(uuid.uuid4())
    watch = aiter(town.patient.WatchPayments(FROM_NOW))
    assert (await asyncio.wait_for(anext(watch), PATIENCE_SECONDS)).caught_up
    # Two ways to write one number: requests are compared as they are understood.
    spellings = (phone, "0" + phone[3:], f"+{phone}")
    answers = await asyncio.gather(
        *(
            answered(
                initiate(
                    (town.patient, town.other)[n % 2],
                    spellings[n % 3],
                    booking_id=booking_id,
                    request_id=request_id,
                )
            )
            for n in range(CALLERS)
        )
    )
    assert len({answer.payment_id for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    payment_id = answers[0].payment_id
    seen: list[str] = []
    while "COMPLETED" not in seen:
        message = await asyncio.wait_for(anext(watch), PATIENCE_SECONDS)
        seen += [status_of(event.payment) for event in message.events if event.payment.payment_id == payment_id]
    assert seen == ["PENDING", "PENDING", "PROCESSING", "COMPLETED"]
    assert [push["outcome"] for push in await town.simulator.pushes(phone=phone)] == ["accepted"]
    for payments in (town.patient, town.other):
        other = await refused(
            initiate(
                payments,
                phone,
                booking_id=booking_id,
                request_id=request_id,
                amount=money_pb2.Money(currency_code="KES", units=501),
                description="Other",
            )
        )
        assert (other.code, other.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert other.metadata == {"payment_id": payment_id, "fields": "amount,description"}
    assert len(await town.simulator.pushes(phone=phone)) == 1


async def test_a_stream_of_one_process_sees_the_payments_of_the_other(town: Town) -> None:
    watch = aiter(town.other.WatchPayments(FROM_NOW))
    await asyncio.wait_for(anext(watch), PATIENCE_SECONDS)
    story = await lived(town, town.patient, a_phone())
    seen: list[payment_pb2.PaymentEvent] = []
    while len(seen) < len(story.events):
        message = await asyncio.wait_for(anext(watch), PATIENCE_SECONDS)
        seen += [event for event in message.events if event.payment.payment_id == story.payment.payment_id]
    assert seen == story.events


async def test_a_repeat_while_the_first_is_on_the_wire_waits_for_the_same_fate(town: Town) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {**UNTIL_TOLD, "answer_delay_seconds": 1.0})
    fields: dict[str, Any] = {"booking_id": f"BK-{uuid.uuid4()}", "request_id": str(uuid.uuid4())}

    async def answer(payments: PaymentServiceStub) -> tuple[pb.InitiatePaymentResponse, float]:
        asked_at = time.monotonic()
        return await initiate(payments, phone, **fields), time.monotonic() - asked_at

    first = asyncio.create_task(answer(town.patient))
    await town.simulator.prompted(phone)
    answers = [await first, *await asyncio.gather(answer(town.patient), answer(town.other))]
    responses = [response for response, _ in answers]
    assert [response.replayed for response in responses] == [False, True, True]
    assert {response.payment.payment_id for response in responses} == {responses[0].payment.payment_id}
    for response, seconds in answers:
        # PENDING only where the machine is so slow that the whole time for an answer is over.
        assert status_of(response.payment) == "PROCESSING" or seconds >= ANSWER_WITHIN_SECONDS
    assert await town.simulator.settle(phone, ending="paid") == [200]
    story = await told_by(town, town.patient, await events_to_the_end(town.patient, responses[0]))
    assert (len(story.pushes), story.prompts, story.debited) == (1, 1, 500)


async def test_a_refused_request_leaves_no_row_and_its_id_free(town: Town) -> None:
    phone, booking_id, request_id = a_phone(), f"BK-{uuid.uuid4()}", str(uuid.uuid4())
    same: dict[str, Any] = {"booking_id": booking_id, "request_id": request_id}
    bad = await refused(
        initiate(
            town.patient,
            "0712",
            amount=money_pb2.Money(currency_code="USD", units=-1, nanos=5),
            account_reference="way too long",
            language_code="fr",
            **same,
        )
    )
    assert (bad.code, bad.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(bad.fields) == {
        "phone_number",
        "amount.currency_code",
        "amount.units",
        "amount.nanos",
        "account_reference",
        "language_code",
    }
    query = "SELECT 1 FROM payment_transactions WHERE request_id = %s OR booking_id = %s"
    assert await rows_of(town.database, query, (request_id, booking_id)) == []
    good = await initiate(town.patient, phone, **same)
    assert not good.replayed


@pytest.mark.parametrize("through", ["the same process", "the other process"])
async def test_a_booking_has_one_live_payment_and_the_refused_id_stays_free(town: Town, through: str) -> None:
    payments = town.patient if through == "the same process" else town.other
    phone = a_phone()
    await town.simulator.script(phone, UNTIL_TOLD)
    live = await prompt(town.patient, phone)
    again = a_request(a_phone(), booking_id=live.payment.booking_id)
    refusal = await refused(payments.InitiatePayment(again, timeout=PATIENCE_SECONDS))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BOOKING_HAS_LIVE_PAYMENT")
    assert refusal.metadata == {"payment_id": live.payment.payment_id, "status": "PROCESSING"}
    assert await town.simulator.pushes(phone=again.phone_number) == []
    assert await town.simulator.settle(phone, ending="no_funds") == [200]
    second = await payments.InitiatePayment(again, timeout=PATIENCE_SECONDS)
    assert (second.replayed, second.payment.attempt, second.payment.retry_of) == (False, 2, live.payment.payment_id)
    await events_to_the_end(town.patient, second)
    paid = await refused(initiate(payments, a_phone(), booking_id=live.payment.booking_id))
    assert (paid.reason, paid.metadata["payment_id"], paid.metadata["status"]) == (
        "BOOKING_HAS_LIVE_PAYMENT",
        second.payment.payment_id,
        "COMPLETED",
    )


async def test_a_booking_with_money_in_doubt_takes_no_new_attempt(town: Town) -> None:
    phone = a_phone_that("001")
    story = await lived(town, town.other, phone)
    foreign = {"CheckoutRequestID": "ws_CO_other"}
    assert await town.simulator.settle(phone, ending="paid", pays=False, callback_ids=foreign) == [200]
    barred = await refused(initiate(town.other, a_phone(), booking_id=story.payment.booking_id))
    assert (barred.code, barred.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BOOKING_UNDER_REVIEW")


async def test_a_new_attempt_waits_until_the_old_prompt_is_gone(town: Town) -> None:
    cancelled = await lived(town, town.patient, a_phone_that("032"))
    early = await refused(initiate(town.patient, a_phone(), booking_id=cancelled.payment.booking_id))
    assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RETRY_TOO_EARLY")
    assert early.retry_after is not None
    assert 100 < early.retry_after <= 180


async def test_a_caller_who_hangs_up_while_the_push_is_on_the_wire_changes_nothing(town: Town) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {"answer_delay_seconds": 0.5, "callback_delay_seconds": 1.0})
    request = a_request(phone)
    call = town.patient.InitiatePayment(request, timeout=PATIENCE_SECONDS)
    assert isinstance(call, grpc.aio.Call)
    await town.simulator.prompted(phone)
    call.cancel()
    replay = await town.patient.InitiatePayment(request, timeout=PATIENCE_SECONDS)
    assert replay.replayed
    events = await events_until(town.patient, replay, lambda payment: status_of(payment) == "COMPLETED")
    assert events[-1].payment.payment_id == replay.payment.payment_id
    assert len(await town.simulator.pushes(phone=phone)) == 1


async def test_callers_who_hang_up_right_away_leave_whole_payments_or_none(town: Town) -> None:
    """Goal: hanging up at any moment never leaves half a payment. Method: cancel 24 calls, each a little later than
    the one before, from before the request has left on, and the last one when its payment can be seen; then ask again
    under the same ids."""
    requests = [a_request(a_phone()) for _ in range(24)]
    calls = []
    for n, request in enumerate(requests):
        calls.append(town.patient.InitiatePayment(request, timeout=PATIENCE_SECONDS))
        await asyncio.sleep(n * 0.001)
        if request is requests[-1]:
            recorded = pb.ListPaymentsRequest(request_id=request.request_id)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (await town.patient.ListPayments(recorded, timeout=PATIENCE_SECONDS)).payments:
                    await asyncio.sleep(0.005)
        calls[-1].cancel()
    lists = [pb.ListPaymentsRequest(request_id=request.request_id) for request in requests]
    known = [(await town.patient.ListPayments(one, timeout=PATIENCE_SECONDS)).payments for one in lists]
    replays = await asyncio.gather(
        *(town.patient.InitiatePayment(request, timeout=PATIENCE_SECONDS) for request in requests)
    )
    for request, before, replay in zip(requests, known, replays, strict=True):
        assert {payment.payment_id for payment in before} <= {replay.payment.payment_id}
        completed = await payment_when(
            town.patient, replay.payment.payment_id, lambda payment: status_of(payment) == "COMPLETED", "the money"
        )
        pushes = await town.simulator.pushes(phone=request.phone_number)
        assert [push["debited_kes"] for push in pushes] == [500]
        assert completed.mpesa_receipt_number == pushes[0]["receipt"]
    assert replays[-1].replayed
