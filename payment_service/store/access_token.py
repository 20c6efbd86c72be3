"""The one access token of a Daraja app, and the lease to renew it. SQL only; `application.access_token` decides.

Every statement is one short transaction's worth. The lease is a row's column, not a lock: it is taken by comparison,
held over no connection, and the token is stored only by whoever still holds it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.provider_tables import access_tokens


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it lies in the table."""

    generation: int
    sealed: bytes = field(repr=False)
    fetched_at: datetime
    refresh_at: datetime
    expires_at: datetime


async def find_token(conn: AsyncConnection, app: str) -> StoredToken | None:
    """The newest token of the app; None before the first."""
    columns = access_tokens.c
    row = (
        await conn.execute(
            select(columns.generation, columns.token, columns.fetched_at, columns.refresh_at, columns.expires_at)
            .where(columns.app == app)
            .where(columns.token.is_not(None))
        )
    ).one_or_none()
    return StoredToken(*row) if row is not None else None


async def take_lease(
    conn: AsyncConnection, app: str, *, lease_id: UUID, newer_than: int, now: datetime, until: datetime
) -> bool:
    """Take the right to renew the token, unless someone has it, or has already made a generation above `newer_than`."""
    columns = access_tokens.c
    lease = {"lease_id": lease_id, "lease_expires_at": until}
    statement = (
        insert(access_tokens)
        .values(app=app, generation=0, **lease)
        .on_conflict_do_update(
            index_elements=[columns.app],
            set_=lease,
            where=(columns.generation <= newer_than)
            & or_(columns.lease_expires_at.is_(None), columns.lease_expires_at <= now),
        )
        .returning(columns.app)
    )
    return (await conn.execute(statement)).one_or_none() is not None


async def store_token(
    conn: AsyncConnection,
    app: str,
    *,
    lease_id: UUID,
    sealed: bytes,
    fetched_at: datetime,
    refresh_at: datetime,
    expires_at: datetime,
) -> int | None:
    """Store a new token and give the lease back. The new generation, or None if the lease is no longer ours."""
    columns = access_tokens.c
    generation: int | None = (
        await conn.execute(
            update(access_tokens)
            .where(columns.app == app, columns.lease_id == lease_id)
            .values(
                generation=columns.generation + 1,
                token=sealed,
                fetched_at=fetched_at,
                refresh_at=refresh_at,
                expires_at=expires_at,
                lease_id=None,
                lease_expires_at=None,
            )
            .returning(columns.generation)
        )
    ).scalar_one_or_none()
    return generation


async def hold_lease_until(conn: AsyncConnection, app: str, *, lease_id: UUID, until: datetime) -> None:
    """After a failure: nobody asks again before `until`. Nothing happens if the lease is no longer ours."""
    columns = access_tokens.c
    await conn.execute(
        update(access_tokens).where(columns.app == app, columns.lease_id == lease_id).values(lease_expires_at=until)
    )
