"""Asking Safaricom about payments whose outcome is not known: one bounded step, run by any number of processes.

The order keeps the promises. A turn of the shared budget comes first, and without one nothing is asked: it is counted,
and tried at the next step. Then the claims to ask are committed, which moves each payment to its next time. Then the
queries, with no transaction open. Then each answer that says something is told as a fact; the table decides what it
does, under the lock, whatever has happened meanwhile. A process that dies in between only delays the next query.

Money that only a callback has told of is asked about last: with turns that nobody who waits for an outcome is about to
need.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

import structlog
from opentelemetry import metrics, trace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_service.alarms import PROGRAM_FAULT
from payment_service.application.calling.access_token import NoAccessToken, Token, get_token, token_refused
from payment_service.application.calling.exchanges import exchange_row, keep_exchange
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.daraja.client import Exchange
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.query import NotYet, QueriedPush, QueryAnswer, TokenRefused, Told, TooFast, query
from payment_service.daraja.shortcodes import Shortcode
from payment_service.domain.facts import ResultReported, Source
from payment_service.domain.payment import Times
from payment_service.domain.query_schedule import next_back_at, next_query_at
from payment_service.security.sealing import CHECKOUT_REQUEST_ID, SealBroken
from payment_service.store.push_queries import (
    Claimed,
    claim_queries,
    claim_unbacked,
    count_due,
    count_unbacked,
)
from payment_service.telemetry import remote_parent
from runtime.alarms import raise_alarm

BATCH = 20
"""Queries of one shortcode at once. Each ends within 15 s, so a step does within half a minute."""

Claim = Callable[[AsyncConnection, str, datetime, int, Callable[[Claimed], datetime | None]], Awaitable[list[Claimed]]]

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("payment_service")
_meter = metrics.get_meter("payment_service")
_asked = _meter.create_counter("payment_service.queries", description="Queries to Safaricom, by what they brought")
_skipped = _meter.create_counter(
    "payment_service.queries.skipped",
    description="Payments that were due to be asked about and were not, for lack of budget; counted at every step",
)


@dataclass(frozen=True, slots=True)
class QueryTools:
    """What asking needs."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    safaricom: Safaricom
    budget: RequestBudget
    times: Times
    draw: Callable[[], float] = random.random
    """Chance, from 0 to 1, for the jitter."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a step would ask about a shortcode's payments."""

    shortcode: str
    due: int
    claim: Claim


@dataclass(frozen=True, slots=True)
class Asked:
    """What one step did."""

    due: int
    asked: int
    told: int
    """Answers that were a result."""
    skipped: int
    """Due, and not asked about for lack of budget."""


async def query_pushes(tools: QueryTools) -> Asked:
    """Ask about the most urgent payments that are due, as many as the budget allows."""
    now = tools.safaricom.clock()
    async with tools.engine.connect() as conn:
        due = await count_due(conn, now)
        unbacked = await count_unbacked(conn, now)
        # A turn that is used now is there again by then: whoever is due until then needs it more.
        needed = await count_due(conn, now + timedelta(seconds=1 / tools.budget.per_second)) if unbacked else due
    # About a shortcode that is no longer configured nothing can be asked: it takes its passkey, and its app's token.
    tokens = tools.safaricom.tokens
    busy = {tokens[number].app.key for number in needed if number in tokens}
    spare = {n: count for n, count in unbacked.items() if n not in tokens or tokens[n].app.key not in busy}
    wanted = [_Wanted(number, count, claim_queries) for number, count in due.items()]
    wanted += [_Wanted(number, count, claim_unbacked) for number, count in spare.items()]
    # In an order of chance, since the shortcodes of one app share its turns, and one of them may want all of them.
    of_apps: defaultdict[str, list[_Wanted]] = defaultdict(list)
    for one in sorted(wanted, key=lambda _: tools.draw()):
        if one.shortcode in tokens:
            of_apps[tokens[one.shortcode].app.key].append(one)
    # Beside one another, so that an app that has no token holds up its own shortcodes only.
    steps = [
        step for its in await asyncio.gather(*(_ask_as_app(tools, its) for its in of_apps.values())) for step in its
    ]
    done = Asked(
        due=sum(due.values()) + sum(spare.values()),
        asked=sum(step.asked for step in steps),
        told=sum(step.told for step in steps),
        skipped=sum(step.skipped for step in steps),
    )
    if done.asked:
        _log.info("uncertain payments", due=done.due, asked=done.asked, told=done.told, skipped=done.skipped)
    return done


async def _ask_as_app(tools: QueryTools, wanted: Sequence[_Wanted]) -> list[Asked]:
    return [await _ask_about(tools, tools.safaricom.shortcodes[one.shortcode], one.due, one.claim) for one in wanted]


async def _ask_about(tools: QueryTools, shortcode: Shortcode, due: int, claim: Claim) -> Asked:
    wanted, tokens = min(due, BATCH), tools.safaricom.tokens[shortcode.number]
    try:
        # Had before the claims: without one, nothing is asked and nothing is put off.
        token = await get_token(tokens)
    except NoAccessToken as error:
        _log.warning("queries postponed", shortcode=shortcode.number, cause=repr(error))
        return Asked(due, 0, 0, 0)
    turns = await tools.budget.take_up_to(tokens.app.key, wanted)
    skipped = due - turns if turns < wanted and claim is claim_queries else 0
    if skipped:
        _skipped.add(skipped, {"shortcode": shortcode.number})
    claimed = await _claim(tools, shortcode, turns, claim) if turns else []
    answers = await asyncio.gather(*(_settle(tools, shortcode, token, one) for one in claimed), return_exceptions=True)
    for one, answer in zip(claimed, answers, strict=True):
        if isinstance(answer, BaseException):
            raise_alarm(PROGRAM_FAULT, payment_id=str(one.payment_id), exc_info=answer)
        else:
            _asked.add(1, {"shortcode": shortcode.number, "answer": type(answer).__name__})
    return Asked(due, len(claimed), sum(isinstance(answer, Told) for answer in answers), skipped)


async def _claim(tools: QueryTools, shortcode: Shortcode, most: int, claim: Claim) -> list[Claimed]:
    now = tools.safaricom.clock()

    def next_at(one: Claimed) -> datetime | None:
        if claim is claim_unbacked:
            return next_back_at(now, one.completed_at or now, tools.draw(), tools.times)
        deadlines = [one.expires_at] if one.hold_expire_at is None else [one.expires_at, one.hold_expire_at]
        watch_until = one.sent_at + tools.times.watch_for
        return next_query_at(now, one.asked, deadlines, watch_until, tools.draw(), tools.times)

    async with tools.engine.begin() as conn:
        return await claim(conn, shortcode.number, now, most, next_at)


async def _settle(tools: QueryTools, shortcode: Shortcode, token: Token, one: Claimed) -> QueryAnswer | None:
    """Ask about one payment, and tell what was learned; None when its id cannot be read."""
    sealer = tools.safaricom.sealer
    try:
        checkout_id = sealer.open(CHECKOUT_REQUEST_ID, one.payment_id.bytes, one.sealed_checkout_id).decode()
    except SealBroken as error:
        raise_alarm(PROGRAM_FAULT, payment_id=str(one.payment_id), exc_info=error)
        return None
    asked = QueriedPush(checkout_id, one.merchant_request_id)
    with remote_parent(one.trace_parent), _tracer.start_as_current_span("settle uncertain"):
        answer, exchange = await query(tools.safaricom.daraja, token.value, shortcode, asked)
        if isinstance(answer, TokenRefused):
            await keep_exchange(tools.engine, sealer, exchange, one.payment_id)
            token_refused(tools.safaricom.tokens[shortcode.number], token.generation)
            try:
                token = await get_token(tools.safaricom.tokens[shortcode.number])
            except NoAccessToken as error:
                _log.warning("query postponed", payment_id=str(one.payment_id), cause=repr(error))
                return answer
            # Once: a token that is refused although it is new is an operator's to look at, and pauses all requests.
            answer, exchange = await query(tools.safaricom.daraja, token.value, shortcode, asked)
        await _record(tools, shortcode, token, one, checkout_id, answer, exchange)
    return answer


async def _record(
    tools: QueryTools,
    shortcode: Shortcode,
    token: Token,
    one: Claimed,
    checkout_id: str,
    answer: QueryAnswer,
    exchange: Exchange,
) -> None:
    match answer:
        case Told(code=code, meaning=meaning):
            row = exchange_row(tools.safaricom.sealer, exchange, one.payment_id)
            fact = ResultReported(
                # Of the kept answer: told again it is the same fact, and the next answer is another.
                fact_id=f"query:{row[0]}",
                source=Source.QUERY,
                verdict=meaning.verdict,
                code=code,
                reason=meaning.reason,
                checkout_request_id=checkout_id,
                asked_at=exchange.started_at,
            )
            await tools.facts.submit(Submission(fact, one.payment_id, exchange=row))
            return
        case TooFast(retry_after=pause):
            await tools.budget.slow_down(tools.safaricom.tokens[shortcode.number].app.key, pause)
        case TokenRefused():
            token_refused(tools.safaricom.tokens[shortcode.number], token.generation)
        case NotYet() | NothingLearned():
            pass
        case _:
            assert_never(answer)
    await keep_exchange(tools.engine, tools.safaricom.sealer, exchange, one.payment_id)
