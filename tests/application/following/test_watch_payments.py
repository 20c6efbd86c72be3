"""WatchPayments: every event, in order, for whoever asks, however slowly."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import grpc
import psycopg
import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.rpc import calls
from tests.application.following.reading import events_until, next_of, rest_of, versions
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rpc.answers import refusal_of
from tests.rpc.processes import Process, paid, refused, running_process, sent

EARLIEST = pb.WatchPaymentsRequest.POSITION_EARLIEST
LATEST = pb.WatchPaymentsRequest.POSITION_LATEST


def reason_of(error: grpc.aio.AioRpcError | None) -> str:
    assert error is not None
    return refusal_of(error).reason


async def test_every_event_comes_in_order_from_the_beginning_or_from_now(process: Process) -> None:
    one = await process.tell(await process.create(), *sent(1), paid("SJ12345678"))
    await process.caught_up()
    late = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
    first = await next_of(late)
    assert not first.events
    assert first.caught_up
    two = await process.tell(await process.create(), *sent(2), refused())
    early = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST)))
    everything = await events_until(early, lambda events: len(events) >= 8)
    assert [(event.payment.payment_id, event.payment.version) for event in everything] == [
        (str(payment.payment_id), version) for payment in (one, two) for version in (1, 2, 3, 4)
    ]
    assert [event.event_id for event in await events_until(late, lambda events: len(events) >= 4)] == [
        event.event_id for event in everything[4:]
    ]


async def test_each_events_own_cursor_resumes_right_after_it(process: Process) -> None:
    await process.tell(await process.create(), *sent(1), refused())
    early = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST)))
    events = await events_until(early, lambda events: len(events) >= 4)
    for number, event in enumerate(events[:-1]):
        resumed = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=event.cursor)))
        expected = [one.event_id for one in events[number + 1 :]]
        rest = await events_until(resumed, partial(_as_many_as, expected))
        assert [one.event_id for one in rest] == expected


def _as_many_as(expected: list[str], events: list[payment_pb2.PaymentEvent]) -> bool:
    return len(events) >= len(expected)


async def test_events_of_other_processes_come_too(database: Database, tmp_path: Path) -> None:
    async with (
        running_process(database.application_url, tmp_path) as here,
        running_process(database.application_url, tmp_path) as there,
    ):
        stream = aiter(here.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
        await next_of(stream)
        payment = await there.tell(await there.create(), *sent(1), refused())
        events = await events_until(stream, lambda events: len(events) >= 4)
        assert {event.payment.payment_id for event in events} == {str(payment.payment_id)}
        # A cursor from the one that is ahead is good at the other, however far its own tailer is.
        resumed = aiter(there.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=events[1].cursor)))
        assert versions(await events_until(resumed, lambda events: len(events) >= 2)) == [3, 4]


async def test_filters_leave_out_events_and_the_cursor_moves_past_them(database: Database, tmp_path: Path) -> None:
    async with running_process(database.application_url, tmp_path, heartbeat_seconds=0.3) as process:
        ended = [payment_pb2.PAYMENT_STATUS_FAILED, payment_pb2.PAYMENT_STATUS_COMPLETED]
        request = pb.WatchPaymentsRequest(position=EARLIEST, statuses=ended)
        await process.tell(await process.create(), *sent(1), refused())
        stream = aiter(process.payments.WatchPayments(request))
        assert versions(await events_until(stream, lambda events: len(events) >= 1)) == [4]
        payment = await process.create()
        await process.caught_up()
        live = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
        before = (await next_of(live)).cursor
        await process.tell(payment, *sent(2))
        last = (await events_until(live, lambda events: len(events) >= 2))[-1].cursor
        # Only heartbeats come, and their cursor passes what was left out.
        while (message := await next_of(stream)).cursor != last:
            assert not message.events
        assert before != last


async def test_idle_streams_beat(database: Database, tmp_path: Path) -> None:
    async with running_process(database.application_url, tmp_path, heartbeat_seconds=0.2) as process:
        stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
        beats = [await next_of(stream) for _ in range(4)]
        assert all(beat.caught_up and not beat.events and beat.cursor for beat in beats)


async def test_a_slow_watcher_loses_nothing(database: Database, tmp_path: Path) -> None:
    """Far more events than its buffer holds, while it reads none: it gets all of them from the table."""
    async with running_process(database.application_url, tmp_path, subscriber_events_max=3) as process:
        stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
        await next_of(stream)
        payments = await asyncio.gather(*(process.create() for _ in range(120)))
        await asyncio.gather(*(process.tell(payment, *sent(n)) for n, payment in enumerate(payments, 1)))
        events = await events_until(stream, lambda events: len(events) >= 360)
        assert len({event.event_id for event in events}) == len(events) == 360
        by_payment: dict[str, list[int]] = {}
        for event in events:
            by_payment.setdefault(event.payment.payment_id, []).append(event.payment.version)
        assert set(map(tuple, by_payment.values())) == {(1, 2, 3)}


async def test_a_lost_database_connection_is_made_again_and_nothing_is_missed(
    database: Database, process: Process
) -> None:
    stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
    await next_of(stream)
    for number in range(1, 4):
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await process.tell(await process.create(), *sent(number))
        assert versions(await events_until(stream, lambda events: len(events) >= 3)) == [1, 2, 3]


async def test_a_cursor_of_another_database_is_told_apart(database: Database, process: Process, tmp_path: Path) -> None:
    await process.create()
    stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST)))
    cursor = (await events_until(stream, lambda events: len(events) >= 1))[0].cursor
    _, error = await rest_of(aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=_damaged(cursor)))))
    assert reason_of(error) == "LOG_DIVERGED"
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("UPDATE event_log SET log_id = gen_random_uuid()")
    async with running_process(database.application_url, tmp_path) as other:
        _, error = await rest_of(aiter(other.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=cursor))))
        assert reason_of(error) == "LOG_DIVERGED"


async def test_garbage_is_no_cursor(process: Process) -> None:
    good = (await next_of(aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST))))).cursor
    for bad in ("", "x", "é", good[:-1], good + "A", good[1:], good.replace(good[0], "B", 1), "A" * 5_000):
        _, error = await rest_of(aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=bad))))
        assert reason_of(error) == "CURSOR_INVALID", bad


async def test_streams_end_with_a_cursor_when_the_process_drains(database: Database, tmp_path: Path) -> None:
    async with (
        running_process(database.application_url, tmp_path) as other,
        running_process(database.application_url, tmp_path) as process,
    ):
        payment = await process.create()
        every = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST)))
        one = aiter(process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(payment.payment_id))))
        await events_until(every, lambda events: len(events) >= 1)
        await next_of(one)
        process.feed.drain()
        ends = await rest_of(every), await rest_of(one)
        await other.tell(payment, *sent(1))
        for messages, error in ends:
            assert reason_of(error) == "SERVICE_DRAINING"
            assert error is not None
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            cursor = messages[-1].cursor
            resumed = aiter(other.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=cursor)))
            assert versions(await events_until(resumed, lambda events: len(events) >= 2)) == [2, 3]


def _damaged(cursor: str) -> str:
    """The same place with another tag."""
    return cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")


@pytest.mark.usefixtures("untraced")
async def test_a_reader_that_takes_nothing_is_sent_away_with_nothing_left_behind(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "WRITE_WAIT_SECONDS", 0.3)
    # More than the client's and the server's windows together hold.
    fill = {f"key-{n}": "x" * 200 for n in range(16)}
    payments = await asyncio.gather(*(process.create(metadata=fill) for _ in range(1_500)))
    await asyncio.gather(*(process.tell(payment, *sent(n)) for n, payment in enumerate(payments, 1)))
    stream = process.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST))
    # Until the server has given it up; nothing is read meanwhile.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not process.feed.subscribers:
            await asyncio.sleep(0.01)
        while process.feed.subscribers or any(process.server.gate.open_calls.values()):
            await asyncio.sleep(0.01)
    monkeypatch.undo()
    messages, error = await rest_of(aiter(stream))
    assert reason_of(error) == "TOO_MANY_REQUESTS"
    cursor = messages[-1].cursor
    read = sum(len(message.events) for message in messages)
    resumed = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=cursor)))
    rest = await events_until(resumed, lambda events: len(events) >= 4_500 - read)
    assert read + len(rest) == 4_500
