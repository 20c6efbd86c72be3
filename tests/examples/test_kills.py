"""The example services killed at any line: every seat confirmed exactly once, every message written exactly once.

Goal: what a crash can do wrong would show in their own tables, held against what was paid and against the log.
Method: passengers book and pay in waves. In each wave one of the two services is killed with -9 after so many further
tickets or messages as are drawn, and started again. Meanwhile the payment service is replaced now and then, and once
its database is set back to a copy that knows nothing of the latest payments. `make campaign-kills` does it 100 times
during 1,000 payments.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from mpesa_payments.v1 import operations_service_pb2 as operations_pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from sqlalchemy import select

from development.postgres import create_database, drop_database, find_free_port
from examples.booking_service.bookings import hold, try_again
from examples.booking_service.tables import tickets
from tests.application.following.reading import next_of
from tests.databases import Database
from tests.examples.shops import TRIP, Program, Shop, open_shop, tell, until
from tests.payment_client.relay import Relay, running_relay
from tests.rows import rows_of
from tests.rpc.processes import Process, paid, refused, running_process, sent

NOBODY = "127.0.0.1:1"
REFUSED_SHARE = 0.3
"""Of first attempts: the passengers try again."""
ENDED = {
    payment_pb2.PAYMENT_STATUS_COMPLETED,
    payment_pb2.PAYMENT_STATUS_FAILED,
    payment_pb2.PAYMENT_STATUS_CANCELLED,
    payment_pb2.PAYMENT_STATUS_EXPIRED,
    payment_pb2.PAYMENT_STATUS_REFUNDED,
}


class Service:
    """The payment service at one address, which is replaced, and whose database is set back."""

    def __init__(self, database: Database, folder: Path, relay: Relay) -> None:
        self.database, self._folder, self._relay = database, folder, relay
        self.turn = asyncio.Lock()
        """Of whoever tells it something, or stops it: nobody speaks to a process that is going."""
        self.replaced = 0
        self._life = contextlib.AsyncExitStack()

    async def start(self) -> None:
        self.process = await self._life.enter_async_context(
            running_process(self.database.application_url, self._folder, drain_seconds=0.2)
        )
        self._relay.upstream = str(self.process.server.address)

    async def stop(self) -> None:
        self._relay.upstream = NOBODY
        await self._life.aclose()

    async def replace(self) -> None:
        """Another process, as at a deploy."""
        async with self.turn:
            await self.stop()
            await self.start()
        self.replaced += 1

    async def back_up(self) -> None:
        """Copy the database; a copy wants it for itself."""
        async with self.turn:
            await self.stop()
            await create_database(self.database.server, self._copy, template=self.database.name)
            await self.start()

    async def set_back(self) -> int:
        """Put the copy in the place of the database; how many payments are lost."""
        async with self.turn:
            await self.stop()
            before = await _payments(self.database)
            await drop_database(self.database.server, self.database.name)
            await create_database(self.database.server, self.database.name, template=self._copy)
            await drop_database(self.database.server, self._copy)
            await self.start()
        return before - await _payments(self.database)

    @property
    def _copy(self) -> str:
        return f"{self.database.name}_copy"


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_every_seat_is_confirmed_once_and_every_message_written_once(
    database: Database, tmp_path: Path, at_length: bool
) -> None:
    kills, payments = (100, 1_000) if at_length else (6, 24)
    draw, began = Random(20261128), time.monotonic()
    async with open_shop(database, number_of_seats=payments) as shop, running_relay(NOBODY) as relay:
        notes, lost, news = tmp_path / "notes", 0, list[str]()
        service = Service(database, tmp_path, relay)
        await service.start()
        booking, notification = programs = _programs(relay.address, shop, tmp_path, notes)
        for program in programs:
            await program.start()
        try:
            async with _passengers(service, shop, draw) as receipts:
                for wave in range(kills):
                    await _book(shop, wave * payments // kills, (wave + 1) * payments // kills)
                    victim = programs[wave % 2]
                    done = await _done(shop, notes)
                    await _until_done(shop, notes, done + draw.randint(1, payments // kills))
                    victim.check_alive()
                    await victim.end()
                    await victim.start()
                    if wave % 5 == 2:
                        await service.replace()
                    if wave in (kills * 4 // 10, kills * 6 // 10):
                        sold = (wave + 1) * payments // kills
                        news = await _until_quiet(service, shop, notes, sold, news, programs)
                    if wave == kills * 4 // 10:
                        await service.back_up()
                    if wave == kills * 6 // 10:
                        lost = await service.set_back()
                        await _begin_again(notification, notes)
                        # It has read the log anew, and goes on.
                        booking.check_alive()
                news = await _until_quiet(service, shop, notes, payments, news, programs)
                assert await _consumers(service.process) == {"bookings", "notifications"}
        finally:
            for program in programs:
                await program.end()
            await service.stop()
        assert lost, "the copy was as new as the database"
        await _judge_seats(database, shop, receipts, lost)
    _judge_messages(notes, news)
    seats = f"{len(receipts)} seats of {payments} confirmed once each"
    lives = (
        f"the payment service replaced {service.replaced} times, its database set back once and {lost} payments lost"
    )
    print(  # noqa: T201 -- the figures of the campaign
        f"\n{seats}, {len(news)} messages written once each, none missed\n"
        f"the two services killed {kills} times, {lives}; {time.monotonic() - began:.0f} s"
    )


async def _until_quiet(
    service: Service, shop: Shop, notes: Path, sold: int, before: list[str], programs: Sequence[Program]
) -> list[str]:
    """Wait until all that were booked have their tickets and messages; the news so far, those of a lost log first."""
    try:
        await _until_as_many(lambda: _sold(shop), sold, programs)
    except AssertionError as error:
        error.add_note(f"not confirmed: {await _unsold(shop)}")
        raise
    known = set(before)
    news = [*before, *(one for one in await _news(service.process) if one not in known)]
    await _until_as_many(lambda: _told(notes), len(news), programs)
    return news


async def _until_as_many(count: Callable[[], Awaitable[int]], least: int, programs: Sequence[Program]) -> None:
    """Wait for so many, for as long as there are more from time to time: a busy machine is slow, and not stuck."""
    found = await count()
    while found < least:
        before = found

        async def more(before: int = before) -> bool:
            nonlocal found
            for program in programs:
                program.check_alive()
            found = await count()
            return found > before

        await until(more, f"more than {before} of {least}")


async def _begin_again(notification: Program, notes: Path) -> None:
    """What an operator does: the program ends because its cursor is of a log that is gone, and reads the one there is.

    It writes down only what it has not written.
    """
    await until(notification.has_ended, "the notification service says that the log is another one")
    assert "LOG_DIVERGED" in notification.output
    with contextlib.closing(sqlite3.connect(notes / "notifications.db", timeout=30)) as connection:
        connection.execute("DELETE FROM payment_cursors")
        connection.commit()
    await notification.start()


async def _payments(database: Database) -> int:
    ((made,),) = await rows_of(database, "SELECT count(*) FROM payment_transactions")
    return int(made)


def _programs(address: str, shop: Shop, folder: Path, notes: Path) -> tuple[Program, Program]:
    database_url = folder / "shop.url"
    database_url.write_text(shop.url)
    page = f"127.0.0.1:{find_free_port()}"
    booking = ("--payments", address, "--database-url-file", str(database_url), "--listen", page)
    return (
        Program("examples.booking_service", *booking, log=folder / "booking.log"),
        Program(
            "examples.notification_service", "--payments", address, "--folder", str(notes), log=folder / "notes.log"
        ),
    )


@contextlib.asynccontextmanager
async def _passengers(service: Service, shop: Shop, draw: Random) -> AsyncIterator[dict[str, str]]:
    """People with phones: they refuse or pay whatever they are asked for. Receipts by booking, as they come."""
    receipts: dict[str, str] = {}
    task = asyncio.create_task(_keep_paying(service, shop, draw, receipts))
    try:
        yield receipts
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_paying(service: Service, shop: Shop, draw: Random, receipts: dict[str, str]) -> None:
    numbers = itertools.count(1)
    waiting = "SELECT payment_id, booking_id, attempt FROM payment_transactions WHERE state = 'CREATED'"
    again = "SELECT booking_id FROM bookings WHERE state = 'HELD' AND booking_action = 'BOOKING_ACTION_OFFER_RETRY'"
    while True:
        async with service.turn:
            # Or a prompt is sent to nobody that was asked for when the process had long been started.
            clock = service.process.writers.clock
            clock.move((datetime.now(UTC) - clock.now).total_seconds())
            for payment_id, booking_id, attempt in await rows_of(service.database, waiting):
                number = next(numbers)
                answer = paid(f"SJ{number:08}")
                if attempt == 1 and draw.random() < REFUSED_SHARE:
                    answer = refused()
                else:
                    receipts[booking_id] = f"SJ{number:08}"
                await tell(service.process, payment_id, *sent(number), answer)
        async with shop.engine.begin() as conn:
            for (booking_id,) in (await conn.exec_driver_sql(again)).all():
                await try_again(conn, booking_id)
        await asyncio.sleep(0.02)


async def _book(shop: Shop, first: int, end: int) -> None:
    for number in range(first, end):
        async with shop.engine.begin() as conn:
            await hold(conn, TRIP, f"{number + 1:02}", "0712345678", now=datetime.now(UTC))


async def _done(shop: Shop, notes: Path) -> int:
    """Tickets and messages so far: what a kill is to fall in between."""
    async with shop.engine.connect() as conn:
        tickets = (await conn.exec_driver_sql("SELECT count(*) FROM tickets")).scalar_one()
    return int(tickets) + len(_messages(notes))


async def _until_done(shop: Shop, notes: Path, least: int) -> None:
    async def reached() -> bool:
        return await _done(shop, notes) >= least

    await until(reached, f"{least} tickets and messages")


async def _sold(shop: Shop) -> int:
    async with shop.engine.connect() as conn:
        return int((await conn.exec_driver_sql("SELECT count(*) FROM tickets")).scalar_one())


async def _unsold(shop: Shop) -> list[tuple[object, ...]]:
    """Bookings without a ticket, as they stand."""
    without = (
        "SELECT booking_id, state, booking_action FROM bookings"
        " WHERE booking_id NOT IN (SELECT booking_id FROM tickets)"
    )
    async with shop.engine.connect() as conn:
        return [tuple(row) for row in await conn.exec_driver_sql(without)]


async def _told(notes: Path) -> int:
    return sum(sms_done and mail_done for _, _, sms_done, mail_done in _messages(notes))


def _messages(notes: Path) -> list[tuple[int, str, bool, bool]]:
    try:
        with contextlib.closing(sqlite3.connect(notes / "notifications.db", timeout=30)) as connection:
            rows = connection.execute("SELECT number, event_id, sms_done, mail_done FROM messages ORDER BY number")
            return [(number, event_id, bool(sms), bool(mail)) for number, event_id, sms, mail in rows]
    except sqlite3.OperationalError:
        return []  # Its first start has not made it yet.


async def _news(process: Process) -> list[str]:
    """The events that passengers are to hear of, read from the log itself."""
    await process.caught_up()
    request = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    stream, news = aiter(process.payments.WatchPayments(request)), []
    while True:
        message = await next_of(stream)
        news += [
            event.event_id
            for event in message.events
            if event.payment.status in ENDED and event.payment.status != event.previous_status
        ]
        if message.caught_up:
            return news


async def _consumers(process: Process) -> set[str]:
    """Those whose lag operators see."""
    answer = await process.operations.ListConsumers(operations_pb.ListConsumersRequest())
    return {one.consumer for one in answer.consumers}


async def _judge_seats(database: Database, shop: Shop, receipts: dict[str, str], lost: int) -> None:
    sold = select(tickets.c.booking_id, tickets.c.mpesa_receipt_number).order_by(tickets.c.booking_id)
    async with shop.engine.connect() as conn:
        rows = [(str(booking_id), str(receipt)) for booking_id, receipt in await conn.execute(sold)]
        asked = (await conn.exec_driver_sql("SELECT count(*) FROM payment_requests WHERE done")).scalar_one()
    assert rows == sorted(receipts.items())
    # One payment for each request, however often it was asked for: nobody's phone rang twice.
    assert await _payments(database) + lost == asked


def _judge_messages(notes: Path, news: list[str]) -> None:
    written = _messages(notes)
    with contextlib.closing(sqlite3.connect(notes / "notifications.db", timeout=30)) as connection:
        assert connection.execute("SELECT count(*) FROM payment_events_set_aside").fetchone() == (0,)
    assert [event_id for _, event_id, _, _ in written] == news
    lines = (notes / "sms.txt").read_text().splitlines()
    assert [int(line.split("\t")[0]) for line in lines] == [number for number, *_ in written]
    mails = sorted(path.name for path in (notes / "mails").glob("*.eml"))
    assert mails == sorted(f"{event_id}-notifications.example.eml" for event_id in news)
