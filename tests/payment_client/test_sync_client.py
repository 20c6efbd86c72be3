"""The client for threads, against the real service and under gRPC's own tool for tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import grpc
import grpc_testing
import pytest
import sqlalchemy as sa
from payment_client.cursors.sqlalchemy import SqlAlchemyCursors
from payment_client.error_details import DETAILS_KEY, Details, write_details

from payment_client import (
    Backoff,
    BookingAction,
    BookingHasLivePayment,
    DeadlineExceeded,
    PaymentsClient,
    PaymentStatus,
    StillOpen,
    SyncPaymentsClient,
    payment_pb2,
    payment_service_pb2,
)
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import a_purchase, payment_of, tell
from tests.payment_client.relay import running_relay
from tests.rpc.processes import Process, paid, refused, sent

Result = TypeVar("Result")


def sync_client_of(address: str, channel: grpc.Channel | None = None) -> SyncPaymentsClient:
    pauses = Backoff(first_seconds=0.01, most_seconds=0.2)
    return SyncPaymentsClient(address, timeout=PATIENCE_SECONDS, backoff=pauses, channel=channel)


@pytest.fixture
async def sync_client(process: Process) -> AsyncIterator[SyncPaymentsClient]:
    with sync_client_of(str(process.server.address)) as made:
        yield made


async def in_a_thread(call: Callable[[], Result]) -> Result:
    return await asyncio.wait_for(asyncio.to_thread(call), PATIENCE_SECONDS)


async def test_a_thread_pays_and_waits(
    process: Process, client: PaymentsClient, sync_client: SyncPaymentsClient
) -> None:
    purchase = a_purchase("TRIP-1")
    paying = asyncio.create_task(in_a_thread(lambda: sync_client.pay_and_wait(purchase, patience=PATIENCE_SECONDS)))
    await tell(process, await payment_of(client, purchase), *sent(1), paid("SJ12345678"))
    assert (await paying).booking_action == BookingAction.BOOKING_ACTION_CONFIRM
    with pytest.raises(BookingHasLivePayment):
        await in_a_thread(lambda: sync_client.initiate(a_purchase("TRIP-1")))
    # On a slow machine even asking takes longer than that, which is another error of the same kind.
    with pytest.raises((StillOpen, DeadlineExceeded)):
        await in_a_thread(lambda: sync_client.pay_and_wait(a_purchase(), patience=0.5))


async def test_threads_share_one_client(process: Process, sync_client: SyncPaymentsClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [threads.submit(sync_client.initiate, a_purchase()) for _ in range(40)]
        answers = [await asyncio.wait_for(asyncio.wrap_future(one), PATIENCE_SECONDS) for one in made]
    ids = {answer.payment.payment_id for answer in answers}
    assert len(ids) == 40
    assert {one.payment_id for one in await in_a_thread(lambda: list(sync_client.list_payments()))} == ids


async def test_a_stream_in_a_thread_goes_on_where_it_was(process: Process) -> None:
    payments = [await process.tell(await process.create(), *sent(n), refused()) for n in (1, 2, 3)]
    async with running_relay(str(process.server.address)) as relay:
        with sync_client_of(relay.address) as client:
            stream = client.watch_payments()
            told = await in_a_thread(lambda: list(islice(stream, 5)))
            relay.cut()
            payments.append(await process.tell(await process.create(), *sent(4), refused()))
            told += await in_a_thread(lambda: list(islice(stream, 11)))
    expected = [f"{payment.payment_id}-{version}" for payment in payments for version in (1, 2, 3, 4)]
    assert [event.event_id for event in told] == expected


async def test_a_consumer_in_a_thread_ends_when_its_client_is_closed(
    process: Process, sync_client: SyncPaymentsClient
) -> None:
    payment = await process.tell(await process.create(), *sent(1), refused())
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    store = SqlAlchemyCursors(engine, "booking")
    store.create_tables()
    dealt_with: list[str] = []

    def handle(event: payment_pb2.PaymentEvent, connection: sa.Connection) -> None:
        if not dealt_with:
            dealt_with.append("the first attempt")
            raise ValueError("a fault that passes")
        dealt_with.append(event.event_id)

    consuming = asyncio.create_task(in_a_thread(lambda: sync_client.consume(store, handle)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(dealt_with) < 5:
            await asyncio.sleep(0.02)
    await in_a_thread(sync_client.close)
    await consuming
    assert dealt_with[1:] == [f"{payment.payment_id}-{version}" for version in (1, 2, 3, 4)]
    engine.dispose()


FORKS = """
import os, sys
from payment_client import SyncPaymentsClient, UsedAcrossFork

used, fresh = SyncPaymentsClient(sys.argv[1]), SyncPaymentsClient(sys.argv[1])
if sys.argv[2] == "used":
    used.list_page()
child = os.fork()
if child == 0:
    try:
        (used if sys.argv[2] == "used" else fresh).list_page(timeout=60)
    except UsedAcrossFork as error:
        print(error, flush=True)
        os._exit(3)
    os._exit(0)
print("the child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(("when", "ended"), [("used", "the child ended with 3"), ("fresh", "the child ended with 0")])
async def test_a_client_is_used_in_the_process_that_has_opened_its_channel(
    process: Process, when: str, ended: str
) -> None:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORKS, str(process.server.address), when, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(started.communicate(), PATIENCE_SECONDS)
    assert ended in output.decode()
    assert ("Make the client in each worker" in output.decode()) == (when == "used")


@pytest.fixture
def staged() -> Any:
    """A channel whose other end is the test, with a clock that stands still."""
    service = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
    return grpc_testing.channel([service], grpc_testing.strict_fake_time(0))


def called(staged: Any, method: str) -> Any:
    service = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
    return service.methods_by_name[method]


def test_a_repeat_carries_the_same_request_id_and_the_deadline_is_sent(staged: Any) -> None:
    purchase = a_purchase()
    with ThreadPoolExecutor(1) as threads, sync_client_of("staged", staged) as client:
        paying: Future[payment_pb2.Payment] = threads.submit(client.pay_and_wait, purchase)
        busy = write_details(8, "busy", Details(reason="TOO_MANY_REQUESTS"))
        for _ in range(3):
            _, request, call = staged.take_unary_unary(called(staged, "InitiatePayment"))
            assert request == purchase.request()
            call.terminate(None, ((DETAILS_KEY, busy),), grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        _, request, call = staged.take_unary_unary(called(staged, "InitiatePayment"))
        payment = payment_pb2.Payment(
            status=PaymentStatus.PAYMENT_STATUS_FAILED, booking_action=BookingAction.BOOKING_ACTION_OFFER_RETRY
        )
        answer = payment_service_pb2.InitiatePaymentResponse(payment=payment)
        call.send_initial_metadata(())
        call.terminate(answer, (), grpc.StatusCode.OK, "")
        assert paying.result(PATIENCE_SECONDS) == payment


def test_silence_is_no_answer_and_says_with_which_id_to_ask_again(staged: Any) -> None:
    purchase = a_purchase()
    with ThreadPoolExecutor(1) as threads, sync_client_of("staged", staged) as client:
        asking = threads.submit(client.initiate, purchase)
        _, _, call = staged.take_unary_unary(called(staged, "InitiatePayment"))
        call.terminate(None, (), grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        error = asking.exception(PATIENCE_SECONDS)
    assert isinstance(error, DeadlineExceeded)
    assert error.request_id == purchase.request_id
