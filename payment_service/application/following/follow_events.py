"""Following payments: history first, then live, without a gap between them.

A watch subscribes before it reads, so nothing can fall between the two; what
comes twice is recognised by its position. One that falls behind goes back to
the table, exactly as it began. When a watch ends by itself is decided here;
how its messages look on the wire, in `rpc`.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from payment_service.application.following.event_feed import (
    BookingTopic,
    Bookmark,
    CallerTopic,
    PaymentTopic,
    Subscription,
)
from payment_service.application.following.read_payments import (
    PaymentReads,
    check_bookmark,
    get_attempts,
    get_payment,
    reading,
)
from payment_service.application.following.stored_views import event_view, states_of
from payment_service.domain.errors import ShuttingDown
from payment_service.domain.payment import BookingAction, Status
from payment_service.domain.views import EventView, PaymentView
from payment_service.store import reads
from payment_service.store.reads import EventScope

EVENTS_A_MESSAGE = 100
"""Some 50 KiB: well below what a client takes in one message by default (4 MiB)."""
POSITION_MAX = 2**63 - 1
"""The last position there can be: a payment's history is read to its end, however far the feed is."""
EVENTS_A_WINDOW = 1_000
"""Events of the log looked through at a time; after each window the cursor moves, whatever was left out."""


class Start(StrEnum):
    """Where to start without a bookmark."""

    EARLIEST = "EARLIEST"
    LATEST = "LATEST"


class Until(StrEnum):
    """When the watch of one payment ends by itself."""

    ENDED = "ENDED"
    """After the first status outside PENDING and PROCESSING."""
    CERTAIN = "CERTAIN"
    """Once it is proven whether money moved."""
    STOPPED = "STOPPED"
    """Never: whoever watches stops it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One message of a watch: a snapshot, some events, or neither. Resume from `bookmark`."""

    events: Sequence[EventView]
    bookmark: Bookmark
    caught_up: bool = False
    snapshot: Sequence[PaymentView] | None = None


async def follow_payment(
    using: PaymentReads,
    caller: str | None,
    payment_id: UUID,
    after: Bookmark | None,
    until: Until,
    heartbeat: float,
) -> AsyncGenerator[Batch]:
    """One payment. `heartbeat` is the longest silence, in seconds."""
    with using.feed.subscribe(PaymentTopic(payment_id)) as subscription:
        payment, before_read = await get_payment(using, caller, payment_id)
        if after is None:
            yield Batch((), before_read, snapshot=[payment])
            if _over(payment, until):
                return
        else:
            await check_bookmark(using, after)
            subscription.fall_behind()
        scope = EventScope(caller, payment_id=payment_id)
        # What a watch that resumes after the end has to wait for: nothing.
        over_before = after is not None and _over(payment, until)
        async with aclosing(_follow(using, subscription, scope, after or before_read, heartbeat)) as batches:
            async for batch in batches:
                last = next((event for event in batch.events if _over(event.payment, until)), None)
                if last is not None:
                    events = [event for event in batch.events if event.position <= last.position]
                    yield Batch(events, _bookmark_of(last, batch.bookmark), caught_up=True)
                    return
                yield batch
                if over_before and not batch.events:
                    return


async def follow_booking(
    using: PaymentReads, caller: str | None, booking_id: str, after: Bookmark | None, heartbeat: float
) -> AsyncGenerator[Batch]:
    """All attempts of one booking, those to come included; never ends by itself."""
    with using.feed.subscribe(BookingTopic(caller, booking_id)) as subscription:
        if after is None:
            attempts, after = await get_attempts(using, caller, booking_id)
            yield Batch((), after, snapshot=attempts)
        else:
            await check_bookmark(using, after)
            subscription.fall_behind()
        scope = EventScope(caller, booking_id=booking_id)
        async with aclosing(_follow(using, subscription, scope, after, heartbeat)) as batches:
            async for batch in batches:
                yield batch


async def follow_all(
    using: PaymentReads, caller: str | None, start: Bookmark | Start, statuses: frozenset[Status], heartbeat: float
) -> AsyncGenerator[Batch]:
    """All payments of a caller, or of everybody; with statuses, only events after which a payment has one of them."""
    with using.feed.subscribe(CallerTopic(caller)) as subscription:
        now = using.feed.bookmark
        match start:
            case Bookmark():
                await check_bookmark(using, start)
                after = start
            case Start.EARLIEST:
                after = Bookmark(now.log_id, 0, b"")
            case Start.LATEST:
                after = now
            case _:
                assert_never(start)
        if after != now:
            subscription.fall_behind()
        else:
            # At once, so that the caller knows from where it watches.
            yield Batch((), now, caught_up=True)
        scope = EventScope(caller, states=states_of(statuses))
        async with aclosing(_follow(using, subscription, scope, after, heartbeat, statuses)) as batches:
            async for batch in batches:
                yield batch


async def _follow(
    using: PaymentReads,
    subscription: Subscription,
    scope: EventScope,
    after: Bookmark,
    heartbeat: float,
    statuses: frozenset[Status] = frozenset(),
) -> AsyncGenerator[Batch]:
    """Everything after a bookmark, for ever; ends with ShuttingDown when the process drains."""
    feed, now = using.feed, asyncio.get_running_loop().time
    last, word_due_at = after, now() + _pause(heartbeat)
    while True:
        if subscription.behind and not feed.draining.is_set():
            subscription.catch_up()
            target = last.after(feed.bookmark.position, feed.bookmark.tag)
            async with aclosing(_history(using, scope, last, target)) as batches:
                async for batch in batches:
                    last = batch.bookmark
                    yield batch
            if feed.draining.is_set():
                # Cut short: nothing live may be taken any more, for it would leave out what was not read.
                subscription.fall_behind()
            else:
                last, word_due_at = _further(last, target), now()
        new = [
            event
            for event in subscription.take()
            if event.position > last.position and (not statuses or event.payment.status in statuses)
        ]
        for start in range(0, len(new), EVENTS_A_MESSAGE):
            events = new[start : start + EVENTS_A_MESSAGE]
            last, word_due_at = _bookmark_of(events[-1], last), now() + _pause(heartbeat)
            nothing_more = start + EVENTS_A_MESSAGE >= len(new) and not subscription.pending
            yield Batch(events, last, caught_up=nothing_more)
        if subscription.pending and not (subscription.behind and feed.draining.is_set()):
            continue
        if not subscription.behind:
            # Everything has been taken, so whatever the feed has seen since was not for this watch.
            last = _further(last, feed.bookmark)
        if feed.draining.is_set():
            yield Batch((), last)
            raise ShuttingDown
        if now() >= word_due_at:
            word_due_at = now() + _pause(heartbeat)
            yield Batch((), last, caught_up=True)
        else:
            await subscription.wait(word_due_at - now())


async def _history(using: PaymentReads, scope: EventScope, after: Bookmark, target: Bookmark) -> AsyncGenerator[Batch]:
    """Events from the table: a caller's as far as the target, a payment's or booking's as far as there are any."""
    place, narrow = after, scope.payment_id is not None or scope.booking_id is not None
    while (narrow or place.position < target.position) and not using.feed.draining.is_set():
        most = EVENTS_A_MESSAGE if narrow else EVENTS_A_WINDOW
        async with reading(using) as connection:
            found = None
            if not narrow:
                found = await reads.place_further_on(connection, place.position, target.position, most)
            window_end = target if found is None else target.after(found.position, found.tag)
            upto = POSITION_MAX if narrow else window_end.position
            rows = await reads.events_between(connection, scope, place.position, upto, most)
        events = [event_view(row, using.sealer) for row in rows]
        for start in range(0, len(events), EVENTS_A_MESSAGE):
            some = events[start : start + EVENTS_A_MESSAGE]
            yield Batch(some, _bookmark_of(some[-1], target))
        if narrow:
            if len(events) < most:
                return
            place = _bookmark_of(events[-1], target)
        else:
            place = window_end
            if not events:
                yield Batch((), place)


def _over(payment: PaymentView, until: Until) -> bool:
    """Whether a watch of this payment has come to its end: the booking knows what to do, and so does the caller."""
    match until:
        case Until.ENDED:
            ended = payment.status not in (Status.PENDING, Status.PROCESSING)
        case Until.CERTAIN:
            ended = payment.outcome_certain
        case Until.STOPPED:
            ended = False
        case _:
            assert_never(until)
    return ended and payment.booking_action is not BookingAction.WAIT


def _bookmark_of(event: EventView, same_reader: Bookmark) -> Bookmark:
    return same_reader.after(event.position, event.tag)


def _further(one: Bookmark, other: Bookmark) -> Bookmark:
    """The further of two places, as one of the first one's reader."""
    return one.after(other.position, other.tag) if other.position > one.position else one


def _pause(heartbeat: float) -> float:
    """Not all at the same moment: ten thousand watches that began together would also beat together."""
    return heartbeat * random.uniform(0.8, 1)
