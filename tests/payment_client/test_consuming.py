"""Consumers: each event has its effect once, whatever stops them, and one bad event stops nobody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from payment_client.consumer import Consumer, Handler
from payment_client.cursors.file import AsyncFileCursors
from payment_client.cursors.sqlalchemy import AsyncSqlAlchemyCursors
from payment_client.resuming import Backoff
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from development.postgres import EmbeddedServer
from payment_client import PaymentsClient, Refused, payment_pb2
from payment_service.domain.payment import Payment
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import client_of
from tests.payment_client.relay import running_relay
from tests.rpc.processes import Process, paid, refused, sent

EFFECTS = sa.Table(
    "effects", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True), sa.Column("event_id", sa.Text)
)


@pytest.fixture
async def engine(empty_database: tuple[EmbeddedServer, str]) -> AsyncIterator[AsyncEngine]:
    """The consumer's own database."""
    url = sa.make_url(empty_database[1]).set(drivername="postgresql+psycopg")
    made = create_async_engine(url)
    async with made.begin() as connection:
        await connection.run_sync(EFFECTS.metadata.create_all)
    yield made
    await made.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncSqlAlchemyCursors:
    made = AsyncSqlAlchemyCursors(engine, "booking")
    await made.create_tables()
    return made


async def note(event: payment_pb2.PaymentEvent, transaction: AsyncConnection) -> None:
    await transaction.execute(sa.insert(EFFECTS).values(event_id=event.event_id))


async def effects(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list(await connection.scalars(sa.select(EFFECTS.c.event_id).order_by(EFFECTS.c.number)))


async def until_effects(engine: AsyncEngine, count: int) -> list[str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found := await effects(engine)) < count:
            await asyncio.sleep(0.02)
    return found


async def payments_of(process: Process, count: int) -> list[Payment]:
    """So many payments, each with four events."""
    return [await process.tell(await process.create(), *sent(n), refused()) for n in range(1, count + 1)]


def of(*payments: Payment) -> list[str]:
    return [f"{payment.payment_id}-{version}" for payment in payments for version in (1, 2, 3, 4)]


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_event_has_its_effect_once_however_often_the_consumer_is_stopped(
    process: Process, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    payments = await payments_of(process, 10)
    chance = random.Random(7)
    async with running_relay(str(process.server.address)) as relay:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in count(1):
                if len(await effects(engine)) == 40:
                    break
                async with client_of(relay.address) as client:
                    consuming = asyncio.create_task(client.consume(store, note))
                    # Longer each time, so that a slow machine gets on as well.
                    await asyncio.sleep(chance.uniform(0, 0.02 * number))
                    relay.cut()
                    await stopped(consuming)
    assert await effects(engine) == of(*payments)


async def test_two_instances_of_one_consumer_share_its_events(
    process: Process, client: PaymentsClient, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    other = AsyncSqlAlchemyCursors(engine, "booking")
    instances = [asyncio.create_task(client.consume(one, note)) for one in (store, other)]
    payments = await payments_of(process, 5)
    found = await until_effects(engine, 20)
    assert found == of(*payments)
    await stopped(instances[0])
    payments += await payments_of_more(process)
    assert await until_effects(engine, 24) == of(*payments)
    await stopped(instances[1])


async def payments_of_more(process: Process) -> list[Payment]:
    return [await process.tell(await process.create(), *sent(99), paid("SJ12345678"))]


@dataclass
class Particular:
    """A handler that cannot deal with the payments of some bookings."""

    bookings: set[str] = field(default_factory=set)
    tried: int = 0

    async def __call__(self, event: payment_pb2.PaymentEvent, transaction: AsyncConnection) -> None:
        await note(event, transaction)
        if event.payment.booking_id in self.bookings:
            self.tried += 1
            raise ValueError("cannot deal with it")


async def test_an_event_that_cannot_be_dealt_with_is_set_aside_and_neither_lost_nor_in_the_way(
    process: Process, client: PaymentsClient, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    bad, good = await payments_of(process, 2)
    handle = Particular({bad.booking_id})
    consuming = asyncio.create_task(client.consume(store, handle, attempts=3))
    assert await until_effects(engine, 4) == of(good)
    assert handle.tried == 3
    assert [event.event_id for event in await store.waiting()] == of(bad), "the order within a booking is kept"
    await stopped(consuming)

    # Started again, with the fault still there: as it was.
    consuming = asyncio.create_task(client.consume(store, handle, attempts=3))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while handle.tried < 4:
            await asyncio.sleep(0.02)
    await stopped(consuming)
    assert len(await store.waiting()) == 4

    # With the fault mended.
    consuming = asyncio.create_task(client.consume(store, note))
    assert await until_effects(engine, 8) == of(good, bad)
    await stopped(consuming)
    assert await store.waiting() == []


async def test_what_is_set_aside_is_tried_again_without_a_restart(
    process: Process, client: PaymentsClient, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    [bad] = await payments_of(process, 1)
    handle = Particular({bad.booking_id})
    consumer = Consumer(
        lambda cursor: client.watch_batches(cursor=cursor),
        store,
        handle,
        attempts=1,
        backoff=Backoff(0.01, 0.02),
        again_after=0.01,
    )
    consuming = asyncio.create_task(consumer.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await store.waiting()) < 4:
            await asyncio.sleep(0.02)
    handle.bookings.clear()
    # Looked at whenever the stream says something.
    more = await payments_of_more(process)
    found = await until_effects(engine, 8)
    assert set(found) == set(of(bad, *more))
    assert [one for one in found if one in of(bad)] == of(bad)
    await stopped(consuming)


async def test_an_event_that_is_set_aside_and_offered_again_holds_up_nobody(
    process: Process, client: PaymentsClient, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    [bad] = await payments_of(process, 1)
    handle = Particular({bad.booking_id})
    consuming = asyncio.create_task(client.consume(store, handle, attempts=1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await store.waiting()) < 4:
            await asyncio.sleep(0.02)
    await stopped(consuming)
    async with engine.begin() as connection:
        await connection.execute(sa.delete(store.tables.cursors))
    more = await payments_of_more(process)
    consuming = asyncio.create_task(client.consume(store, handle, attempts=1))
    assert await until_effects(engine, 4) == of(*more)
    await stopped(consuming)
    assert [event.event_id for event in await store.waiting()] == of(bad)


async def test_an_acknowledgement_that_is_refused_ends_no_consumer(
    process: Process, client: PaymentsClient, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    async def refused_by_an_older_release(_cursor: str) -> None:
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    payments = await payments_of(process, 2)
    consumer = Consumer(lambda cursor: client.watch_batches(cursor=cursor), store, note, refused_by_an_older_release)
    consuming = asyncio.create_task(consumer.run())
    assert await until_effects(engine, 8) == of(*payments)
    payments += await payments_of_more(process)
    assert await until_effects(engine, 12) == of(*payments)
    await stopped(consuming)


async def test_who_starts_from_now_has_a_place_to_come_back_to_at_once(
    process: Process, client: PaymentsClient, engine: AsyncEngine, store: AsyncSqlAlchemyCursors
) -> None:
    await payments_of(process, 1)
    await process.caught_up()
    consuming = asyncio.create_task(client.consume(store, note, from_now=True))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await store.load():
            await asyncio.sleep(0.02)
    await stopped(consuming)
    missed = await payments_of_more(process)
    consuming = asyncio.create_task(client.consume(store, note, from_now=True))
    assert await until_effects(engine, 4) == of(*missed)
    await stopped(consuming)


async def test_a_file_keeps_the_cursor_of_effects_that_are_in_no_database(
    process: Process, client: PaymentsClient, tmp_path: Path
) -> None:
    lines: list[str] = []

    async def send(event: payment_pb2.PaymentEvent, _: None) -> None:
        lines.append(event.event_id)

    payments = await payments_of(process, 2)
    await consumed(client, tmp_path, lambda: len(lines) == 8, send)
    payments += await payments_of_more(process)
    await consumed(client, tmp_path, lambda: len(lines) == 12, send)
    assert lines == of(*payments)


async def consumed(client: PaymentsClient, folder: Path, enough: Callable[[], bool], send: Handler[None]) -> None:
    """A consumer with a file, until it has done enough."""
    store = AsyncFileCursors(folder / "cursor.json")
    consuming = asyncio.create_task(client.consume(store, send))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not enough():
            await asyncio.sleep(0.02)
    # The file is written right after the effect, with no turn of the loop in between.
    await stopped(consuming)
    store.close()
