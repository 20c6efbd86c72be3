"""What the database knows of the keys that it was filled with: a check value of each, never a key. SQL only."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.tables import key_checks, payments

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


async def newest_sealed_number(conn: AsyncConnection) -> tuple[UUID, bytes] | None:
    """The id of the newest payment, with its phone number as it was sealed; None without payments."""
    columns = payments.c
    newest = select(columns.payment_id, columns.phone_number).order_by(columns.payment_id.desc()).limit(1)
    row = (await conn.execute(newest)).one_or_none()
    return None if row is None else (row.payment_id, row.phone_number)
