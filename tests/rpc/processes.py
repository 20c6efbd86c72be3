"""One payment service process in miniature: the real writers, feed, reads and gRPC server, without the sending."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import grpc
from mpesa_payments.v1.callback_service_pb2_grpc import CallbackServiceStub
from mpesa_payments.v1.operations_service_pb2_grpc import OperationsServiceStub
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub
from sqlalchemy import text

from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.collecting.send_prompt import HeldClaim
from payment_service.application.following.event_feed import EventFeed
from payment_service.application.following.read_payments import payment_reads
from payment_service.application.privacy.erase_person import Erasing
from payment_service.application.receipting.show_receipt import ReceiptTools
from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.accept_callbacks import AcceptTools
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.application.settling.take_hints import HintTools
from payment_service.domain.approvals import APPROVAL_ABOVE
from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.facts import Fact, PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment, ShortcodeLimits, Times
from payment_service.domain.reasons import Reason
from payment_service.domain.receipt import Issuer
from payment_service.domain.risk import Policy
from payment_service.rpc.calls import Gate, Limits
from payment_service.rpc.identity import PLAINTEXT, Door
from payment_service.rpc.json_listener import json_listening
from payment_service.rpc.methods import Core
from payment_service.rpc.server import RpcServer, serving
from payment_service.store.engines import connect_writer, read_engine
from payment_service.store.prompts import Prompt
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.serving import Address
from tests.patience import PATIENCE_SECONDS
from tests.sending import CALLBACK_KEYS, SHORTCODE, sending
from tests.writers import Clock, Writers, a_request, running_writers

CALLER = "development"
SHORTCODES = (ShortcodeLimits("174379", 1, 250_000), ShortcodeLimits("600000", 10, 1_000))
RECEIPT_BASE_URL = "https://pay.coaches.example"
LOOPBACK = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class Process:
    """A running process and a client of it."""

    writers: Writers
    feed: EventFeed
    core: Core
    server: RpcServer
    channel: grpc.aio.Channel
    json_address: Address

    @property
    def payments(self) -> PaymentServiceStub:
        return PaymentServiceStub(self.channel)

    @property
    def callbacks(self) -> CallbackServiceStub:
        return CallbackServiceStub(self.channel)

    @property
    def operations(self) -> OperationsServiceStub:
        return OperationsServiceStub(self.channel)

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

    async def back(self, payment: Payment) -> Payment:
        """The payment once the books list every receipt that is recorded for it: before, none is reversed."""
        recorded = text("SELECT receipt, amount FROM mpesa_receipts WHERE payment_id = :payment_id ORDER BY receipt")
        async with self.core.reads.engine.connect() as connection:
            rows = (await connection.execute(recorded, {"payment_id": payment.payment_id})).all()
        return await self.tell(payment, *(listed(receipt, int(amount)) for receipt, amount in rows))


class Unprompted(InitiatePayments):
    """Starts payments whose prompts are never sent: tests say what becomes of them."""

    def send_beside(self, prompt: Prompt, created_at: datetime, held: HeldClaim | None = None) -> None:
        """Leave it."""


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
    automatic_refunds: AutomaticRefunds | None = None,
    approval_above: int = APPROVAL_ABOVE,
    door: Door = PLAINTEXT,
    risk: Policy | None = None,
    issuer: Issuer | None = None,
) -> AsyncIterator[Process]:
    """A process on a database; several may run at once."""
    clock = Clock()
    waker: list[EventFeed] = []

    def committed() -> None:
        for one in waker:
            one.wake()

    connector = partial(connect_writer, database_url, autocommit=True)
    async with contextlib.AsyncExitStack() as stack:
        writers = await stack.enter_async_context(
            running_writers(
                database_url,
                folder,
                clock=clock,
                times=times,
                committed=committed,
                automatic_refunds=automatic_refunds,
                approval_above=approval_above,
                risk=risk,
                issuer=issuer,
                found_by_hand_within={SHORTCODE: timedelta(minutes=1)},
            )
        )
        feed = EventFeed(connector, writers.sealer, subscriber_events_max=subscriber_events_max)
        waker.append(feed)
        engine = read_engine(database_url)
        stack.push_async_callback(engine.dispose)
        reads = payment_reads(engine, connector, writers.sealer, feed)
        for part in (feed.run(), reads.points.run()):
            await stack.enter_async_context(_beside(asyncio.create_task(part)))
        await asyncio.wait_for(feed.started(), PATIENCE_SECONDS)

        send = await stack.enter_async_context(sending(writers, database_url))
        catching_up = CatchingUp(clock, writers.times)
        core = Core(
            initiate=Unprompted(writers.creates, send, reads, SHORTCODE),
            facts=writers.facts,
            callbacks=AcceptTools(writers.facts, writers.sealer, CALLBACK_KEYS, catching_up),
            hints=HintTools(reads.engine, writers.sealer, clock),
            reads=reads,
            refund_shortcodes=[one.number for one in SHORTCODES],
            questions={},
            shortcodes=SHORTCODES,
            refunds_late_money=automatic_refunds is not None and automatic_refunds.amount_max > 0,
            token_keys=writers.keys.fingerprint,
            clock=clock,
            erasing=Erasing(reads, writers.keys.fingerprint),
            receipts=ReceiptTools(
                reads,
                writers.keys.chain,
                RECEIPT_BASE_URL,
                None,
                issues=issuer is not None,
                invoice_hosts=("etims.example",),
            ),
            risk=risk or {},
            heartbeat_seconds=heartbeat_seconds,
            answer_within_seconds=0.0,
        )
        gate = Gate((limits or Limits()).by_lane(), clock, door)
        json_address = await stack.enter_async_context(json_listening(core, gate, LOOPBACK, setting="--json"))
        server = await stack.enter_async_context(
            serving(core, LOOPBACK, gate, setting="--listen", drain_seconds=drain_seconds)
        )
        await server.set_ready(callbacks=True, payments=True)
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(str(server.address), options=CLIENT_OPTIONS)
        )
        yield Process(writers, feed, core, server, channel, json_address)


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


def listed(receipt: str, amount: int = 500) -> ResultReported:
    """So do the provider's books: a second source, without which no part goes back."""
    return ResultReported(f"pull:{receipt}", Source.PULL, Verdict.PAID, "0", amount=amount, receipt=receipt)


def refused(code: str = "1") -> ResultReported:
    """A callback says that the payer has not enough money."""
    fact_id = f"callback:{code}"
    return ResultReported(fact_id, Source.CALLBACK, Verdict.FAILED, code, reason=Reason.INSUFFICIENT_FUNDS)
