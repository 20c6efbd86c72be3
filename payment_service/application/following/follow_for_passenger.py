"""What a passenger's browser is told of its payment, as it happens.

A browser knows a payment by its version: which place of the log that is, is looked up when it comes back. Each change
carries the whole payment, so a browser that comes with nothing of use begins with the payment as it stands.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from payment_service.application.following.event_feed import Bookmark
from payment_service.application.following.follow_events import Until, follow_payment
from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.domain.views import PaymentView
from payment_service.store import reads


async def follow_for_passenger(
    using: PaymentReads, payment_id: UUID, seen_version: int, heartbeat: float
) -> AsyncGenerator[PaymentView | None]:
    """Every change after a version, 0 for none; never ends by itself. None is a heartbeat, the first comes at once."""
    after = await _place_of(using, payment_id, seen_version) if seen_version else None
    told = seen_version if after is not None else 0
    async with aclosing(follow_payment(using, None, payment_id, after, Until.STOPPED, heartbeat)) as batches:
        async for batch in batches:
            views = [*(batch.snapshot or ()), *(event.payment for event in batch.events)]
            # A snapshot may be ahead of the feed, which then tells again of what it has shown.
            newer = [view for view in views if view.version > told]
            for view in newer:
                told = view.version
                yield view
            if not newer:
                yield None


async def _place_of(using: PaymentReads, payment_id: UUID, version: int) -> Bookmark | None:
    async with reading(using) as connection:
        place = await reads.place_of_version(connection, payment_id, version)
    return using.feed.bookmark.after(place.position, place.tag) if place is not None else None
