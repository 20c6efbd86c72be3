"""Which process holds which keys, and when each key last made what is new. SQL only."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.key_checks import KeyName
from payment_service.store.key_tables import key_holders, key_uses

SEEN_WITHIN_SECONDS = 60
"""A process tells of itself every few seconds: one that has not for so long has ended, or cannot reach the database."""
_FORGOTTEN = text("interval '1 day'")
_SEEN_WITHIN = text(f"interval '{SEEN_WITHIN_SECONDS} s'")

HeldKeys = Mapping[str, tuple[str, Mapping[str, str]]]
"""By purpose: the id of the current key, and a check value of each by its id, in hex."""


class Holder(NamedTuple):
    """A process, and the keys that it last told of."""

    holder: str
    keys: HeldKeys
    seen_at: datetime


class KeyUse(NamedTuple):
    """Until when a key was current somewhere, and whether it is given up."""

    last_used_at: datetime
    retired_at: datetime | None


async def tell_keys(conn: AsyncConnection, holder: str, keys: HeldKeys) -> None:
    """Keep which keys a process holds now, and that the current ones of them are in use."""
    told = insert(key_holders).values(holder=holder, keys=keys, seen_at=func.now())
    news = {"keys": told.excluded["keys"], "seen_at": told.excluded.seen_at}
    await conn.execute(told.on_conflict_do_update(index_elements=[key_holders.c.holder], set_=news))
    used = sorted((purpose, current) for purpose, (current, _) in keys.items() if current)
    if used:
        rows = [{"purpose": purpose, "key_id": key_id, "last_used_at": func.now()} for purpose, key_id in used]
        use = insert(key_uses).values(rows)
        names = [key_uses.c.purpose, key_uses.c.key_id]
        await conn.execute(use.on_conflict_do_update(index_elements=names, set_={"last_used_at": func.now()}))
    await conn.execute(delete(key_holders).where(key_holders.c.seen_at < func.now() - _FORGOTTEN))


async def living_holders(conn: AsyncConnection) -> list[Holder]:
    """The processes that have told of themselves lately, by name."""
    lately = key_holders.c.seen_at > func.now() - _SEEN_WITHIN
    rows = await conn.execute(
        select(key_holders.c.holder, key_holders.c["keys"], key_holders.c.seen_at)
        .where(lately)
        .order_by(key_holders.c.holder)
    )
    return [Holder(row.holder, {name: (held[0], held[1]) for name, held in row[1].items()}, row[2]) for row in rows]


async def key_uses_of(conn: AsyncConnection) -> dict[KeyName, KeyUse]:
    """When each key was last current somewhere."""
    columns = key_uses.c
    rows = await conn.execute(select(columns.purpose, columns.key_id, columns.last_used_at, columns.retired_at))
    return {(row.purpose, row.key_id): KeyUse(row.last_used_at, row.retired_at) for row in rows}


async def note_keys(conn: AsyncConnection, names: Iterable[KeyName]) -> None:
    """Keep that there are such keys: an id is never given to another key again."""
    rows = [{"purpose": purpose, "key_id": key_id, "last_used_at": func.now()} for purpose, key_id in names]
    await conn.execute(insert(key_uses).values(rows).on_conflict_do_nothing())


async def retire_key(conn: AsyncConnection, name: KeyName) -> None:
    """Keep that a key is given up: processes may go on without it."""
    purpose, key_id = name
    row = {"purpose": purpose, "key_id": key_id, "last_used_at": func.now(), "retired_at": func.now()}
    statement = insert(key_uses).values(row)
    names = [key_uses.c.purpose, key_uses.c.key_id]
    await conn.execute(statement.on_conflict_do_update(index_elements=names, set_={"retired_at": func.now()}))


async def retired_keys(conn: AsyncConnection, names: Iterable[KeyName]) -> set[KeyName]:
    """Those of the keys that are given up."""
    wanted = [(key_uses.c.purpose == purpose) & (key_uses.c.key_id == key_id) for purpose, key_id in names]
    found = select(key_uses.c.purpose, key_uses.c.key_id).where(key_uses.c.retired_at.is_not(None), or_(*wanted))
    return {(row.purpose, row.key_id) for row in await conn.execute(found)}
