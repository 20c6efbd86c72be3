"""What the books provably cover, and what proves nothing."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from payment_service.domain.pull_spans import LISTED_WITHIN, Reading, Span
from payment_service.store.engines import read_engine
from payment_service.store.pull_progress import SPANS_KEPT, books_cover, replace_spans, spans_read
from tests.databases import Database

START = datetime(2026, 11, 28, 8, 0, tzinfo=UTC)
END = START + timedelta(hours=2)
MIDDLE = START + timedelta(hours=1)
PROVED = END + LISTED_WITHIN
SHORTCODE = "174379"


async def covered(database: Database, *spans: Span, proved: bool = True, shortcode: str = SHORTCODE) -> bool:
    with psycopg.connect(database.owner_url) as owner:
        owner.execute(
            "INSERT INTO daraja_pulls (shortcode, next_pull_at, proved_at) VALUES (%s, %s, %s)",
            (SHORTCODE, START, START if proved else None),
        )
    engine = read_engine(database.application_url)
    async with engine.begin() as conn:
        await replace_spans(conn, SHORTCODE, spans, END)
        found = await books_cover(conn, shortcode, START, END)
    await engine.dispose()
    return found


async def test_a_span_that_was_read_long_enough_afterwards_is_covered(database: Database) -> None:
    assert await covered(database, Span(START, END, PROVED))


async def test_spans_that_touch_cover_together(database: Database) -> None:
    assert await covered(database, Span(START, MIDDLE, PROVED), Span(MIDDLE, END + timedelta(hours=1), PROVED))


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [Span(START, END, PROVED - timedelta(seconds=1))],
        [Span(START, END, END)],
        [Span(START, MIDDLE, PROVED)],
        [Span(START, MIDDLE, PROVED), Span(MIDDLE + timedelta(seconds=1), END, PROVED)],
        [Span(START, MIDDLE, PROVED), Span(MIDDLE, END, PROVED, Reading.PAGE_REPEATED)],
        [Span(START, MIDDLE, PROVED), Span(MIDDLE, END, PROVED, Reading.CONTRADICTED)],
        [Span(START, MIDDLE, START), Span(MIDDLE, END, PROVED)],
    ],
    ids=[
        "nothing read",
        "read a second too early",
        "read at once",
        "half of it",
        "all but a second",
        "a page that repeats",
        "a contradiction",
        "before its own time",
    ],
)
async def test_everything_else_proves_nothing(database: Database, spans: list[Span]) -> None:
    assert not await covered(database, *spans)


async def test_a_shortcode_that_has_never_shown_that_pull_works_proves_nothing(database: Database) -> None:
    assert not await covered(database, Span(START, END, PROVED), proved=False)


async def test_another_shortcodes_books_prove_nothing(database: Database) -> None:
    assert not await covered(database, Span(START, END, PROVED), shortcode="600998")


async def test_spans_are_kept_for_days_and_then_go(database: Database) -> None:
    engine = read_engine(database.application_url)
    kept = Span(START, END, PROVED)
    async with engine.begin() as conn:
        await replace_spans(conn, SHORTCODE, [kept], END + SPANS_KEPT - timedelta(seconds=1))
        assert await spans_read(conn, SHORTCODE) == [kept]
        await replace_spans(conn, SHORTCODE, [kept], END + SPANS_KEPT)
        assert await spans_read(conn, SHORTCODE) == []
    await engine.dispose()
