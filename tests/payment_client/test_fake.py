"""What a team does with the fake in its own tests: scripts, failures, and a clock that only the test turns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from payment_client.cursors.file import AsyncFileCursors, FileCursors
from payment_client.testing import FakePayments, Outcome

from payment_client import (
    Backoff,
    BookingAction,
    LogDiverged,
    PaymentEvent,
    PaymentsClient,
    PaymentStatus,
    PromptsRefused,
    ReceiptNotIssued,
    ReceiptStanding,
    RefundReason,
    ServiceUnavailable,
    TooManyRequests,
)
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import PHONE, a_purchase, next_of, still_open, take

pytest_plugins = ["payment_client.testing.fixtures"]


def test_a_passenger_without_a_script_pays_at_once(fake_payments: FakePayments) -> None:
    with fake_payments.sync_client() as client:
        started = client.initiate(a_purchase("TRIP-1"))
        assert started.payment.status == PaymentStatus.PAYMENT_STATUS_PROCESSING
        payment = client.pay_and_wait(a_purchase("TRIP-2"))
        assert payment.booking_action == BookingAction.BOOKING_ACTION_CONFIRM
        assert payment.mpesa_receipt_number
        assert [one.version for one in client.watch_payment(started.payment.payment_id)] == [4]
    assert [one.booking_id for one in fake_payments.payments] == ["TRIP-1", "TRIP-2"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.HAS_NO_MONEY, PaymentStatus.PAYMENT_STATUS_FAILED),
        (Outcome.DECLINES, PaymentStatus.PAYMENT_STATUS_CANCELLED),
    ],
)
async def test_the_latest_script_that_fits_decides(
    fake_payments: FakePayments, outcome: Outcome, status: PaymentStatus.ValueType
) -> None:
    fake_payments.script(Outcome.SAYS_NOTHING)
    fake_payments.script(outcome, phone_number="+254 712 345678")
    fake_payments.script(Outcome.PAYS, booking_id="TRIP-2")
    async with fake_payments.client() as client:
        assert (await client.pay_and_wait(a_purchase("TRIP-1", phone=PHONE))).status == status
        paid = await client.pay_and_wait(a_purchase("TRIP-2", phone=PHONE))
        assert paid.status == PaymentStatus.PAYMENT_STATUS_COMPLETED


async def test_time_passes_only_when_the_test_says_so(fake_payments: FakePayments) -> None:
    fake_payments.script(Outcome.PAYS, booking_id="TRIP-1", after=timedelta(seconds=60))
    fake_payments.script(Outcome.SAYS_NOTHING, booking_id="TRIP-2")
    fake_payments.script(Outcome.PAYS, booking_id="TRIP-3", after=timedelta(seconds=150))
    async with fake_payments.client() as client:
        for number in (1, 2, 3):
            await still_open(client, a_purchase(f"TRIP-{number}"))
        fake_payments.advance(timedelta(seconds=59))
        assert len(fake_payments.events) == 9
        fake_payments.advance(timedelta(seconds=121))
    assert [(event.payment.booking_id, event.payment.status) for event in fake_payments.events[9:]] == [
        ("TRIP-1", PaymentStatus.PAYMENT_STATUS_COMPLETED),
        ("TRIP-2", PaymentStatus.PAYMENT_STATUS_EXPIRED),
        ("TRIP-3", PaymentStatus.PAYMENT_STATUS_EXPIRED),
        ("TRIP-3", PaymentStatus.PAYMENT_STATUS_COMPLETED),
    ]
    assert fake_payments.payments[2].paid_late


async def test_calls_fail_as_often_as_the_test_wants(fake_payments: FakePayments) -> None:
    async with fake_payments.client() as client:
        purchase = a_purchase()
        fake_payments.fail("InitiatePayment", "STORE_UNAVAILABLE", times=2)
        await client.initiate(purchase)
        assert fake_payments.calls("InitiatePayment") == 3, "it was repeated by itself"
        fake_payments.fail("InitiatePayment", "PROMPTS_STOPPED")
        with pytest.raises(PromptsRefused):
            await client.initiate(a_purchase())
        fake_payments.fail("GetPayment", "TOO_MANY_REQUESTS", retry_after=timedelta(seconds=3))
        with pytest.raises(TooManyRequests) as caught:
            await client.get(reference="abcdefghijkl")
        assert caught.value.retry_after == timedelta(seconds=3)
    with pytest.raises(ValueError, match="reason: expected one of STORE_UNAVAILABLE"):
        fake_payments.fail("GetPayment", "NO_SUCH_REASON")


async def test_streams_outlive_drains_and_outages_of_the_fake(fake_payments: FakePayments) -> None:
    async with fake_payments.client() as client:
        stream = client.watch_payments()
        await client.pay_and_wait(a_purchase("TRIP-1"))
        told = await take(stream, 4)
        fake_payments.drain()
        await client.pay_and_wait(a_purchase("TRIP-2"))
        told += await take(stream, 4)
        fake_payments.stop()
        fake_payments.start()
        await client.pay_and_wait(a_purchase("TRIP-3"))
        told += await take(stream, 4)
        assert [event.event_id for event in told] == [event.event_id for event in fake_payments.events]
        assert fake_payments.calls("WatchPayments") >= 3


async def test_a_stream_that_is_resumed_through_200_drains_misses_nothing(fake_payments: FakePayments) -> None:
    """Two streams: one has read all when its server drains, the other is behind and has more to read."""
    told: tuple[list[str], list[str]] = ([], [])
    async with fake_payments.client() as client, fake_payments.client() as other:
        streams = (client.watch_payments(), other.watch_payments())
        for number in range(1, 201):
            await client.initiate(a_purchase(f"TRIP-{number}"))
            for stream, ids, wanted in zip(streams, told, (4, 3), strict=True):
                ids.extend(event.event_id for event in await take(stream, wanted))
            fake_payments.drain()
        told[1].extend(event.event_id for event in await take(streams[1], 200))
    assert told[0] == told[1] == [event.event_id for event in fake_payments.events]
    assert fake_payments.calls("WatchPayments") > 200


async def test_a_log_that_was_replaced_is_told(fake_payments: FakePayments) -> None:
    async with fake_payments.client() as client:
        await client.pay_and_wait(a_purchase("TRIP-1"))
        cursor = (await take(client.watch_payments(), 4))[1].cursor
        fake_payments.replace_log()
        with pytest.raises(LogDiverged):
            await next_of(client.watch_payments(cursor=cursor))
        anew = await next_of(client.watch_payments(cursor=cursor, resynchronise=timedelta(days=1)))
        assert anew.event_id.endswith("-4")


def test_threads_are_told_of_a_replaced_log_and_can_read_anew(fake_payments: FakePayments) -> None:
    with fake_payments.sync_client() as client:
        client.pay_and_wait(a_purchase("TRIP-1"))
        client.pay_and_wait(a_purchase("TRIP-2"))
        cursor = next(client.watch_payments()).cursor
        fake_payments.replace_log()
        with pytest.raises(LogDiverged):
            next(client.watch_payments(cursor=cursor))
        stream = client.watch_payments(cursor=cursor, resynchronise=timedelta(days=1))
        events = list(islice(stream, 2))
        assert [event.payment.booking_id for event in events] == ["TRIP-2", "TRIP-1"]
        assert events[0].cursor == cursor
        client.pay_and_wait(a_purchase("TRIP-3"))
        assert next(stream).payment.booking_id == "TRIP-3"


def test_a_refund_goes_back_when_the_test_says_so(fake_payments: FakePayments) -> None:
    with fake_payments.sync_client() as client:
        payment = client.pay_and_wait(a_purchase("TRIP-1"))
        part = client.refund(payment.payment_id, RefundReason.REFUND_REASON_OTHER, amount=100)
        assert part.payment.booking_action == BookingAction.BOOKING_ACTION_CONFIRM
        assert fake_payments.refund_done(payment.payment_id).refunded_amount.units == 100
        client.refund(payment.payment_id, RefundReason.REFUND_REASON_CANNOT_DELIVER)
        assert fake_payments.refund_done(payment.payment_id).status == PaymentStatus.PAYMENT_STATUS_REFUNDED


def test_a_thread_gets_the_receipt_once_the_money_is_here() -> None:
    with FakePayments(issues_receipts=True) as fake, fake.sync_client() as client:
        fake.script(Outcome.IS_NOT_SENT, booking_id="TRIP-2")
        unpaid = client.initiate(a_purchase("TRIP-2")).payment
        with pytest.raises(ReceiptNotIssued) as early:
            client.get_receipt(unpaid.payment_id)
        assert early.value.is_coming
        payment = client.pay_and_wait(a_purchase("TRIP-1"))
        answer = client.get_receipt(payment.payment_id)
    assert (answer.receipt.standing, answer.receipt.amount_left.units) == (ReceiptStanding.RECEIPT_STANDING_PAID, 500)
    assert answer.pdf.startswith(b"%PDF-")


async def test_a_fake_that_is_away_is_unavailable() -> None:
    fake = FakePayments()
    fake.start()
    async with PaymentsClient(fake.address, backoff=Backoff(0.01, 0.02)) as client:
        await client.list_page()
        fake.stop()
        with pytest.raises(ServiceUnavailable):
            await client.list_page()


async def test_a_consumer_acknowledges_and_is_offered_events_again(fake_payments: FakePayments, tmp_path: Path) -> None:
    told: list[str] = []

    async def note(event: PaymentEvent, _: None) -> None:
        told.append(event.event_id)

    store = AsyncFileCursors(tmp_path / "cursor.json")
    async with fake_payments.client() as client:
        await client.pay_and_wait(a_purchase("TRIP-1"))
        middle = fake_payments.events[1].cursor
        fake_payments.rewind("sms", middle)
        consuming = asyncio.create_task(client.consume(store, note, acknowledge_as="sms"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while fake_payments.calls("AcknowledgeEvents") < 2:
                await asyncio.sleep(0.02)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
    expected = [event.event_id for event in fake_payments.events]
    assert told == expected + expected[2:]
    store.close()


def test_a_consumer_in_a_thread_does_so_too(fake_payments: FakePayments, tmp_path: Path) -> None:
    told: list[str] = []
    with fake_payments.sync_client() as client:
        client.pay_and_wait(a_purchase("TRIP-1"))
        expected = [event.event_id for event in fake_payments.events]
        fake_payments.rewind("sms", fake_payments.events[2].cursor)

        def note(event: PaymentEvent, _: None) -> None:
            told.append(event.event_id)
            if len(told) == len(expected) + 1:
                client.close()

        client.consume(FileCursors(tmp_path / "cursor.json"), note, acknowledge_as="sms")
    assert told == expected + expected[3:]
