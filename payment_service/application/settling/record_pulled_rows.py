"""Telling what the rows of a page of the books say: each row that is about a payment becomes a fact of that payment.

Rows are taken some at a time, so that a page of thousands holds up nothing else in this process.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import PROGRAM_FAULT
from payment_service.application.calling.exchanges import exchange_row
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.daraja.client import Exchange
from payment_service.daraja.pull import Page
from payment_service.daraja.pull_rows import ListedRow
from payment_service.domain.errors import Overloaded, StoreUnavailable
from payment_service.domain.pull import (
    ACCOUNT_REFERENCE_UNIQUE_FOR,
    Belonging,
    Candidate,
    Shelf,
    Told,
    as_typed,
    belonging,
    spellings,
)
from payment_service.domain.pull_spans import Reading
from payment_service.domain.refund_facts import RefundReported
from payment_service.security.sealing import Sealer
from payment_service.store import pull_candidates as candidates
from runtime.alarms import raise_alarm

ROWS_TOGETHER = 250
"""Rows that are looked up and told in one go: some milliseconds of work."""

PULLED = "pulled"
"""The operation under which a row of the books is kept beside its payment."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecordTools:
    """What telling the rows needs."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    sealer: Sealer


async def record_rows(
    tools: RecordTools, shortcode: str, page: Page, exchange: Exchange, now: datetime
) -> Reading | None:
    """Tell what the rows of a page say; what keeps the page from counting as read, None if nothing does.

    Raises what keeps the store from being told. A row that fails stops no other.
    """
    counts = Counter({"unreadable": page.unreadable})
    for first in range(0, len(page.rows), ROWS_TOGETHER):
        await _record(tools, shortcode, page.rows[first : first + ROWS_TOGETHER], exchange, now, counts)
    if page.length:
        _log.info("books read", shortcode=shortcode, **{name: count for name, count in counts.items() if count})
    if counts["failed"]:
        return Reading.NOT_RECORDED
    return Reading.ROWS_UNREADABLE if page.unreadable else None


async def _record(
    tools: RecordTools,
    shortcode: str,
    rows: Sequence[ListedRow],
    exchange: Exchange,
    now: datetime,
    counts: Counter[str],
) -> None:
    shelf = await _shelf(tools, shortcode, rows, now)
    told: dict[tuple[str, str], tuple[Candidate, Told, ListedRow, Belonging]] = {}
    for listed in rows:
        found, facts = belonging(listed.row, shelf, now)
        counts[found.value.lower()] += 1
        told |= {(candidate.reference, fact.fact_id): (candidate, fact, listed, found) for candidate, fact in facts}
    if told:
        async with tools.engine.connect() as conn:
            references, fact_ids = zip(*told, strict=True)
            for known in await candidates.told_before(conn, references, fact_ids):
                told.pop(known, None)
    submissions = [_submission(tools.sealer, exchange, *of_row) for of_row in told.values()]
    outcomes = await asyncio.gather(*(tools.facts.submit(s) for s in submissions), return_exceptions=True)
    for submission, outcome in zip(submissions, outcomes, strict=True):
        if isinstance(outcome, StoreUnavailable | Overloaded) or (
            isinstance(outcome, BaseException) and not isinstance(outcome, Exception)
        ):
            raise outcome
        if isinstance(outcome, Exception):
            # A fault of ours. The rows behind it must not wait for it; this slice is read again.
            counts["failed"] += 1
            raise_alarm(PROGRAM_FAULT, fact_id=submission.fact.fact_id, exc_info=outcome)


async def _shelf(tools: RecordTools, shortcode: str, rows: Sequence[ListedRow], now: datetime) -> Shelf:
    listed = [one.row for one in rows]
    references = sorted({one for row in listed if row.account_reference for one in spellings(row.account_reference)})
    async with tools.engine.connect() as conn:
        found = await candidates.candidates_named(conn, references, now - ACCOUNT_REFERENCE_UNIQUE_FOR)
        named: dict[str, list[Candidate]] = {}
        for candidate in found:
            named.setdefault(as_typed(candidate.account_reference), []).append(candidate)
        returned = {as_typed(row.account_reference) for row in listed if row.reversal}
        meant = [one.payment_id for reference in returned for one in named.get(reference, ())]
        return Shelf(
            shortcode=shortcode,
            named=named,
            received=await candidates.received_by(conn, meant) if meant else {},
            holders=await candidates.holders_of(conn, [row.receipt for row in listed if row.receipt is not None]),
            lookalikes=await candidates.lookalikes(conn, tools.sealer, shortcode, listed, now),
        )


def _submission(
    sealer: Sealer,
    exchange: Exchange,
    candidate: Candidate,
    fact: Told,
    listed: ListedRow,
    found: Belonging,
) -> Submission:
    """The fact, and beside its payment the one row of the page that it is from."""
    kept = replace(exchange, operation=PULLED, answer_body=listed.body, classified_as=found.value)
    about = candidate.uncertain_refund if isinstance(fact, RefundReported) else None
    row = exchange_row(sealer, kept, candidate.payment_id)
    return Submission(fact, candidate.payment_id, refund_id=about, exchange=row)
