"""What a process does by itself: which steps, and how often each.

Every step is one bounded function over rows, safe to run in any number of processes at once: what it finds it turns
into facts, which are checked again under the lock. A test calls the step; only `run_every` and `run_due` know of time
passing. Most steps find nothing most of the time, and a look of each for itself is nearly all that an idle process
costs. So those that look often share one look, and are taken when it shows something for them (`run_due`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, NoReturn, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.accounts import together
from payment_service.alarms import CERTIFICATE_EXPIRES, STEP_FAILS
from payment_service.application.approving.watch_approvals import LOOK_SECONDS as APPROVAL_WATCH_SECONDS
from payment_service.application.approving.watch_approvals import ApprovalWatch, watch_approvals
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.collecting.send_prompt import SendTools
from payment_service.application.collecting.watch_risk import LOOK_SECONDS as RISK_LOOK_SECONDS
from payment_service.application.collecting.watch_risk import RiskWatch, watch_risk
from payment_service.application.following.watch_consumers import LOOK_SECONDS as CONSUMER_WATCH_SECONDS
from payment_service.application.following.watch_consumers import ConsumerWatch, watch_consumers
from payment_service.application.privacy.erase_person import Erasing
from payment_service.application.privacy.forget_records import LOOK_SECONDS as FORGET_LOOK_SECONDS
from payment_service.application.privacy.forget_records import Forgetting, forget_records
from payment_service.application.receipting.issue_receipts import IssuingTools, issue_receipts
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.refunding.run_refund_timers import RefundTimerTools, run_refund_timers
from payment_service.application.refunding.send_refunds import RefundTools, send_refunds
from payment_service.application.refunding.watch_refunds import LOOK_SECONDS as REFUND_WATCH_SECONDS
from payment_service.application.refunding.watch_refunds import RefundWatch, WatchedInitiator, watch_refunds
from payment_service.application.settling.apply_kept_callbacks import (
    InboxTools,
    apply_pending_callbacks,
    match_parked_callbacks,
)
from payment_service.application.settling.ask_status import LOOK_SECONDS as STATUS_LOOK_SECONDS
from payment_service.application.settling.ask_status import StatusTools, ask_status
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.application.settling.end_doubts import DoubtTools, end_doubts
from payment_service.application.settling.pull_transactions import LOOK_SECONDS as PULL_LOOK_SECONDS
from payment_service.application.settling.pull_transactions import PullTools, pull_transactions
from payment_service.application.settling.query_pushes import QueryTools, query_pushes
from payment_service.application.settling.run_timers import TimerTools, run_timers
from payment_service.application.settling.watch_provider import LOOK_SECONDS as WATCH_LOOK_SECONDS
from payment_service.application.settling.watch_provider import ProviderWatch, watch_provider
from payment_service.application.settling.watch_pull import LOOK_SECONDS as PULL_WATCH_SECONDS
from payment_service.application.settling.watch_pull import PullWatch, watch_pull
from payment_service.config import PaymentSettings
from payment_service.credentials import Credentials
from payment_service.daraja.shortcodes import ShortcodeKind
from payment_service.store.due_work import DueWork, look_for_work
from runtime.alarms import LastingAlarm
from runtime.tls import FollowedFiles, watch_expiry

STEP_SECONDS = 0.5
"""Between two looks for work: small against every time that timers keep, and to a passenger who waits for a receipt."""
SELDOM = 2
"""Every second look is enough for what is due at times that are seconds apart."""
PULL_LOOKS = round(PULL_LOOK_SECONDS / STEP_SECONDS)
"""The books are asked for one page at a time, and no faster than this."""
MATCH_SECONDS = 30.0
"""Between two looks for payments of parked callbacks: only a person's work on the database makes one appear."""
CERTIFICATE_SECONDS = 60.0
"""Between two looks at how long the service's certificate lasts: short-lived ones last an hour."""
FAILURES_TO_ALARM = 8
"""Of a step, one after the other: one alone may be a restart of the database, and is over by the next try."""
LOOK_WAIT_SECONDS = 1.0
"""A look that hangs, for a lock that somebody holds or for a slow database, is given up after this, and the steps are
taken. Where the server does not answer the cancellation either, psycopg holds them up for some ten seconds more."""
STEP_WAIT_SECONDS = 60.0
"""A step that hangs is given up, so that the next one can begin; everything in it is bounded far below this."""

Found = TypeVar("Found")

_log = structlog.get_logger(__name__)


def periodic_steps(
    settings: PaymentSettings,
    engine: AsyncEngine,
    clock: DatabaseClock,
    initiate: InitiatePayments,
    refunds: Sequence[RefundTools],
    credentials: Credentials,
    erasing: Erasing,
    catching_up: CatchingUp,
    certificate: FollowedFiles | None,
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """What happens by itself, each step at its own pace."""
    send, safaricom = initiate.send, initiate.send.safaricom
    inbox = InboxTools(engine, send.facts, safaricom.sealer, clock)
    timers = TimerTools(
        engine=engine,
        facts=send.facts,
        send_beside=initiate.send_beside,
        sealer=safaricom.sealer,
        clock=clock,
        times=send.times,
        catching_up=catching_up,
        paybills=[number for number, one in safaricom.shortcodes.items() if one.kind is ShortcodeKind.PAYBILL],
    )
    queries = QueryTools(
        engine=engine,
        facts=send.facts,
        safaricom=safaricom,
        budget=RequestBudget("query", settings.queries_per_minute / 60, engine, clock),
        times=send.times,
    )
    pulling = _pulling(settings, engine, send, credentials)
    every = partial(run_every, clock)
    steps = [
        timer_step(timers),
        DueStep(partial(apply_pending_callbacks, inbox), lambda due: due.callbacks),
        DueStep(partial(issue_receipts, IssuingTools(engine, send.facts, clock)), lambda due: due.receipts),
        # Timers also for what was sent while there was an initiator.
        DueStep(partial(run_refund_timers, RefundTimerTools(engine, send.facts, clock)), lambda due: due.refund_timers),
        *(DueStep(partial(send_refunds, one), lambda due: due.refunds) for one in refunds),
        DueStep(partial(end_doubts, DoubtTools(engine, send.facts)), lambda due: due.doubts, each=SELDOM),
        DueStep(partial(query_pushes, queries), lambda due: due.queries, each=SELDOM),
        *(DueStep(partial(pull_transactions, one), lambda due: due.books, each=PULL_LOOKS) for one in pulling),
    ]
    return [
        partial(run_due, clock, STEP_SECONDS, partial(look_for_due_work, engine, clock, pulling), steps),
        partial(every, MATCH_SECONDS, partial(match_parked_callbacks, inbox)),
        partial(every, RISK_LOOK_SECONDS, partial(watch_risk, RiskWatch(engine, clock))),
        partial(every, WATCH_LOOK_SECONDS, partial(watch_provider, ProviderWatch(engine, clock))),
        *(partial(every, PULL_WATCH_SECONDS, partial(watch_pull, _pull_watch(one, clock))) for one in pulling),
        *(partial(every, STATUS_LOOK_SECONDS, partial(ask_status, asking)) for asking in _questions(refunds)),
        partial(
            every, REFUND_WATCH_SECONDS, partial(watch_refunds, _refund_watch(engine, clock, refunds, credentials))
        ),
        partial(every, APPROVAL_WATCH_SECONDS, partial(watch_approvals, ApprovalWatch(engine, clock))),
        partial(every, CONSUMER_WATCH_SECONDS, partial(watch_consumers, ConsumerWatch(engine, clock))),
        partial(every, FORGET_LOOK_SECONDS, partial(forget_records, _forgetting(settings, engine, clock, erasing))),
        *_expiry(certificate, every),
    ]


def timer_step(tools: TimerTools) -> "DueStep":
    """The step of the timers. A look that finds none due has seen the timers nevertheless: no outage."""
    return DueStep(partial(run_timers, tools), lambda due: due.timers, in_vain=tools.catching_up.found_nothing)


def _questions(refunds: Sequence[RefundTools]) -> list[StatusTools]:
    return [StatusTools(one.engine, one.safaricom, one.operator) for one in refunds]


def _forgetting(settings: PaymentSettings, engine: AsyncEngine, clock: DatabaseClock, erasing: Erasing) -> Forgetting:
    return Forgetting(
        engine=engine,
        erasing=erasing,
        clock=clock,
        exchanges_for=timedelta(days=settings.keep_exchanges_days),
        bodies_for=timedelta(days=settings.keep_callback_bodies_days),
        decisions_for=timedelta(days=settings.keep_risk_decisions_days),
    )


def _refund_watch(
    engine: AsyncEngine, clock: DatabaseClock, refunds: Sequence[RefundTools], credentials: Credentials
) -> RefundWatch:
    watched = []
    for one in refunds:
        numbers = list(one.safaricom.shortcodes)
        set_on = credentials.accounts[numbers[0]].initiator_password_set_on
        watched.append(WatchedInitiator(one.operator.key, numbers, set_on))
    return RefundWatch(engine, clock, watched)


def _expiry(
    files: FollowedFiles | None, every: Callable[..., Coroutine[Any, Any, None]]
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """By the clock of this machine, which handshakes go by as well."""
    if files is None:
        return []
    look = partial(watch_expiry, files, LastingAlarm(CERTIFICATE_EXPIRES), partial(datetime.now, UTC))
    return [partial(every, CERTIFICATE_SECONDS, look)]


def _pulling(
    settings: PaymentSettings, engine: AsyncEngine, send: SendTools, credentials: Credentials
) -> list[PullTools]:
    """What reads the provider's books, where that is allowed: each account's beside the others'."""
    return [
        PullTools(
            engine=engine,
            facts=send.facts,
            safaricom=send.safaricom.only(numbers),
            nominated_number=account.nominated_number,
            callback_base_url=send.callback_base_url,
            interval=timedelta(seconds=settings.pull_interval_s),
        )
        for account, numbers in together(credentials.accounts)
        if account.nominated_number
    ]


def _pull_watch(pulling: PullTools, clock: DatabaseClock) -> PullWatch:
    return PullWatch(pulling.engine, list(pulling.safaricom.shortcodes), pulling.interval, clock(), clock)


async def look_for_due_work(engine: AsyncEngine, clock: DatabaseClock, pulling: Sequence[PullTools]) -> DueWork:
    """What there is to do, by one look for all steps."""
    pulled = [number for one in pulling for number in one.safaricom.shortcodes]
    async with engine.connect() as conn:
        asked_at = clock.own_time()
        due = await look_for_work(conn, clock(), pulled)
        clock.learn(asked_at, due.read_at)
    return due


@dataclass(frozen=True, slots=True)
class DueStep:
    """A step that is taken when a look has shown something for it."""

    step: Callable[[], Awaitable[object]]
    is_due: Callable[[DueWork], bool]
    each: int = 1
    """1: it is taken after any look. 2: only after every second one, and so on."""
    in_vain: Callable[[], object] = lambda: None
    """Called when a look shows nothing for this step."""


async def run_due(
    clock: DatabaseClock, seconds: float, look: Callable[[], Awaitable[DueWork]], steps: Sequence[DueStep]
) -> NoReturn:
    """Look for ever, and take the steps that have something to do, side by side; none is taken twice at once.

    Where a look fails or hangs, or the database takes no writes, every step is taken: each finds out by itself, and its
    log says so. A step for which the look shows nothing would have found nothing, so its failure is over.
    """
    look_log, logs = _StepLog(_name(look)), [_StepLog(_name(one.step)) for one in steps]
    at_work: set[int] = set()

    async def take(index: int) -> None:
        try:
            await _take(steps[index].step, logs[index])
        finally:
            at_work.remove(index)

    async with asyncio.TaskGroup() as group:
        for looks in count(1):
            await asyncio.sleep(seconds)
            if not clock.agrees:
                continue
            due = await _take(look, look_log, LOOK_WAIT_SECONDS)
            for index, one in enumerate(steps):
                if index in at_work or looks % one.each:
                    continue
                if due is None or not due.takes_writes or one.is_due(due):
                    at_work.add(index)
                    group.create_task(take(index), name=_name(one.step))
                else:
                    logs[index].succeeded()
                    one.in_vain()
    raise AssertionError("it looks until it is cancelled")


async def run_every(clock: DatabaseClock | None, seconds: float, step: Callable[[], Awaitable[object]]) -> NoReturn:
    """Run a step for ever. A step that fails is logged and tried again: the rows are still there.

    While this process's clock is wrong it takes no step; those of other processes do. `clock` is None for a step that
    goes by no time, and that each process has to take itself.
    """
    log = _StepLog(_name(step))
    while True:
        await asyncio.sleep(seconds)
        if clock is not None and not clock.agrees:
            continue
        await _take(step, log)


async def _take(
    step: Callable[[], Awaitable[Found]], log: "_StepLog", seconds: float = STEP_WAIT_SECONDS
) -> Found | None:
    """What the step has found; None where it failed, which is logged."""
    try:
        async with asyncio.timeout(seconds):
            found = await step()
    except Exception as error:
        log.failed(error)
        return None
    log.succeeded()
    return found


class _StepLog:
    """What the log says of one step: its failure once in full, then counts at ever longer distances, then its end.

    A database that is away fails every step twice a second: said in full each time, that would fill a disk.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._fails = LastingAlarm(STEP_FAILS)
        self._kind: tuple[object, ...] | None = None
        self._failures = 0
        self._in_a_row = 0
        """Of whatever kinds."""

    def failed(self, error: Exception) -> None:
        self._in_a_row += 1
        if self._in_a_row >= FAILURES_TO_ALARM:
            self._fails.set(True, step=self._step)
        kind = _kind(error)
        if kind != self._kind:
            self._kind, self._failures = kind, 1
            _log.warning("background step failed", step=self._step, exc_info=error)
            return
        self._failures += 1
        if self._failures.bit_count() == 1:
            _log.warning("background step still fails", step=self._step, failures=self._failures)

    def succeeded(self) -> None:
        if self._kind is not None:
            _log.info("background step works again", step=self._step, failures=self._failures)
            self._kind, self._failures, self._in_a_row = None, 0, 0
            self._fails.set(False, step=self._step)


def _kind(error: Exception) -> tuple[object, ...]:
    """Equal for failures of one cause. Their texts are not compared: a time or an id in one would make each new."""
    if isinstance(error, ExceptionGroup):
        return type(error), frozenset(_kind(one) for one in error.exceptions)
    trace, place = error.__traceback__, None
    while trace is not None:
        place, trace = (trace.tb_frame.f_code, trace.tb_lineno), trace.tb_next
    return type(error), place


def _name(step: Callable[..., object]) -> str:
    """The step's own name, without what is bound to it: that is every object the step works with."""
    while isinstance(step, partial):
        step = step.func
    return getattr(step, "__name__", type(step).__name__)
