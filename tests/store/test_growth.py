"""However many payments there are, a read or a step touches rows in proportion to what it returns.

Every statement that callers and periodic steps run is explained by PostgreSQL as it is run, and the rows that it
touched are counted; so are those that the functions touched which it calls, by what the server counts. The figures are
PostgreSQL's own, so they do not depend on the machine.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store import issued_receipts, payment_search, reads
from payment_service.store.engines import read_engine
from payment_service.store.payment_search import PaymentSearch
from payment_service.store.reads import EventScope, PaymentFilter
from payment_service.store.time_ordered_ids import first_id_at
from tests.databases import Database
from tests.rows import touched_by
from tests.store.filled_tables import CALLER, PAYMENTS, ago, fill
from tests.store.growth_of_steps import STEPS, TOUCHED_MOST, Read

TOUCHED_PER_ROW, TOUCHED_MORE = 20, 200
SOME_MINUTES = timedelta(minutes=15)

# Of the tables and indexes, those of the functions that a statement calls among them; EXPLAIN does not look into these.
_LOOKED_AT = """
SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::bigint FROM pg_class
WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace"""


def middle() -> datetime:
    return ago(PAYMENTS // 2)


def listing(**wanted: Any) -> Read:
    return lambda conn: reads.list_payments(conn, CALLER, PaymentFilter(**wanted), None, 51)


def listing_everybodys(**wanted: Any) -> Read:
    return lambda conn: reads.list_payments(conn, None, PaymentFilter(**wanted), None, 51)


def finding(**known: Any) -> Read:
    return lambda conn: payment_search.find_payments(conn, PaymentSearch(**known), None, 51)


async def id_of(conn: AsyncConnection, number: int) -> UUID:
    """The id of a payment, which holds the time that it was made at."""
    (found,) = await reads.list_payments(conn, CALLER, PaymentFilter(reference=f"ref{number}"), None, 2)
    return found.payment_id


async def payment_by_id(conn: AsyncConnection) -> object:
    # Callers read by the driver's own connection, whose statements are seen by what they count.
    driver: Any = (await conn.get_raw_connection()).driver_connection
    return await reads.payments_by(driver, [await id_of(conn, 150_782)], ["ref783"])


async def retried(conn: AsyncConnection) -> object:
    return await reads.request_of(conn, CALLER, await id_of(conn, 150_785))


async def history_of_payment(conn: AsyncConnection) -> object:
    scope = EventScope(CALLER, payment_id=await id_of(conn, 150_782))
    return await reads.events_between(conn, scope, 0, 2 * PAYMENTS, 100)


async def issued_receipt(conn: AsyncConnection) -> object:
    return await issued_receipts.latest_receipt(conn, await id_of(conn, 150_782))


READS: dict[str, Read] = {
    "GetReceipt": issued_receipt,
    "GetPayment": payment_by_id,
    "ListPayments": listing(),
    "ListPayments, before a payment": lambda conn: reads.list_payments(
        conn, CALLER, PaymentFilter(), first_id_at(middle()), 51
    ),
    "ListPayments, by a rare status": listing(statuses=("REFUNDED",)),
    "ListPayments, by two statuses": listing(statuses=("PROCESSING", "REFUNDED")),
    "ListPayments, by a common status": listing(statuses=("COMPLETED",)),
    "ListPayments, of some minutes long ago": lambda conn: listing(
        created_from=middle(), created_before=middle() + SOME_MINUTES
    )(conn),
    "ListPayments, by status, of some minutes long ago": lambda conn: listing(
        statuses=("FAILED",), created_from=middle(), created_before=middle() + SOME_MINUTES
    )(conn),
    "ListPayments, by booking": listing(booking_id="BK-777"),
    "ListPayments, by reference": listing(reference="ref778"),
    "ListPayments, by request id": listing(request_id="request-779"),
    "ListPayments, by receipt": listing(receipt="R780"),
    "ListPayments of everybody": listing_everybodys(),
    "ListPayments of everybody, by a rare status": listing_everybodys(statuses=("REFUNDED",)),
    "ListPayments of everybody, by two statuses": listing_everybodys(statuses=("PROCESSING", "COMPLETED")),
    "ListPayments of everybody, by booking": listing_everybodys(booking_id="BK-777"),
    "ListPayments of everybody, by reference": listing_everybodys(reference="ref778"),
    "ListPayments of everybody, by request id": listing_everybodys(request_id="request-779"),
    "ListPayments of everybody, by receipt": listing_everybodys(receipt="R780"),
    "FindPayments, by phone number": finding(phone_index=(784).to_bytes(4, "big")),
    "FindPayments, by receipt": finding(receipt="R785"),
    "FindPayments, by booking": finding(booking_id="BK-786"),
    "FindPayments, by reference": finding(reference="ref787"),
    "FindPayments, by request id": finding(request_id="request-788"),
    "FindPayments, completed in some minutes long ago": lambda conn: finding(
        completed_from=middle(), completed_before=middle() + SOME_MINUTES
    )(conn),
    "RetryPayment": retried,
    "WatchPayment, history of a booking": lambda conn: reads.events_between(
        conn, EventScope(CALLER, booking_id="BK-781"), 0, 2 * PAYMENTS, 100
    ),
    "WatchPayment, history of a payment": history_of_payment,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_read_and_step_touches_rows_in_proportion(database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        fill(owner)
    # As the owner: what is explained is run a second time.
    engine = read_engine(database.owner_url)
    statements: list[tuple[str, Any]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_conn: object, _cursor: object, sql: str, parameters: Any, _context: object, many: bool) -> None:
        if not many and not sql.startswith("EXPLAIN") and sql != _LOOKED_AT:
            statements.append((sql, parameters))

    too_much, table = {}, []
    for name, read in (READS | dict(STEPS)).items():
        statements.clear()
        async with engine.connect() as conn:
            before = await looked_at(conn)
            result = await read(conn)
            counted = await looked_at(conn) - before
            await conn.rollback()
            explained = sum([await rows_touched(conn, sql, parameters) for sql, parameters in tuple(statements)])
            await conn.rollback()
        returned, touched = size_of(result), max(explained, counted)
        table.append(f"{name:54} {returned:6} returned {touched:8} touched")
        if touched > TOUCHED_MOST.get(name, returned * TOUCHED_PER_ROW + TOUCHED_MORE):
            too_much[name] = touched
    await engine.dispose()
    print("\n".join(table))  # noqa: T201 -- the table is what a reader of the run wants to see
    assert too_much == {}


def size_of(result: object) -> int:
    """How many rows a read has returned, or a step has removed."""
    if isinstance(result, int):
        return result
    return len(result) if isinstance(result, list | dict) else int(result is not None)


async def looked_at(conn: AsyncConnection) -> int:
    """Rows that this connection has looked at so far, as its server has counted them."""
    return int((await conn.exec_driver_sql(_LOOKED_AT)).scalar_one())


async def rows_touched(conn: AsyncConnection, sql: str, parameters: Any) -> int:
    """Rows that the statement looked at, whether it gave them back or not."""
    explained = await conn.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
    plan = explained.scalar_one()
    return touched_by((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
