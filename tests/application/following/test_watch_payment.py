"""WatchPayment: a snapshot, what follows, and when it ends."""

from __future__ import annotations

from uuid import uuid4

import grpc
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.domain.facts import DeadlinePassed, ResultReported, Source, Verdict
from tests.application.following.reading import events_until, next_of, rest_of, versions
from tests.rpc.processes import Process, paid, refused, sent


async def test_a_watch_begins_with_a_snapshot_and_ends_with_the_payment(process: Process) -> None:
    payment = await process.create()
    stream = aiter(process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(payment.payment_id))))
    first = await next_of(stream)
    assert [one.payment_id for one in first.snapshot.payments] == [str(payment.payment_id)]
    assert first.cursor
    await process.tell(payment, *sent(1), paid("SJ12345678"))
    messages, error = await rest_of(stream)
    assert error is None
    events = [event for message in messages for event in message.events if event.payment.version > 1]
    assert versions(events) == [2, 3, 4]
    assert [event.previous_status for event in events] == [
        payment_pb2.PAYMENT_STATUS_PENDING,
        payment_pb2.PAYMENT_STATUS_PENDING,
        payment_pb2.PAYMENT_STATUS_PROCESSING,
    ]
    assert events[-1].payment.status == payment_pb2.PAYMENT_STATUS_COMPLETED
    assert events[-1].event_id == f"{payment.payment_id}-4"


async def test_a_watch_of_an_ended_payment_is_its_snapshot(process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1), refused())
    stream = aiter(process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(payment.payment_id))))
    messages, error = await rest_of(stream)
    assert error is None
    assert [message.snapshot.payments[0].status for message in messages] == [payment_pb2.PAYMENT_STATUS_FAILED]


async def test_a_watch_goes_on_while_the_receipt_is_pending(process: Process) -> None:
    payment = await process.create()
    stream = aiter(process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(payment.payment_id))))
    await next_of(stream)
    payment = await process.tell(payment, *sent(1), _paid_without_receipt())
    events = await events_until(stream, lambda events: bool(events) and events[-1].payment.version == 4)
    assert events[-1].payment.status == payment_pb2.PAYMENT_STATUS_COMPLETED
    assert events[-1].payment.booking_action == payment_pb2.BOOKING_ACTION_WAIT
    await process.tell(payment, paid("SJ12345678"))
    messages, error = await rest_of(stream)
    assert error is None
    assert messages[-1].events[-1].payment.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM


async def test_a_watch_resumed_from_a_cursor_gets_only_what_came_after_it(process: Process) -> None:
    payment = await process.create()
    request = pb.WatchPaymentRequest(payment_id=str(payment.payment_id))
    cursor = (await next_of(aiter(process.payments.WatchPayment(request)))).cursor
    payment = await process.tell(payment, *sent(1))
    stream = aiter(
        process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(payment.payment_id), cursor=cursor))
    )
    events = await events_until(stream, lambda events: bool(events) and events[-1].payment.version == 3)
    resumed = aiter(
        process.payments.WatchPayment(
            pb.WatchPaymentRequest(payment_id=str(payment.payment_id), cursor=events[-2].cursor)
        )
    )
    assert versions(list((await next_of(resumed)).events)) == [3]


async def test_a_watch_resumed_after_the_end_ends(process: Process) -> None:
    payment = await process.create()
    listing = aiter(
        process.payments.WatchPayments(pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST))
    )
    await process.tell(payment, *sent(1), refused())
    events = await events_until(listing, lambda events: bool(events) and events[-1].payment.version == 4)
    resumed = process.payments.WatchPayment(
        pb.WatchPaymentRequest(payment_id=str(payment.payment_id), cursor=events[-1].cursor)
    )
    messages, error = await rest_of(aiter(resumed))
    assert error is None
    assert not [event for message in messages for event in message.events]
    assert messages[-1].cursor


async def test_follow_goes_on_until_the_outcome_is_certain(process: Process) -> None:
    payment = await process.create()
    request = pb.WatchPaymentRequest(payment_id=str(payment.payment_id), follow=True)
    stream = aiter(process.payments.WatchPayment(request))
    await next_of(stream)
    payment = await process.tell(payment, *sent(1))
    process.writers.clock.move(130)
    payment = await process.tell(payment, DeadlinePassed())
    events = await events_until(stream, lambda events: bool(events) and events[-1].payment.version == payment.version)
    assert events[-1].payment.status == payment_pb2.PAYMENT_STATUS_EXPIRED
    assert not events[-1].payment.outcome_certain
    await process.tell(payment, paid("SJ12345678"))
    messages, error = await rest_of(stream)
    assert error is None
    last = messages[-1].events[-1].payment
    assert last.paid_late
    assert last.outcome_certain


async def test_a_booking_is_watched_before_it_has_a_payment_and_through_its_attempts(process: Process) -> None:
    stream = aiter(process.payments.WatchPayment(pb.WatchPaymentRequest(booking_id="BK-1")))
    first = await next_of(stream)
    assert first.HasField("snapshot")
    assert not first.snapshot.payments
    one = await process.tell(await process.create(booking_id="BK-1"), *sent(1), refused())
    await process.create(booking_id="BK-2")
    two = await process.create(booking_id="BK-1")
    events = await events_until(stream, lambda events: len(events) >= 5)
    assert [event.payment.payment_id for event in events] == [str(one.payment_id)] * 4 + [str(two.payment_id)]
    assert events[-1].payment.attempt == 2
    assert events[-1].payment.retry_of == str(one.payment_id)
    resumed = aiter(process.payments.WatchPayment(pb.WatchPaymentRequest(booking_id="BK-1", cursor=events[1].cursor)))
    again = await events_until(resumed, lambda events: len(events) >= 3)
    assert [event.event_id for event in again] == [event.event_id for event in events[2:]]


async def test_an_unknown_payment_is_not_found(process: Process) -> None:
    stream = process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(uuid4())))
    _, error = await rest_of(aiter(stream))
    assert error is not None
    assert error.code() is grpc.StatusCode.NOT_FOUND


def _paid_without_receipt() -> ResultReported:
    return ResultReported("callback:none", Source.CALLBACK, Verdict.PAID, "0")
