"""Another try, or none at all: retries and withdrawals against running programs, a phone and a ledger."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc.aio
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from tests.end_to_end.town import (
    UNTIL_TOLD,
    Grounds,
    Town,
    a_phone,
    a_phone_that,
    a_request,
    events_to_the_end,
    lived,
    payment_when,
    prompt,
    reason_of,
    status_of,
)
from tests.parts import channel
from tests.patience import PATIENCE_SECONDS
from tests.rpc.answers import refused

NO_TOKENS = 1_000


def retry(payments: PaymentServiceStub, payment_id: str, phone: str = "", request_id: str = "") -> Any:
    asked = pb.RetryPaymentRequest(
        request_id=request_id or str(uuid.uuid4()), payment_id=payment_id, phone_number=phone
    )
    return payments.RetryPayment(asked, timeout=PATIENCE_SECONDS)


def cancel(payments: PaymentServiceStub, payment_id: str, request_id: str = "") -> Any:
    asked = pb.CancelPaymentRequest(request_id=request_id or str(uuid.uuid4()), payment_id=payment_id)
    return payments.CancelPayment(asked, timeout=PATIENCE_SECONDS)


async def test_after_a_refusal_another_phone_pays_for_the_booking(town: Town) -> None:
    failed = await lived(town, town.patient, a_phone_that("001"))
    assert (status_of(failed.payment), reason_of(failed.payment)) == ("FAILED", "INSUFFICIENT_FUNDS")
    phone, request_id = a_phone(), str(uuid.uuid4())
    # Twenty calls through two processes: one attempt, and one prompt.
    answers = await asyncio.gather(
        *(retry((town.patient, town.other)[n % 2], failed.payment.payment_id, phone, request_id) for n in range(20))
    )
    assert len({answer.payment.payment_id for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    second = answers[0].payment
    assert (second.booking_id, second.attempt, second.retry_of) == (
        failed.payment.booking_id,
        2,
        failed.payment.payment_id,
    )
    paid = await payment_when(town.patient, second.payment_id, lambda p: status_of(p) == "COMPLETED", "the money")
    (push,) = await town.simulator.pushes(phone=phone)
    assert (push["debited_kes"], push["receipt"]) == (500, paid.mpesa_receipt_number)
    barred = await refused(retry(town.other, failed.payment.payment_id))
    assert (barred.reason, barred.metadata["payment_id"]) == ("BOOKING_HAS_LIVE_PAYMENT", second.payment_id)


async def test_a_retry_waits_until_the_old_prompt_is_gone_and_is_told_how_long(town: Town) -> None:
    declined = await lived(town, town.patient, a_phone_that("032"))
    for payments in (town.patient, town.other):
        early = await refused(retry(payments, declined.payment.payment_id))
        assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RETRY_TOO_EARLY")
        assert early.metadata == {"payment_id": declined.payment.payment_id}
        assert early.retry_after is not None
        assert 100 < early.retry_after <= 180


async def test_a_prompt_on_the_phone_cannot_be_withdrawn(town: Town) -> None:
    phone = a_phone()
    await town.simulator.script(phone, UNTIL_TOLD)
    started = await prompt(town.patient, phone)
    for payments in (town.patient, town.other):
        late = await refused(cancel(payments, started.payment.payment_id))
        assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CANCEL_TOO_LATE")
        assert late.metadata["payment_id"] == started.payment.payment_id
    assert await town.simulator.settle(phone, ending="paid") == [200]
    events = await events_to_the_end(town.patient, started)
    assert status_of(events[-1].payment) == "COMPLETED", "the refused withdrawal has changed nothing"


async def test_what_was_withdrawn_in_time_never_rings_and_the_booking_is_free(grounds: Grounds) -> None:
    await grounds.simulator.control("tokens/fail", error="internal_error", count=NO_TOKENS)
    async with (
        grounds.site.running_core() as core,
        grounds.site.running_core() as second,
        grounds.site.running_gateway(core.address, grounds.edge_address),
        channel(core.address) as one,
        channel(second.address) as two,
    ):
        payments, other = PaymentServiceStub(one), PaymentServiceStub(two)
        phone = a_phone()
        waiting = asyncio.ensure_future(payments.InitiatePayment(a_request(phone), timeout=PATIENCE_SECONDS))
        listed = pb.ListPaymentsRequest()
        while not (found := (await other.ListPayments(listed, timeout=PATIENCE_SECONDS)).payments):
            await asyncio.sleep(0.02)
        payment_id, request_id = found[0].payment_id, str(uuid.uuid4())
        answers = await asyncio.gather(*(cancel(to, payment_id, request_id) for to in (payments, other) * 5))
        assert {status_of(answer.payment) for answer in answers} == {"CANCELLED"}
        assert [answer.replayed for answer in answers].count(False) == 1
        await grounds.simulator.control("reset")
        # The process that was to send it finds out, and so does its caller.
        assert status_of((await waiting).payment) in ("CANCELLED", "PENDING")
        again = await retry(other, payment_id)
        assert again.payment.attempt == 2
        paid = await payment_when(
            payments, again.payment.payment_id, lambda p: status_of(p) == "COMPLETED", "the money"
        )
        pushes = await grounds.simulator.pushes(phone=phone)
    assert [push["receipt"] for push in pushes] == [paid.mpesa_receipt_number]
