"""Streams that go on by themselves: whatever cuts them, every event comes once and in order."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from payment_client.error_details import Details
from payment_client.resuming import Following, is_over
from payment_client.testing import FakePayments
from payment_client.testing.refusals import FakeRefusal
from payment_client.testing.server import Failure

from development.postgres import create_database
from development.slowness import slowness
from payment_client import (
    Backoff,
    CannotConnect,
    LogDiverged,
    PaymentEventType,
    PaymentNotFound,
    PaymentsClient,
    PaymentStatus,
    Refused,
    ServiceUnavailable,
    payment_pb2,
    payment_service_pb2,
)
from payment_service.domain.payment import Payment
from tests.databases import TEMPLATE, Database
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import client_of, next_of, take
from tests.payment_client.relay import running_relay
from tests.rpc.processes import Process, paid, refused, running_process, sent


def ids(events: list[payment_pb2.PaymentEvent]) -> list[str]:
    return [event.event_id for event in events]


def of(*payments: Payment) -> list[str]:
    """The ids of all events of these payments, which had four each."""
    return [f"{payment.payment_id}-{version}" for payment in payments for version in (1, 2, 3, 4)]


async def test_a_stream_goes_on_where_it_was_however_often_it_is_cut(process: Process) -> None:
    async with running_relay(str(process.server.address)) as relay, client_of(relay.address) as client:
        stream = client.watch_payments()
        told: list[str] = []
        expected: list[str] = []
        for number in range(1, 6):
            payment = await process.tell(await process.create(), *sent(number), paid(f"SJ1234567{number}"))
            expected += of(payment)
            # Cut in the middle of what there is to tell.
            told += ids(await take(stream, 2))
            relay.cut()
            told += ids(await take(stream, 2))
    assert told == expected


async def test_a_stream_outlives_the_processes_that_serve_it(
    process: Process, database: Database, tmp_path: Path
) -> None:
    async with running_relay("127.0.0.1:1") as relay, client_of(relay.address) as client:
        stream = client.watch_payments()
        told: list[str] = []
        payments: list[Payment] = []
        for number in range(1, 4):
            (folder := tmp_path / str(number)).mkdir()
            (folder / "keys.json").write_bytes((tmp_path / "keys.json").read_bytes())
            async with running_process(database.application_url, folder) as deployed:
                relay.upstream = str(deployed.server.address)
                payments.append(await deployed.tell(await deployed.create(), *sent(number), paid(f"SJ1234567{number}")))
                told += ids(await take(stream, 4))
            # Drained: the stream has ended with SERVICE_DRAINING, and there is nobody until the next one serves.
            relay.upstream = "127.0.0.1:1"
    assert told == of(*payments)


async def test_each_event_carries_where_to_go_on(client: PaymentsClient, process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1), refused())
    events = await take(client.watch_payments(), 4)
    assert ids(await take(client.watch_payments(cursor=events[1].cursor), 2)) == of(payment)[2:]


async def test_only_the_statuses_that_are_asked_for_come(client: PaymentsClient, process: Process) -> None:
    await process.tell(await process.create(), *sent(1), refused())
    second = await process.tell(await process.create(), *sent(2), paid("SJ12345678"))
    stream = client.watch_payments(statuses=[PaymentStatus.PAYMENT_STATUS_COMPLETED])
    assert ids(await take(stream, 1)) == of(second)[3:]


async def test_a_stream_that_has_fallen_silent_is_given_up(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "payment_client")
    async with (
        running_process(database.application_url, tmp_path, heartbeat_seconds=0.1) as process,
        running_relay(str(process.server.address)) as relay,
        client_of(relay.address, silence_max=2.0 * slowness()) as client,
    ):
        stream = client.watch_payments()
        first = await process.tell(await process.create(), *sent(1), refused())
        told = ids(await take(stream, 4))
        relay.silent = True
        going_on = asyncio.create_task(take(stream, 4))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "fallen silent" not in caplog.text:
                await asyncio.sleep(0.02)
        relay.cut()
        relay.silent = False
        second = await process.tell(await process.create(), *sent(2), refused())
        told += ids(await asyncio.wait_for(going_on, PATIENCE_SECONDS))
    assert told == of(first, second)


async def test_a_cursor_of_another_database_is_told_or_read_anew_as_asked(
    client: PaymentsClient, process: Process, tmp_path: Path, database: Database
) -> None:
    await process.create()
    foreign = (await next_of(client.watch_payments())).cursor
    other_url = await create_database(database.server, f"other_{uuid4().hex}", template=TEMPLATE)
    (folder := tmp_path / "other").mkdir()
    async with running_process(other_url, folder) as other, client_of(str(other.server.address)) as its_client:
        standing = [await other.tell(await other.create(), *sent(n), refused()) for n in (1, 2)]
        with pytest.raises(LogDiverged):
            await next_of(its_client.watch_payments(cursor=foreign))
        stream = its_client.watch_payments(cursor=foreign, resynchronise=timedelta(days=7))
        events = await take(stream, 2)
        # Each as it stands, under the id of the event that made it so, the newest first.
        assert ids(events) == [of(payment)[3] for payment in reversed(standing)]
        assert {event.type for event in events} == {PaymentEventType.PAYMENT_EVENT_TYPE_UNSPECIFIED}
        # Whoever stops in between begins with the same list again; whoever has all of it goes on with what is new.
        assert events[0].cursor == foreign
        third = await other.tell(await other.create(), *sent(3), refused())
        assert ids(await take(stream, 4)) == of(third)
        assert ids(await take(its_client.watch_payments(cursor=events[1].cursor), 4)) == of(third)


async def test_one_payment_is_followed_to_its_end_across_a_cut(process: Process) -> None:
    payment = await process.create()
    async with running_relay(str(process.server.address)) as relay, client_of(relay.address) as client:
        stream = client.watch_payment(str(payment.payment_id))
        versions = [(await next_of(stream)).version]
        relay.cut()
        await process.tell(payment, *sent(1), paid("SJ12345678"))
        versions += [one.version async for one in stream]
        assert versions == [1, 2, 3, 4]
        with pytest.raises(PaymentNotFound):
            await next_of(client.watch_payment(str(uuid4())))


async def test_a_payment_whose_cursor_is_refused_is_told_as_it_stands(process: Process, client: PaymentsClient) -> None:
    payment = await process.create()
    await process.caught_up()
    cursor = (await client.list_page()).cursor
    await process.tell(payment, *sent(1), refused())
    assert [one.version async for one in client.watch_payment(str(payment.payment_id), cursor=cursor)] == [2, 3, 4]


async def test_a_booking_is_followed_through_all_its_attempts(client: PaymentsClient, process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1), refused())
    stream = client.watch_booking(payment.booking_id)
    assert (await next_of(stream)).status == PaymentStatus.PAYMENT_STATUS_FAILED
    process.writers.clock.move(600)
    second = (await client.retry(str(payment.payment_id))).payment
    assert (await next_of(stream)).payment_id == second.payment_id


async def test_whoever_cannot_connect_at_all_is_told_and_a_service_that_is_away_is_waited_for(
    process: Process,
) -> None:
    payment = await process.create()
    async with running_relay("127.0.0.1:1") as relay, client_of(relay.address) as client:
        waiting = asyncio.create_task(next_of(client.watch_payments()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while relay.connections < 3:
                await asyncio.sleep(0.01)
        relay.upstream = str(process.server.address)
        assert (await waiting).payment.payment_id == str(payment.payment_id)


def an_error(seconds: float | None = None) -> ServiceUnavailable:
    wait = None if seconds is None else timedelta(seconds=seconds)
    return ServiceUnavailable(grpc.StatusCode.UNAVAILABLE, "away", Details(retry_after=wait))


def test_an_event_that_comes_again_is_left_out() -> None:
    message = payment_service_pb2.WatchPaymentsResponse(
        events=[payment_pb2.PaymentEvent(event_id="a"), payment_pb2.PaymentEvent(event_id="b")], cursor="after-b"
    )
    following = Following("", Backoff())
    assert ids(following.took(message)) == ["a", "b"]
    message.events.add(event_id="c")
    assert ids(following.took(message)) == ["c"]
    assert following.cursor == "after-b"


def test_what_a_later_release_has_added_is_read_as_its_number() -> None:
    """Names and fields that this client does not know: an event of a later service neither fails nor is lost."""
    later = 9_999
    payment = payment_pb2.Payment(payment_id="p-1", version=1)
    event = payment_pb2.PaymentEvent(event_id="p-1-1", cursor="c-1", payment=payment)
    for message, fields in (
        (event.payment, ("status", "status_reason", "booking_action", "next_step")),
        (event, ("type", "previous_status")),
    ):
        for name in fields:
            setattr(message, name, later)
    # A field of a number that is not taken, with a text in it.
    content = payment_service_pb2.WatchPaymentsResponse(events=[event], cursor="c-2").SerializeToString()
    content += bytes([0xC2, 0xBB, 0x07, 3]) + b"new"
    sent_later = payment_service_pb2.WatchPaymentsResponse.FromString(content)
    [read] = Following("", Backoff()).took(sent_later)
    assert (read.type, read.payment.status, read.payment.booking_action) == (later, later, later)
    # Not one of those that end nothing, as far as this client can know.
    assert is_over(read.payment)


async def test_errors_of_a_later_release_are_told_by_their_code() -> None:
    with FakePayments() as fake:
        async with fake.client() as client:
            for code, kind in (
                (grpc.StatusCode.FAILED_PRECONDITION, Refused),
                (grpc.StatusCode.UNAVAILABLE, ServiceUnavailable),
                (grpc.StatusCode.UNIMPLEMENTED, Refused),
            ):
                # Always: the client repeats by itself what is unavailable.
                refusal = FakeRefusal(code, "A_REASON_OF_LATER", "Not known yet.")
                fake._server.failures["GetPayment"] = Failure(refusal, sys.maxsize)
                with pytest.raises(kind) as told:
                    await client.get(str(uuid4()))
                assert (type(told.value), told.value.reason) == (kind, "A_REASON_OF_LATER")


def test_pauses_grow_to_their_limit_and_are_never_shorter_than_was_asked_for() -> None:
    following = Following("", Backoff(first_seconds=1, most_seconds=8))
    pauses = [following.pause_after(an_error()) for _ in range(2_000)]
    for pause, longest in zip(pauses, [1, 2, 4, 8, 8], strict=False):
        assert longest / 2 <= pause <= longest
    assert max(pauses) <= 8
    assert len({round(pause, 6) for pause in pauses[4:]}) > 1_000, "many clients would come back at once"
    assert following.pause_after(an_error(60)) == 60
    following.took(payment_service_pb2.WatchPaymentsResponse(cursor="x"))
    assert following.pause_after(an_error()) <= 1


def test_what_is_set_up_wrongly_is_told_at_once_unless_it_has_worked_before() -> None:
    wrong = CannotConnect("the wrong authority", lasting=True)
    following = Following("", Backoff())
    with pytest.raises(CannotConnect):
        following.pause_after(wrong)
    following.took(payment_service_pb2.WatchPaymentsResponse(cursor="x"))
    assert following.pause_after(wrong) > 0


async def test_a_stream_that_is_cancelled_as_a_message_comes_ends() -> None:
    told: asyncio.Future[payment_service_pb2.WatchPaymentsResponse] = asyncio.get_running_loop().create_future()

    class Stream:
        """One message, when the test says so."""

        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> payment_service_pb2.WatchPaymentsResponse:
            return await told

        def cancel(self) -> None:
            """Nothing is open."""

    async with PaymentsClient("127.0.0.1:1") as client:
        call: Any = Stream
        messages = client._messages(Following("", Backoff()), call)
        reading = asyncio.create_task(anext(messages))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        told.set_result(payment_service_pb2.WatchPaymentsResponse(cursor="c"))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await messages.aclose()
