"""Looking into a test's database as its owner."""

from typing import Any

import psycopg

from tests.databases import Database


async def rows_of(database: Database, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    async with await psycopg.AsyncConnection.connect(database.owner_url) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    return int((await rows_of(database, f"SELECT count(*) FROM {table}"))[0][0])


async def open_transactions(database: Database) -> int:
    """How many transactions clients have open at this moment."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return int((await rows_of(database, query))[0][0])


def touched_by(node: dict[str, Any]) -> int:
    """Rows that a statement looked at, whether it gave them back or not: of its plan, as EXPLAIN (ANALYZE) tells it."""
    looked_at = 0
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        looked_at = round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return looked_at + sum(touched_by(inner) for inner in node.get("Plans", ()))
