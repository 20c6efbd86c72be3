"""docs/consumers.md works as it stands: every command and statement is run, but for the callers and ids in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from mpesa_payments.v1 import operations_service_pb2 as operations_pb
from payment_client.cursors.sqlalchemy import AsyncSqlAlchemyCursors, SqlAlchemyCursors
from payment_client.testing import FakePayments
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from development.postgres import EmbeddedServer
from examples.notification_service.messages import messages, metadata, take_event
from examples.webhook_relay.outbox import Entry, Outbox
from payment_client import LogDiverged, PaymentsClient, SyncPaymentsClient, payment_pb2
from payment_service.alarms import CONSUMER_BEHIND
from tests.commands.started import command
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import a_purchase, client_of
from tests.rpc.processes import CALLER, Process, refused, running_process, sent

PAGE = (Path(__file__).parents[2] / "docs" / "consumers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SHELL, STATEMENTS, SCREENS = (
    [line for kind, block in BLOCKS if kind == wanted for line in block.splitlines()] for wanted in ("sh", "sql", "")
)
PROGRAM = ".venv/bin/payment-service"
OWNERS = {"booking", "notification"}
"""Callers of the page. In a test there is one caller, which has all consumers."""

FORGET, BACK_FOR, BACK_SINCE = "consumers forget", "consumers rewind notification", "consumers rewind booking"
LIST, LIST_AS_JSON = "consumers list", "consumers list --output json"
MOVED_AT, LOOK_ASIDE, TAKE_OUT = "SELECT consumer, moved_at", "SELECT consumer, event_id", "DELETE FROM payment_events"
PUT_BACK, BEGIN_ANEW, BEGIN_RELAY_ANEW = "INSERT", "DELETE FROM payment_cursors", "DELETE FROM position"


def words_of(start: str) -> list[str]:
    """The words of the page's command that begins so, for the caller of this test."""
    lines = [line.removeprefix(f"{PROGRAM} ") for line in SHELL]
    whole = [line for line in lines if line == start]
    (line,) = whole or [line for line in lines if line.startswith(f"{start} ")]
    words = shlex.split(line)
    return [CALLER if place == 2 and word in OWNERS else word for place, word in enumerate(words)]


def statement(start: str, **replaced: str) -> str:
    """The page's statement that begins so, with other values."""
    (found,) = (str(line) for line in STATEMENTS if line.startswith(start))
    for old, new in replaced.items():
        assert old in found
        found = found.replace(old, new)
    return found


def shape(text: str) -> list[str]:
    """Lines without their names, numbers and times."""
    text = re.sub(r"^\w+ of \w+ \(.* events\)", "", text.strip(), flags=re.MULTILINE)
    return [re.sub(r"\d[\d.:-]*(?: \d[\d.:]+)?", "N", line) for line in text.splitlines()]


class Shop:
    """A consumer of this service, in a database of its own."""

    def __init__(self, process: Process, client: PaymentsClient, engine: AsyncEngine) -> None:
        self.process, self.client, self.engine = process, client, engine
        self.store = AsyncSqlAlchemyCursors(engine, "bookings")
        self.seen: list[str] = []
        self.cannot: set[str] = set()

    async def pay(self, number: int) -> list[str]:
        """The events of one more payment."""
        payment = await self.process.tell(await self.process.create(), *sent(number), refused())
        await self.process.caught_up()
        return [f"{payment.payment_id}-{version}" for version in (1, 2, 3, 4)]

    async def operate(self, start: str) -> str:
        """What a command of the page prints."""
        environment = {"PAYMENTS_GRPC_ADDRESS": str(self.process.server.address), "PAYMENTS_PLAINTEXT": "true"}
        code, output, errors = await command(environment, *words_of(start))
        assert (code, errors) == (0, "")
        return output

    async def execute(self, sql: str) -> list[tuple[object, ...]]:
        async with self.engine.begin() as connection:
            done = await connection.exec_driver_sql(sql)
            return [tuple(row) for row in done.all()] if done.returns_rows else []

    async def consume_until_seen(self, count: int, name: str = "bookings") -> None:
        """Run the consumer until it has dealt with so many events in all, and has acknowledged the last."""

        async def handle(event: payment_pb2.PaymentEvent, _: AsyncConnection) -> None:
            if event.event_id in self.cannot:
                raise ValueError("no such seat")
            self.seen.append(event.event_id)

        consuming = asyncio.create_task(self.client.consume(self.store, handle, attempts=1, acknowledge_as=name))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.seen) < count or not await self.is_up_to_date(name):
                await asyncio.sleep(0.02)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)

    async def is_up_to_date(self, name: str) -> bool:
        asked = operations_pb.ListConsumersRequest()
        listed = (await self.process.operations.ListConsumers(asked)).consumers
        return any(one.consumer == name and not one.lag_events for one in listed)


@pytest.fixture
async def shop(database: Database, tmp_path: Path, empty_database: tuple[EmbeddedServer, str]) -> AsyncIterator[Shop]:
    """Beside a service that says something often, so that its consumers acknowledge at once when they start."""
    url = sa.make_url(empty_database[1]).set(drivername="postgresql+psycopg")
    engine = create_async_engine(url)
    async with (
        running_process(database.application_url, tmp_path, heartbeat_seconds=0.2) as process,
        client_of(str(process.server.address)) as client,
    ):
        made = Shop(process, client, engine)
        await made.store.create_tables()
        yield made
    await engine.dispose()


async def test_it_is_seen_how_far_a_consumer_is_until_its_name_is_removed(shop: Shop) -> None:
    await shop.pay(1)
    await shop.consume_until_seen(4)
    await shop.consume_until_seen(4, name="notifications")
    ((name, moved_at),) = await shop.execute(statement(MOVED_AT))
    assert name == "bookings"
    assert moved_at is not None
    behind, up_to_date = shape("\n".join(SCREENS))
    assert set(shape(await shop.operate(LIST))) == {up_to_date}
    await shop.pay(2)
    assert set(shape(await shop.operate(LIST))) == {behind}
    await shop.operate(FORGET)
    assert "notifications" not in await shop.operate(LIST)


async def test_events_are_offered_again(shop: Shop) -> None:
    first = await shop.pay(1)
    await shop.consume_until_seen(4)
    await shop.operate(BACK_SINCE)
    await shop.consume_until_seen(8)
    assert shop.seen == first * 2
    await shop.consume_until_seen(8, name="notifications")
    assert "which it has not heard of yet" in await shop.operate(BACK_FOR)


async def test_a_lost_cursor_is_put_back_to_what_was_acknowledged(shop: Shop) -> None:
    first = await shop.pay(1)
    await shop.consume_until_seen(4)
    await shop.execute("DELETE FROM payment_cursors")
    second = await shop.pay(2)
    (one,) = json.loads(await shop.operate(LIST_AS_JSON))["consumers"]
    await shop.execute(statement(PUT_BACK, CURSOR=one["cursor"]))
    await shop.consume_until_seen(8)
    assert shop.seen == first + second


async def test_what_is_set_aside_is_seen_and_can_be_taken_out(shop: Shop) -> None:
    first, second = await shop.pay(1), await shop.pay(2)
    shop.cannot = {first[0]}
    await shop.consume_until_seen(4)
    aside = await shop.execute(statement(LOOK_ASIDE))
    assert [(name, event_id) for name, event_id, *_ in aside] == [("bookings", event_id) for event_id in first]
    assert aside[0][2] == "ValueError('no such seat')"
    named = re.findall(r"event_id = '(.*)'", statement(TAKE_OUT))
    await shop.execute(statement(TAKE_OUT, **{named[0]: first[0]}))
    await shop.consume_until_seen(7)
    assert shop.seen == second + first[1:]
    assert await shop.execute(statement(LOOK_ASIDE)) == []


def test_the_notification_service_begins_anew_after_a_restore_and_writes_nothing_twice(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'notifications.db'}")
    store = SqlAlchemyCursors(engine, "notifications", metadata)
    metadata.create_all(engine)
    with FakePayments() as fake, fake.sync_client() as buyer:
        buyer.pay_and_wait(a_purchase())
        consume_until_written(fake, engine, store, 1)
        fake.replace_log()
        with fake.sync_client() as client, pytest.raises(LogDiverged):
            client.consume(store, take_event)
        with engine.begin() as connection:
            connection.exec_driver_sql(statement(BEGIN_ANEW))
        buyer.pay_and_wait(a_purchase())
        consume_until_written(fake, engine, store, 2)
    assert store.waiting() == []


def consume_until_written(fake: FakePayments, engine: sa.Engine, store: SqlAlchemyCursors, count: int) -> None:
    """Run the consumer of the example until there are so many messages."""
    written = sa.select(sa.func.count()).select_from(messages)
    client: SyncPaymentsClient
    with fake.sync_client() as client:
        consuming = threading.Thread(target=client.consume, args=(store, take_event))
        consuming.start()
        for _ in range(int(PATIENCE_SECONDS / 0.02)):
            with engine.connect() as connection:
                if connection.scalar(written) == count:
                    break
            consuming.join(0.02)
        client.close()
        consuming.join(PATIENCE_SECONDS)
    with engine.connect() as connection:
        assert connection.scalar(written) == count


def test_the_relay_begins_anew_and_keeps_what_is_still_to_be_posted(tmp_path: Path) -> None:
    with contextlib.closing(Outbox(tmp_path / "relay.sqlite")) as outbox:
        outbox.take([Entry("e-1", "B", "{}")], "cursor")
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.sqlite")) as database, database:
        database.execute(statement(BEGIN_RELAY_ANEW))
    with contextlib.closing(Outbox(tmp_path / "relay.sqlite")) as outbox:
        assert outbox.cursor == ""
        outbox.take([Entry("e-1", "B", "{}")], "cursor of the new log")
        assert outbox.waiting() == 1


def test_the_page_names_the_alarm_that_calls() -> None:
    assert f"`{CONSUMER_BEHIND.name}`" in PAGE


def test_every_command_is_tried() -> None:
    starts = (LIST, LIST_AS_JSON, FORGET, BACK_FOR, BACK_SINCE)
    assert len({" ".join(words_of(start)) for start in starts}) == len(SHELL)
    tried = (MOVED_AT, LOOK_ASIDE, TAKE_OUT, PUT_BACK, BEGIN_ANEW, BEGIN_RELAY_ANEW)
    assert {statement(start) for start in tried} == set(STATEMENTS)
