"""Very many numbers: none stands anywhere in clear, and once they are erased none can be opened any more."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.application.privacy.test_erase_person import erasing, in_clear
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import Process
from tests.stories import Stories

TOGETHER = 50
"""Payments made at once, so that they are written in groups."""
_TABLES = "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'"
_WAL = "SELECT pg_read_binary_file('pg_wal/' || name) FROM pg_ls_waldir() ORDER BY modification DESC LIMIT 4"

_RANDOM = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|callback:[0-9a-f]{32}")
"""Ids: of so many, some look like one of ten thousand numbers by chance."""
_BYTES = re.compile(r"\\\\x((?:[0-9a-f]{2})+)")
"""A column of bytes, as a row shows it."""


def found_in(content: bytes, numbers: set[bytes]) -> set[bytes]:
    """Those of the numbers, without their country code, that stand in it."""
    runs = re.findall(rb"[0-9]{9,}", _RANDOM.sub(b" ", content))
    return {run[i : i + 9] for run in runs for i in range(len(run) - 8)} & numbers


async def opened(process: Process, database: Database) -> bytes:
    """All that the tables hold, with what is sealed opened. Columns of bytes are left out: what is random looks, in
    hex, like one of the numbers by chance."""
    return _BYTES.sub("", await in_clear(process.writers, database)).encode()


async def as_kept(database: Database) -> bytes:
    """All rows as text, with what is kept as bytes as it is and not in hex; and the newest WAL."""
    kept = [content for (content,) in await rows_of(database, _WAL)]
    for (table,) in await rows_of(database, _TABLES):
        for (row,) in await rows_of(database, f"SELECT t::text FROM {table} AS t"):
            kept += [_BYTES.sub("", row).encode(), *map(bytes.fromhex, _BYTES.findall(row))]
    return b"\n".join(kept)


@pytest.mark.timeout(1_200)
@pytest.mark.usefixtures("untraced")
async def test_numbers_are_nowhere_in_clear_and_erased_ones_nowhere_at_all(
    process: Process,
    database: Database,
    tmp_path: Path,
    at_length: bool,
    record_property: Callable[[str, object], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    stories, many = Stories(process.writers, tmp_path), 10_000 if at_length else 60
    phones = [f"25471{17 * number:07}" for number in range(1, many + 1)]
    numbers = {phone[3:].encode() for phone in phones}

    async def declined(phone: str) -> None:
        payment = await stories.prompted(phone_number=phone)
        body = {"Body": {"stkCallback": {"ResultCode": 1032, "ResultDesc": f"declined by {phone}"}}}
        await stories.body(payment.reference, json.dumps(body).encode())

    for first in range(0, many, TOGETHER):
        await asyncio.gather(*map(declined, phones[first : first + TOGETHER]))
    assert found_in(await opened(process, database), numbers) == numbers, "what is sealed opens"
    assert found_in(await as_kept(database), numbers) == set()

    for phone in phones:
        await process.operations.ErasePerson(erasing(phone))
    assert found_in(await opened(process, database), numbers) == set()
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("VACUUM")
    assert found_in(await as_kept(database), numbers) == set()
    logged = capfd.readouterr()
    assert "personal data erased" in logged.out + logged.err
    assert found_in((logged.out + logged.err).encode(), numbers) == set()
    record_property("figure", f"{many:,} numbers, 0 in clear in tables, WAL and log; after erasing 0 can be opened")
