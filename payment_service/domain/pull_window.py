"""Reading one slice of the provider's books page by page: when it has ended, and when it is too much for one. Pure.

How many rows a page may have is not known, and most answers do not say how many there are. So an empty page is the end;
the same page again is one only if all rows that were told have come.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from payment_service.domain.pull_spans import SLICE_MAX, SLICE_MIN, Reading, Slice, Span

SLICE_ROWS_MAX = 5_000
"""Rows of one slice, so that no offset grows large. At 100,000 rows a day an hour has some 4,000."""
SLICE_TIME_MAX = timedelta(minutes=2)
"""How long one slice may take: the newest rows wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Window:
    """The slice of the books that is being read."""

    slice: Slice
    began_at: datetime
    """When its first page was asked for."""
    offset: int = 0
    """Rows of it that have been read."""
    page_digest: str | None = None
    """Of the page before: the same again means that the server does not read the offset."""
    rows_told: int | None = None
    """How many rows the provider says that it has."""
    flaw: Reading | None = None
    """What a page of it was found to lack, so that it does not count as read."""

    @property
    def length(self) -> timedelta:
        return self.slice.end - self.slice.start

    def span(self) -> Span:
        """What is known of the slice, when its last page has come."""
        return Span(*self.slice, read_at=self.began_at, reading=self.flaw or Reading.READ)


class Then(Enum):
    """What follows a page."""

    NEXT_PAGE = auto()
    SHORTER_SLICE = auto()
    END = auto()


def after_page(
    before: Window, *, rows: int, digest: str | None, rows_told: int | None, flaw: Reading | None
) -> tuple[Window, Then]:
    """The window after one more page, whose rows are recorded."""
    window = replace(
        before,
        offset=before.offset + rows,
        page_digest=digest,
        rows_told=max(before.rows_told or 0, rows_told or 0) or None,
        flaw=before.flaw or flaw,
    )
    told = window.rows_told or 0
    if rows and digest == before.page_digest:
        return _lacking(window, None if 0 < told <= before.offset else Reading.PAGE_REPEATED), Then.END
    if not rows:
        return _lacking(window, Reading.ROWS_MISSING if window.offset < told else None), Then.END
    if max(window.offset, told) >= SLICE_ROWS_MAX and window.length > SLICE_MIN:
        return window, Then.SHORTER_SLICE
    if window.offset >= SLICE_ROWS_MAX:
        return _lacking(window, Reading.ENDLESS), Then.END
    return window, Then.NEXT_PAGE


def takes_too_long(window: Window, now: datetime) -> bool:
    """Whether a shorter slice has to be read instead, so that the newest rows need not wait."""
    return now >= window.began_at + SLICE_TIME_MAX and window.length > SLICE_MIN


def shorter(window: Window) -> timedelta:
    """The length of the next slices, when one was too much."""
    return max(SLICE_MIN, timedelta(seconds=window.length.total_seconds() // 2))


def length_after(window: Window, length: timedelta) -> timedelta:
    """The length of the next slices after one that was read: longer again, if it was easy."""
    easy = window.offset < SLICE_ROWS_MAX // 4 and window.length >= length
    return min(SLICE_MAX, 2 * length) if easy else length


def _lacking(window: Window, flaw: Reading | None) -> Window:
    return replace(window, flaw=window.flaw or flaw)
