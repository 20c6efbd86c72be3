"""The server itself: where it listens, how many calls it takes, what it says of its health, how it drains."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from mpesa_payments.v1 import callback_service_pb2 as callback_pb
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from structlog.testing import capture_logs

from payment_service.rpc import identity
from payment_service.rpc.calls import Lane, Limits
from payment_service.rpc.identity import (
    DEVELOPMENT,
    PLAINTEXT,
    PlaintextRefused,
    RuleMissing,
    allowed,
    check_address,
    check_rules,
)
from payment_service.rpc.probes import PROBES
from payment_service.rpc.server import SERVICES, serving
from payment_service.telemetry import traceparent
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.serving import Address, AddressTaken
from tests.application.following.reading import next_of, rest_of
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.answers import refusal_of, refused
from tests.rpc.processes import Process, running_process
from tests.rpc.test_methods import a_message

PAYMENTS, CALLBACKS, OPERATIONS, PASSENGERS = (service.full_name for service in SERVICES)
LATEST = pb.WatchPaymentsRequest.POSITION_LATEST


class Collected(SpanProcessor):
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


async def health_of(process: Process, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(process.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status  # type: ignore[no-any-return]  # untyped in the package


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "payments.example"])
def test_plaintext_is_served_on_the_loopback_only(host: str) -> None:
    with pytest.raises(PlaintextRefused, match="loopback"):
        check_address(Address(host, 0), PLAINTEXT)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_every_loopback_address_is_served(host: str) -> None:
    check_address(Address(host, 0), PLAINTEXT)


def test_every_method_has_a_rule_and_what_has_none_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = [f"{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]
    methods += PROBES
    check_rules(methods)
    assert set(identity.RULES) == set(methods)
    with pytest.raises(RuleMissing, match="Svc/New"):
        check_rules([*methods, "a.Svc/New"])
    monkeypatch.setattr(identity, "RULES", {})
    with pytest.raises(Exception, match="may not use"):
        allowed(methods[0], DEVELOPMENT)


async def test_a_taken_port_is_one_sentence(process: Process) -> None:
    taken = process.server.address
    with pytest.raises(AddressTaken, match=f"Port {taken.port}.*--listen"):
        async with serving(process.core, taken, process.server.gate, setting="--listen", drain_seconds=1):
            pass


async def test_health_is_told_for_the_whole_and_for_each_service(process: Process) -> None:
    serving_status, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", *(service.full_name for service in SERVICES)):
        assert await health_of(process, service) == serving_status
    await process.server.set_ready(callbacks=True, payments=False)
    told = [await health_of(process, service) for service in ("", PAYMENTS, CALLBACKS, OPERATIONS, PASSENGERS)]
    assert told == [not_serving, not_serving, *[serving_status] * 3]


async def test_reflection_names_the_services(process: Process) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(process.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await anext(aiter(call))
    names = {service.name for service in answer.list_services_response.service}
    assert {service.full_name for service in SERVICES} < names


async def test_calls_beyond_a_limit_are_refused_and_others_go_on(database: Database, tmp_path: Path) -> None:
    limits = Limits(initiate=2_000, unary=256, streams=2)
    async with running_process(database.application_url, tmp_path, limits=limits) as process:
        watch = pb.WatchPaymentsRequest(position=LATEST)
        calls = [process.payments.WatchPayments(watch) for _ in range(2)]
        for call in calls:
            await next_of(aiter(call))
        _, error = await rest_of(aiter(process.payments.WatchPayments(watch)))
        assert error is not None
        refusal = refusal_of(error)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
        assert refusal.retry_after
        await process.payments.InitiatePayment(a_message())
        calls[0].cancel()
        await _until(lambda: sum(process.server.gate.open_calls.values()) == 1)
        await next_of(aiter(process.payments.WatchPayments(watch)))


async def test_no_number_of_reads_keeps_a_callback_out(database: Database, tmp_path: Path) -> None:
    async with running_process(database.application_url, tmp_path, limits=Limits(unary=0)) as process:
        answer = await refused(process.payments.ListPayments(pb.ListPaymentsRequest()))
        assert answer.reason == "TOO_MANY_REQUESTS"
        request = callback_pb.SubmitCallbacksRequest(callbacks=[callback_pb.Callback(body=b"{}")])
        assert len((await process.callbacks.SubmitCallbacks(request)).outcomes) == 1


async def test_neither_reads_nor_callbacks_share_places_with_hints(database: Database, tmp_path: Path) -> None:
    check = callback_pb.CheckCallbackKeysRequest()
    async with running_process(database.application_url, tmp_path, limits=Limits(unary=0, callbacks=0)) as process:
        await process.callbacks.CheckCallbackKeys(check)
    async with running_process(database.application_url, tmp_path, limits=Limits(gateway=0)) as process:
        for call in (
            process.callbacks.CheckCallbackKeys(check),
            process.callbacks.SubmitHint(callback_pb.SubmitHintRequest()),
        ):
            assert (await refused(call)).reason == "TOO_MANY_REQUESTS"
        await process.payments.ListPayments(pb.ListPaymentsRequest())


async def test_watchers_that_hang_up_leave_nothing_behind(process: Process) -> None:
    payment = await process.create()
    requests = [pb.WatchPaymentRequest(payment_id=str(payment.payment_id)), pb.WatchPaymentRequest(booking_id="BK-1")]
    calls = [process.payments.WatchPayment(request) for request in requests for _ in range(5)]
    calls += [process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST)) for _ in range(5)]  # type: ignore[misc]  # calls of two kinds
    for call in calls:
        await next_of(aiter(call))
    assert process.feed.subscribers == 15
    for call in calls:
        call.cancel()
    await _until(lambda: process.feed.subscribers == 0)
    await _until(lambda: not any(process.server.gate.open_calls.values()))


@pytest.mark.usefixtures("untraced")
async def test_two_thousand_streams_open_at_once(process: Process) -> None:
    channels = [grpc.aio.insecure_channel(str(process.server.address), options=CLIENT_OPTIONS) for _ in range(4)]
    watch = pb.WatchPaymentsRequest(position=LATEST)
    calls = [PaymentServiceStub(channels[n % 4]).WatchPayments(watch) for n in range(2_000)]
    first = await asyncio.gather(*(next_of(aiter(call)) for call in calls))
    assert all(message.caught_up for message in first)
    for channel in channels:
        await channel.close(None)
    await _until(lambda: process.feed.subscribers == 0)


async def test_a_database_that_does_not_answer_is_unavailable_without_its_text(
    database: Database, process: Process
) -> None:
    await process.payments.InitiatePayment(a_message())
    role = "payments_application"
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute(f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC, {role}")
        try:
            await _cut_connections(owner)
            for call in (
                process.payments.ListPayments(pb.ListPaymentsRequest()),
                process.payments.GetPayment(pb.GetPaymentRequest(reference="bcdfghjknprt")),
            ):
                refusal = await refused(call)
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
                assert refusal.retry_after
                assert refusal.message == "The database does not answer."
        finally:
            await owner.execute(f"GRANT CONNECT ON DATABASE {database.name} TO PUBLIC")
    assert (await process.payments.InitiatePayment(a_message())).replayed


async def test_a_drained_server_finishes_what_is_in_hand_and_refuses_what_is_new(
    database: Database, tmp_path: Path
) -> None:
    let_go = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        process = await _process_beside(group, database, tmp_path, let_go)
        await process.payments.InitiatePayment(a_message())
        address = str(process.server.address)
        async with (
            await psycopg.AsyncConnection.connect(database.owner_url) as blocker,
            grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS) as channel,
        ):
            stub = PaymentServiceStub(channel)
            # A call that is held up inside the database, by a lock on what it reads.
            await blocker.execute("LOCK TABLE payment_transactions IN ACCESS EXCLUSIVE MODE")
            held = group.create_task(_reply(stub.ListPayments(pb.ListPaymentsRequest())))
            await _until(lambda: process.server.gate.open_calls[Lane.UNARY] == 1)
            let_go.set()
            await _until(lambda: process.server.gate.draining)
            refusal = await refused(stub.ListPayments(pb.ListPaymentsRequest()))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_DRAINING")
            assert not held.done()
            # Whoever asks after its health is told, and needs no place for it.
            health = health_pb2_grpc.HealthStub(channel)
            told = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
            assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
            await blocker.rollback()
            assert len((await held).payments) == 1


async def test_a_watch_of_health_does_not_hold_up_a_drain(database: Database, tmp_path: Path) -> None:
    with capture_logs() as logs:
        # The watcher's own channel is still open while the process drains.
        async with running_process(database.application_url, tmp_path, drain_seconds=2.0) as process:
            channel = grpc.aio.insecure_channel(str(process.server.address), options=CLIENT_OPTIONS)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await next_of(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVING
            assert process.server.gate.open_calls[Lane.PROBE] == 1
        await channel.close(None)
    assert [line for line in logs if line["event"] == "calls cut off by the drain"] == []


async def test_whoever_calls_while_the_process_stops_is_told_why(database: Database, tmp_path: Path) -> None:
    let_go = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        process = await _process_beside(group, database, tmp_path, let_go)
        async with grpc.aio.insecure_channel(str(process.server.address), options=CLIENT_OPTIONS) as channel:
            stub = PaymentServiceStub(channel)
            await stub.ListPayments(pb.ListPaymentsRequest())
            let_go.set()
            # Nothing is in hand, so that the server could end at once.
            await _until(lambda: process.server.gate.draining)
            refusal = await refused(stub.ListPayments(pb.ListPaymentsRequest()))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_DRAINING")


async def _process_beside(group: asyncio.TaskGroup, database: Database, folder: Path, let_go: asyncio.Event) -> Process:
    """A process that runs in a task of its own until it is let go."""
    running: asyncio.Future[Process] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            running.set_result(await stack.enter_async_context(running_process(database.application_url, folder)))
            await let_go.wait()

    group.create_task(run())
    return await running


async def test_a_trace_goes_through_to_the_payments_row(database: Database, process: Process) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    collected = Collected()
    provider = TracerProvider()
    provider.add_span_processor(collected)
    trace.set_tracer_provider(provider)
    await process.payments.InitiatePayment(
        a_message(), metadata=(("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
    )
    ((stored,),) = await rows_of(database, "SELECT trace_parent FROM payment_transactions")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (spans := [one for one in collected.spans if one.name.endswith("PaymentService/InitiatePayment")]):
            await asyncio.sleep(0.01)
    context = spans[-1].get_span_context()
    assert context is not None
    assert stored == f"00-{trace_id}-{context.span_id:016x}-01"
    assert dict(spans[-1].attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "mpesa_payments.v1.PaymentService/InitiatePayment",
        "rpc.status_code": "OK",
    }
    assert traceparent() is None
    await refused(process.payments.GetPayment(pb.GetPaymentRequest(), metadata=(("traceparent", "nonsense"),)))
    # The span ends a moment after its answer has left.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (collected.spans[-1].attributes or {}).get("rpc.status_code") != "INVALID_ARGUMENT":
            await asyncio.sleep(0.01)


async def _reply(
    call: grpc.aio.UnaryUnaryCall[pb.ListPaymentsRequest, pb.ListPaymentsResponse],
) -> pb.ListPaymentsResponse:
    return await call


async def _cut_connections(owner: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
