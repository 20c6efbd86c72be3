"""Which payments are to be asked about, and the claim to ask: SQL only.

`domain.query_schedule` decides when. The time of the next query is its own lease: whoever moves it forward asks, and if
it dies, the payment is asked about at the next time. Moving it changes no payment: no version, no event.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.payment import LIVE_STATES
from payment_service.store.tables import payments

LOOKED_AT_MAX = 5_000
"""Payments that one look sorts. In a longer backlog they are those that have become due last: for the others nobody
has been waiting for a long time."""

_p = payments.c
_now: BindParameter[datetime] = bindparam("now")

_recent = (
    select(_p.payment_id, _p.shortcode).where(_p.query_at <= _now).order_by(_p.query_at.desc()).limit(LOOKED_AT_MAX)
)
_due = _recent.cte("due")
_COUNT_DUE = select(_due.c.shortcode, func.count()).group_by(_due.c.shortcode)

_held_until = case((_now < _p.hold_expire_at, _p.hold_expire_at))
# First those that passengers and bookings wait for, by the next moment that somebody gives up; then those that one more
# look settles; then expired ones whose booking is still held, by the end of the hold; then the rest, by their waiting.
_TURN = case(
    (_p.state.in_([state.value for state in sorted(LIVE_STATES)]), 0),
    (_p.state.in_(["COMPLETED", "FAILED", "CANCELLED"]), 1),
    (_held_until.is_not(None), 2),
    else_=3,
)
_WANTED_BY = case((_TURN == 0, func.least(_p.expires_at, _held_until)), (_TURN == 2, _held_until))
_CLAIM = (
    select(
        _p.payment_id,
        _p.checkout_request_id,
        _p.merchant_request_id,
        _p.query_count,
        _p.sent_at,
        _p.created_at,
        _p.expires_at,
        _p.hold_expire_at,
        _p.trace_parent,
    )
    .where(_p.payment_id.in_(select(_recent.where(_p.shortcode == bindparam("shortcode")).cte("due").c.payment_id)))
    # Said again of the row itself: another process may have claimed it between the look and the lock.
    .where(_p.query_at <= _now)
    .order_by(_TURN, _WANTED_BY.asc().nulls_last(), _p.query_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, key_share=True)
)
_MOVE = (
    update(payments)
    .where(_p.payment_id == bindparam("asked_id"))
    .values(query_at=bindparam("next_at"), query_count=_p.query_count + 1)
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A payment that this process may ask about, once."""

    payment_id: UUID
    sealed_checkout_id: bytes = field(repr=False)
    merchant_request_id: str | None
    asked: int
    """How often it has been asked about, this time included."""
    sent_at: datetime
    expires_at: datetime
    hold_expire_at: datetime | None
    trace_parent: str | None


async def count_due(conn: AsyncConnection, now: datetime) -> Mapping[str, int]:
    """How many payments of each shortcode are due to be asked about."""
    return dict(tuple(row) for row in await conn.execute(_COUNT_DUE, {"now": now}))


async def claim_queries(
    conn: AsyncConnection,
    shortcode: str,
    now: datetime,
    most: int,
    next_at: Callable[[Claimed], datetime | None],
) -> list[Claimed]:
    """Claim the right to ask about the most urgent of those that are due, and move each to `next_at`."""
    found = await conn.execute(_CLAIM, {"now": now, "shortcode": shortcode, "most": most})
    claimed = [
        Claimed(
            payment_id=row.payment_id,
            sealed_checkout_id=row.checkout_request_id,
            merchant_request_id=row.merchant_request_id,
            asked=row.query_count + 1,
            sent_at=row.sent_at or row.created_at,
            expires_at=row.expires_at,
            hold_expire_at=row.hold_expire_at,
            trace_parent=row.trace_parent,
        )
        for row in found
    ]
    if claimed:
        await conn.execute(_MOVE, [{"asked_id": one.payment_id, "next_at": next_at(one)} for one in claimed])
    return claimed
