"""Named consumers: what they acknowledge, where they go on, and what an operator sees and does."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from mpesa_payments.v1 import operations_service_pb2 as operations_pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from structlog.testing import capture_logs

from development.certificates import BOOKING, NOTIFICATION
from development.system import channel_to
from payment_service.application.following.watch_consumers import BEHIND_AFTER, ConsumerWatch, watch_consumers
from payment_service.store.consumers import CONSUMERS_MAX
from tests.application.following.reading import events_until, next_of, rest_of
from tests.certificates import certificates_in, door_of
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.answers import Refusal, refusal_of, refused
from tests.rpc.processes import Process, running_process, sent
from tests.rpc.processes import refused as refused_by_payer

EARLIEST, LATEST = pb.WatchPaymentsRequest.POSITION_EARLIEST, pb.WatchPaymentsRequest.POSITION_LATEST


async def four_events(process: Process, number: int = 1) -> list[payment_pb2.PaymentEvent]:
    """Those of one more payment that failed."""
    await process.caught_up()
    stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)))
    await next_of(stream)
    await process.tell(await process.create(booking_id=f"BK-{number}"), *sent(number), refused_by_payer())
    return await events_until(stream, lambda events: len(events) >= 4)


async def so_many(stream: AsyncIterator[Any], most: int) -> list[payment_pb2.PaymentEvent]:
    return await events_until(stream, lambda events: len(events) >= most)


async def acknowledge(process: Process, cursor: str, consumer: str = "sms") -> pb.AcknowledgeEventsResponse:
    asked = pb.AcknowledgeEventsRequest(consumer=consumer, cursor=cursor)
    answer: pb.AcknowledgeEventsResponse = await process.payments.AcknowledgeEvents(asked)
    return answer


async def listed(process: Process) -> list[operations_pb.Consumer]:
    return list((await process.operations.ListConsumers(operations_pb.ListConsumersRequest())).consumers)


def by_name(consumer: str = "sms") -> pb.WatchPaymentsRequest:
    return pb.WatchPaymentsRequest(consumer=consumer)


async def rewind_to(process: Process, event: payment_pb2.PaymentEvent, **changed: str) -> operations_pb.Consumer:
    asked = operations_pb.RewindConsumerRequest(
        **{
            "caller": "development",
            "consumer": "sms",
            "operator": "amina",
            "reason": "SMS gateway lost them",
            **changed,
        },
        from_time=event.event_time,
    )
    return (await process.operations.RewindConsumer(asked)).consumer


async def test_a_consumer_goes_on_after_what_it_has_acknowledged_however_often_it_starts(process: Process) -> None:
    assert (await refusal_at(process, by_name())).reason == "CONSUMER_NOT_FOUND"
    events = await four_events(process)
    for number, event in enumerate(events):
        answer = await acknowledge(process, event.cursor)
        assert (answer.cursor, answer.lag_events) == (event.cursor, 3 - number)
        resumed = aiter(process.payments.WatchPayments(by_name()))
        rest = [one.event_id for one in events[number + 1 :]]
        assert [one.event_id for one in await so_many(resumed, len(rest))] == rest


async def test_an_older_cursor_than_the_last_moves_nothing_back(process: Process) -> None:
    events = await four_events(process)
    await acknowledge(process, events[2].cursor)
    assert (await acknowledge(process, events[0].cursor)).cursor == events[2].cursor


async def test_the_lag_is_in_events_and_in_time(process: Process) -> None:
    events = await four_events(process)
    process.writers.clock.move(90)
    answer = await acknowledge(process, events[1].cursor)
    assert (answer.lag_events, answer.lag.ToTimedelta()) == (2, process.writers.clock.now - at(events[2]))
    answer = await acknowledge(process, events[3].cursor)
    assert (answer.lag_events, answer.lag.ToTimedelta()) == (0, timedelta(0))


async def test_an_operator_offers_events_again_to_a_consumer_that_keeps_its_own_cursor(process: Process) -> None:
    first = await four_events(process, 1)
    process.writers.clock.move(60)
    second = await four_events(process, 2)
    await acknowledge(process, second[-1].cursor)
    assert (await rewind_to(process, second[0])).rewind_pending

    refusal = await refused(acknowledge(process, second[-1].cursor))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONSUMER_REWOUND")
    own_cursor = refusal.metadata["cursor"]
    stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=own_cursor)))
    again = await events_until(stream, lambda events: len(events) >= 4)
    assert [event.event_id for event in again] == [event.event_id for event in second]
    # Other cursors of before, such as those of a second instance that has not heard of it, lose nothing.
    for old in (first[0], second[-1]):
        assert (await refused(acknowledge(process, old.cursor))).reason == "CONSUMER_REWOUND"
    for left, event in zip((3, 2, 1, 0), again, strict=True):
        assert (await acknowledge(process, event.cursor)).lag_events == left
    assert not (await listed(process))[0].rewind_pending
    # Live events after the old ones carry it on.
    third = await four_events(process, 3)
    live = await events_until(stream, lambda events: len(events) >= 4)
    assert [event.event_id for event in live] == [event.event_id for event in third]
    assert (await acknowledge(process, live[-1].cursor)).lag_events == 0


async def test_a_stream_by_name_ends_when_the_consumer_is_moved_back_and_starts_there(
    database: Database, tmp_path: Path
) -> None:
    async with running_process(database.application_url, tmp_path, heartbeat_seconds=0.2) as process:
        events = await four_events(process)
        await acknowledge(process, events[-1].cursor)
        stream = aiter(process.payments.WatchPayments(by_name()))
        await next_of(stream)
        await rewind_to(process, events[0])
        _, error = await rest_of(stream)
        assert error is not None
        assert refusal_of(error).reason == "CONSUMER_REWOUND"
        anew = aiter(process.payments.WatchPayments(by_name()))
        again = await events_until(anew, lambda some: len(some) >= 4)
        assert [event.event_id for event in again] == [event.event_id for event in events]
        # A heartbeat's cursor is as good as an event's.
        while (message := await next_of(anew)).events:
            pass
        assert (await acknowledge(process, message.cursor)).lag_events == 0


async def test_a_consumer_is_moved_back_only_and_who_did_so_is_kept(process: Process, database: Database) -> None:
    events = await four_events(process)
    await acknowledge(process, events[0].cursor)
    process.writers.clock.move(60)
    refusal = await refused(rewind_to(process, (await four_events(process, 2))[0]))
    assert (refusal.reason, set(refusal.fields)) == ("INVALID_REQUEST", {"from_time"})
    assert (await refused(rewind_to(process, events[0], consumer="mail"))).reason == "CONSUMER_NOT_FOUND"
    await rewind_to(process, events[0])
    asked = operations_pb.ForgetConsumerRequest(caller="development", consumer="sms", operator="amina", reason="gone")
    await process.operations.ForgetConsumer(asked)
    assert await listed(process) == []
    assert (await refused(process.operations.ForgetConsumer(asked))).reason == "CONSUMER_NOT_FOUND"
    kept = await rows_of(database, "SELECT act, operator, reason FROM consumer_acts ORDER BY position")
    assert kept == [("REWOUND", "amina", "SMS gateway lost them"), ("FORGOTTEN", "amina", "gone")]


async def test_a_consumer_that_stands_still_raises_an_alarm_that_ends_by_itself(process: Process) -> None:
    watch = ConsumerWatch(process.core.reads.engine, process.writers.clock)
    events = await four_events(process)
    await acknowledge(process, events[0].cursor)
    await watch_consumers(watch)
    process.writers.clock.move(BEHIND_AFTER.total_seconds() + 60)
    with capture_logs() as lines:
        for _ in range(2):
            await watch_consumers(watch)
        await acknowledge(process, events[-1].cursor)
        await watch_consumers(watch)
        # What is offered again on purpose waits from then on.
        await rewind_to(process, events[0])
        await watch_consumers(watch)
    told = [(line["event"], line["consumer"], line["events"]) for line in lines if line.get("alarm")]
    assert told == [("alarm", "sms", 3), ("alarm is over", "sms", 0)]


async def test_a_caller_has_only_so_many_consumers(process: Process) -> None:
    cursor = (await four_events(process))[0].cursor
    for number in range(CONSUMERS_MAX):
        await acknowledge(process, cursor, f"pod-{number}")
    refusal = await refused(acknowledge(process, cursor, "pod-100"))
    assert (refusal.reason, set(refusal.fields)) == ("INVALID_REQUEST", {"consumer"})
    await acknowledge(process, cursor, "pod-7")


@pytest.mark.parametrize("consumer", ["", "a b", "x" * 65])
async def test_a_name_that_is_none_is_refused(process: Process, consumer: str) -> None:
    cursor = (await four_events(process))[0].cursor
    assert set((await refused(acknowledge(process, cursor, consumer))).fields) == {"consumer"}
    assert set((await refusal_at(process, by_name(consumer))).fields) == {"consumer"}


async def test_a_name_is_within_its_callers_identity_and_so_is_the_lag(database: Database, tmp_path: Path) -> None:
    certificates = certificates_in(tmp_path)
    async with running_process(database.application_url, tmp_path, door=door_of(certificates)) as process:
        await process.tell(await process.create(caller=BOOKING), *sent(1))
        await process.create(caller="another-shop")
        await process.caught_up()
        for caller, behind in ((BOOKING, 3), (NOTIFICATION, 4)):
            async with channel_to(str(process.server.address), certificates, caller) as channel:
                one = dataclasses.replace(process, channel=channel)
                stream = aiter(one.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST)))
                events = await so_many(stream, behind)
                assert (await acknowledge(one, events[0].cursor)).lag_events == behind - 1
                assert (await refusal_at(one, by_name("mail"))).reason == "CONSUMER_NOT_FOUND"


def at(event: payment_pb2.PaymentEvent) -> datetime:
    return event.event_time.ToDatetime(UTC)


async def refusal_at(process: Process, asked: pb.WatchPaymentsRequest) -> Refusal:
    _, error = await rest_of(aiter(process.payments.WatchPayments(asked)))
    assert error is not None
    return refusal_of(error)
