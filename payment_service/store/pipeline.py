"""Running several statements in one round trip.

psycopg's own pipeline sends each statement by itself and waits for the socket in between, which cost more processor
time than all the rest of a small transaction. Here the statements are queued in libpq, leave in one write, and their
results are read as they come. Built on `psycopg.pq`, psycopg's documented wrapper of libpq's pipeline mode.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

Connection = psycopg.AsyncConnection[Any]

_BINARY = pq.Format.BINARY

_names = itertools.count(1)
_prepared: WeakKeyDictionary[Connection, dict[str, bytes]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with $1, $2, … and its parameters as text; None is NULL."""

    sql: str
    parameters: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave back: its rows, if it returns any, and how many rows it touched."""

    rows: Sequence[tuple[Any, ...]]
    count: int


BEGIN = Statement("BEGIN")
COMMIT = Statement("COMMIT")
ROLLBACK = Statement("ROLLBACK")


async def run_together(connection: Connection, statements: Sequence[Statement]) -> list[Result]:
    """Run the statements in order, in one round trip. The first that fails is raised, and those after it are not run.

    The transaction is the caller's: put BEGIN and COMMIT among the statements, on an autocommit connection. Call it in
    a task that nobody cancels: what became of the statements would not be known, nor the connection of further use.
    """
    pgconn = connection.pgconn
    prepared = _prepared.setdefault(connection, {})
    pgconn.enter_pipeline_mode()
    try:
        expected = [_queue(pgconn, prepared, statement) for statement in statements]
        pgconn.pipeline_sync()
        results = await _results(connection, pgconn)
    except psycopg.Error:
        # The connection is lost, or somewhere inside its pipeline; either way it is of no further use.
        _prepared.pop(connection, None)
        raise
    pgconn.exit_pipeline_mode()
    return _read(connection, expected, results)


async def backends_notifying(connection: Connection, seconds: float) -> set[int]:
    """The backends that have notified what this connection listens to.

    There are none where none does for so many seconds, or where the server sends something else sooner.
    psycopg's own `notifies` wakes ten times a second, which is a good part of what an idle process costs.
    """
    pgconn = connection.pgconn
    if not (backends := _backends(pgconn)):
        await _ready(asyncio.get_running_loop(), connection.fileno(), write=False, seconds=seconds)
        pgconn.consume_input()
        backends = _backends(pgconn)
    return backends


def _backends(pgconn: pq.abc.PGconn) -> set[int]:
    return {notice.be_pid for notice in iter(pgconn.notifies, None)}


def _queue(pgconn: pq.abc.PGconn, prepared: dict[str, bytes], statement: Statement) -> int:
    """Queue a statement, prepared if it is new; how many results will come for it."""
    new = statement.sql not in prepared
    if new:
        prepared[statement.sql] = b"together_%d" % next(_names)
        pgconn.send_prepare(prepared[statement.sql], statement.sql.encode())
    values = [value if value is None else value.encode() for value in statement.parameters]
    pgconn.send_query_prepared(prepared[statement.sql], values or None, result_format=_BINARY)
    return 2 if new else 1


async def _results(connection: Connection, pgconn: pq.abc.PGconn) -> list[pq.abc.PGresult]:
    """All results up to the end of the pipeline."""
    loop, descriptor = asyncio.get_running_loop(), connection.fileno()
    results: list[pq.abc.PGresult] = []
    while pgconn.flush():
        await _ready(loop, descriptor, write=True)
        pgconn.consume_input()
    while True:
        while not pgconn.is_busy():
            result = pgconn.get_result()
            # None ends the results of one statement; the next one's follow.
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)
        await _ready(loop, descriptor, write=False)
        pgconn.consume_input()


async def _ready(
    loop: asyncio.AbstractEventLoop, descriptor: int, *, write: bool, seconds: float | None = None
) -> None:
    """Until the socket can be read; or written, or read meanwhile, so that neither side waits for the other.

    At most for so many seconds, where they are given.
    """
    ready = loop.create_future()

    def set_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, set_ready)
    if write:
        loop.add_writer(descriptor, set_ready)
    timer = loop.call_later(seconds, set_ready) if seconds is not None else None
    try:
        await ready
    finally:
        if timer is not None:
            timer.cancel()
        loop.remove_reader(descriptor)
        if write:
            loop.remove_writer(descriptor)


def _read(connection: Connection, expected: Sequence[int], results: Sequence[pq.abc.PGresult]) -> list[Result]:
    failed = next((result for result in results if result.status == pq.ExecStatus.FATAL_ERROR), None)
    if failed is not None:
        # A statement that was to be prepared may not have been; it gets another name next time.
        _prepared.pop(connection, None)
        raise errors.error_from_result(failed, connection.info.encoding)
    return [_result(connection, results[end - 1]) for end in itertools.accumulate(expected)]


def _result(connection: Connection, result: pq.abc.PGresult) -> Result:
    if result.status != pq.ExecStatus.TUPLES_OK or not result.ntuples:
        return Result((), result.command_tuples or 0)
    transformer = Transformer.from_context(connection)
    transformer.set_pgresult(result)
    return Result(transformer.load_rows(0, result.ntuples, tuple), result.ntuples)
