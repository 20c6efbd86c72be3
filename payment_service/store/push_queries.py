"""Which payments are to be asked about, and the claim to ask: SQL only.

Those whose outcome somebody waits for go by `query_at`; money that only a callback has told of, by `back_at`, with the
turns that the others leave. `domain.query_schedule` decides when. The time of the next query is its own lease: whoever
moves it forward asks, and if it dies, the payment is asked about at the next time. Moving it changes no payment: no
version, no event.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Select, Text, Update, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.payment import LIVE_STATES
from payment_service.store.tables import payments

LOOKED_AT_MAX = 5_000
"""Payments that one look sorts. In a longer backlog they are those that have become due last: for the others nobody
has been waiting for a long time."""
HINTS_MAX = 3
"""So often a payment is asked about because somebody, who may be anybody, has told of it."""

_p = payments.c
_now: BindParameter[datetime] = bindparam("now")

QUERY_DUE = _p.query_at <= _now
UNBACKED_DUE = _p.back_at <= _now

_recent = select(_p.payment_id, _p.shortcode).where(QUERY_DUE).order_by(_p.query_at.desc()).limit(LOOKED_AT_MAX)
_due = _recent.cte("due")
_COUNT_DUE = select(_due.c.shortcode, func.count()).group_by(_due.c.shortcode)
_unbacked = select(_p.payment_id, _p.shortcode).where(UNBACKED_DUE).order_by(_p.back_at).limit(LOOKED_AT_MAX).cte("due")
_COUNT_UNBACKED = select(_unbacked.c.shortcode, func.count()).group_by(_unbacked.c.shortcode)

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
_CLAIMED = (
    _p.payment_id,
    _p.checkout_request_id,
    _p.merchant_request_id,
    _p.query_count,
    _p.sent_at,
    _p.created_at,
    _p.completed_at,
    _p.expires_at,
    _p.hold_expire_at,
    _p.trace_parent,
)
_CLAIM = (
    select(*_CLAIMED)
    .where(_p.payment_id.in_(select(_recent.where(_p.shortcode == bindparam("shortcode")).cte("due").c.payment_id)))
    # Said again of the row itself: another process may have claimed it between the look and the lock.
    .where(QUERY_DUE)
    .order_by(_TURN, _WANTED_BY.asc().nulls_last(), _p.query_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, key_share=True)
)
_CLAIM_UNBACKED = (
    select(*_CLAIMED)
    .where(UNBACKED_DUE, _p.shortcode == bindparam("shortcode"))
    .order_by(_p.back_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, key_share=True)
)
_MOVE = (
    update(payments)
    .where(_p.payment_id == bindparam("asked_id"))
    .values(query_at=bindparam("next_at"), query_count=_p.query_count + 1)
)
# Not counted as one of the service's own queries, which come the seldomer the more there were: a stranger would put
# them off. Whoever holds the row is changing the payment, and a hint waits for nobody.
_hinted = (
    select(_p.payment_id)
    .where(_p.checkout_index_a == bindparam("index"), _p.query_at > _now, _p.hint_count < HINTS_MAX)
    .where(func.coalesce(bindparam("merchant", type_=Text()), _p.merchant_request_id) == _p.merchant_request_id)
    .with_for_update(skip_locked=True, key_share=True)
)
_ASK_NOW = (
    update(payments)
    .where(_p.payment_id.in_(_hinted))
    .values(query_at=_now, query_count=func.greatest(_p.query_count - 1, 0), hint_count=_p.hint_count + 1)
    .returning(_p.payment_id)
)
_MOVE_UNBACKED = update(payments).where(_p.payment_id == bindparam("asked_id")).values(back_at=bindparam("next_at"))


@dataclass(frozen=True, slots=True)
class Claimed:
    """A payment that this process may ask about, once."""

    payment_id: UUID
    sealed_checkout_id: bytes = field(repr=False)
    merchant_request_id: str | None
    asked: int
    """How often it has been asked about, this time included."""
    sent_at: datetime
    completed_at: datetime | None
    expires_at: datetime
    hold_expire_at: datetime | None
    trace_parent: str | None


async def count_due(conn: AsyncConnection, now: datetime) -> Mapping[str, int]:
    """How many payments of each shortcode are due to be asked about."""
    return dict(tuple(row) for row in await conn.execute(_COUNT_DUE, {"now": now}))


async def count_unbacked(conn: AsyncConnection, now: datetime) -> Mapping[str, int]:
    """How many payments of each shortcode are due to be asked about because only a callback has told of their money."""
    return dict(tuple(row) for row in await conn.execute(_COUNT_UNBACKED, {"now": now}))


async def claim_queries(
    conn: AsyncConnection,
    shortcode: str,
    now: datetime,
    most: int,
    next_at: Callable[[Claimed], datetime | None],
) -> list[Claimed]:
    """Claim the right to ask about the most urgent of those that are due, and move each to `next_at`."""
    return await _claim(conn, _CLAIM, _MOVE, {"now": now, "shortcode": shortcode, "most": most}, next_at)


async def claim_unbacked(
    conn: AsyncConnection,
    shortcode: str,
    now: datetime,
    most: int,
    next_at: Callable[[Claimed], datetime | None],
) -> list[Claimed]:
    """The same for money that only a callback has told of, what has waited longest first."""
    values = {"now": now, "shortcode": shortcode, "most": most}
    return await _claim(conn, _CLAIM_UNBACKED, _MOVE_UNBACKED, values, next_at)


async def ask_now(conn: AsyncConnection, checkout_index: bytes, merchant: str | None, now: datetime) -> UUID | None:
    """Make the next query come now, for a hint that names these ids; which payment that is, or None.

    Nothing comes of it where no outcome is waited for, where the query is due already, and for a fourth hint.
    """
    values = {"index": checkout_index, "merchant": merchant, "now": now}
    asked: UUID | None = (await conn.execute(_ASK_NOW, values)).scalar()
    return asked


async def _claim(
    conn: AsyncConnection,
    claim: Select[Any],
    move: Update,
    values: Mapping[str, object],
    next_at: Callable[[Claimed], datetime | None],
) -> list[Claimed]:
    found = await conn.execute(claim, values)
    claimed = [
        Claimed(
            payment_id=row.payment_id,
            sealed_checkout_id=row.checkout_request_id,
            merchant_request_id=row.merchant_request_id,
            asked=row.query_count + 1,
            sent_at=row.sent_at or row.created_at,
            completed_at=row.completed_at,
            expires_at=row.expires_at,
            hold_expire_at=row.hold_expire_at,
            trace_parent=row.trace_parent,
        )
        for row in found
    ]
    if claimed:
        await conn.execute(move, [{"asked_id": one.payment_id, "next_at": next_at(one)} for one in claimed])
    return claimed
