"""Which spans of the provider's books have been read, and which is to be read next. Pure: no clock, no I/O.

The books reach 48 hours back and never stand still: a row may appear late. So every moment is read soon after it has
passed, and looked at again at growing ages (`LOOKS`) for rows that came late. What has been read is kept as spans of
time, not as a place in a list: a span counts when its last page has come and nothing contradicts it, and what could not
be read to its end is known as not read.

The newest span that is due always goes first. So the present is reached at once after an outage, however much lies
behind, and what is old is caught up with in between.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

KEPT = timedelta(hours=48) - timedelta(minutes=5)
"""How far back is asked: the provider keeps 48 hours, and nothing shall be cut off while it is read."""

SLICE_MAX = timedelta(hours=1)
"""The longest span that is asked for at once."""
SLICE_MIN = timedelta(minutes=1)
"""The shortest: busier than this no shortcode is."""

LOOKS = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24), timedelta(hours=46))
"""The ages at which a span is read again, for rows that appeared late."""

LISTED_WITHIN = LOOKS[0]
"""From the movement of money until its row is there, at the latest. No figure is published; rows are there in seconds
on a good day. A span that was read earlier than this proves nothing about what is missing in it."""

OVERLAP = timedelta(minutes=10)
"""By which the newest span reaches back into the one before. Most late rows are found by it."""

TRY_AGAIN_AFTER = timedelta(minutes=10)
"""From a reading that came to no end to the next one of the same span."""


class Reading(StrEnum):
    """How the reading of a span ended."""

    READ = "READ"
    """To its end: every row that the books had by then."""
    CONTRADICTED = "CONTRADICTED"
    """The books say that there is nothing, over a span for which we hold receipts."""
    PAGE_REPEATED = "PAGE_REPEATED"
    """Another offset brought the same page: the server does not read it."""
    ROWS_MISSING = "ROWS_MISSING"
    """The books say that they have more rows than they gave."""
    ENDLESS = "ENDLESS"
    """Not even the shortest span came to an end."""
    ROWS_UNREADABLE = "ROWS_UNREADABLE"
    """A row without a receipt number that can be read. It may be anybody's."""
    NOT_RECORDED = "NOT_RECORDED"
    """A row could not be recorded, by a fault of ours."""


class Slice(NamedTuple):
    """A span of time, both ends included."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """A span of the books that was read, or that could not be."""

    start: datetime
    end: datetime
    read_at: datetime
    """When its first page was asked for: rows that appeared later may be missing."""
    reading: Reading = Reading.READ


def with_span(spans: Iterable[Span], new: Span) -> list[Span]:
    """What is known after one more reading. A span that was read replaces what is known of the same time; one that
    could not be read takes nothing from what earlier readings proved."""
    kept = [new]
    for span in spans:
        if new.reading is Reading.READ or span.reading is not Reading.READ:
            kept.extend(_outside(span, new))
        else:
            kept.append(span)
    return _merged(kept)


def next_slice(
    spans: Sequence[Span], now: datetime, *, since: datetime, interval: timedelta, longest: timedelta
) -> Slice | None:
    """The next slice to read: the end of the newest stretch that is due. None while nothing is.

    `since` is the earliest moment that matters, `interval` the time between two readings of the newest rows.
    """
    now, horizon = now.replace(microsecond=0), max(since, now - KEPT).replace(microsecond=0)
    if horizon >= now:
        return None
    read = [Slice(span.start, span.end) for span in spans if span.reading is Reading.READ]
    due = _without([Slice(horizon, now)], read)
    due += [Slice(max(horizon, span.start), span.end) for span in spans if _look_due(span, now) and span.end > horizon]
    tried = [
        Slice(span.start, span.end)
        for span in spans
        if span.reading is not Reading.READ and span.read_at > now - TRY_AGAIN_AFTER
    ]
    stretches = _without(_joined(due), tried)
    tried_last = tried_until(spans)
    if stretches and stretches[-1].end == now and tried_last is not None and tried_last > now - interval:
        stretches.pop()
    if not stretches:
        return None
    start, end = stretches[-1]
    if end == now:
        start = max(horizon, start - OVERLAP)
    return Slice(max(start, end - longest), end)


def tried_until(spans: Iterable[Span]) -> datetime | None:
    """The latest moment that was asked about, whether it could be read or not; None if none was."""
    return max((span.end for span in spans), default=None)


def _look_due(span: Span, now: datetime) -> bool:
    return span.reading is Reading.READ and any(span.read_at < span.end + age <= now for age in LOOKS)


def _looks(span: Span) -> int:
    return sum(span.read_at >= span.end + age for age in LOOKS)


def _outside(span: Span, cut: Span) -> list[Span]:
    """What is left of a span without the time of another."""
    if span.end <= cut.start or cut.end <= span.start:
        return [span]
    left = [replace(span, end=cut.start)] if span.start < cut.start else []
    return left + ([replace(span, start=cut.end)] if cut.end < span.end else [])


def _merged(spans: Iterable[Span]) -> list[Span]:
    """In order of time; spans that touch and that are to be looked at again together are one."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.reading, one.start)):
        before = merged[-1] if merged else None
        if before is not None and before.end == span.start and span.end - before.start <= SLICE_MAX:
            whole = replace(before, end=span.end, read_at=min(before.read_at, span.read_at))
            if before.reading is span.reading is Reading.READ and _looks(before) == _looks(span) == _looks(whole):
                merged[-1] = whole
                continue
        merged.append(span)
    return sorted(merged, key=lambda one: (one.start, one.reading))


def _joined(slices: Iterable[Slice]) -> list[Slice]:
    joined: list[Slice] = []
    for one in sorted(slices):
        if joined and one.start <= joined[-1].end:
            joined[-1] = Slice(joined[-1].start, max(joined[-1].end, one.end))
        else:
            joined.append(one)
    return joined


def _without(slices: Iterable[Slice], taken: Iterable[Slice]) -> list[Slice]:
    """What is left of the slices outside of those taken, in order of time."""
    left = list(slices)
    for start, end in taken:
        left = [
            part
            for one in left
            for part in (Slice(one.start, min(one.end, start)), Slice(max(one.start, end), one.end))
            if part.start < part.end
        ]
    return left
