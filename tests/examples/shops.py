"""What tests of the example services need: their databases, their programs, and passengers who pay."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from mpesa_payments.v1 import money_pb2, payment_pb2
from payment_client.cursors.sqlalchemy import AsyncSqlAlchemyCursors
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from development.postgres import create_database, drop_database
from examples.booking_service.tables import metadata, seats, trips
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import Fact
from tests.databases import Database
from tests.forks import MINIMAL, Forked, fork
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import Process

TRIP = "NBO-MSA-1"
_NUMBERS = itertools.count(1)


class Shop:
    """A booking service's own database, with one trip to sell."""

    def __init__(self, engine: AsyncEngine, url: str) -> None:
        self.engine, self.url = engine, url
        self.cursors = AsyncSqlAlchemyCursors(engine, "bookings", metadata)


@contextlib.asynccontextmanager
async def open_shop(database: Database, number_of_seats: int = 40) -> AsyncIterator[Shop]:
    """A database beside that of the payment service, and gone afterwards."""
    name = f"shop_{os.getpid()}_{next(_NUMBERS)}"
    url = await create_database(database.server, name)
    engine = create_async_engine("postgresql+psycopg://" + url.split("://", 1)[1])
    shop = Shop(engine, url)
    async with engine.begin() as conn:
        await conn.run_sync(metadata.create_all)
        await conn.execute(insert(trips).values(trip_id=TRIP, route="Nairobi to Mombasa", price=500))
        numbered = [{"trip_id": TRIP, "seat": f"{number:02}"} for number in range(1, number_of_seats + 1)]
        await conn.execute(insert(seats), numbered)
    try:
        yield shop
    finally:
        await engine.dispose()
        await drop_database(database.server, name)


def an_event(
    booking_id: str,
    action: payment_pb2.BookingAction.ValueType,
    *,
    payment_id: str = "payment-1",
    attempt: int = 1,
    receipt: str = "",
    retry_allowed: datetime | None = None,
    kind: payment_pb2.PaymentEventType.ValueType = payment_pb2.PAYMENT_EVENT_TYPE_UPDATED,
) -> payment_pb2.PaymentEvent:
    """An event as the payment service would send it, as far as a booking looks at it."""
    payment = payment_pb2.Payment(
        payment_id=payment_id,
        booking_id=booking_id,
        attempt=attempt,
        booking_action=action,
        mpesa_receipt_number=receipt,
        amount=money_pb2.Money(currency_code="KES", units=500),
        customer_message="As the passenger reads it.",
    )
    if retry_allowed is not None:
        payment.retry_allowed_time.FromDatetime(retry_allowed.astimezone(UTC))
    return payment_pb2.PaymentEvent(event_id=f"{payment_id}-1", type=kind, payment=payment)


async def tell(process: Process, payment_id: UUID, *facts: Fact) -> None:
    """What Safaricom would."""
    for fact in facts:
        await process.writers.facts.submit(Submission(fact, payment_id))


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for it."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it never came: {what}") from None


class Program:
    """An example service as a process of its own, which may be killed at any line."""

    def __init__(self, module: str, *words: str, log: Path) -> None:
        self._module, self._words, self._log = module, words, log
        self._process: Forked | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            files = {"stdin": nothing.fileno(), "stdout": log.fileno(), "stderr": log.fileno()}
            self._process = await fork(self._module, self._words, MINIMAL, **files)

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), PATIENCE_SECONDS)

    async def has_ended(self) -> bool:
        """By itself."""
        assert self._process is not None
        return self._process.returncode is not None

    @property
    def output(self) -> str:
        """What it has said in all its lives."""
        return self._log.read_text()

    def check_alive(self) -> None:
        """Fail with what it has said where it has ended by itself."""
        assert self._process is not None
        assert self._process.returncode is None, self._log.read_text()
