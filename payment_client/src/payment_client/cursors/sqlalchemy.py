"""Cursors in a database that the consumer reaches by SQLAlchemy (2.0 or newer), for Core and for the ORM's engines.

The handler gets the connection whose transaction moves the cursor. An ORM session joins it: `Session(connection)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_client.contract import payment_pb2
from payment_client.cursors import CONSUMER_MAX, CURSOR_MAX, CursorMoved


class CursorTables:
    """The two tables, and the statements on them. Several consumers share the tables."""

    def __init__(self, consumer: str, metadata: sa.MetaData | None = None) -> None:
        """With your own metadata, your migrations make the tables."""
        if not 0 < len(consumer) <= CONSUMER_MAX:
            raise ValueError(f"consumer: expected a name of 1 to {CONSUMER_MAX} characters.")
        self.consumer = consumer
        self.metadata = metadata if metadata is not None else sa.MetaData()
        self.cursors = sa.Table(
            "payment_cursors",
            self.metadata,
            sa.Column("consumer", sa.String(CONSUMER_MAX), primary_key=True),
            sa.Column("cursor", sa.String(CURSOR_MAX), nullable=False),
            sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
            extend_existing=True,
        )
        self.set_aside = sa.Table(
            "payment_events_set_aside",
            self.metadata,
            sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
            sa.Column("consumer", sa.String(CONSUMER_MAX), nullable=False),
            sa.Column("event_id", sa.String(80), nullable=False),
            sa.Column("event", sa.LargeBinary, nullable=False),
            sa.Column("why", sa.Text, nullable=False),
            sa.Column("set_aside_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
            sa.UniqueConstraint("consumer", "event_id"),
            extend_existing=True,
        )

    def create(self, connection: sa.Connection) -> None:
        """Make the tables where they are missing."""
        self.metadata.create_all(connection, tables=[self.cursors, self.set_aside])

    def load(self, connection: sa.Connection) -> str:
        """The cursor; empty where there is none."""
        mine = self.cursors.c.consumer == self.consumer
        return connection.scalar(sa.select(self.cursors.c.cursor).where(mine)) or ""

    def move(self, connection: sa.Connection, before: str, after: str) -> None:
        """Move the cursor, which locks its row for the rest of the transaction, or CursorMoved."""
        table = self.cursors
        if not before:
            try:
                connection.execute(sa.insert(table).values(consumer=self.consumer, cursor=after))
            except sa.exc.IntegrityError as error:
                raise CursorMoved from error
            return
        here = (table.c.consumer == self.consumer) & (table.c.cursor == before)
        moved = connection.execute(sa.update(table).where(here).values(cursor=after, moved_at=sa.func.now()))
        if moved.rowcount != 1:
            raise CursorMoved

    def keep(self, connection: sa.Connection, event: payment_pb2.PaymentEvent, why: str) -> None:
        """Set an event aside."""
        row = {"event_id": event.event_id, "event": event.SerializeToString(), "why": why}
        connection.execute(sa.insert(self.set_aside).values(consumer=self.consumer, **row))

    def waiting(self, connection: sa.Connection) -> list[payment_pb2.PaymentEvent]:
        """What is set aside, the oldest first."""
        table = self.set_aside
        mine = sa.select(table.c.event).where(table.c.consumer == self.consumer).order_by(table.c.number)
        return [payment_pb2.PaymentEvent.FromString(content) for content in connection.scalars(mine)]

    def retake(self, connection: sa.Connection, event_id: str) -> None:
        """Take an event back, or CursorMoved."""
        table = self.set_aside
        this = (table.c.consumer == self.consumer) & (table.c.event_id == event_id)
        if connection.execute(sa.delete(table).where(this)).rowcount != 1:
            raise CursorMoved


class SqlAlchemyCursors:
    """A CursorStore for SyncPaymentsClient."""

    def __init__(self, engine: sa.Engine, consumer: str, metadata: sa.MetaData | None = None) -> None:
        self.engine, self.tables = engine, CursorTables(consumer, metadata)

    def create_tables(self) -> None:
        """For a start, and for tests; later your migrations do it."""
        with self.engine.begin() as connection:
            self.tables.create(connection)

    def load(self) -> str:
        with self.engine.connect() as connection:
            return self.tables.load(connection)

    @contextmanager
    def moving(self, before: str, after: str) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            self.tables.move(connection, before, after)
            yield connection

    def set_aside(self, transaction: sa.Connection, event: payment_pb2.PaymentEvent, why: str) -> None:
        self.tables.keep(transaction, event, why)

    def waiting(self) -> list[payment_pb2.PaymentEvent]:
        with self.engine.connect() as connection:
            return self.tables.waiting(connection)

    @contextmanager
    def retaking(self, event_id: str) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            self.tables.retake(connection, event_id)
            yield connection


class AsyncSqlAlchemyCursors:
    """An AsyncCursorStore for PaymentsClient."""

    def __init__(self, engine: AsyncEngine, consumer: str, metadata: sa.MetaData | None = None) -> None:
        self.engine, self.tables = engine, CursorTables(consumer, metadata)

    async def create_tables(self) -> None:
        """For a start, and for tests; later your migrations do it."""
        async with self.engine.begin() as connection:
            await connection.run_sync(self.tables.create)

    async def load(self) -> str:
        async with self.engine.connect() as connection:
            return await connection.run_sync(self.tables.load)

    @asynccontextmanager
    async def moving(self, before: str, after: str) -> AsyncIterator[AsyncConnection]:
        async with self.engine.begin() as connection:
            await connection.run_sync(self.tables.move, before, after)
            yield connection

    async def set_aside(self, transaction: AsyncConnection, event: payment_pb2.PaymentEvent, why: str) -> None:
        await transaction.run_sync(self.tables.keep, event, why)

    async def waiting(self) -> list[payment_pb2.PaymentEvent]:
        async with self.engine.connect() as connection:
            return await connection.run_sync(self.tables.waiting)

    @asynccontextmanager
    async def retaking(self, event_id: str) -> AsyncIterator[AsyncConnection]:
        async with self.engine.begin() as connection:
            await connection.run_sync(self.tables.retake, event_id)
            yield connection
