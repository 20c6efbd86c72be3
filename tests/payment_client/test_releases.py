"""A client of the first release against today's service, and today's client against servers older and newer than it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from payment_client.cursors.file import AsyncFileCursors
from payment_client.testing import FakePayments, Outcome

from payment_client import BookingAction, PaymentEvent, PaymentFilter, PaymentStatus, Refused
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import Fact
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import PHONE, a_purchase, client_of
from tests.payment_client.releases import (
    TODAY,
    UNHEARD_OF,
    Caller,
    as_it_knows_it,
    first_release,
    server_of,
    with_news,
)
from tests.rpc.answers import refusal_of
from tests.rpc.processes import Process, paid, sent

ASKED = {
    "request_id": "r-1",
    "booking_id": "TRIP-1",
    "phone_number": PHONE,
    "amount": {"currency_code": "KES", "units": 500},
}


async def tell(process: Process, payment_id: str, *facts: Fact) -> None:
    for fact in facts:
        await process.writers.facts.submit(Submission(fact, UUID(payment_id)))


async def events_of(stream: Any, until: int) -> list[Any]:
    """The events of a stream, until the payment's version."""
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for message in stream:
            events += message.events
            if events and events[-1].payment.version >= until:
                break
    return events


async def test_a_client_of_the_first_release_asks_watches_and_reads(process: Process) -> None:
    old = Caller(first_release(), process.channel)
    started = await old.ask("InitiatePayment", **ASKED)
    payment_id = started.payment.payment_id
    await tell(process, payment_id, *sent(1), paid("SJ12345678"))
    events = await events_of(old.watch("WatchPayment", payment_id=payment_id, cursor=started.cursor), until=4)
    last = events[-1].payment
    assert (last.status, last.booking_action) == (
        PaymentStatus.PAYMENT_STATUS_COMPLETED,
        BookingAction.BOOKING_ACTION_CONFIRM,
    )
    assert (last.mpesa_receipt_number, last.amount.units) == ("SJ12345678", 500)
    read = (await old.ask("GetPayment", payment_id=payment_id)).payment
    assert (read.version, read.status, read.customer_message) == (last.version, last.status, last.customer_message)
    listed = (await old.ask("ListPayments", booking_id="TRIP-1")).payments
    assert [one.payment_id for one in listed] == [payment_id]


async def test_the_same_request_of_either_release_is_the_same_payment(process: Process) -> None:
    """What a client of today leaves unset is what a client of then does not have."""
    old, new = (Caller(service, process.channel) for service in (first_release(), TODAY))
    started = await old.ask("InitiatePayment", **ASKED)
    for caller in (old, new):
        again = await caller.ask("InitiatePayment", **ASKED)
        assert (again.payment.payment_id, again.replayed) == (started.payment.payment_id, True)


async def test_what_has_no_name_in_the_first_release_comes_as_a_number_beside_what_it_goes_by(process: Process) -> None:
    old = Caller(first_release(), process.channel)
    started = await old.ask("InitiatePayment", **ASKED)
    payment_id = started.payment.payment_id
    await tell(process, payment_id, *sent(1), paid("SJ12345678"))
    reason = payment_pb2.REFUND_REASON_CANNOT_DELIVER
    await process.payments.RefundPayment(
        pb.RefundPaymentRequest(request_id="r-2", payment_id=payment_id, reason=reason)
    )
    position = pb.WatchPaymentsRequest.POSITION_EARLIEST
    (event,) = (await events_of(old.watch("WatchPayments", position=position), until=5))[4:]
    assert event.type not in event.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    assert event.payment.booking_action == BookingAction.BOOKING_ACTION_RELEASE
    assert event.cursor


async def test_the_first_release_hears_of_a_bad_field_as_it_did(process: Process) -> None:
    old = Caller(first_release(), process.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await old.ask("InitiatePayment", **{**ASKED, "phone_number": "0"})
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "phone_number" in refusal_of(caught.value).fields


async def test_todays_client_pays_and_follows_at_a_server_of_the_first_release(tmp_path: Path) -> None:
    with FakePayments() as fake:
        async with (
            server_of(first_release(), fake.address, as_it_knows_it) as address,
            client_of(address) as client,
        ):
            payment = await client.pay_and_wait(a_purchase("TRIP-1"))
            assert payment.booking_action == BookingAction.BOOKING_ACTION_CONFIRM
            assert payment.next_step == 0, "the first release does not have it"
            (listed,) = [one async for one in client.list_payments(PaymentFilter(booking_id="TRIP-1"))]
            assert listed.mpesa_receipt_number == payment.mpesa_receipt_number
            fake.script(Outcome.DECLINES)
            declined = await client.pay_and_wait(a_purchase("TRIP-2"))
            assert declined.booking_action == BookingAction.BOOKING_ACTION_OFFER_RETRY
            with pytest.raises(Refused) as refused:
                await client.get_receipt(payment.payment_id)
            assert refused.value.code == grpc.StatusCode.UNIMPLEMENTED
            events = await consumed(client_of(address), tmp_path, len(fake.events))
            assert [event.event_id for event in events] == [event.event_id for event in fake.events]


async def test_todays_client_goes_by_what_it_knows_of_a_newer_server(tmp_path: Path) -> None:
    with FakePayments() as fake:
        async with server_of(TODAY, fake.address, with_news) as address, client_of(address) as client:
            payment = await client.pay_and_wait(a_purchase("TRIP-1"))
            assert payment.booking_action == BookingAction.BOOKING_ACTION_CONFIRM
            assert payment.next_step == UNHEARD_OF
            events = await consumed(client_of(address), tmp_path, len(fake.events))
            assert {event.type for event in events} == {UNHEARD_OF}
            assert [event.event_id for event in events] == [event.event_id for event in fake.events]


async def consumed(opening: Any, folder: Path, count: int) -> list[PaymentEvent]:
    """What a consumer with a name is handed."""
    taken: list[PaymentEvent] = []

    async def take(event: PaymentEvent, _: None) -> None:
        taken.append(event)

    async with opening as client:
        store = AsyncFileCursors(folder / "cursor.json")
        consuming = asyncio.create_task(client.consume(store, take, acknowledge_as="bookings"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(taken) < count:
                assert not consuming.done(), consuming.exception()
                await asyncio.sleep(0.02)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        assert await store.waiting() == []
        store.close()
    return taken
