"""How far each shortcode's books have been read, who reads them now, and which spans have been read.

SQL only; `application.pull_transactions` decides. The lease is a row's column, not a lock: it is taken by comparison,
held over no connection, and progress is written only by whoever still has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.pull_spans import LISTED_WITHIN, SLICE_MAX, Reading, Slice, Span
from payment_service.domain.pull_window import Window
from payment_service.store.provider_tables import pull_spans, pulls
from payment_service.store.tables import payments
from payment_service.store.time_ordered_ids import MADE_WITHIN, first_id_at

SPANS_KEPT = timedelta(days=7)
"""Longer than any payment is watched, so that the end of its watch can still be judged by them."""

# A shortcode that was never pulled has no row yet, and is due.
BOOKS_DUE = text("""
SELECT listed.shortcode FROM unnest(CAST(:shortcodes AS text[])) AS listed (shortcode)
LEFT JOIN daraja_pulls p ON p.shortcode = listed.shortcode
WHERE p.shortcode IS NULL
    OR (p.next_pull_at <= :now AND (p.lease_expires_at IS NULL OR p.lease_expires_at <= :now))
ORDER BY p.next_pull_at NULLS FIRST LIMIT 1""").columns(pulls.c.shortcode)

# What a reading says of its last `listed_within` proves nothing: rows of that time may have appeared since.
_COVER = text("""
SELECT COALESCE(
    (SELECT range_agg(tstzrange(start_at, LEAST(end_at, read_at - CAST(:listed_within AS interval)), '[]'))
        FROM daraja_pull_spans
        WHERE shortcode = :shortcode AND reading = :read AND start_at <= :end AND end_at >= :start
            AND start_at <= read_at - CAST(:listed_within AS interval))
    @> tstzrange(:start, :end, '[]'), false)
FROM daraja_pulls WHERE shortcode = :shortcode AND proved_at IS NOT NULL""")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shortcode's books have been read."""

    registered_at: datetime | None = None
    proved_at: datetime | None = None
    """When it first answered with code 1000, or with rows. Until then nothing shows that Pull works for it at all."""
    window: Window | None = None
    """None between two."""
    slice_length: timedelta = SLICE_MAX
    """As much time as was read without trouble lately."""
    failures: int = 0
    """In a row."""


async def next_shortcode(conn: AsyncConnection, shortcodes: Sequence[str], now: datetime) -> str | None:
    """One of the shortcodes whose books are due and that nobody is reading."""
    shortcode: str | None = await conn.scalar(BOOKS_DUE, {"shortcodes": list(shortcodes), "now": now})
    return shortcode


async def take_lease(
    conn: AsyncConnection, shortcode: str, *, lease_id: UUID, now: datetime, until: datetime
) -> Progress | None:
    """Lease a shortcode's books until then; None if another process was faster."""
    columns, lease = pulls.c, {"lease_id": lease_id, "lease_expires_at": until}
    statement = (
        insert(pulls)
        .values(shortcode=shortcode, next_pull_at=now, **lease)
        .on_conflict_do_update(
            index_elements=[columns.shortcode],
            set_=lease,
            where=(columns.next_pull_at <= now)
            & or_(columns.lease_expires_at.is_(None), columns.lease_expires_at <= now),
        )
        .returning(
            columns.registered_at,
            columns.proved_at,
            columns.window_start,
            columns.window_end,
            columns.window_began_at,
            columns.page_offset,
            columns.page_digest,
            columns.rows_told,
            columns.window_flaw,
            columns.slice_seconds,
            columns.failures,
        )
    )
    row = (await conn.execute(statement)).one_or_none()
    return _progress(*row) if row is not None else None


async def end_lease(
    conn: AsyncConnection, shortcode: str, *, lease_id: UUID, progress: Progress, next_pull_at: datetime
) -> bool:
    """Store how far it went and end the lease; False, and nothing stored, if the lease is no longer ours."""
    columns, window = pulls.c, progress.window
    result = await conn.execute(
        update(pulls)
        .where(columns.shortcode == shortcode, columns.lease_id == lease_id)
        .values(
            registered_at=progress.registered_at,
            proved_at=progress.proved_at,
            window_start=window.slice.start if window else None,
            window_end=window.slice.end if window else None,
            window_began_at=window.began_at if window else None,
            page_offset=window.offset if window else 0,
            page_digest=window.page_digest if window else None,
            rows_told=window.rows_told if window else None,
            window_flaw=window.flaw if window else None,
            slice_seconds=int(progress.slice_length.total_seconds()),
            failures=progress.failures,
            next_pull_at=next_pull_at,
            lease_id=None,
            lease_expires_at=None,
        )
    )
    return result.rowcount == 1


async def spans_read(conn: AsyncConnection, shortcode: str) -> list[Span]:
    """What is known of a shortcode's books, in order of time."""
    columns = pull_spans.c
    statement = (
        select(columns.start_at, columns.end_at, columns.read_at, columns.reading)
        .where(columns.shortcode == shortcode)
        .order_by(columns.start_at)
    )
    return [Span(start, end, read, Reading(reading)) for start, end, read, reading in await conn.execute(statement)]


async def replace_spans(conn: AsyncConnection, shortcode: str, spans: Sequence[Span], now: datetime) -> None:
    """Store what is known of a shortcode's books. Only whoever has the lease may."""
    await conn.execute(delete(pull_spans).where(pull_spans.c.shortcode == shortcode))
    rows = [
        {"shortcode": shortcode, "start_at": span.start, "end_at": span.end, "read_at": span.read_at}
        | {"reading": span.reading.value}
        for span in spans
        if span.end > now - SPANS_KEPT
    ]
    if rows:
        await conn.execute(insert(pull_spans), rows)


async def books_cover(conn: AsyncConnection, shortcode: str, start: datetime, end: datetime) -> bool:
    """Whether the provider's books of a shortcode have provably been read from `start` to `end`.

    Provably: to the last page, without a contradiction, so long after the time in question that no row of it can still
    be on its way, and from a shortcode that has shown that Pull works for it. The rows of a till name no payment, so
    for a till even this does not prove that a payment was not paid.
    """
    found = await conn.scalar(
        _COVER,
        {
            "shortcode": shortcode,
            "read": Reading.READ.value,
            "start": start,
            "end": end,
            "listed_within": LISTED_WITHIN,
        },
    )
    return bool(found)


async def latest_read(conn: AsyncConnection, shortcodes: Sequence[str]) -> Mapping[str, datetime]:
    """Until when each shortcode's books have been read; those that never were are left out."""
    columns = pull_spans.c
    statement = (
        select(columns.shortcode, func.max(columns.end_at))
        .where(columns.shortcode.in_(shortcodes), columns.reading == Reading.READ.value)
        .group_by(columns.shortcode)
    )
    return {row[0]: row[1] for row in await conn.execute(statement)}


class NotRead(NamedTuple):
    """A span of a shortcode's books that could not be read, and why."""

    shortcode: str
    reading: Reading


async def not_read(conn: AsyncConnection, shortcodes: Sequence[str], since: datetime) -> list[NotRead]:
    """The spans that could not be read and have not been since, the latest first."""
    columns = pull_spans.c
    statement = (
        select(columns.shortcode, columns.reading)
        .where(columns.shortcode.in_(shortcodes), columns.reading != Reading.READ.value, columns.end_at > since)
        .order_by(columns.read_at.desc())
    )
    return [NotRead(shortcode, Reading(reading)) for shortcode, reading in await conn.execute(statement)]


async def first_payment_at(conn: AsyncConnection) -> datetime | None:
    """When the first payment was made: before it, no row can be about one of ours."""
    made: datetime | None = await conn.scalar(select(payments.c.created_at).order_by(payments.c.payment_id).limit(1))
    return made


async def holds_receipts(conn: AsyncConnection, shortcode: str, span: Slice) -> bool:
    """Whether a payment to a shortcode has a receipt of that time.

    Looks through the payments that were made then, an hour's or two, and stops at the first.
    """
    columns = payments.c
    statement = (
        select(columns.payment_id)
        .where(
            columns.payment_id >= first_id_at(span.start - SLICE_MAX),
            columns.payment_id < first_id_at(span.end + MADE_WITHIN),
            columns.shortcode == shortcode,
            columns.mpesa_receipt_number.is_not(None),
            columns.transaction_date > span.start,
            columns.transaction_date < span.end,
        )
        .limit(1)
    )
    return (await conn.execute(statement)).first() is not None


def _progress(
    registered_at: datetime | None,
    proved_at: datetime | None,
    window_start: datetime | None,
    window_end: datetime | None,
    window_began_at: datetime | None,
    page_offset: int,
    page_digest: str | None,
    rows_told: int | None,
    window_flaw: str | None,
    slice_seconds: int,
    failures: int,
) -> Progress:
    window = None
    # Readers of the release before note no beginning; what they were reading is read anew.
    if window_start is not None and window_end is not None and window_began_at is not None:
        flaw = Reading(window_flaw) if window_flaw is not None else None
        asked = Slice(window_start, window_end)
        window = Window(asked, window_began_at, page_offset, page_digest, rows_told, flaw)
    return Progress(registered_at, proved_at, window, timedelta(seconds=slice_seconds), failures)
