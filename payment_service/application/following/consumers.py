"""Named consumers of the log: how far each has come, and where it goes on.

A consumer says what it has dealt with, in its own time: delivery does not wait for that. So what is known here of its
place may be behind, and is never ahead: what is offered from there was seen before at worst.

An operator can move a consumer back. Whoever keeps a cursor of its own learns of it from its next acknowledgement: the
cursor in it is from before, so it is refused, and the answer holds the cursor to go on from. A stream that was started
by the consumer's name ends in the same way. The count of rewinds travels in the cursors themselves, so nobody has to
keep anything else: see ADR 0043.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.application.following.event_feed import Bookmark
from payment_service.application.following.follow_events import Batch, follow_all
from payment_service.application.following.read_payments import PaymentReads, check_bookmark, reading
from payment_service.domain.errors import ConsumerNotFound, InvalidRequest, PaymentsError, Violation
from payment_service.domain.payment import Status
from payment_service.store import consumers as store
from payment_service.store.consumers import CONSUMERS_MAX, Consumer, Lag
from payment_service.store.reads import Place

_log = structlog.get_logger(__name__)


class ConsumerRewound(PaymentsError):
    """An operator has had events offered to this consumer again: go on from the cursor in this answer."""

    def __init__(self, bookmark: Bookmark) -> None:
        super().__init__()
        self.bookmark = bookmark


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A consumer, where it stands, and what it has not acknowledged."""

    consumer: Consumer
    bookmark: Bookmark
    lag: Lag


@dataclass(frozen=True, slots=True)
class Rewinding:
    """Which consumer is offered events again, from when on, by whom and why."""

    caller: str
    consumer: str
    since: datetime
    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Which consumer is no more, who says so and why."""

    caller: str
    consumer: str
    operator: str
    reason: str


async def acknowledge_events(
    using: PaymentReads, caller: str, sees: str | None, consumer: str, upto: Bookmark, now: datetime
) -> ConsumerState:
    """Note that a consumer has dealt with everything up to a bookmark. An older one than the last changes nothing."""
    await check_bookmark(using, upto)
    async with reading(using) as conn:
        place = Place(upto.position, upto.tag)
        moved = await store.acknowledge(
            conn, caller, consumer, place, follows_all=sees is None, rewinds=upto.rewinds, now=now
        )
        found = await store.consumer_named(conn, caller, consumer)
        if found is None:
            expected = f"expected one of your {CONSUMERS_MAX} consumers: a program keeps its name when it starts again"
            raise InvalidRequest([Violation("consumer", expected)])
        if not moved and found.rewinds > upto.rewinds:
            raise ConsumerRewound(_place_of(using, found))
        return await _state(using, conn, found)


async def follow_consumer(
    using: PaymentReads, caller: str, sees: str | None, consumer: str, statuses: frozenset[Status], heartbeat: float
) -> AsyncGenerator[Batch]:
    """Everything after what the consumer has acknowledged; ends with ConsumerRewound once it is moved back."""
    now = asyncio.get_running_loop().time
    start = _place_of(using, await _consumer(using, caller, consumer))
    look_at = now() + heartbeat
    async with aclosing(follow_all(using, sees, start, statuses, heartbeat)) as batches:
        async for batch in batches:
            # Heartbeats come at least so often, so that it is heard of on a quiet stream as well.
            if now() >= look_at or not batch.events:
                stands = _place_of(using, await _consumer(using, caller, consumer))
                if stands.rewinds != start.rewinds:
                    raise ConsumerRewound(stands)
                look_at = now() + heartbeat
            yield batch


async def list_consumers(using: PaymentReads) -> list[ConsumerState]:
    """Everybody's consumers, those furthest behind first."""
    async with reading(using) as conn:
        return [await _state(using, conn, one) for one in await store.all_consumers(conn)]


async def rewind_consumer(using: PaymentReads, asked: Rewinding, now: datetime) -> ConsumerState:
    """Offer a consumer everything again that has happened since a time."""
    await _consumer(using, asked.caller, asked.consumer)
    async with reading(using) as conn:
        place = await store.place_before(conn, asked.since)
        moved = None
        if place is not None:
            moved = await store.rewind(conn, asked.caller, asked.consumer, place, asked.operator, asked.reason, now)
        if moved is None:
            expected = "expected a time before the last event that the consumer has acknowledged"
            raise InvalidRequest([Violation("from_time", expected)])
        _log.warning("consumer rewound", caller=asked.caller, consumer=asked.consumer, operator=asked.operator)
        return await _state(using, conn, moved)


async def forget_consumer(using: PaymentReads, asked: Forgetting, now: datetime) -> None:
    """Remove a consumer that is no more. One that still acknowledges comes back with its next word."""
    async with reading(using) as conn:
        if not await store.forget(conn, asked.caller, asked.consumer, asked.operator, asked.reason, now):
            raise ConsumerNotFound
    _log.warning("consumer forgotten", caller=asked.caller, consumer=asked.consumer, operator=asked.operator)


async def _consumer(using: PaymentReads, caller: str, consumer: str) -> Consumer:
    async with reading(using) as conn:
        found = await store.consumer_named(conn, caller, consumer)
    if found is None:
        raise ConsumerNotFound
    return found


async def _state(using: PaymentReads, conn: AsyncConnection, one: Consumer) -> ConsumerState:
    lag = await store.lag_of(conn, None if one.follows_all else one.caller, one.position)
    return ConsumerState(one, _place_of(using, one), lag)


def _place_of(using: PaymentReads, one: Consumer) -> Bookmark:
    return Bookmark(using.feed.bookmark.log_id, one.position, one.tag, one.rewinds)
