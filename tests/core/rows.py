"""Looking into a test's database as its owner."""

from typing import Any

import psycopg

from tests.conftest import Database


async def rows_of(database: Database, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    async with await psycopg.AsyncConnection.connect(database.owner_url) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    return int((await rows_of(database, f"SELECT count(*) FROM {table}"))[0][0])
