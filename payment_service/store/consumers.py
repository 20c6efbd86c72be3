"""How far each named consumer of the log has come.

A consumer's place only moves on, unless an operator moves it back. `rewinds` counts how often that was done: an
acknowledgement that knows of fewer comes from before the last one, and moves nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.consumer_tables import consumer_cursors
from payment_service.store.reads import Place
from payment_service.store.tables import events

CONSUMERS_MAX: Final = 100
"""Of one caller: more are names that a program makes up anew each time it starts."""
SHOWN_MAX: Final = 1_000
LAG_LOOKED_THROUGH: Final = 10_000
"""Events of the log that are looked through for a lag: it is then at least what was found there."""
_SEARCHED: Final = (timedelta(hours=1), timedelta(days=1))
"""Stretches in which the first event since a time is looked for, before the whole rest of the log is."""

_c, _e = consumer_cursors.c, events.c


class Consumer(NamedTuple):
    """One named consumer."""

    caller: str
    consumer: str
    position: int
    tag: bytes
    follows_all: bool
    rewinds: int
    acknowledged_at: datetime
    rewound_at: datetime | None
    rewind_pending: bool
    """It has not acknowledged anything since then."""


class Lag(NamedTuple):
    """What a consumer has not acknowledged: at least so many events, the first of them from then; None without any."""

    events: int
    since: datetime | None

    def age(self, now: datetime) -> timedelta:
        """How long the first of them has waited."""
        return max(now - self.since, timedelta(0)) if self.since is not None else timedelta(0)


_COLUMNS = [_c[name] for name in Consumer._fields]
_NAMES = ", ".join(Consumer._fields)

_ACKNOWLEDGE = text(f"""
INSERT INTO consumer_cursors AS c (caller, consumer, position, tag, follows_all, rewinds, acknowledged_at)
SELECT :caller, :consumer, :position, :tag, :follows_all, :rewinds, :now
WHERE (SELECT count(*) FROM consumer_cursors WHERE caller = :caller AND consumer <> :consumer) < {CONSUMERS_MAX}
ON CONFLICT ON CONSTRAINT consumer_cursors_pk DO UPDATE
SET position = excluded.position, tag = excluded.tag, follows_all = excluded.follows_all,
    acknowledged_at = excluded.acknowledged_at, rewind_pending = false
WHERE excluded.rewinds >= c.rewinds AND excluded.position >= c.position
RETURNING position""")

_REWIND = text(f"""
WITH moved AS (
    UPDATE consumer_cursors c SET position = :position, tag = :tag, rewinds = c.rewinds + 1,
        rewound_at = :now, rewind_pending = true
    FROM (
        SELECT position FROM consumer_cursors WHERE caller = :caller AND consumer = :consumer FOR UPDATE
    ) AS before
    WHERE c.caller = :caller AND c.consumer = :consumer AND before.position > :position
    RETURNING c.*, before.position AS from_position
), kept AS (
    INSERT INTO consumer_acts (caller, consumer, act, from_position, to_position, operator, reason, acted_at)
    SELECT caller, consumer, 'REWOUND', from_position, position, :operator, :reason, :now FROM moved
)
SELECT {_NAMES} FROM moved""")

_FORGET = text("""
WITH gone AS (
    DELETE FROM consumer_cursors WHERE caller = :caller AND consumer = :consumer RETURNING *
)
INSERT INTO consumer_acts (caller, consumer, act, from_position, operator, reason, acted_at)
SELECT caller, consumer, 'FORGOTTEN', position, :operator, :reason, :now FROM gone
RETURNING position""")


async def acknowledge(
    conn: AsyncConnection, caller: str, consumer: str, place: Place, *, follows_all: bool, rewinds: int, now: datetime
) -> bool:
    """Move a consumer on to this place; False where it knows too little of rewinds, is further on, or is one too many.

    Its first acknowledgement makes it.
    """
    values = {"caller": caller, "consumer": consumer, "position": place.position, "tag": place.tag}
    values |= {"follows_all": follows_all, "rewinds": rewinds, "now": now}
    return (await conn.execute(_ACKNOWLEDGE, values)).one_or_none() is not None


async def consumer_named(conn: AsyncConnection, caller: str, consumer: str) -> Consumer | None:
    """One consumer; None where the caller has none of this name."""
    named = select(*_COLUMNS).where(_c.caller == caller, _c.consumer == consumer)
    row = (await conn.execute(named)).one_or_none()
    return None if row is None else Consumer._make(row)


async def all_consumers(conn: AsyncConnection) -> Sequence[Consumer]:
    """Everybody's consumers, those furthest behind first."""
    everybody = select(*_COLUMNS).order_by(_c.position, _c.caller, _c.consumer).limit(SHOWN_MAX)
    return [Consumer._make(row) for row in await conn.execute(everybody)]


async def lag_of(conn: AsyncConnection, caller: str | None, position: int) -> Lag:
    """What lies after a position, of one caller or of everybody.

    Where the whole window is full and holds nothing of the caller's, what lies behind it is unknown, and counts from
    the window's end.
    """
    window = select(_e.caller, _e.occurred_at).where(_e.position > position).order_by(_e.position)
    ahead = window.limit(LAG_LOOKED_THROUGH).subquery()
    own: ColumnElement[bool] = literal(True) if caller is None else ahead.c.caller == caller
    found = select(
        func.count().filter(own), func.min(ahead.c.occurred_at).filter(own), func.count(), func.max(ahead.c.occurred_at)
    ).select_from(ahead)
    count, first, looked_through, last = (await conn.execute(found)).one()
    return Lag(count, first or (last if looked_through == LAG_LOOKED_THROUGH else None))


async def place_before(conn: AsyncConnection, since: datetime) -> Place | None:
    """The place after which every event since a time comes; None where none has happened since."""
    first = select(func.min(_e.position)).where(_e.occurred_at >= since)
    found = None
    for stretch in _SEARCHED:
        found = found or await conn.scalar(first.where(_e.occurred_at < since + stretch))
    found = found or await conn.scalar(first)
    if found is None:
        return None
    before = select(_e.position, _e.tag).where(_e.position < found).order_by(_e.position.desc()).limit(1)
    row = (await conn.execute(before)).one_or_none()
    return Place(0, b"") if row is None else Place._make(row)


async def rewind(
    conn: AsyncConnection, caller: str, consumer: str, to: Place, operator: str, reason: str, now: datetime
) -> Consumer | None:
    """Move a consumer back; None where it does not exist, or is not further on than that."""
    values = {"caller": caller, "consumer": consumer, "position": to.position, "tag": to.tag}
    values |= {"operator": operator, "reason": reason, "now": now}
    row = (await conn.execute(_REWIND, values)).one_or_none()
    return None if row is None else Consumer._make(row)


async def forget(conn: AsyncConnection, caller: str, consumer: str, operator: str, reason: str, now: datetime) -> bool:
    """Remove a consumer that is no more; False where it does not exist."""
    values = {"caller": caller, "consumer": consumer, "operator": operator, "reason": reason, "now": now}
    return (await conn.execute(_FORGET, values)).one_or_none() is not None
