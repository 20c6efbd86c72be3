"""Calls of the client for asyncio, to the real service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from payment_client.tracing import headers_of_the_current_trace

from payment_client import (
    BookingAction,
    BookingHasLivePayment,
    CancelTooLate,
    CursorInvalid,
    DeadlineExceeded,
    InvalidRequest,
    PaymentFilter,
    PaymentNotFound,
    PaymentsClient,
    PaymentsError,
    PaymentStatus,
    Purchase,
    RefundNotPossible,
    RefundReason,
    RequestIdReused,
    RetryTooEarly,
    ServiceUnavailable,
)
from payment_service.domain.facts import DeadlinePassed
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import PHONE, a_purchase, client_of, next_of, payment_of, still_open, tell
from tests.payment_client.relay import running_relay
from tests.rpc.processes import Process, paid, sent

Error = TypeVar("Error", bound=PaymentsError)


async def error_of(kind: type[Error], call: Awaitable[object]) -> Error:
    with pytest.raises(kind) as caught:
        await call
    return caught.value


async def test_the_same_purchase_asked_for_twice_is_one_payment(client: PaymentsClient) -> None:
    purchase = Purchase(booking_id="TRIP-1", phone_number=PHONE, amount=500)
    first = await client.initiate(purchase)
    again = await client.initiate(purchase)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.payment.payment_id == first.payment.payment_id
    assert first.payment.amount.units == 500
    assert (await client.get(first.payment.payment_id)).payment == again.payment
    assert (await client.get(reference=first.payment.reference)).payment == again.payment


async def test_every_wrong_field_is_named_at_once(client: PaymentsClient) -> None:
    purchase = Purchase(booking_id="a space", phone_number="12", amount=0, description="far too long a text")
    error = await error_of(InvalidRequest, client.initiate(purchase))
    assert set(error.violations) == {"booking_id", "phone_number", "amount.units", "description"}
    assert error.request_id == purchase.request_id
    assert "phone_number: expected" in str(error)


@pytest.mark.parametrize("amount", [499.99, 500.0, True, "500"])
def test_only_whole_shillings_are_an_amount(amount: int) -> None:
    with pytest.raises(TypeError, match="amount: expected whole shillings as an int"):
        Purchase(booking_id="TRIP-1", phone_number=PHONE, amount=amount).request()


def test_a_time_without_a_zone_is_refused() -> None:
    purchase = Purchase(
        booking_id="TRIP-1", phone_number=PHONE, amount=1, hold_expire_time=datetime.now(UTC).replace(tzinfo=None)
    )
    with pytest.raises(ValueError, match="hold_expire_time: expected a datetime with a time zone"):
        purchase.request()


async def test_each_refusal_is_an_exception_of_its_own(client: PaymentsClient, process: Process) -> None:
    purchase = a_purchase("TRIP-1")
    payment = (await client.initiate(purchase)).payment
    reused = await error_of(RequestIdReused, client.initiate(a_purchase("TRIP-1", purchase.request_id, amount=501)))
    assert reused.metadata["fields"] == "amount"
    live = await error_of(BookingHasLivePayment, client.initiate(a_purchase("TRIP-1")))
    assert live.payment_id == payment.payment_id
    await error_of(PaymentNotFound, client.get(str(uuid4())))
    unpaid = await error_of(
        RefundNotPossible, client.refund(payment.payment_id, RefundReason.REFUND_REASON_CANNOT_DELIVER)
    )
    assert unpaid.metadata["cause"] == "NOT_PAID"
    await error_of(CursorInvalid, next_of(client.watch_payments(cursor="no cursor")))


async def test_what_cannot_be_done_yet_says_when(client: PaymentsClient, process: Process) -> None:
    payment = await process.create()
    await process.tell(payment, *sent(1))
    await error_of(CancelTooLate, client.cancel(str(payment.payment_id)))
    process.writers.clock.move(121)
    await process.tell(payment, DeadlinePassed())
    early = await error_of(RetryTooEarly, client.retry(str(payment.payment_id)))
    assert early.retry_after is not None
    assert early.retry_after.total_seconds() > 0
    process.writers.clock.move(early.retry_after.total_seconds() + 1)
    second = (await client.retry(str(payment.payment_id))).payment
    assert second.attempt == 2
    withdrawn = await client.cancel(second.payment_id)
    assert withdrawn.payment.status == PaymentStatus.PAYMENT_STATUS_CANCELLED


async def test_payments_are_listed_page_by_page(client: PaymentsClient) -> None:
    made = [(await client.initiate(a_purchase())).payment.payment_id for _ in range(5)]
    page = await client.list_page(page_size=2)
    assert [payment.payment_id for payment in page.payments] == made[:2:-1]
    rest = await client.list_page(page_size=2, page_token=page.next_page_token)
    assert [payment.payment_id for payment in rest.payments] == made[2:0:-1]
    assert [payment.payment_id async for payment in client.list_payments()] == made[::-1]
    cancelled = PaymentFilter(statuses=[PaymentStatus.PAYMENT_STATUS_CANCELLED])
    await client.cancel(made[0])
    assert [payment.payment_id async for payment in client.list_payments(cancelled)] == made[:1]


async def test_paying_and_waiting_ends_when_the_booking_knows_what_to_do(
    client: PaymentsClient, process: Process
) -> None:
    purchase = a_purchase("TRIP-1")
    paying = asyncio.create_task(client.pay_and_wait(purchase, patience=PATIENCE_SECONDS))
    await tell(process, await payment_of(client, purchase), *sent(1), paid("SJ12345678"))
    payment = await asyncio.wait_for(paying, PATIENCE_SECONDS)
    assert payment.booking_action == BookingAction.BOOKING_ACTION_CONFIRM
    assert payment.mpesa_receipt_number == "SJ12345678"
    # What is over is not waited for.
    assert await client.pay_and_wait(purchase) == payment


async def test_a_payment_that_goes_on_is_told_apart_from_one_that_failed(client: PaymentsClient) -> None:
    purchase = a_purchase()
    await client.initiate(purchase)
    open_still = await still_open(client, purchase)
    assert open_still.payment.status == PaymentStatus.PAYMENT_STATUS_PENDING
    assert open_still.cursor


async def test_paying_waits_for_a_service_that_is_away_and_asks_with_the_same_id(process: Process) -> None:
    purchase = a_purchase()
    async with running_relay("127.0.0.1:1") as relay, client_of(relay.address) as client:
        paying = asyncio.create_task(client.pay_and_wait(purchase, patience=PATIENCE_SECONDS))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while relay.connections < 2:
                await asyncio.sleep(0.01)
        relay.upstream = str(process.server.address)
        await tell(process, await payment_of(client, purchase), *sent(1), paid("SJ12345678"))
        payment = await asyncio.wait_for(paying, PATIENCE_SECONDS)
    assert payment.attempt == 1
    assert payment.status == PaymentStatus.PAYMENT_STATUS_COMPLETED


async def test_what_is_lost_on_the_way_can_be_repeated_by_its_request_id(process: Process) -> None:
    purchase = a_purchase()
    async with running_relay(str(process.server.address)) as relay, client_of(relay.address) as client:
        await client.list_page()
        relay.silent = True
        lost = await error_of(DeadlineExceeded, client.initiate(purchase, timeout=0.5))
        assert lost.request_id == purchase.request_id
        relay.cut()
        relay.silent = False
        assert (await client.initiate(purchase)).payment.booking_id == purchase.booking_id
        relay.upstream = "127.0.0.1:1"
        relay.cut()
        await error_of(ServiceUnavailable, client.initiate(purchase))


def test_the_current_trace_goes_on_in_the_service() -> None:
    headers = headers_of_the_current_trace()
    assert headers() == {}
    with TracerProvider().get_tracer("booking").start_as_current_span("checkout") as span:
        assert trace.format_trace_id(span.get_span_context().trace_id) in headers()["traceparent"]
