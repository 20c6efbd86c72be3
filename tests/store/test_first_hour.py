"""The statements that run for every new payment touch few rows in the first hour of a database, too.

PostgreSQL plans them while there is hardly anything to read, when reading all is as quick as any index, and keeps the
plan until the table is analyzed again, while payments come by the thousand. A writer's connection rules out scans of
the table, but not the scan of an index that does not fit.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import sql

from payment_service.store import payments, risk
from payment_service.store.engines import connect_writer
from payment_service.store.pipeline import Connection, Statement
from tests.databases import Database
from tests.rows import touched_by
from tests.writers import a_request, running_writers

NOW = datetime.now(UTC)
FEW, MANY = 40, 2000
TOUCHED_MOST = 10

COLUMNS = """
SELECT string_agg(column_name, ', ') FROM information_schema.columns
WHERE table_name = 'payment_transactions' AND is_generated = 'NEVER'"""
# One payment that was really made, many times, with names of its own for each.
COPY = """
INSERT INTO payment_transactions ({columns}) SELECT {columns} FROM (
    SELECT (jsonb_populate_record(p, jsonb_build_object('payment_id', gen_random_uuid(), 'request_id', 'r' || n,
        'reference', 'ref' || n, 'booking_id', 'COPY-' || n, 'account_reference', 'ref' || n,
        'phone_index_a', '\\x' || lpad(to_hex(n), 8, '0')))).*
    FROM payment_transactions p CROSS JOIN generate_series({since}, {until}) AS n
    WHERE p.booking_id NOT LIKE 'COPY-%') AS copies"""

STATEMENTS = {
    "attempts of the bookings": payments.payments_of_bookings([("development", "COPY-7")]),
    "payments of the requests": payments.payments_of_requests([("development", "r8")]),
    "account references": payments.account_references_in_use(["ref9"], NOW),
    "the payments to lock": payments.lock_payments([UUID(int=1)], ["ref10"]),
    "prompts of the phones": risk.prompts_of_phones([b"\0\0\0\x0b"], NOW),
    "prompts of the bookings": risk.prompts_of_bookings([("development", "COPY-12")]),
}


async def test_what_runs_for_every_payment_touches_few_rows_with_the_plan_of_an_empty_table(
    database: Database, tmp_path: Path
) -> None:
    async with running_writers(database.application_url, tmp_path) as writers:
        await writers.create("development", a_request(), None, None)
    touched = {}
    async with await connect_writer(database.owner_url, autocommit=True) as owner:
        # Filling the table may take a busy machine longer than a writer's statement may.
        await owner.execute("SET statement_timeout = 0")
        await owner.execute("ALTER TABLE payment_transactions SET (autovacuum_enabled = off)")
        await fill(owner, 1, FEW)
        await owner.execute("ANALYZE payment_transactions")
        for place, statement in enumerate(STATEMENTS.values()):
            await owner.execute(f"PREPARE s{place} AS {statement.sql}".encode())
            await run(owner, place, statement)
        await fill(owner, FEW + 1, MANY)
        for place, (name, statement) in enumerate(STATEMENTS.items()):
            touched[name] = touched_by(await run(owner, place, statement))
    assert {name: rows for name, rows in touched.items() if rows > TOUCHED_MOST} == {}, touched


async def fill(owner: Connection, since: int, until: int) -> None:
    columns = await (await owner.execute(COLUMNS)).fetchone()
    assert columns is not None
    await owner.execute(COPY.format(columns=columns[0], since=since, until=until).encode())


async def run(owner: Connection, place: int, statement: Statement) -> dict[str, Any]:
    """Run a prepared statement; the plan that it was run by."""
    values = sql.SQL(", ").join(statement.parameters)
    query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {}({})").format(sql.Identifier(f"s{place}"), values)
    explained = await (await owner.execute(query)).fetchone()
    assert explained is not None
    plan: dict[str, Any] = explained[0][0]["Plan"]
    return plan
