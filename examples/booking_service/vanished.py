"""Bookings that wait for a payment which the payment service does not know any more.

After a restore of its database to an earlier time, a payment that was made since is gone, and no event tells of it.
Its booking would hold the seat for ever. So once a hold is over for long, this asks whether there is such a payment.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NoReturn

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.booking_service.bookings import Kind, State, asked_again, free_unpaid
from examples.booking_service.tables import bookings, requests
from payment_client import BookingAction, PaymentFilter, PaymentsClient

LOOK_AFTER = timedelta(minutes=10)
"""From the end of a hold. What its payment became is told long before, as a rule."""
LOOK_SECONDS = 60.0

log = logging.getLogger("booking_service")


class Waiting(NamedTuple):
    """A booking, and the attempt that is to say what becomes of it."""

    booking_id: str
    attempt: int
    is_asked_again: bool


async def keep_looking(engine: AsyncEngine, client: PaymentsClient) -> NoReturn:
    """Look for ever."""
    while True:
        try:
            await free_vanished(engine, client, datetime.now(UTC))
        except Exception as error:
            # Without an answer no seat is freed; the next look asks again.
            log.warning("looking for vanished payments failed, and goes on", exc_info=error)
        await asyncio.sleep(LOOK_SECONDS)


async def free_vanished(engine: AsyncEngine, client: PaymentsClient, now: datetime) -> int:
    """Free the seats that wait for a payment that is gone; how many.

    Not where a person decides (REVIEW): there is money, and a person has to compare.
    """
    still_asked = exists().where(
        requests.c.booking_id == bookings.c.booking_id, requests.c.kind != Kind.REFUND, ~requests.c.done
    )
    wait = BookingAction.Name(BookingAction.BOOKING_ACTION_WAIT)
    waits = or_(bookings.c.payment_id.is_(None), bookings.c.booking_action == wait, asked_again())
    over = and_(bookings.c.state == State.HELD, bookings.c.hold_until < now - LOOK_AFTER, waits, ~still_asked)
    wanted = select(bookings.c.booking_id, bookings.c.attempt, asked_again()).where(over)
    async with engine.connect() as conn:
        waiting = [Waiting._make(row) for row in await conn.execute(wanted)]
    freed = 0
    for one in waiting:
        # Read after the answer that has made the payment: what is not listed is gone.
        known = [payment.attempt async for payment in client.list_payments(PaymentFilter(booking_id=one.booking_id))]
        awaited = one.attempt + 1 if one.is_asked_again else max(one.attempt, 1)
        if max(known, default=0) >= awaited:
            continue
        async with engine.begin() as conn:
            if await free_unpaid(conn, one.booking_id, one.attempt):
                log.warning("the payment of %s is not known any more: its seat is free again", one.booking_id)
                freed += 1
    return freed
