"""The service's parts put together: writers, feed, sends, timers and the server; and how they start and stop.

The only place that knows every part. The files that the settings name are loaded by `credentials`.
"""

import asyncio
import contextlib
import gc
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.accounts import found_by_hand_within, together
from payment_service.anchor_file import LOOK_SECONDS as ANCHOR_SECONDS
from payment_service.anchor_file import AnchorTools, anchor_days
from payment_service.application.calling.access_token import AccessToken
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.calling.first_token import FirstToken, FirstTokens, asking_until_had
from payment_service.application.calling.operator import Operator
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.collecting.create_payment import CreatingTools, Decision, NewPayment, create_payments
from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.collecting.prompt_switch import check_prompts_allowed
from payment_service.application.collecting.send_prompt import SendTools
from payment_service.application.following.event_feed import EventFeed
from payment_service.application.following.read_payments import PaymentReads, payment_reads
from payment_service.application.privacy.erase_person import Erasing
from payment_service.application.receipting.show_receipt import ReceiptTools
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission, record_facts
from payment_service.application.recording.recording_tools import RecordingTools
from payment_service.application.refunding.send_refunds import RefundTools, drain_refunds
from payment_service.application.settling.accept_callbacks import AcceptTools
from payment_service.application.settling.ask_status import StatusTools
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.application.settling.take_hints import HintTools
from payment_service.config import PaymentSettings
from payment_service.credentials import Credentials, load_credentials, prove_credentials
from payment_service.daraja.client import DarajaClient, open_daraja
from payment_service.daraja.transport import Timeouts
from payment_service.database import check_application_role, check_callers, check_database, check_keys, remember_keys
from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.payment import ShortcodeLimits
from payment_service.door import load_door
from payment_service.followed_keys import FollowingTools, follow_keys, following_tools, tell_held_keys
from payment_service.readiness import reporting_readiness
from payment_service.receipt_settings import load_logo
from payment_service.rpc.calls import Gate, Limits
from payment_service.rpc.identity import PLAINTEXT, Door
from payment_service.rpc.methods import Core
from payment_service.rpc.server import RpcServer, serving
from payment_service.schedule import periodic_steps, run_every
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_feed, connect_writer, read_engine
from runtime.followed_keys import LOOK_SECONDS as KEYS_SECONDS
from runtime.serving import Address, raise_descriptor_limit, stop_requested, write_ready_file

FEED_START_SECONDS = 30.0
RECORD_SECONDS = 10.0
"""For recording the outcomes of the last sends at a stop."""
GARBAGE_THRESHOLDS = (50_000, 20, 100)
"""Ten thousand watchers are many live objects, and by default the collector walks them again and again: opening them
took 14 s with Python's own thresholds and 10 s with these."""
CONNECT_TIMEOUT_SECONDS = 5.0
CONNECTIONS_MAX = 1_000
"""The descriptors that must be there at least: streams share connections, so they need no more than this."""
OTHER_DESCRIPTORS = 100
"""Beside the connections of callers: the database, Daraja, the log."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Writers:
    """All that writes payments."""

    creates: GroupCommit[NewPayment, Decision]
    facts: GroupCommit[Submission, Recorded]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything that runs, and what the server calls."""

    core: Core
    writers: _Writers
    refunds: Sequence[RefundTools]
    first_tokens: FirstTokens
    others: tuple[Callable[[], Coroutine[Any, Any, None]], ...]
    """What runs beside the writers, for as long as the service serves."""


async def serve(settings: PaymentSettings, ready_file: Path | None) -> None:
    """Serve until told to stop, then finish what is in hand. Raises StartRefused with a sentence that says why not."""
    stop = stop_requested()
    connections = min(settings.watchers_max, CONNECTIONS_MAX)
    raise_descriptor_limit(connections + OTHER_DESCRIPTORS, "PAYMENTS_WATCHERS_MAX")
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    credentials, door, clock = load_credentials(settings), load_door(settings), DatabaseClock()
    database_url = settings.database_url.get_secret_value()
    # Callers' reads have connections of their own, so that a flood of them delays no timer and no token.
    engine, readers = read_engine(database_url), read_engine(database_url, connections=8, wait_seconds=20)
    try:
        await check_database(engine)
        await check_application_role(engine)
        await check_keys(engine, credentials.keys)
        if door is not PLAINTEXT:
            await check_callers(engine, {caller.name for caller in door.callers.values()})
        await remember_keys(engine, credentials.keys)
        following = following_tools(settings, credentials, engine)
        # The others know what is held here, and the files are looked at after that: so no key is used that lacks here.
        await tell_held_keys(following)
        await follow_keys(following)
        async with engine.connect() as conn:
            await clock.look(conn)
        async with (
            _open_daraja(settings, clock) as daraja,
            _running(
                _parts(settings, credentials, door, clock, engine, readers, daraja, following),
                drain_seconds=settings.push_timeout_s + RECORD_SECONDS,
            ) as parts,
            _listening(settings, parts.core, door) as (server, json_address),
            reporting_readiness(server, parts.core.reads.feed, parts.first_tokens, engine, clock),
        ):
            # Callbacks are taken meanwhile: they wait for no token.
            await prove_credentials(parts.first_tokens, settings.daraja_base_url)
            async with asking_until_had(parts.first_tokens):
                problem = parts.first_tokens.problem
                listening = {"address": str(server.address), "json_address": json_address and str(json_address)}
                write_ready_file(ready_file, {**listening, "not_ready_for_payments": problem})
                _log.info("payment service serves", address=str(server.address), not_ready_for_payments=problem)
                await stop.wait()
                _log.info("payment service drains")
    finally:
        await engine.dispose()
        await readers.dispose()
    _log.info("payment service stopped")


@contextlib.asynccontextmanager
async def _listening(
    settings: PaymentSettings, core: Core, door: Door
) -> AsyncIterator[tuple[RpcServer, Address | None]]:
    """The server, and payments as JSON where the settings name an address for them; they drain as one."""
    gate = Gate(Limits(streams=settings.watchers_max).by_lane(), core.clock, door)
    async with contextlib.AsyncExitStack() as stack:
        json_address = None
        if settings.json_address is not None:
            # Imported here, as few ask for it: aiohttp's server takes 0.1 s at each start.
            from payment_service.rpc.json_listener import json_listening

            # Entered first, as it answers until the server has waited for the calls of both.
            listener = json_listening(core, gate, settings.json_address, setting="PAYMENTS_JSON_ADDRESS")
            json_address = await stack.enter_async_context(listener)
        server = serving(
            core,
            settings.grpc_address,
            gate,
            setting="--listen or PAYMENTS_GRPC_ADDRESS",
            drain_seconds=settings.drain_s,
        )
        yield await stack.enter_async_context(server), json_address


@contextlib.asynccontextmanager
async def _running(parts: _Parts, *, drain_seconds: float) -> AsyncIterator[_Parts]:
    """The parts at work. A part that fails ends the process: one that half works is worse than none."""
    # The writers are the last to go: whatever ends the other parts, sends under way still have outcomes to record.
    async with asyncio.TaskGroup() as writing:
        writers = [writing.create_task(part.run()) for part in (parts.writers.creates, parts.writers.facts)]
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(part()) for part in parts.others]
                try:
                    async with asyncio.timeout(FEED_START_SECONDS):
                        await parts.core.reads.feed.started()
                    yield parts
                finally:
                    for task in others:
                        task.cancel()
        finally:
            await asyncio.gather(
                parts.core.initiate.drain(drain_seconds),
                *(drain_refunds(refunds, drain_seconds) for refunds in parts.refunds),
            )
            for writer in writers:
                writer.cancel()


def _parts(
    settings: PaymentSettings,
    credentials: Credentials,
    door: Door,
    clock: DatabaseClock,
    engine: AsyncEngine,
    readers: AsyncEngine,
    daraja: DarajaClient,
    following: FollowingTools,
) -> _Parts:
    database_url, sealer = settings.database_url.get_secret_value(), Sealer(credentials.keys)
    feed = EventFeed(partial(connect_feed, database_url), sealer)
    writers = _writers(settings, credentials, clock, sealer, feed)
    reads = payment_reads(readers, partial(connect_writer, database_url, autocommit=True), sealer, feed)
    send = SendTools(
        facts=writers.facts,
        safaricom=_safaricom(credentials, clock, engine, daraja, sealer),
        budget=RequestBudget("push", settings.pushes_per_second, engine, clock),
        callback_keys=credentials.callback_keys,
        callback_base_url=settings.callback_base_url.rstrip("/"),
        times=settings.times,
        check_allowed=partial(check_prompts_allowed, engine),
    )
    refunds = _refunds(settings, credentials, engine, send)
    catching_up = CatchingUp(clock, settings.times)
    initiate = InitiatePayments(writers.creates, send, reads, credentials.default_shortcode)
    erasing = Erasing(reads, credentials.keys.fingerprint)
    core = Core(
        initiate=initiate,
        facts=writers.facts,
        callbacks=AcceptTools(writers.facts, sealer, credentials.callback_keys, catching_up),
        hints=HintTools(engine, sealer, clock),
        reads=reads,
        refund_shortcodes=_sending_back(credentials),
        questions={
            number: StatusTools(engine, one.safaricom, one.operator)
            for one in refunds
            for number in one.safaricom.shortcodes
        },
        shortcodes=[ShortcodeLimits(s.number, s.amount_min, s.amount_max) for s in credentials.shortcodes.values()],
        refunds_late_money=settings.automatic_refund_max_kes > 0,
        token_keys=credentials.keys.fingerprint,
        clock=clock,
        erasing=erasing,
        receipts=_receipts(settings, credentials, reads),
        risk=settings.risk_policy,
        heartbeat_seconds=settings.heartbeat_s,
    )
    timers = periodic_steps(
        settings, engine, clock, initiate, refunds, credentials, erasing, catching_up, door.certificate
    )
    following_step = partial(run_every, None, KEYS_SECONDS, partial(follow_keys, following))
    steps: list[Callable[[], Coroutine[Any, Any, None]]] = [feed.run, reads.points.run, *timers, following_step]
    if settings.audit_anchor_file is not None:
        anchoring = AnchorTools(settings.audit_anchor_file, database_url, credentials.keys.chain)
        steps.append(partial(run_every, clock, ANCHOR_SECONDS, partial(anchor_days, anchoring)))
    apps = {tokens.app.key: tokens for tokens in send.safaricom.tokens.values()}
    return _Parts(core, writers, refunds, FirstTokens([FirstToken(one) for one in apps.values()]), tuple(steps))


def _refunds(
    settings: PaymentSettings, credentials: Credentials, engine: AsyncEngine, send: SendTools
) -> Sequence[RefundTools]:
    """What sends money back, one for each account that has an operator of M-Pesa."""
    sealer, clock = send.safaricom.sealer, send.safaricom.clock
    budget = RequestBudget("refund", settings.refunds_per_second, engine, clock)
    default_apps = {account.app.key for account in credentials.accounts.values() if account.is_default}
    # One operator may stand in accounts that differ in something else, and its password is locked for all of them.
    under_way: defaultdict[str, dict[UUID, asyncio.Task[None]]] = defaultdict(dict)
    sending = []
    for account, numbers in together(credentials.accounts):
        if account.initiator is None:
            continue
        operator = Operator(
            initiator=account.initiator,
            sealer=sealer,
            callback_keys=send.callback_keys,
            callback_base_url=send.callback_base_url,
            app="" if account.app.key in default_apps else account.app.key,
            b2c_shortcode=account.b2c_shortcode,
            b2c_command=account.b2c_command,
        )
        sending.append(
            RefundTools(
                engine=engine,
                facts=send.facts,
                safaricom=send.safaricom.only(numbers),
                budget=budget,
                operator=operator,
                under_way=under_way[operator.key],
            )
        )
    return sending


def _receipts(settings: PaymentSettings, credentials: Credentials, reads: PaymentReads) -> ReceiptTools:
    """What receipts are shown with."""
    return ReceiptTools(
        reads=reads,
        keys=credentials.keys.chain,
        base_url=settings.receipt_base_url,
        logo=load_logo(settings.receipt_logo_file),
        issues=settings.issuer is not None,
        invoice_hosts=settings.invoice_hosts,
    )


def _sending_back(credentials: Credentials) -> Sequence[str]:
    """The shortcodes that money can go back from."""
    return [number for number, account in credentials.accounts.items() if account.initiator is not None]


def _writers(
    settings: PaymentSettings, credentials: Credentials, clock: DatabaseClock, sealer: Sealer, feed: EventFeed
) -> _Writers:
    keys, times = credentials.keys, settings.times
    creating = CreatingTools(
        sealer=sealer,
        event_chain_keys=keys.chain,
        request_fingerprint_keys=keys.fingerprint,
        default_shortcode=credentials.default_shortcode,
        clock=clock,
        times=times,
        risk=settings.risk_policy,
        back_before_confirm_above=settings.back_before_confirm_above_kes,
        found_by_hand_within=found_by_hand_within(
            credentials.shortcodes, credentials.accounts, timedelta(seconds=settings.pull_interval_s)
        ),
    )
    automatic = AutomaticRefunds(
        amount_max=settings.automatic_refund_max_kes,
        duplicates=settings.automatic_refund_of_duplicates,
        refunds_per_hour=settings.automatic_refunds_per_hour,
        kes_per_hour=settings.automatic_refund_kes_per_hour,
        shortcodes=_sending_back(credentials),
    )
    recording = RecordingTools(
        sealer,
        keys.chain,
        keys.fingerprint,
        clock,
        times,
        settings.refund_times,
        automatic,
        settings.approval_above_kes,
        settings.issuer,
    )
    connect = partial(connect_writer, settings.database_url.get_secret_value(), autocommit=True)
    return _Writers(
        creates=GroupCommit("create", connect, partial(create_payments, creating), feed.wake),
        facts=GroupCommit("facts", connect, partial(record_facts, recording), feed.wake),
    )


def _safaricom(
    credentials: Credentials, clock: DatabaseClock, engine: AsyncEngine, daraja: DarajaClient, sealer: Sealer
) -> Safaricom:
    of_apps: dict[str, AccessToken] = {}
    for account in credentials.accounts.values():
        keep = partial(keep_exchange, engine, sealer)
        of_apps.setdefault(account.app.key, AccessToken(account.app, engine, daraja, sealer, clock, keep))
    tokens = {number: of_apps[account.app.key] for number, account in credentials.accounts.items()}
    return Safaricom(daraja, tokens, credentials.shortcodes, sealer, clock)


def _open_daraja(
    settings: PaymentSettings, clock: DatabaseClock
) -> contextlib.AbstractAsyncContextManager[DarajaClient]:
    return open_daraja(
        settings.daraja_base_url,
        clock,
        push_timeouts=Timeouts(connect_seconds=CONNECT_TIMEOUT_SECONDS, total_seconds=settings.push_timeout_s),
    )
