"""The list of phones that get no prompts, and of those that no rule stands against. Every turn is a row that nobody can
alter, and a phone's latest one counts. A phone stands here as its fingerprint."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.risk_tables import risk_list

SHOWN_MAX = 1_000

_turn = risk_list.c


class ListTurn(NamedTuple):
    """A phone was put on the list, or taken off it: by whom, why, when and until when."""

    phone_index: bytes
    verdict: str
    operator: str
    reason: str
    until: datetime | None
    listed_at: datetime


_COLUMNS = [_turn[name] for name in ListTurn._fields]


async def list_phone(
    conn: AsyncConnection, phone_index: bytes, verdict: str, operator: str, reason: str, until: datetime | None
) -> ListTurn:
    """Put a phone on the list, or take it off; the turn, as it is kept."""
    values = {"phone_index": phone_index, "verdict": verdict, "operator": operator, "reason": reason, "until": until}
    return ListTurn._make((await conn.execute(insert(risk_list).values(values).returning(*_COLUMNS))).one())


async def turns_of(conn: AsyncConnection, phone_index: bytes) -> Sequence[ListTurn]:
    """All turns about a phone, the latest first."""
    about = select(*_COLUMNS).where(_turn.phone_index == phone_index).order_by(_turn.position.desc()).limit(SHOWN_MAX)
    return [ListTurn._make(row) for row in await conn.execute(about)]


async def listed_now(conn: AsyncConnection, now: datetime) -> Sequence[ListTurn]:
    """The phones that are on the list, those that were put there last at the front."""
    latest = (
        select(*_COLUMNS, _turn.position)
        .ext(distinct_on(_turn.phone_index))
        .order_by(_turn.phone_index, _turn.position.desc())
        .subquery()
    )
    standing = (
        select(*(latest.c[name] for name in ListTurn._fields))
        .where(latest.c.verdict != "NONE", latest.c.until.is_(None) | (latest.c.until > now))
        .order_by(latest.c.position.desc())
        .limit(SHOWN_MAX)
    )
    return [ListTurn._make(row) for row in await conn.execute(standing)]
