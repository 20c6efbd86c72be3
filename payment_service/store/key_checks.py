"""What the database knows of the keys that it was filled with: a check value of each, never a key. SQL only."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.event_log import LoggedEvent
from payment_service.store.key_tables import key_checks
from payment_service.store.tables import events, payments


class KeyProofs(NamedTuple):
    """What is stored of one payment, made with a key of each purpose."""

    payment_id: UUID
    phone_number: bytes
    """Sealed, as the request is."""
    phone_index: bytes
    request: bytes
    request_fingerprint: bytes
    request_encoding: int
    request_key_id: str
    first_event: LoggedEvent


KeyName = tuple[str, str]
"""A key's purpose and its id."""


async def known_checks(conn: AsyncConnection) -> dict[KeyName, bytes]:
    """The check values of the keys that this database was used with."""
    columns = key_checks.c
    rows = await conn.execute(select(columns.purpose, columns.key_id, columns.check_value))
    return {(row.purpose, row.key_id): row.check_value for row in rows}


async def add_checks(conn: AsyncConnection, checks: Mapping[KeyName, bytes]) -> None:
    """Keep check values; those that are there already stay as they are."""
    rows = [{"purpose": purpose, "key_id": key_id, "check_value": check} for (purpose, key_id), check in checks.items()]
    await conn.execute(insert(key_checks).on_conflict_do_nothing(), rows)


async def newest_payment(conn: AsyncConnection) -> KeyProofs | None:
    """What the newest payment has of every key; None without payments."""
    columns = payments.c
    newest = (
        select(
            columns.payment_id,
            columns.phone_number,
            columns.phone_index_a,
            columns.request,
            columns.request_fingerprint,
            columns.request_encoding,
            columns.request_key_id,
        )
        .order_by(columns.payment_id.desc())
        .limit(1)
    )
    row = (await conn.execute(newest)).one_or_none()
    if row is None:
        return None
    first = select(*(events.c[name] for name in LoggedEvent._fields)).where(
        events.c.payment_id == row.payment_id, events.c.version == 1
    )
    return KeyProofs(*row, first_event=LoggedEvent._make((await conn.execute(first)).one()))
