"""Reading the provider's books: what no callback and no id can find, Pull Transactions lists.

A step reads one page. It takes the turn at a shortcode, a row that says until
when; asks for the page with no transaction open; tells what its rows say, each
fact in the transaction that all facts go through; and only then stores how far
it has read, and gives the turn back. Any number of processes may do so at once:
while one has the turn, the others pass.

Between any two of those commits a process may be killed. A turn that is not
given back runs out, and whoever is next asks for the same page again: the offset
has not moved. What had been recorded by then is known by its receipt, and a fact
that is told again is dropped by its id. A page is never counted as read before
its rows are recorded.

Windows overlap, because rows appear late; and from time to time everything that
the provider keeps is read once more, for rows that come very late. Nothing in
the books changes a payment but money that arrived: that a row is missing proves
nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.calling.access_token import AccessToken, NoAccessToken, get_token, token_doubted
from payment_service.application.calling.exchanges import exchange_row, keep_exchange
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.daraja.client import DarajaClient, Exchange
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.pull import SHORTCODE_ALARM, NotRegistered, Page, PulledRow, pull, register_pull
from payment_service.daraja.shortcodes import Shortcode
from payment_service.domain.errors import Overloaded, StoreUnavailable
from payment_service.domain.facts import ResultReported
from payment_service.domain.pull import ACCOUNT_REFERENCE_UNIQUE_FOR, Belonging, Candidate, Shelf, belonging
from payment_service.security.sealing import Sealer
from payment_service.store import pull_progress as pulls
from payment_service.store.pull_progress import Progress

LOOK_SECONDS = 1.0
"""Between two looks whether a shortcode's books are due; also between two pages of one window."""

TURN = timedelta(seconds=90)
"""Longer than a step may take (60 s): whoever has not ended its turn by then never will."""

KEPT = timedelta(hours=48)
"""How far back the provider lists transactions."""
SWEPT = KEPT - timedelta(minutes=5)
"""The longest window that is asked for: a little less, so that nothing is cut off while it is read."""
SWEEP_EVERY = timedelta(hours=6)
"""Between two windows of that length."""
OVERLAP = timedelta(hours=1)
"""By which every other window reaches back before the end of the one before."""

ROWS_MAX = 100_000
"""Rows of one window; an hour of it would be a day's sales. Beyond it the offset does not move the provider's pages."""

FAILURE_WAIT = timedelta(seconds=5)
"""After the first failure; doubled with each one more."""
FAILURE_WAIT_MAX = timedelta(minutes=30)
AT_ONCE = timedelta(0)

REGISTRATION_PATH = "/callbacks/pull"
"""Registering wants an address. Nothing is taken there: rows are asked for, where an answer can be trusted."""

PULLED = "pulled"
"""The operation under which a row of the books is kept beside its payment."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PullTools:
    """What reading the books needs."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    tokens: AccessToken
    daraja: DarajaClient
    sealer: Sealer
    shortcodes: Mapping[str, Shortcode]
    nominated_number: str = field(repr=False)
    callback_base_url: str
    interval: timedelta
    """Between two windows of a shortcode."""
    clock: Callable[[], datetime]


async def pull_transactions(tools: PullTools) -> bool:
    """Read one page of a shortcode's books, or register it; whether there was one whose turn it was."""
    now, lease_id = tools.clock(), uuid4()
    async with tools.engine.connect() as conn:
        number = await pulls.next_shortcode(conn, list(tools.shortcodes), now)
    if number is None:
        return False
    async with tools.engine.begin() as conn:
        progress = await pulls.take_turn(conn, number, lease_id=lease_id, now=now, until=now + TURN)
    if progress is None:
        return False
    progress, wait = await _turn(tools, tools.shortcodes[number], progress, now)
    async with tools.engine.begin() as conn:
        next_pull_at = tools.clock() + wait
        if not await pulls.end_turn(conn, number, lease_id=lease_id, progress=progress, next_pull_at=next_pull_at):
            _log.warning("turn at the books was lost", shortcode=number)
    return True


async def _turn(
    tools: PullTools, shortcode: Shortcode, progress: Progress, now: datetime
) -> tuple[Progress, timedelta]:
    """One request and what follows from it: how far the books are read, and how long to wait."""
    try:
        token = await get_token(tools.tokens)
    except NoAccessToken as error:
        return _failed(shortcode, progress, NothingLearned(str(error)))
    if progress.registered_at is None:
        url = tools.callback_base_url + REGISTRATION_PATH
        registered, exchange = await register_pull(
            tools.daraja, token.value, shortcode.party_b, tools.nominated_number, url
        )
        await keep_exchange(tools.engine, tools.sealer, exchange)
        if not isinstance(registered, NothingLearned):
            return replace(progress, registered_at=now), AT_ONCE
        answer: Page | NotRegistered | NothingLearned = registered
    else:
        progress = _in_window(progress, now)
        assert progress.window_start is not None
        assert progress.window_end is not None
        answer, exchange = await pull(
            tools.daraja,
            token.value,
            shortcode.party_b,
            progress.window_start,
            progress.window_end,
            progress.page_offset,
        )
        await keep_exchange(tools.engine, tools.sealer, exchange)
    match answer:
        case Page():
            await _record(tools, shortcode, answer, exchange)
            return _turned(tools, shortcode, progress, answer)
        case NotRegistered():
            failed, wait = _failed(shortcode, progress, NothingLearned(answer.code, alarm=SHORTCODE_ALARM))
            # Registered once, at once; if that was not it, in the measure of any other failure.
            return replace(failed, registered_at=None), wait if progress.failures else AT_ONCE
        case NothingLearned():
            if answer.token_refused and progress.failures == 0:
                token_doubted(tools.tokens, token.generation)
            return _failed(shortcode, progress, answer)
        case _:
            assert_never(answer)


def _in_window(progress: Progress, now: datetime) -> Progress:
    """The window that is being read, or the next one."""
    if progress.window_start is not None and progress.window_start > now - KEPT:
        return progress
    start = now - SWEPT
    swept_lately = progress.swept_at is not None and now < progress.swept_at + SWEEP_EVERY
    if swept_lately and progress.pulled_upto is not None:
        start = max(start, progress.pulled_upto - OVERLAP)
    return replace(progress, window_start=start, window_end=now, page_offset=0)


def _turned(tools: PullTools, shortcode: Shortcode, progress: Progress, page: Page) -> tuple[Progress, timedelta]:
    """After a page whose rows are recorded. How many rows a page may have is not known, so an empty one is the end."""
    offset = progress.page_offset + page.length
    endless = offset >= ROWS_MAX
    if endless:
        _log.error("the books do not end", shortcode=shortcode.number, rows=offset)
    if page.length and not endless:
        return replace(progress, page_offset=offset, failures=0), AT_ONCE
    start, end = progress.window_start, progress.window_end
    swept = start is not None and end is not None and end - start >= SWEPT
    done = Progress(registered_at=progress.registered_at, pulled_upto=end, swept_at=end if swept else progress.swept_at)
    return done, tools.interval


def _failed(shortcode: Shortcode, progress: Progress, answer: NothingLearned) -> tuple[Progress, timedelta]:
    wait = max(FAILURE_WAIT * 2 ** min(progress.failures, 10), answer.retry_after or AT_ONCE)
    # One refused token, or one that is not registered, is mended by the next try.
    alarm = answer.alarm if progress.failures else None
    log = _log.error if alarm is not None else _log.warning
    log("books not read", shortcode=shortcode.number, answer=answer.code, failures=progress.failures + 1, check=alarm)
    return replace(progress, failures=progress.failures + 1), min(wait, FAILURE_WAIT_MAX)


async def _record(tools: PullTools, shortcode: Shortcode, page: Page, exchange: Exchange) -> None:
    """Tell what the rows of a page say. Raises what keeps the store from being told; one bad row stops no other."""
    if not page.length:
        return
    now, counts = tools.clock(), Counter({"unreadable": page.unreadable})
    shelf = await _shelf(tools, shortcode, page, now)
    told: dict[tuple[str, str], tuple[Candidate, ResultReported, PulledRow, Belonging]] = {}
    for pulled in page.rows:
        found, facts = belonging(pulled.row, shelf, now)
        counts[found.value.lower()] += 1
        told |= {(candidate.reference, fact.fact_id): (candidate, fact, pulled, found) for candidate, fact in facts}
    if told:
        async with tools.engine.connect() as conn:
            references, fact_ids = zip(*told, strict=True)
            for known in await pulls.told_before(conn, references, fact_ids):
                told.pop(known, None)
    submissions = [_submission(tools.sealer, exchange, *of_row) for of_row in told.values()]
    outcomes = await asyncio.gather(*(tools.facts.submit(s) for s in submissions), return_exceptions=True)
    for submission, outcome in zip(submissions, outcomes, strict=True):
        if isinstance(outcome, StoreUnavailable | Overloaded) or (
            isinstance(outcome, BaseException) and not isinstance(outcome, Exception)
        ):
            raise outcome
        if isinstance(outcome, Exception):
            # A fault of ours. The rows behind it must not wait for it; the next sweep tells this one again.
            counts["failed"] += 1
            _log.error("row of the books could not be recorded", fact_id=submission.fact.fact_id, exc_info=outcome)
    _log.info("books read", shortcode=shortcode.number, **{name: count for name, count in counts.items() if count})


async def _shelf(tools: PullTools, shortcode: Shortcode, page: Page, now: datetime) -> Shelf:
    rows = [pulled.row for pulled in page.rows]
    references = sorted({row.account_reference for row in rows if row.account_reference})
    amounts = sorted({row.amount for row in rows if not row.account_reference and isinstance(row.amount, int)})
    async with tools.engine.connect() as conn:
        return Shelf(
            shortcode=shortcode.number,
            named=await pulls.candidates_named(conn, references, now - ACCOUNT_REFERENCE_UNIQUE_FOR),
            holders=await pulls.holders_of(conn, [row.receipt for row in rows]),
            lookalikes=await pulls.lookalikes(conn, tools.sealer, shortcode.number, amounts, now) if amounts else (),
        )


def _submission(
    sealer: Sealer, exchange: Exchange, candidate: Candidate, fact: ResultReported, pulled: PulledRow, found: Belonging
) -> Submission:
    """The fact, and beside its payment the one row of the page that it is from."""
    kept = replace(exchange, operation=PULLED, answer_body=pulled.body, classified_as=found.value)
    return Submission(fact, candidate.payment_id, exchange=exchange_row(sealer, kept, candidate.payment_id))
