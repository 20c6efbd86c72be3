"""What one caller may ask of a process: exactly so much, told by name and until when, and no other caller's loss."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from development.certificates import BOOKING, Certificates
from development.system import channel_to
from payment_service.rpc import caller_limits, calls
from payment_service.rpc.caller_limits import Bucket, CallerLimits, CallerUse, CallLimit, TooManyCalls
from payment_service.rpc.calls import REQUEST_MAX_BYTES, Lane
from payment_service.rpc.identity import load_callers
from runtime.serving import StartRefused
from tests.application.following.reading import next_of, rest_of
from tests.certificates import AGENCY, certificates_in, door_of
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rpc.answers import Refusal, refusal_of, refused
from tests.rpc.processes import Process, running_process
from tests.rpc.test_methods import a_message

INITIATE = "/mpesa_payments.v1.PaymentService/InitiatePayment"
LIST = "/mpesa_payments.v1.PaymentService/ListPayments"


class Caller(PaymentServiceStub):
    """A service that takes payments, and its channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.channel = channel


def limited(made: Certificates, limits: Mapping[str, object], caller: str = BOOKING) -> None:
    """Write limits into the list of callers."""
    listed = json.loads(made.callers.read_text())
    for entry in listed:
        if entry["name"] == caller:
            entry["limits"] = limits
    made.callers.write_text(json.dumps(listed))


@contextlib.asynccontextmanager
async def process_with(
    database: Database, folder: Path, **limits: object
) -> AsyncIterator[tuple[Process, Caller, Caller]]:
    """A process whose clock stands still, the booking service with these limits, and another caller."""
    made = certificates_in(folder)
    limited(made, limits)
    async with running_process(database.application_url, folder, door=door_of(made)) as process:
        process.server.gate.seconds = lambda: 0.0
        address = str(process.server.address)
        async with channel_to(address, made, BOOKING) as booking, channel_to(address, made, AGENCY) as agency:
            yield process, Caller(booking), Caller(agency)


def a_payment(number: int) -> pb.InitiatePaymentRequest:
    return a_message(request_id=f"request-{number}", booking_id=f"BK-{number}", phone_number=f"07123456{number:02d}")


def told(refusal: Refusal) -> tuple[grpc.StatusCode, str, str]:
    assert refusal.retry_after, "a refusal says when to come back"
    return refusal.code, refusal.reason, refusal.metadata["limit"]


def by(limit: CallLimit) -> tuple[grpc.StatusCode, str, str]:
    return grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS", limit.value


async def test_new_payments_beyond_the_rate_are_refused_and_another_caller_goes_on(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider(metric_readers=[reader]).get_meter("test").create_counter("limited")
    monkeypatch.setattr(caller_limits, "_limited", counter)
    limits = {"payments_per_second": 0.5, "payments_burst": 2}
    async with process_with(database, tmp_path, **limits) as (process, booking, agency):
        for number in range(2):
            await booking.InitiatePayment(a_payment(number))
        refusal = await refused(booking.InitiatePayment(a_payment(2)))
        assert told(refusal) == by(CallLimit.PAYMENTS)
        assert refusal.retry_after == 2.0
        await agency.InitiatePayment(a_payment(3))
        # Reads are no new payments, and what was refused has left nothing.
        assert len((await booking.ListPayments(pb.ListPaymentsRequest())).payments) == 2
        process.server.gate.seconds = lambda: 2.0
        await booking.InitiatePayment(a_payment(2))
    collected = json.loads(reader.get_metrics_data().to_json())  # type: ignore[union-attr]  # there is one after an add
    (metric,) = collected["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    counted = [(point["attributes"], point["value"]) for point in metric["data"]["data_points"]]
    assert counted == [({"limit": "payments_per_second", "caller": BOOKING}, 1)]


async def test_streams_beyond_the_limit_are_refused_until_one_ends(database: Database, tmp_path: Path) -> None:
    async with process_with(database, tmp_path, streams=1) as (process, booking, agency):
        watch = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_LATEST)
        first = booking.WatchPayments(watch)
        await next_of(aiter(first))
        _, error = await rest_of(aiter(booking.WatchPayments(watch)))
        assert error is not None
        assert told(refusal_of(error)) == by(CallLimit.STREAMS)
        await next_of(aiter(agency.WatchPayments(watch)))
        first.cancel()
        async with in_hand(process, streams=0):
            await next_of(aiter(booking.WatchPayments(watch)))


async def test_calls_that_are_opened_and_say_nothing_take_the_places_of_their_caller(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MESSAGE_WAIT_SECONDS", 10 * PATIENCE_SECONDS)
    async with process_with(database, tmp_path, open_calls=2) as (process, booking, agency):
        silent = [opened(booking) for _ in range(2)]
        async with in_hand(process, open_calls=2):
            assert told(await refused(booking.InitiatePayment(a_payment(1)))) == by(CallLimit.OPEN_CALLS)
            await agency.InitiatePayment(a_payment(2))
        for call in silent:
            call.cancel()
        async with in_hand(process, open_calls=0):
            await booking.InitiatePayment(a_payment(1))


async def test_a_caller_that_opens_silent_calls_leaves_half_of_their_places_to_others(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MESSAGE_WAIT_SECONDS", 10 * PATIENCE_SECONDS)
    async with process_with(database, tmp_path, open_calls=1_000) as (process, booking, agency):
        process.server.gate.most = {**process.server.gate.most, Lane.UNARY: 4}
        silent = [opened(booking, LIST) for _ in range(2)]
        async with in_hand(process, open_calls=2):
            assert told(await refused(booking.ListPayments(pb.ListPaymentsRequest()))) == by(CallLimit.OPEN_CALLS)
            await agency.ListPayments(pb.ListPaymentsRequest())
            await booking.InitiatePayment(a_payment(1))
        for call in silent:
            call.cancel()
        async with in_hand(process, open_calls=0):
            await booking.ListPayments(pb.ListPaymentsRequest())


async def test_an_open_call_without_a_message_ends(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MESSAGE_WAIT_SECONDS", 0.05)
    async with process_with(database, tmp_path) as (process, booking, _):
        assert told(await refused(opened(booking))) == by(CallLimit.SENDING)
        async with in_hand(process, open_calls=0):
            pass


def opened(caller: Caller, method: str = INITIATE) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
    """A call that sends nothing and goes on."""
    call = caller.channel.stream_unary(method, None, None)
    return call(None, timeout=PATIENCE_SECONDS)  # of which nothing is sent


async def test_bytes_beyond_the_rate_are_refused(database: Database, tmp_path: Path) -> None:
    async with process_with(database, tmp_path, request_bytes_per_second=REQUEST_MAX_BYTES) as (_, booking, agency):
        large = pb.ListPaymentsRequest(booking_id="x" * (REQUEST_MAX_BYTES - 100))
        answers = [await refused(booking.ListPayments(large)) for _ in range(5)]
        assert [one.reason for one in answers] == ["INVALID_REQUEST"] * 4 + ["TOO_MANY_REQUESTS"]
        assert told(answers[-1]) == by(CallLimit.REQUEST_BYTES)
        assert (await refused(agency.ListPayments(large))).reason == "INVALID_REQUEST"


@contextlib.asynccontextmanager
async def in_hand(process: Process, **counts: int) -> AsyncIterator[None]:
    """Once the booking service has so many open."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(getattr(process.server.gate.uses.get(BOOKING), name, 0) != count for name, count in counts.items()):
            await asyncio.sleep(0.005)
    yield


def test_a_bucket_gives_exactly_its_rate() -> None:
    bucket = Bucket.full(rate=10, most=5, now=100.0)
    assert [bucket.take(1, 100.0) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.1)]
    # Over a minute not one more than the rate, however often it is asked.
    given = sum(bucket.take(1, 100.0 + tick / 1_000) == 0 for tick in range(60_000))
    assert 598 <= given <= 600
    assert bucket.take(5, 1_000.0) == 0
    assert bucket.take(1, 1_000.0) > 0


def test_what_a_caller_is_told_to_wait_for_is_enough() -> None:
    use = CallerUse("booking", CallerLimits(payments_per_second=3, payments_burst=1)).begin(0.0)
    use.take(100, 0.0, payment=True)
    with pytest.raises(TooManyCalls) as refused_at_once:
        use.take(100, 0.0, payment=True)
    wait = refused_at_once.value.retry_after
    assert wait == timedelta(seconds=1 / 3)
    use.take(100, wait.total_seconds() + 1e-6, payment=True)


def test_the_list_of_callers_says_who_has_which_limits(tmp_path: Path) -> None:
    made = certificates_in(tmp_path)
    limited(made, {"payments_per_second": 7}, caller=AGENCY)
    callers = load_callers(made.callers)
    assert {one.name: one.limits for one in callers.values()}[AGENCY] == CallerLimits(payments_per_second=7)
    for wrong, named in (({"payments_per_second": 0}, "payments_per_second"), ({"payments": 7}, "limits.payments")):
        limited(made, wrong, caller=AGENCY)
        with pytest.raises(StartRefused, match=named):
            load_callers(made.callers)
    listed = json.loads(made.callers.read_text())
    listed[-1]["limits"] = {"streams": 3}
    listed.append({"name": AGENCY, "spiffe_id": "spiffe://example.org/other", "party": "BOOKING"})
    made.callers.write_text(json.dumps(listed))
    with pytest.raises(StartRefused, match="agency has different limits"):
        load_callers(made.callers)
