"""Reading the provider's books: what no callback and no id can find, Pull Transactions lists.

A step reads one page. It leases a shortcode's books, in a row that says until when; asks for the page with no
transaction open; tells what its rows say, each fact in the transaction that all facts go through; and only then stores
how far it has read, and ends the lease. Any number of processes may do so at once: while one has the lease, the others
pass.

Between any two of those commits a process may be killed. A lease that is not ended runs out, and whoever is next asks
for the same page again: the offset has not moved. What had been recorded by then is known by its receipt, and a fact
that is told again is dropped by its id. A page is never counted as read before its rows are recorded.

The books are read slice by slice, the newest first (`domain.pull_spans`). A slice counts as read when its last page has
come and nothing contradicts it; what does not count is kept as not read, with the reason, and is tried again. A slice
with too many rows, or that takes too long, is halved, and so are those after it, until they are easily read again.
Nothing in the books changes a payment but money that arrived: that a row is missing proves nothing by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import QUESTION_REFUSED
from payment_service.application.calling.access_token import NoAccessToken, Token, get_token, token_doubted
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.record_pulled_rows import RecordTools, record_rows
from payment_service.daraja.client import Exchange
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.pull import SHORTCODE_ALARM, NotRegistered, Page, pull, register_pull
from payment_service.daraja.shortcodes import Shortcode
from payment_service.domain.pull_spans import (
    KEPT,
    OVERLAP,
    SLICE_MAX,
    Reading,
    Slice,
    Span,
    next_slice,
    tried_until,
    with_span,
)
from payment_service.domain.pull_window import Then, Window, after_page, length_after, shorter, takes_too_long
from payment_service.store import pull_progress
from payment_service.store.pull_progress import Progress
from runtime.alarms import raise_alarm

LOOK_SECONDS = 1.0
"""Between two looks whether a shortcode's books are due; also between two pages of one slice."""

LEASE = timedelta(seconds=90)
"""Longer than a step may take (60 s): whoever has not ended its lease by then never will."""

BEFORE_FIRST_PAYMENT = timedelta(minutes=30)
"""From where on the books matter, before our first payment was made: clocks differ, by less than this."""

ENDS = timedelta(minutes=1)
"""A receipt's time in a callback and in the books differ by less."""

FAILURE_WAIT = timedelta(seconds=5)
"""After the first failure; doubled with each one more."""
FAILURE_WAIT_MAX = timedelta(minutes=30)
NO_WAIT = timedelta(0)

REGISTRATION_PATH = "/callbacks/pull"
"""Registering wants an address. Nothing is taken there: rows are asked for, where an answer can be trusted."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PullTools:
    """What reading the books needs."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    safaricom: Safaricom
    nominated_number: str = field(repr=False)
    callback_base_url: str
    interval: timedelta
    """Between two readings of a shortcode's newest rows."""


class Books(NamedTuple):
    """A shortcode's books as a step finds and leaves them."""

    shortcode: Shortcode
    progress: Progress
    spans: Sequence[Span]
    since: datetime
    """The earliest moment that matters."""


async def pull_transactions(tools: PullTools) -> bool:
    """Read one page of a shortcode's books, or register it; whether there was one to read."""
    now, lease_id = tools.safaricom.clock(), uuid4()
    async with tools.engine.connect() as conn:
        number = await pull_progress.next_shortcode(conn, list(tools.safaricom.shortcodes), now)
    if number is None:
        return False
    async with tools.engine.begin() as conn:
        progress = await pull_progress.take_lease(conn, number, lease_id=lease_id, now=now, until=now + LEASE)
        if progress is None:
            return False
        spans = await pull_progress.spans_read(conn, number)
        first = await pull_progress.first_payment_at(conn)
    books = Books(tools.safaricom.shortcodes[number], progress, spans, (first or now) - BEFORE_FIRST_PAYMENT)
    after, wait = await _one_request(tools, books, now)
    async with tools.engine.begin() as conn:
        ended_at = tools.safaricom.clock()
        if not await pull_progress.end_lease(
            conn, number, lease_id=lease_id, progress=after.progress, next_pull_at=ended_at + wait
        ):
            _log.warning("lease of the books was lost", shortcode=number)
        elif after.spans is not spans:
            await pull_progress.replace_spans(conn, number, after.spans, ended_at)
    return True


async def _one_request(tools: PullTools, books: Books, now: datetime) -> tuple[Books, timedelta]:
    """One request and what follows from it: how far the books are read, and how long to wait."""
    try:
        token = await get_token(tools.safaricom.tokens[books.shortcode.number])
    except NoAccessToken as error:
        return _failed(books, NothingLearned(str(error)))
    if books.progress.registered_at is None:
        return await _register(tools, books, token, now)
    books = _with_window(tools, books, now)
    window = books.progress.window
    if window is None:
        return books, _until_due(tools, books, now)
    daraja, number = tools.safaricom.daraja, books.shortcode.party_b
    answer, exchange = await pull(daraja, token.value, number, *window.slice, window.offset)
    await keep_exchange(tools.engine, tools.safaricom.sealer, exchange)
    match answer:
        case Page():
            return await _after_page(tools, books, window, answer, exchange)
        case NotRegistered():
            failed, wait = _failed(books, NothingLearned(answer.code, alarm=SHORTCODE_ALARM))
            # Registered once, at once; if that was not it, in the measure of any other failure.
            first_time = books.progress.failures == 0
            return _changed(failed, registered_at=None), NO_WAIT if first_time else wait
        case NothingLearned():
            return _nothing_learned(tools, books, token, answer)
        case _:
            assert_never(answer)


async def _register(tools: PullTools, books: Books, token: Token, now: datetime) -> tuple[Books, timedelta]:
    url = tools.callback_base_url + REGISTRATION_PATH
    answer, exchange = await register_pull(
        tools.safaricom.daraja, token.value, books.shortcode.party_b, tools.nominated_number, url
    )
    await keep_exchange(tools.engine, tools.safaricom.sealer, exchange)
    if isinstance(answer, NothingLearned):
        return _nothing_learned(tools, books, token, answer)
    return _changed(books, registered_at=now), NO_WAIT


def _with_window(tools: PullTools, books: Books, now: datetime) -> Books:
    """The slice that is being read, or the next one."""
    progress, window = books.progress, books.progress.window
    if window is not None and window.slice.start >= now - KEPT:
        if not takes_too_long(window, now):
            return books
        progress = replace(progress, slice_length=shorter(window))
    due = next_slice(books.spans, now, since=books.since, interval=tools.interval, longest=progress.slice_length)
    return books._replace(progress=replace(progress, window=Window(due, began_at=now) if due is not None else None))


async def _after_page(
    tools: PullTools, books: Books, before: Window, page: Page, exchange: Exchange
) -> tuple[Books, timedelta]:
    """Record a page, and say how the reading of its slice goes on."""
    now, number = tools.safaricom.clock(), books.shortcode.number
    recording = RecordTools(tools.engine, tools.facts, tools.safaricom.sealer)
    flaw = await record_rows(recording, number, page, exchange, now)
    if page.proves_pull and books.progress.proved_at is None:
        # What an unproved shortcode said of earlier spans was no evidence.
        books = _changed(books, proved_at=now)._replace(spans=[])
    books = _changed(books, failures=0)
    window, then = after_page(before, rows=page.length, digest=page.digest, rows_told=page.rows_told, flaw=flaw)
    match then:
        case Then.NEXT_PAGE:
            return _changed(books, window=window), NO_WAIT
        case Then.SHORTER_SLICE:
            return _changed(books, window=None, slice_length=shorter(window)), NO_WAIT
        case Then.END:
            return await _ended(tools, books, window, now)
        case _:
            assert_never(then)


async def _ended(tools: PullTools, books: Books, window: Window, now: datetime) -> tuple[Books, timedelta]:
    """A slice whose last page has come. If it lacks something, it does not count as read."""
    if window.flaw is None and window.offset == 0 and await _is_contradicted(tools, books.shortcode.number, window):
        window = replace(window, flaw=Reading.CONTRADICTED)
    if window.flaw is not None:
        _log.warning(
            "slice of the books does not count as read", shortcode=books.shortcode.number, why=window.flaw.value
        )
    length = length_after(window, books.progress.slice_length)
    books = _changed(books, window=None, slice_length=length)
    books = books._replace(spans=with_span(books.spans, window.span()))
    return books, _until_due(tools, books, now)


async def _is_contradicted(tools: PullTools, number: str, window: Window) -> bool:
    """Whether we hold receipts of a slice in which the books have no row.

    Rows of the last minutes may still be on their way, and one at either end may stand in the slice beside.
    """
    settled = Slice(window.slice.start + ENDS, min(window.slice.end - ENDS, window.began_at - OVERLAP))
    if settled.start >= settled.end:
        return False
    async with tools.engine.connect() as conn:
        return await pull_progress.holds_receipts(conn, number, settled)


def _until_due(tools: PullTools, books: Books, now: datetime) -> timedelta:
    if next_slice(books.spans, now, since=books.since, interval=tools.interval, longest=SLICE_MAX) is not None:
        return NO_WAIT
    until = tried_until(books.spans)
    due_in = tools.interval if until is None else until + tools.interval - now
    return min(tools.interval, max(due_in, timedelta(seconds=LOOK_SECONDS)))


def _nothing_learned(tools: PullTools, books: Books, token: Token, answer: NothingLearned) -> tuple[Books, timedelta]:
    if answer.token_refused and books.progress.failures == 0:
        token_doubted(tools.safaricom.tokens[books.shortcode.number], token.generation)
    return _failed(books, answer)


def _failed(books: Books, answer: NothingLearned) -> tuple[Books, timedelta]:
    failures = books.progress.failures
    wait = max(FAILURE_WAIT * 2 ** min(failures, 10), answer.retry_after or NO_WAIT)
    # One refused token, or one that is not registered, is mended by the next try.
    _log.warning("books not read", shortcode=books.shortcode.number, answer=answer.code, failures=failures + 1)
    if failures and answer.alarm is not None:
        raise_alarm(
            QUESTION_REFUSED,
            question="pull",
            shortcode=books.shortcode.number,
            answer=answer.code,
            check=answer.alarm,
        )
    return _changed(books, failures=failures + 1), min(wait, FAILURE_WAIT_MAX)


def _changed(books: Books, **changes: object) -> Books:
    return books._replace(progress=replace(books.progress, **changes))  # type: ignore[arg-type]  # the fields are those of Progress
