"""Asking for a refund: what is refused and why, that an id asks once, and that the stream tells of each step."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import grpc
import pytest
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import DeadlinePassed, Source
from payment_service.domain.payment import BookingAction, LatePaymentPolicy, Payment
from payment_service.domain.refund import RefundBar
from payment_service.domain.refund_facts import (
    RefundAccepted,
    RefundClaimed,
    RefundReported,
    RefundVerdict,
)
from tests.application.casework.casefiles import only_case, settle
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.answers import refusal_of, refused
from tests.rpc.processes import Process, listed, paid, sent

RECEIPT = "TKA1B2C3D4"


def asked(payment: Payment, request_id: str = "r-1", **changed: object) -> pb.RefundPaymentRequest:
    reason = changed.pop("reason", payment_pb2.REFUND_REASON_CANNOT_DELIVER)
    return pb.RefundPaymentRequest(
        request_id=request_id,
        payment_id=str(payment.payment_id),
        reason=reason,  # type: ignore[arg-type]  # a number of the enum
        **changed,  # type: ignore[arg-type]  # the fields are those of the message
    )


def shillings(units: int, nanos: int = 0) -> money_pb2.Money:
    return money_pb2.Money(currency_code="KES", units=units, nanos=nanos)


async def completed(process: Process, receipt: str = RECEIPT) -> Payment:
    return await process.tell(await process.create(), *sent(1), paid(receipt), listed(receipt))


async def test_a_refund_releases_the_booking_at_once_and_its_end_is_told(process: Process, database: Database) -> None:
    payment = await completed(process)
    await process.caught_up()
    answer = await process.payments.RefundPayment(asked(payment))
    told = answer.payment
    assert told.status == payment_pb2.PAYMENT_STATUS_COMPLETED
    assert told.booking_action == payment_pb2.BOOKING_ACTION_RELEASE
    assert told.customer_message == "Your money is being returned."
    assert (told.refund.status, told.refund.amount.units, told.refund.reason) == (
        payment_pb2.REFUND_STATUS_PENDING,
        500,
        payment_pb2.REFUND_REASON_CANNOT_DELIVER,
    )
    assert not told.HasField("refunded_amount")
    refund_id = UUID(told.refund.refund_id)
    claim = UUID(int=9)
    for fact in (
        RefundClaimed(claim),
        RefundAccepted(claim, "originator-1", "AG_1"),
        RefundReported("callback:1", RefundVerdict.DONE, "0", RECEIPT),
    ):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))
    await process.caught_up()
    events: list[payment_pb2.PaymentEvent] = []
    async for message in process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=answer.cursor)):
        events += message.events
        if any(event.payment.status == payment_pb2.PAYMENT_STATUS_REFUNDED for event in events):
            break
    types = [event.type for event in events]
    assert types == [payment_pb2.PAYMENT_EVENT_TYPE_REFUND_REQUESTED, payment_pb2.PAYMENT_EVENT_TYPE_REFUNDED]
    asked_for, done = (event.payment for event in events)
    assert (asked_for.refund.status, asked_for.refund.HasField("end_time")) == (
        payment_pb2.REFUND_STATUS_PENDING,
        False,
    )
    assert (done.refund.status, done.refunded_amount.units) == (payment_pb2.REFUND_STATUS_DONE, 500)
    assert done.refund.HasField("end_time")
    assert done.status == payment_pb2.PAYMENT_STATUS_REFUNDED
    assert done.customer_message == "Your money has been returned."
    read = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=told.payment_id))).payment
    assert read == done
    listed = await process.payments.ListPayments(pb.ListPaymentsRequest(booking_id=payment.booking_id))
    assert list(listed.payments) == [done]
    assert await rows_of(database, "SELECT state FROM refunds") == [("DONE",)]


async def test_one_request_id_asks_for_one_refund_however_often_it_comes(process: Process, database: Database) -> None:
    payment = await completed(process)
    answers = await asyncio.gather(*(process.payments.RefundPayment(asked(payment)) for _ in range(8)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
    assert len({answer.payment.refund.refund_id for answer in answers}) == 1
    assert await count(database, "refunds") == 1
    reused = await refused(process.payments.RefundPayment(asked(payment, reason=payment_pb2.REFUND_REASON_OTHER)))
    assert (reused.reason, reused.metadata["fields"]) == ("REQUEST_ID_REUSED", "reason")
    other_method = await refused(
        process.payments.CancelPayment(pb.CancelPaymentRequest(request_id="r-1", payment_id=str(payment.payment_id)))
    )
    assert other_method.metadata["fields"] == "method"


async def test_of_several_requests_at_once_one_is_recorded(process: Process, database: Database) -> None:
    payment = await completed(process)
    results = await asyncio.gather(
        *(process.payments.RefundPayment(asked(payment, f"r-{number}")) for number in range(6)), return_exceptions=True
    )
    causes = [refusal_of(error).metadata["cause"] for error in results if isinstance(error, grpc.aio.AioRpcError)]
    assert causes == ["REFUND_UNDER_WAY"] * 5
    assert await count(database, "refunds") == 1
    assert await count(database, "caller_requests") == 1


async def test_parts_that_are_asked_for_at_once_never_add_up_to_more_than_came(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    calls = [
        process.payments.RefundPayment(
            asked(payment, f"r-{number}", amount=shillings(150), reason=payment_pb2.REFUND_REASON_OTHER)
        )
        for number in range(6)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [refusal_of(error) for error in results if isinstance(error, grpc.aio.AioRpcError)]
    assert [refusal.metadata["cause"] for refusal in refusals] == ["ABOVE_WHAT_IS_LEFT"] * 3
    assert refusals[0].fields == {"amount.units": "expected at most 50, which is left of this payment"}
    assert await rows_of(database, "SELECT amount::int, method, state FROM refunds") == [(150, "B2C", "REQUESTED")] * 3
    read = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    assert [(one.amount.units, one.status) for one in read.refunds] == [(150, payment_pb2.REFUND_STATUS_PENDING)] * 3
    assert read.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM


async def test_each_step_of_a_part_is_told_with_all_refunds_as_they_stood_then(process: Process) -> None:
    payment = await completed(process)
    await process.caught_up()
    cancelled = payment_pb2.REFUND_REASON_BOOKING_CANCELLED
    answer = await process.payments.RefundPayment(asked(payment, "a", amount=shillings(450), reason=cancelled))
    refund_id = UUID(answer.payment.refund.refund_id)
    done = RefundReported("callback:1", RefundVerdict.DONE, "0", RECEIPT, 450)
    for fact in (RefundClaimed(UUID(int=9)), done):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))
    events: list[payment_pb2.PaymentEvent] = []
    async for message in process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=answer.cursor)):
        events += message.events
        if len(events) == 2:
            break
    wanted, gone = events
    assert [event.type for event in events] == [
        payment_pb2.PAYMENT_EVENT_TYPE_REFUND_REQUESTED,
        payment_pb2.PAYMENT_EVENT_TYPE_PART_REFUNDED,
    ]
    statuses = [[refund.status for refund in event.payment.refunds] for event in events]
    assert statuses == [[payment_pb2.REFUND_STATUS_PENDING], [payment_pb2.REFUND_STATUS_DONE]]
    assert wanted.payment.customer_message == "Your money is being returned."
    assert gone.payment.customer_message == "Part of your money has been returned."
    assert (gone.payment.status, gone.payment.refunded_amount.units) == (payment_pb2.PAYMENT_STATUS_COMPLETED, 450)
    assert gone.payment.booking_action == payment_pb2.BOOKING_ACTION_RELEASE
    rest = await refused(process.payments.RefundPayment(asked(payment, "b", amount=shillings(51))))
    assert rest.fields == {"amount.units": "expected at most 50, which is left of this payment"}


async def _unpaid(process: Process) -> Payment:
    return await process.tell(await process.create(), *sent(2))


async def _pending(process: Process) -> Payment:
    return await process.tell(await process.create(), *sent(3), replace(paid(RECEIPT), receipt=None))


async def _reviewed(process: Process) -> Payment:
    return await process.tell(await process.create(), *sent(4), paid(RECEIPT, 499))


async def _refunded(process: Process) -> Payment:
    payment = await completed(process)
    answer = await process.payments.RefundPayment(asked(payment, "earlier"))
    refund_id = UUID(answer.payment.refund.refund_id)
    done = RefundReported("callback:1", RefundVerdict.DONE, "0", RECEIPT)
    for fact in (RefundClaimed(UUID(int=1)), done):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))
    return payment


BARRED: Mapping[RefundBar, Callable[[Process], Awaitable[Payment]]] = {
    RefundBar.NOT_PAID: _unpaid,
    RefundBar.RECEIPT_PENDING: _pending,
    RefundBar.UNDER_REVIEW: _reviewed,
    RefundBar.REFUNDED: _refunded,
}


@pytest.mark.parametrize("bar", list(BARRED))
@pytest.mark.parametrize("amount", [None, 100])
async def test_what_cannot_be_refunded_is_refused_with_its_cause(
    process: Process, bar: RefundBar, amount: int | None
) -> None:
    """Whether all of it is asked for, or a part."""
    payment = await BARRED[bar](process)
    wanted: dict[str, object] = {} if amount is None else {"amount": shillings(amount)}
    refusal = await refused(process.payments.RefundPayment(asked(payment, "r-1", **wanted)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REFUND_NOT_POSSIBLE")
    assert (refusal.metadata["payment_id"], refusal.metadata["cause"]) == (str(payment.payment_id), bar.value)


async def test_a_payment_of_another_caller_does_not_exist(process: Process) -> None:
    payment = await process.tell(await process.create(caller="another"), *sent(1), paid(RECEIPT))
    refusal = await refused(process.payments.RefundPayment(asked(payment)))
    assert refusal.reason == "PAYMENT_NOT_FOUND"


@pytest.mark.parametrize(
    ("units", "cause", "told"),
    [
        (501, "ABOVE_WHAT_IS_LEFT", "expected at most 500, which is left of this payment"),
        (2**62, "ABOVE_WHAT_IS_LEFT", "expected at most 500, which is left of this payment"),
        (9, "PART_TOO_SMALL", "expected 10 to 250000 for a part; 500 is left of this payment"),
    ],
)
async def test_an_amount_that_cannot_go_back_is_refused_and_the_id_stays_free(
    process: Process, database: Database, units: int, cause: str, told: str
) -> None:
    payment = await completed(process)
    refusal = await refused(process.payments.RefundPayment(asked(payment, amount=shillings(units))))
    assert (refusal.metadata["cause"], refusal.fields) == (cause, {"amount.units": told})
    assert await count(database, "refunds") == 0
    answer = await process.payments.RefundPayment(asked(payment, amount=shillings(500)))
    assert (answer.replayed, answer.payment.refund.amount.units) == (False, 500)


async def test_everything_wrong_with_a_request_is_told_at_once(process: Process) -> None:
    bad = pb.RefundPaymentRequest(request_id="", payment_id="x", amount=shillings(0, nanos=500_000_000))
    refusal = await refused(process.payments.RefundPayment(bad))
    assert refusal.fields.keys() == {"request_id", "payment_id", "reason", "amount.units", "amount.nanos"}
    payment = await completed(process)
    negative = await refused(process.payments.RefundPayment(asked(payment, amount=shillings(-5))))
    assert list(negative.fields) == ["amount.units"]


async def test_a_refund_that_failed_can_be_asked_for_again_and_the_booking_stays_released(process: Process) -> None:
    payment = await completed(process)
    first = (await process.payments.RefundPayment(asked(payment))).payment.refund
    failed = RefundReported("callback:1", RefundVerdict.FAILED, "1")
    for fact in (RefundClaimed(UUID(int=1)), failed):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=UUID(first.refund_id)))
    read = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    assert (read.status, read.refund.status) == (
        payment_pb2.PAYMENT_STATUS_COMPLETED,
        payment_pb2.REFUND_STATUS_FAILED,
    )
    assert read.booking_action == payment_pb2.BOOKING_ACTION_RELEASE
    second = (await process.payments.RefundPayment(asked(payment, "r-2"))).payment.refund
    assert second.refund_id != first.refund_id
    assert second.status == payment_pb2.REFUND_STATUS_PENDING


async def test_a_booking_that_cannot_be_delivered_gets_a_ticket_or_its_money_and_never_both(
    process: Process, database: Database
) -> None:
    """After RELEASE nothing confirms the booking again: no repeated call, no news of the money, no other attempt."""
    later: dict[str, Any] = {"booking_id": "BK-1", "late_payment_policy": LatePaymentPolicy.CONFIRM}
    first = await process.tell(await process.create(**later), *sent(1))
    process.writers.clock.move(301)
    await process.tell(first, DeadlinePassed())
    payment = await process.tell(await process.create(**later), *sent(2), paid(RECEIPT))
    assert payment.booking_action is BookingAction.CONFIRM
    for repeated in range(3):
        answer = await process.payments.RefundPayment(asked(payment))
        assert answer.replayed is (repeated > 0)
    await process.tell(payment, paid(RECEIPT), listed(RECEIPT))
    refund_id = UUID(answer.payment.refund.refund_id)
    failed = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
    for fact in (RefundClaimed(UUID(int=9)), failed):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))
    await process.tell(payment, replace(paid(RECEIPT), fact_id="query:1", source=Source.QUERY))
    await process.tell(first, paid("TKZ9Y8X7W6"))
    assert (await process.payments.RefundPayment(asked(payment, "r-2"))).payment.refund.refund_id != str(refund_id)
    await process.caught_up()
    events: list[payment_pb2.PaymentEvent] = []
    start = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    async for message in process.payments.WatchPayments(start):
        events += message.events
        if message.caught_up:
            break
    actions = [event.payment.booking_action for event in events]
    assert actions.count(payment_pb2.BOOKING_ACTION_CONFIRM) == 1
    released = actions.index(payment_pb2.BOOKING_ACTION_RELEASE)
    assert actions.index(payment_pb2.BOOKING_ACTION_CONFIRM) < released
    told_of_it = [event for event in events if event.payment.payment_id == str(payment.payment_id)]
    assert [event.payment.version for event in told_of_it] == list(range(1, len(told_of_it) + 1))
    assert {event.payment.booking_action for event in told_of_it if event in events[released:]} == {
        payment_pb2.BOOKING_ACTION_RELEASE
    }
    assert await count(database, "refunds") == 2, "the one that failed, and the one that was asked for after it"


async def test_a_part_above_what_mpesa_moves_at_a_time_is_refused(process: Process) -> None:
    await process.tell(await process.create(), *sent(1), paid(RECEIPT, 300_000))
    file = await settle(process, await only_case(process))
    assert file.case.payment_id is not None
    payment = file.case.payment_id
    too_large = pb.RefundPaymentRequest(
        request_id="r-1",
        payment_id=str(payment),
        reason=payment_pb2.REFUND_REASON_OTHER,
        amount=shillings(250_001),
    )
    refusal = await refused(process.payments.RefundPayment(too_large))
    told = "expected 10 to 250000 for a part; 300000 is left of this payment"
    assert (refusal.metadata["cause"], refusal.fields) == ("PART_TOO_LARGE", {"amount.units": told})
    too_large.amount.units = 250_000
    assert (await process.payments.RefundPayment(too_large)).payment.refund.amount.units == 250_000
