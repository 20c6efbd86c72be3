"""What a process asks of its database before it serves, and while it does."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def schema_revision(conn: AsyncConnection) -> str | None:
    """The version of the schema; None for a database without one."""
    present = await conn.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    return await conn.scalar(text("SELECT version_num FROM alembic_version")) if present else None


async def database_now(conn: AsyncConnection) -> datetime:
    """The database's clock."""
    moment = await conn.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(moment, datetime)
    return moment
