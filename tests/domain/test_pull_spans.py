"""Which spans of the books are read, looked at again, or known as not read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.domain.pull_spans import (
    KEPT,
    LOOKS,
    OVERLAP,
    SLICE_MAX,
    TRY_AGAIN_AFTER,
    Reading,
    Slice,
    Span,
    next_slice,
    with_span,
)

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
INTERVAL = timedelta(minutes=10)
LONG_AGO = NOW - timedelta(days=30)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def read(start: datetime, end: datetime, at: datetime | None = None, reading: Reading = Reading.READ) -> Span:
    return Span(start, end, at or end, reading)


def following(spans: Sequence[Span], now: datetime = NOW, longest: timedelta = SLICE_MAX) -> Slice | None:
    return next_slice(spans, now, since=LONG_AGO, interval=INTERVAL, longest=longest)


def test_the_newest_hour_is_read_first_and_then_what_lies_behind_it() -> None:
    assert following([]) == Slice(NOW - hours(1), NOW)
    assert following([read(NOW - hours(1), NOW)]) == Slice(NOW - hours(2), NOW - hours(1))


def test_after_an_outage_the_present_goes_first() -> None:
    old = read(NOW - hours(5), NOW - hours(4), at=NOW - timedelta(seconds=1))
    assert following([old]) == Slice(NOW - hours(1), NOW)
    assert following([old, read(NOW - hours(1), NOW)]) == Slice(NOW - hours(2), NOW - hours(1))


def test_nothing_is_due_until_the_interval_has_passed_and_then_some_is_read_twice() -> None:
    spans = [read(NOW - KEPT, NOW, at=NOW)]
    assert following(spans, NOW + INTERVAL - timedelta(seconds=1)) is None
    assert following(spans, NOW + INTERVAL) == Slice(NOW - OVERLAP, NOW + INTERVAL)


def test_nothing_from_before_the_first_payment_is_asked_for() -> None:
    found = next_slice([], NOW, since=NOW - timedelta(minutes=5), interval=INTERVAL, longest=SLICE_MAX)
    assert found == Slice(NOW - timedelta(minutes=5), NOW)


@pytest.mark.parametrize("age", LOOKS)
def test_what_was_read_is_looked_at_again_as_it_grows_old(age: timedelta) -> None:
    end = NOW - age
    others = [read(NOW - KEPT, end - hours(0.5), at=NOW), read(end, NOW, at=NOW)]
    lately = read(end - hours(0.5), end, at=NOW - timedelta(seconds=1))
    assert following([*others, lately]) == Slice(end - hours(0.5), end)
    assert following([*others, read(end - hours(0.5), end, at=NOW)]) is None


def test_a_slice_that_could_not_be_read_is_tried_again_and_holds_up_no_other() -> None:
    rest = read(NOW - KEPT, NOW - hours(1), at=NOW)
    failed = read(NOW - hours(1), NOW, at=NOW, reading=Reading.PAGE_REPEATED)
    assert following([rest, failed]) is None
    later = NOW + TRY_AGAIN_AFTER
    assert following([rest, failed], later) == Slice(later - hours(1), later)


def test_what_could_not_be_read_takes_nothing_from_what_was() -> None:
    known = [read(NOW - hours(2), NOW - hours(1), at=NOW - timedelta(minutes=30))]
    failed = read(NOW - hours(2), NOW - hours(1), at=NOW, reading=Reading.ROWS_MISSING)
    both = with_span(known, failed)
    assert sorted(both, key=lambda span: span.reading) == [*known, failed]
    again = read(NOW - hours(2), NOW - hours(1), at=NOW)
    assert with_span(both, again) == [again]


def test_spans_that_touch_become_one_of_an_hour_at_most() -> None:
    spans: list[Span] = []
    for minute in range(0, 180, 10):
        start = NOW + timedelta(minutes=minute)
        spans = with_span(spans, read(start, start + timedelta(minutes=10)))
    assert [(span.start, span.end) for span in spans] == [
        (NOW + hours(hour), NOW + hours(hour + 1)) for hour in range(3)
    ]
    assert [span.read_at for span in spans] == [NOW + hours(hour) + timedelta(minutes=10) for hour in range(3)]


MINUTES = st.integers(0, 240)
READINGS = st.lists(
    st.tuples(MINUTES, MINUTES, st.sampled_from([Reading.READ, Reading.ENDLESS])).filter(lambda one: one[0] < one[1]),
    max_size=12,
)


@given(READINGS)
def test_what_is_known_is_what_was_read_last_minute_by_minute(readings: list[tuple[int, int, Reading]]) -> None:
    spans: list[Span] = []
    last_read: dict[int, int] = {}
    for number, (start, end, reading) in enumerate(readings):
        at = NOW + hours(4) + timedelta(minutes=number)
        spans = with_span(spans, Span(NOW + timedelta(minutes=start), NOW + timedelta(minutes=end), at, reading))
        if reading is Reading.READ:
            last_read |= dict.fromkeys(range(start, end), number)
    counted = [span for span in spans if span.reading is Reading.READ]
    for minute in range(240):
        moment = NOW + timedelta(minutes=minute)
        found = [span for span in counted if span.start <= moment < span.end]
        assert len(found) == (minute in last_read), "each minute is in one span, or in none"
        # A merged span is as old as its oldest part: it never claims more than was read.
        assert not found or found[0].read_at <= NOW + hours(4) + timedelta(minutes=last_read[minute])


@pytest.mark.usefixtures("untraced")
def test_day_after_day_every_moment_is_read_soon_and_the_present_never_waits() -> None:
    """A provider that is always quiet, asked whenever something is due, over three days of the clock."""
    spans: list[Span] = []
    now, asked, oldest = NOW, 0, timedelta(0)
    while now < NOW + hours(72):
        due = next_slice(spans, now, since=NOW, interval=INTERVAL, longest=SLICE_MAX)
        if due is not None:
            spans, asked = with_span(spans, Span(*due, read_at=now)), asked + 1
        elif spans:
            oldest = max(oldest, now - max(span.end for span in spans))
        now += timedelta(seconds=30)
    assert oldest <= INTERVAL
    assert asked < 72 * 6 + 5 * 72, "some five looks for each hour, beside the newest rows"
    assert len([span for span in spans if span.end > now - KEPT]) < 150
    for span in spans:
        looks = [age for age in LOOKS if span.end + age < now - hours(1) and span.end > now - KEPT]
        assert all(span.read_at >= span.end + age for age in looks)
