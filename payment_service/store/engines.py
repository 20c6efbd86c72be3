"""Connections to PostgreSQL, with every bound set.

Reads go through a SQLAlchemy pool. The grouped writers each own one psycopg
connection, because a statement through psycopg costs a third of one through the
engine, and theirs are the statements that every payment pays for.
"""

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECT_WAIT_SECONDS = 5
STATEMENT_WAIT_MS = 8_000
"""Below the watchdog of the grouped writers, so that the server gives up first where it can."""
LOCK_WAIT_MS = 4_000
IDLE_TRANSACTION_MS = 5_000
"""A transaction that forgets to end would hold the log's order, or a payment, against everybody."""

# A network that swallows packets is noticed within seconds, not within the kernel's quarter of an hour.
_CONNECTION = {
    "connect_timeout": CONNECT_WAIT_SECONDS,
    "tcp_user_timeout": 5_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}

_SERVER_OPTIONS = (
    f"-c statement_timeout={STATEMENT_WAIT_MS} -c lock_timeout={LOCK_WAIT_MS}"
    f" -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_MS} -c timezone=UTC"
    # Each statement is to see what is committed by then, whatever the server's default.
    r" -c default_transaction_isolation=read\ committed"
)


def engine_url(database_url: str) -> str:
    """The address as SQLAlchemy wants it, whatever its version takes a bare scheme to mean."""
    return "postgresql+psycopg://" + database_url.split("://", 1)[1]


def read_engine(database_url: str, *, connections: int = 5, wait_seconds: float = 5) -> AsyncEngine:
    """A pool for reads and for short transactions outside the grouped writers."""
    return create_async_engine(
        engine_url(database_url),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        # A server that was away has left dead connections here, and no call is to fail for finding them.
        pool_pre_ping=True,
        pool_recycle=1_800,
        isolation_level="READ COMMITTED",
        # Planned anew each time: a plan that was kept from when a table was small would scan it for ever after.
        connect_args={
            **_CONNECTION,
            "options": f"{_SERVER_OPTIONS} -c plan_cache_mode=force_custom_plan",
        },
    )


_PLANS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan"


# What is told to the others is told on the way of a read. No read may wait for a disk or a standby because of it.
_FEED = "-c synchronous_commit=off"


async def connect_feed(database_url: str) -> psycopg.AsyncConnection[TupleRow]:
    """A connection of the event feed: it reads as a writer does, and what it writes need not last."""
    return await connect_writer(database_url, autocommit=True, options=_FEED)


async def connect_writer(
    database_url: str, *, autocommit: bool = False, options: str = ""
) -> psycopg.AsyncConnection[TupleRow]:
    """The connection of a grouped writer. Its statements come by key, are prepared and planned once.

    A plan that was made while a table was small would scan it for ever after, so scans are ruled out from the start.
    """
    return await psycopg.AsyncConnection.connect(
        database_url,
        autocommit=autocommit,
        options=f"{_SERVER_OPTIONS} {_PLANS} {options}",
        prepare_threshold=0,
        **_CONNECTION,  # type: ignore[arg-type]  # the values are those of libpq
    )


async def driver_connection(connection: AsyncConnection) -> psycopg.AsyncConnection[TupleRow]:
    """psycopg's own connection below one of a pool, for reads that are written for it."""
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection), "the engines are psycopg's"
    return driver


async def connect_reader(database_url: str) -> psycopg.AsyncConnection[TupleRow]:
    """A connection that cannot write; its transaction sees the whole database as it was at one moment.

    For looking through everything while the service works: it takes no lock that anybody waits for. Its statements go
    by key, as a writer's do, so it never scans a table that has grown large.
    """
    connection = await connect_writer(database_url)
    await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)
    return connection
