"""How far each shortcode's books have been read, whose turn it is, and what stored payments a row may be about.

SQL only; `application.pull_transactions` decides. The turn is a row's column, not a lock: it is taken by
comparison, held over no connection, and progress is written only by whoever still has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import and_, delete, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.payment import State
from payment_service.domain.pull import Candidate, Holder, Lookalike
from payment_service.domain.pull_spans import LISTED_WITHIN, Reading, Span
from payment_service.security.sealing import PHONE_NUMBER, Sealer
from payment_service.store.provider_tables import pull_spans, pulls
from payment_service.store.tables import cases, payments, receipts

SPANS_KEPT = timedelta(days=7)
"""Longer than any payment is watched, so that the end of its watch can still be judged by them."""

LOOKALIKES_MAX = 500
"""Unsettled payments that are compared with rows without a reference: those of two days in which little was settled."""

# A shortcode that was never pulled has no row yet, and is due.
_NEXT = text("""
SELECT listed.shortcode FROM unnest(CAST(:shortcodes AS text[])) AS listed (shortcode)
LEFT JOIN daraja_pulls p ON p.shortcode = listed.shortcode
WHERE p.shortcode IS NULL
    OR (p.next_pull_at <= :now AND (p.lease_expires_at IS NULL OR p.lease_expires_at <= :now))
ORDER BY p.next_pull_at NULLS FIRST LIMIT 1""")


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
    window_start: datetime | None = None
    """Of the window that is being read; None between two."""
    window_end: datetime | None = None
    page_offset: int = 0
    """Rows of that window that have been read."""
    pulled_upto: datetime | None = None
    """End of the last window that was read to its end."""
    swept_at: datetime | None = None
    """When all that the provider keeps was last read to its end."""
    failures: int = 0
    """In a row."""


_PROGRESS = ("registered_at", "window_start", "window_end", "page_offset", "pulled_upto", "swept_at", "failures")
# In the order of `_candidate`; first in every statement that selects them.
_CANDIDATE = (
    payments.c.payment_id,
    payments.c.reference,
    payments.c.account_reference,
    payments.c.shortcode,
    payments.c.amount,
    payments.c.sent_at,
    payments.c.created_at,
)


async def next_shortcode(conn: AsyncConnection, shortcodes: Sequence[str], now: datetime) -> str | None:
    """One of the shortcodes whose books are due and that nobody is reading."""
    shortcode: str | None = await conn.scalar(_NEXT, {"shortcodes": list(shortcodes), "now": now})
    return shortcode


async def take_turn(
    conn: AsyncConnection, shortcode: str, *, lease_id: UUID, now: datetime, until: datetime
) -> Progress | None:
    """Take the turn at a shortcode until then; None if another process was faster."""
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
        .returning(*(columns[name] for name in _PROGRESS))
    )
    row = (await conn.execute(statement)).one_or_none()
    return Progress(*row) if row is not None else None


async def end_turn(
    conn: AsyncConnection, shortcode: str, *, lease_id: UUID, progress: Progress, next_pull_at: datetime
) -> bool:
    """Store how far it went and give the turn back; False, and nothing stored, if the turn is no longer ours."""
    columns = pulls.c
    values = {name: getattr(progress, name) for name in _PROGRESS}
    result = await conn.execute(
        update(pulls)
        .where(columns.shortcode == shortcode, columns.lease_id == lease_id)
        .values(**values, next_pull_at=next_pull_at, lease_id=None, lease_expires_at=None)
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


async def candidates_named(
    conn: AsyncConnection, account_references: Sequence[str], since: datetime
) -> Mapping[str, list[Candidate]]:
    """The payments made since then whose prompts carried these account references."""
    statement = select(*_CANDIDATE).where(
        payments.c.account_reference.in_(account_references), payments.c.created_at > since
    )
    named: dict[str, list[Candidate]] = {}
    for row in await conn.execute(statement):
        named.setdefault(row.account_reference, []).append(_candidate(*row[: len(_CANDIDATE)]))
    return named


async def holders_of(conn: AsyncConnection, numbers: Sequence[str]) -> Mapping[str, Holder]:
    """Those of the receipt numbers that are recorded, and on which payments."""
    statement = (
        select(*_CANDIDATE, receipts.c.receipt, receipts.c.amount)
        .join(payments, payments.c.payment_id == receipts.c.payment_id)
        .where(receipts.c.receipt.in_(numbers))
    )
    return {
        receipt: Holder(_candidate(*candidate), None if amount is None else int(amount))
        for *candidate, receipt, amount in await conn.execute(statement)
    }


async def lookalikes(
    conn: AsyncConnection, sealer: Sealer, shortcode: str, amounts: Sequence[int], now: datetime
) -> list[Lookalike]:
    """The unsettled payments to a shortcode, of these amounts, whose time has passed; the latest ones."""
    statement = (
        select(*_CANDIDATE, payments.c.phone_number)
        .where(payments.c.shortcode == shortcode, payments.c.amount.in_(amounts), payments.c.expires_at <= now)
        .where(
            or_(
                and_(payments.c.state == State.EXPIRED.value, ~payments.c.outcome_certain),
                and_(payments.c.state == State.COMPLETED.value, payments.c.mpesa_receipt_number.is_(None)),
            )
        )
        # Those that still have a timer, so that the index of timers finds them.
        .where(payments.c.due_at.is_not(None), payments.c.sent_at.is_not(None))
        .order_by(payments.c.sent_at.desc())
        .limit(LOOKALIKES_MAX)
    )
    return [
        Lookalike(
            _candidate(*row[: len(_CANDIDATE)]),
            sealer.open(PHONE_NUMBER, row.payment_id.bytes, row.phone_number).decode(),
        )
        for row in await conn.execute(statement)
    ]


async def told_before(
    conn: AsyncConnection, references: Sequence[str], fact_ids: Sequence[str]
) -> set[tuple[str, str]]:
    """(reference, fact id) of those that have led to a case already."""
    statement = select(cases.c.reference, cases.c.fact_id).where(
        cases.c.reference.in_(references), cases.c.fact_id.in_(fact_ids)
    )
    return {(row.reference, row.fact_id) for row in await conn.execute(statement)}


def _candidate(
    payment_id: UUID,
    reference: str,
    account_reference: str,
    shortcode: str,
    amount: Decimal,
    sent_at: datetime | None,
    created_at: datetime,
) -> Candidate:
    return Candidate(payment_id, reference, account_reference, shortcode, int(amount), sent_at or created_at)
