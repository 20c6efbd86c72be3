"""What a process asks of its database before it serves, and while it does."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.pipeline import Statement

DATABASE_NOW = Statement("SELECT clock_timestamp()")
"""The database's clock; run after statements that take locks, it tells when they had them."""


async def schema_revision(conn: AsyncConnection) -> str | None:
    """The version of the schema; None for a database without one."""
    present = await conn.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
    return await conn.scalar(text("SELECT version_num FROM alembic_version")) if present else None


async def database_now(conn: AsyncConnection) -> datetime:
    """The database's clock."""
    moment = await conn.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(moment, datetime)
    return moment


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """What a process asks every second."""

    now: datetime
    """By the database's clock."""
    read_only: bool
    """New connections cannot write: a standby, or a database that is set so."""


async def database_health(conn: AsyncConnection) -> DatabaseHealth:
    """The database's clock, and whether it takes writes.

    The setting is asked for as a new connection has it: this one may be from before it was changed.
    """
    row = (await conn.execute(_HEALTH)).one()
    return DatabaseHealth(row.now, row.read_only)


_HEALTH = text("""
    SELECT clock_timestamp() AS now, pg_is_in_recovery() OR coalesce(
        (SELECT split_part(setting, '=', 2)::boolean
         FROM pg_db_role_setting, unnest(setconfig) AS setting
         WHERE setting LIKE 'default\\_transaction\\_read\\_only=%'
           AND (setdatabase = 0 OR setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
           AND (setrole = 0 OR setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user))
         ORDER BY setrole = 0, setdatabase = 0 LIMIT 1),
        current_setting('transaction_read_only')::boolean
    ) AS read_only
""")


async def server_version(conn: AsyncConnection) -> int:
    """As PostgreSQL counts it: 160004 is 16.4."""
    version = await conn.scalar(text("SELECT current_setting('server_version_num')::int"))
    assert isinstance(version, int)
    return version


async def may_alter_events(conn: AsyncConnection) -> bool:
    """Whether this role could change the log: it is its owner, or a superuser."""
    return bool(await conn.scalar(text("SELECT has_table_privilege('payment_events', 'UPDATE, DELETE')")))
