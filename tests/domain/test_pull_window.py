"""Reading the books page by page: what ends a slice, what makes it too much, and how far that gets in a day."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from payment_service.domain.pull_spans import KEPT, SLICE_MAX, SLICE_MIN, Reading, Slice, Span, next_slice, with_span
from payment_service.domain.pull_window import (
    SLICE_ROWS_MAX,
    SLICE_TIME_MAX,
    Then,
    Window,
    after_page,
    length_after,
    shorter,
    takes_too_long,
)

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR = Window(Slice(NOW - SLICE_MAX, NOW), began_at=NOW)
MINUTE = Window(Slice(NOW - SLICE_MIN, NOW), began_at=NOW)
READ_SO_FAR = replace(HOUR, offset=200, page_digest="a")


def after(window: Window, rows: int, digest: str | None, told: int | None = None) -> tuple[Reading, Then]:
    then_window, then = after_page(window, rows=rows, digest=digest, rows_told=told, flaw=None)
    return then_window.span().reading, then


@pytest.mark.parametrize(
    ("rows", "digest", "told", "ends"),
    [
        (100, "b", None, (Reading.READ, Then.NEXT_PAGE)),
        (0, None, None, (Reading.READ, Then.END)),
        (0, None, 200, (Reading.READ, Then.END)),
        (0, None, 201, (Reading.ROWS_MISSING, Then.END)),
        (100, "a", None, (Reading.PAGE_REPEATED, Then.END)),
        (100, "a", 250, (Reading.PAGE_REPEATED, Then.END)),
        (100, "a", 200, (Reading.READ, Then.END)),
        (100, "b", SLICE_ROWS_MAX, (Reading.READ, Then.SHORTER_SLICE)),
    ],
)
def test_a_slice_ends_behind_its_last_page_and_counts_if_nothing_is_missing(
    rows: int, digest: str | None, told: int | None, ends: tuple[Reading, Then]
) -> None:
    assert after(READ_SO_FAR, rows, digest, told) == ends


def test_what_a_page_said_once_holds_for_the_slice() -> None:
    told, _ = after_page(READ_SO_FAR, rows=10, digest="b", rows_told=500, flaw=Reading.NOT_RECORDED)
    assert after(told, 0, None) == (Reading.NOT_RECORDED, Then.END)
    assert after(replace(told, flaw=None), 0, None) == (Reading.ROWS_MISSING, Then.END)


def test_a_slice_with_too_many_rows_is_made_shorter_down_to_a_minute() -> None:
    full = replace(HOUR, offset=SLICE_ROWS_MAX - 1)
    assert after(full, 1, "b") == (Reading.READ, Then.SHORTER_SLICE)
    assert shorter(HOUR) == SLICE_MAX / 2
    assert shorter(MINUTE) == SLICE_MIN
    assert after(replace(MINUTE, offset=SLICE_ROWS_MAX - 1), 1, "b") == (Reading.ENDLESS, Then.END)


def test_a_slice_that_takes_too_long_is_made_shorter_and_an_easy_one_longer() -> None:
    assert not takes_too_long(HOUR, NOW + SLICE_TIME_MAX - timedelta(seconds=1))
    assert takes_too_long(HOUR, NOW + SLICE_TIME_MAX)
    assert not takes_too_long(MINUTE, NOW + SLICE_TIME_MAX)
    assert length_after(HOUR, SLICE_MAX / 2) == SLICE_MAX
    assert length_after(HOUR, SLICE_MAX) == SLICE_MAX
    assert length_after(MINUTE, SLICE_MAX / 2) == SLICE_MAX / 2, "a short one says nothing of long ones"


INTERVAL = timedelta(minutes=10)


@dataclass
class Shop:
    """A shortcode with so many rows a day, in pages of a hundred, and a reader whose every page takes as long."""

    rows_a_day: int
    page: timedelta
    totals: bool
    spans: list[Span] = field(default_factory=list)
    length: timedelta = SLICE_MAX
    window: Window | None = None

    def step(self, now: datetime) -> timedelta:
        """One page, as `pull_transactions` reads it; how long until the next step."""
        if self.window is not None and takes_too_long(self.window, now):
            self.length, self.window = shorter(self.window), None
        if self.window is None:
            due = next_slice(self.spans, now, since=NOW - KEPT, interval=INTERVAL, longest=self.length)
            if due is None:
                return timedelta(seconds=10)
            self.window = Window(due, began_at=now)
        total = int(self.window.length / timedelta(days=1) * self.rows_a_day)
        rows = min(100, total - self.window.offset)
        digest, told = (str(self.window.offset) if rows else None), (total if self.totals else None)
        self.window, then = after_page(self.window, rows=rows, digest=digest, rows_told=told, flaw=None)
        if then is Then.SHORTER_SLICE:
            self.length, self.window = shorter(self.window), None
        elif then is Then.END:
            self.length = length_after(self.window, self.length)
            self.spans, self.window = with_span(self.spans, self.window.span()), None
        return self.page


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("rows_a_day", "page_seconds", "totals"),
    [(10_000, 2, False), (100_000, 2, False), (100_000, 2, True), (100_000, 4, False)],
)
def test_at_a_hundred_thousand_rows_a_day_what_is_read_is_never_older_than_a_quarter_of_an_hour(
    rows_a_day: int, page_seconds: int, totals: bool
) -> None:
    """From the first start, with 48 hours of rows behind it, over twelve hours of the clock."""
    shop = Shop(rows_a_day, timedelta(seconds=page_seconds), totals)
    now, oldest = NOW, timedelta(0)
    while now < NOW + timedelta(hours=12):
        now += shop.step(now)
        read_until = max((span.end for span in shop.spans), default=NOW)
        oldest = max(oldest, now - read_until)
    assert oldest <= timedelta(minutes=15)
    unread = [gap for gap in gaps(shop.spans, now - KEPT) if gap > timedelta(0)]
    assert unread == [], "and everything behind it has been read too"
    assert all(span.end - span.start <= SLICE_MAX for span in shop.spans)


def gaps(spans: list[Span], start: datetime) -> list[timedelta]:
    found = []
    for span in spans:
        found.append(span.start - start)
        start = max(start, span.end)
    return found
