"""One payment service process in miniature: the real writers, feed, reads and gRPC server, without the sending."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import grpc
from mpesa_payments.v1.callback_service_pb2_grpc import CallbackServiceStub
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from sqlalchemy import text

from payment_service.application.collecting.cancel_payment import CancelPayments
from payment_service.application.collecting.retry_payment import RetryPayments
from payment_service.application.following.event_feed import EventFeed
from payment_service.application.following.read_payments import get_payment, payment_reads
from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.accept_callbacks import CallbackOutcome, ReceivedCallback
from payment_service.domain.facts import Fact, PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment, PaymentRequest, PhoneWarning, RetryRequest, ShortcodeLimits, Times
from payment_service.domain.reasons import Reason
from payment_service.domain.views import PaymentView
from payment_service.rpc.calls import Limits
from payment_service.rpc.methods import Core
from payment_service.rpc.server import RpcServer, serving
from payment_service.store.engines import connect_writer, read_engine
from runtime.callback_tokens import CallbackKeys
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.serving import Address
from tests.patience import PATIENCE_SECONDS
from tests.writers import Clock, Writers, a_request, running_writers

CALLER = "development"
SHORTCODES = (ShortcodeLimits("174379", 1, 250_000), ShortcodeLimits("600000", 10, 1_000))
CALLBACK_KEYS = CallbackKeys("a1", {"a1": b"1" * 32, "b2": b"2" * 32})
LOOPBACK = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class Process:
    """A running process and a client of it."""

    writers: Writers
    feed: EventFeed
    core: Core
    server: RpcServer
    channel: grpc.aio.Channel
    received: list[ReceivedCallback]

    @property
    def payments(self) -> PaymentServiceStub:
        return PaymentServiceStub(self.channel)

    @property
    def callbacks(self) -> CallbackServiceStub:
        return CallbackServiceStub(self.channel)

    async def caught_up(self) -> None:
        """Wait until this process's feed has seen everything that is committed now."""
        async with self.core.reads.engine.connect() as connection:
            newest = (await connection.scalar(text("SELECT max(position) FROM payment_events"))) or 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.feed.bookmark.position < newest:
                await asyncio.sleep(0.005)

    async def create(self, caller: str = CALLER, **changed: object) -> Payment:
        """A new payment, by the real writer."""
        return (await self.writers.create(caller, a_request(**changed), None, None)).payment

    async def tell(self, payment: Payment, *facts: Fact) -> Payment:
        """The payment after these facts."""
        for fact in facts:
            recorded = (await self.writers.facts.submit(Submission(fact, payment.payment_id))).payment
            assert recorded is not None
            payment = recorded
        return payment


@contextlib.asynccontextmanager
async def running_process(
    database_url: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    heartbeat_seconds: float = 15.0,
    subscriber_events_max: int = 512,
    times: Times | None = None,
    drain_seconds: float = 5.0,
) -> AsyncIterator[Process]:
    """A process on a database; several may run at once."""
    clock = Clock()
    waker: list[EventFeed] = []
    received: list[ReceivedCallback] = []

    def committed() -> None:
        for one in waker:
            one.wake()

    connector = partial(connect_writer, database_url, autocommit=True)
    async with contextlib.AsyncExitStack() as stack:
        writers = await stack.enter_async_context(
            running_writers(database_url, folder, clock=clock, times=times, committed=committed)
        )
        feed = EventFeed(connector, writers.sealer, subscriber_events_max=subscriber_events_max)
        waker.append(feed)
        engine = read_engine(database_url)
        stack.push_async_callback(engine.dispose)
        reads = payment_reads(engine, connector, writers.sealer, feed)
        for part in (feed.run(), reads.points.run()):
            await stack.enter_async_context(_beside(asyncio.create_task(part)))
        await asyncio.wait_for(feed.started(), PATIENCE_SECONDS)

        async def initiate(
            caller: str,
            request: PaymentRequest,
            warning: PhoneWarning | None,
            _until: float,
            trace: str | None,
            retry: RetryRequest | None = None,
        ) -> tuple[PaymentView, bool]:
            created = await writers.create(caller, request, warning, trace, retry)
            return (await get_payment(reads, caller, created.payment.payment_id))[0], created.replayed

        async def accept(callbacks: Sequence[ReceivedCallback]) -> list[CallbackOutcome]:
            received.extend(callbacks)
            return [CallbackOutcome.STORED if one.kind else CallbackOutcome.TOKEN_REFUSED for one in callbacks]

        async def read(caller: str, payment_id: UUID) -> PaymentView:
            return (await get_payment(reads, caller, payment_id))[0]

        core = Core(
            initiate=initiate,
            retry=RetryPayments(initiate, reads, SHORTCODES, clock),
            cancel=CancelPayments(writers.facts, read),
            accept_callbacks=accept,
            reads=reads,
            shortcodes=SHORTCODES,
            page_keys=writers.keys.fingerprint,
            callback_keys=CALLBACK_KEYS,
            clock=clock,
            heartbeat_seconds=heartbeat_seconds,
        )
        server = await stack.enter_async_context(
            serving(core, LOOPBACK, setting="--listen", limits=limits or Limits(), drain_seconds=drain_seconds)
        )
        await server.set_ready(True)
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(str(server.address), options=CLIENT_OPTIONS)
        )
        yield Process(writers, feed, core, server, channel, received)


@contextlib.asynccontextmanager
async def _beside(task: asyncio.Task[object]) -> AsyncIterator[None]:
    """Run a task for the length of the block; it must not end sooner."""
    try:
        yield
        assert not task.done(), "a part of the process ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sent(claim: int) -> tuple[Fact, Fact]:
    """The prompt was sent and accepted."""
    claim_id = UUID(int=claim)
    return SendClaimed(claim_id), PromptAccepted(claim_id, f"merchant-{claim}", f"ws_CO_{claim}")


def paid(receipt: str, amount: int = 500) -> ResultReported:
    """A callback says paid."""
    fact_id = f"callback:{receipt}"
    return ResultReported(fact_id, Source.CALLBACK, Verdict.PAID, "0", amount=amount, receipt=receipt)


def refused(code: str = "1") -> ResultReported:
    """A callback says that the payer has not enough money."""
    fact_id = f"callback:{code}"
    return ResultReported(fact_id, Source.CALLBACK, Verdict.FAILED, code, reason=Reason.INSUFFICIENT_FUNDS)
