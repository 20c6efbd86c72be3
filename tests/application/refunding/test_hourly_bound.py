"""How much money goes back without a person in an hour: counted among all processes, and a case above it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import structlog

from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.facts import DeadlinePassed
from payment_service.domain.payment import Payment, State
from tests.application.casework.casefiles import open_cases
from tests.application.refunding.test_automatic_refunds import REFUND, broken, returning
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.rpc.processes import Process, paid, sent

ALLOWED = AutomaticRefunds(500, duplicates=True, shortcodes=["174379"], refunds_per_hour=2)
LOCK = "SELECT pg_advisory_xact_lock(1919315556, 1)"
WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE locktype = 'advisory' AND classid = 1919315556 AND NOT granted AND datname = current_database()"""


async def expired(process: Process, *claims: int) -> list[Payment]:
    """Payments that nobody answered in time, and whose late money is to go back."""
    made = [await process.tell(await process.create(late_payment_policy=REFUND), *sent(claim)) for claim in claims]
    process.writers.clock.move(121)
    return [await process.tell(payment, DeadlinePassed()) for payment in made]


async def late(process: Process, payment: Payment, number: int) -> State:
    """What becomes of the payment whose money comes late."""
    return (await process.tell(payment, paid(f"RCPT00000{number}"))).state


@contextlib.asynccontextmanager
async def held(database: Database) -> AsyncIterator[psycopg.AsyncConnection]:
    """Another process counts what went back, and has not committed."""
    async with await psycopg.AsyncConnection.connect(database.owner_url) as other:
        await other.execute(LOCK)
        yield other


async def test_above_the_number_of_an_hour_a_case_waits_and_a_person_is_called(
    database: Database, tmp_path: Path
) -> None:
    async with returning(database, tmp_path, ALLOWED) as process:
        payments = await expired(process, 1, 2, 3, 4)
        with structlog.testing.capture_logs() as lines:
            ends = [await late(process, one, number) for number, one in enumerate(payments[:3])]
        assert ends == [State.REFUNDING, State.REFUNDING, State.COMPLETED]
        alarms = [line["payment_id"] for line in lines if line.get("alarm") == "automatic_refunds_bounded"]
        assert alarms == [str(payments[2].payment_id)]
        assert [(one.kind, one.payment_id) for one in await open_cases(process)] == [
            ("LATE_PAYMENT", payments[2].payment_id)
        ]
        process.writers.clock.move(3601)
        assert await late(process, payments[3], 3) is State.REFUNDING
        # What was left to a person stays with the person.
        assert len(await open_cases(process)) == 1
        assert await broken(process, database) == []


async def test_the_sum_of_an_hour_is_bounded_too(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path, replace(ALLOWED, refunds_per_hour=100, kes_per_hour=999)) as process:
        payments = await expired(process, 1, 2)
        assert [await late(process, one, number) for number, one in enumerate(payments)] == [
            State.REFUNDING,
            State.COMPLETED,
        ]


async def test_two_processes_at_once_send_back_no_more_than_one_would(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path, ALLOWED) as one, returning(database, tmp_path, ALLOWED) as two:
        payments = await expired(one, *range(1, 9))
        two.writers.clock.now = one.writers.clock.now
        ends = await asyncio.gather(
            *(late((one, two)[number % 2], payment, number) for number, payment in enumerate(payments))
        )
        assert (ends.count(State.REFUNDING), ends.count(State.COMPLETED)) == (2, 6)
        assert await rows_of(database, "SELECT count(*) FROM refunds WHERE by_itself") == [(2,)]
        assert await broken(one, database) == []


async def test_what_another_process_is_about_to_send_back_is_waited_for_and_counted(
    database: Database, tmp_path: Path
) -> None:
    async with returning(database, tmp_path, replace(ALLOWED, refunds_per_hour=1)) as process:
        (payment,) = await expired(process, 1)
        async with held(database) as other:
            told = asyncio.create_task(late(process, payment, 1))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await rows_of(database, WAITING) == [(0,)]:
                    await asyncio.sleep(0.01)
            await other.rollback()
        assert await told is State.REFUNDING


async def test_money_in_time_waits_for_nobody_who_counts(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path, ALLOWED) as process, held(database):
        payment = await process.tell(await process.create(late_payment_policy=REFUND), *sent(1), paid("RCPT000001"))
        assert payment.state is State.COMPLETED
        assert await count(database, "refunds") == 0
