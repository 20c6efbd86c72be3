"""Sharing commits: many callers, one transaction at a time.

Theory of operation. Callers hand over items from any coroutine and wait for
their answers. While one transaction is in flight, the next group fills; as soon
as it is over, everything that has gathered goes into the next one. A lone item
therefore waits for nobody, and a busy second shares its commits. After a group
of `BUSY_ITEMS` the writer lets the next one fill for a moment: what a transaction
costs by itself is then shared by more.

The transaction runs in a task of its own. A caller that goes away, because its
deadline has passed or its client hung up, takes nothing with it: cancelling a
COMMIT half-way could leave it on this server and not on its standby.

What can go wrong, and what follows:

* a row that an item needs is locked by somebody else, perhaps by a person at a
  console: the others are written, and the item joins a later group. Nothing waits
  for the row, so it holds up no other;
* deadlock or serialization failure: rolled back, so the group runs again;
* a constraint refused something: most often another process was first, so the
  group runs again and sees what that process has written; a second time, every
  item runs in a transaction of its own and only the one at fault fails;
* the connection broke: if COMMIT was on its way its outcome is unknown, so the
  group runs again, and whatever finds its own id was applied;
* the server takes no writes any more, as after a failover: the group runs again,
  and may then reach the new primary;
* no answer for `COMMIT_WAIT_SECONDS`: the server's own timeouts do not bound a
  COMMIT that waits for its standby. The connection is cut without a cancel
  request, and the group runs again.

Whatever fails takes its connection with it. A group that fails so often is told
that the store does not answer.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
import structlog
from psycopg import errors

from payment_service.alarms import PROGRAM_FAULT
from payment_service.domain.errors import BookingLocked, Overloaded, StoreUnavailable
from payment_service.store.pipeline import Connection
from runtime.alarms import raise_alarm

Item = TypeVar("Item")
Answer = TypeVar("Answer")

GROUP_MAX = 128
"""Items in one transaction: enough that commits cost nothing each, few enough that a group takes milliseconds."""

WAITING_MAX = 4_096
"""Items waiting for a transaction. Beyond it new work is refused rather than answered too late."""

BUSY_ITEMS = 4
"""Items in a group that show that more are coming than transactions can keep up with one by one."""
GATHER_SECONDS = 0.006
"""How long a busy writer lets the next group fill. At 64 payments in flight each then costs an eighth less CPU time."""

COMMIT_WAIT_SECONDS = 10.0
TRIES_MAX = 4
RETRY_WAIT_SECONDS = 0.05
"""Before the second try; doubled before each later one."""

LOCKED_TRIES_MAX = 24
"""Groups that an item joins while a row that it needs is locked; with the waits between them some 11 s."""
LOCKED_WAIT_SECONDS = 0.005
"""Before it joins the second one: another process holds a lock for some milliseconds. Doubled before each later one."""
LOCKED_WAIT_MAX_SECONDS = 0.64

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Waiter(Generic[Item, Answer]):
    """An item, and who waits for its answer."""

    item: Item
    answer: asyncio.Future[Answer]
    tries: int = 0
    """Groups in which a row that it needs was locked."""


class GroupCommit(Generic[Item, Answer]):
    """A queue of items and the one connection that writes them, group by group."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Connection]],
        write: Callable[[Connection, Sequence[Item]], Awaitable[Sequence[Answer | BookingLocked]]],
        committed: Callable[[], None],
    ) -> None:
        """`write` runs one transaction; `committed` is told after each that there may be new events.

        Nothing has been done for an item that `write` answers with BookingLocked.
        """
        self._name = name
        self._connect = connect
        self._write = write
        self._committed = committed
        self._waiting: deque[_Waiter[Item, Answer]] = deque()
        self._held: set[_Waiter[Item, Answer]] = set()
        self._arrived = asyncio.Event()
        self._place_free = asyncio.Event()
        self._connection: Connection | None = None
        self._ended = False

    async def submit(self, item: Item, *, patient: bool = False) -> Answer:
        """The answer for one item, once its transaction is committed.

        When too much is waiting, a patient caller waits for a place and any
        other gets `Overloaded`. The outcome of a request that is already on the
        wire is submitted patiently: it must not be dropped.
        """
        if self._ended:
            raise StoreUnavailable
        while len(self._waiting) + len(self._held) >= WAITING_MAX:
            if not patient:
                raise Overloaded
            self._place_free.clear()
            await self._place_free.wait()
            if self._ended:
                raise StoreUnavailable
        waiter: _Waiter[Item, Answer] = _Waiter(item, asyncio.get_running_loop().create_future())
        self._join(waiter)
        return await waiter.answer

    async def run(self) -> None:
        """Write groups until cancelled; what has been handed over by then is still written."""
        try:
            while True:
                await self._arrived.wait()
                if await self._write_next_group() >= BUSY_ITEMS:
                    await asyncio.sleep(GATHER_SECONDS)
        except asyncio.CancelledError:
            while self._waiting or self._held:
                await self._arrived.wait()
                await self._write_next_group()
            raise
        finally:
            self._ended = True
            self._place_free.set()
            _fail((*self._waiting, *self._held))
            if self._connection is not None:
                await self._connection.close()

    async def _write_next_group(self) -> int:
        """Write what has gathered; how many items it was."""
        group = [self._waiting.popleft() for _ in range(min(GROUP_MAX, len(self._waiting)))]
        if not self._waiting:
            self._arrived.clear()
        self._place_free.set()
        writing = asyncio.create_task(self._answer(group), name=f"{self._name}-group")
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise
        return len(group)

    async def _answer(self, group: Sequence[_Waiter[Item, Answer]]) -> None:
        try:
            answers = await self._committed_answers([waiter.item for waiter in group])
        except BaseException:
            _fail(group)
            raise
        for waiter, answer in zip(group, answers, strict=True):
            if isinstance(answer, BookingLocked) and waiter.tries < LOCKED_TRIES_MAX:
                self._hold(waiter)
            elif waiter.answer.done():
                continue
            elif isinstance(answer, Exception):
                waiter.answer.set_exception(answer)
            else:
                waiter.answer.set_result(answer)

    def _hold(self, waiter: _Waiter[Item, Answer]) -> None:
        """Let an item join a later group. A caller that has gone away takes nothing with it here either."""
        wait = min(LOCKED_WAIT_SECONDS * 2**waiter.tries, LOCKED_WAIT_MAX_SECONDS)
        waiter.tries += 1
        self._held.add(waiter)
        asyncio.get_running_loop().call_later(wait, self._join, waiter)

    def _join(self, waiter: _Waiter[Item, Answer]) -> None:
        self._held.discard(waiter)
        self._waiting.append(waiter)
        self._arrived.set()

    async def _committed_answers(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        constraint_failures = 0
        problem: Exception = StoreUnavailable()
        for attempt in range(TRIES_MAX):
            if attempt:
                await asyncio.sleep(RETRY_WAIT_SECONDS * 2 ** (attempt - 1))
            try:
                answers = await self._transaction(items)
            except errors.IntegrityError as error:
                constraint_failures += 1
                _log.warning("constraint refused a group", group=self._name, items=len(items), constraint=_name(error))
                problem = error
                if constraint_failures > 1:
                    break
            except (psycopg.OperationalError, errors.ReadOnlySqlTransaction, OSError, TimeoutError) as error:
                _log.warning("store did not answer", group=self._name, items=len(items), cause=repr(error))
                problem = StoreUnavailable()
                problem.__cause__ = error
            except Exception as error:
                raise_alarm(PROGRAM_FAULT, what="group failed", group=self._name, items=len(items), exc_info=True)
                problem = error
                break
            else:
                self._committed()
                return answers
        if len(items) == 1 or isinstance(problem, StoreUnavailable):
            return [problem] * len(items)
        return [answer for item in items for answer in await self._committed_answers([item])]

    async def _transaction(self, items: Sequence[Item]) -> Sequence[Answer | BookingLocked]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await self._connect()
        writing = asyncio.ensure_future(self._write(connection, items))
        done, _ = await asyncio.wait({writing}, timeout=COMMIT_WAIT_SECONDS)
        if not done:
            _cut(connection)
            await asyncio.wait({writing})
        if writing.exception() is not None:
            # Failures are rare, and a new connection has no transaction, no statements and no server of the old one.
            await connection.close()
        return writing.result()


def _fail(group: Iterable[_Waiter[Any, Any]]) -> None:
    """Whoever waits must not wait for ever for a writer that is gone."""
    for waiter in group:
        if not waiter.answer.done():
            waiter.answer.set_exception(StoreUnavailable())


def _cut(connection: Connection) -> None:
    """Break the connection under its reader. A cancel request could undo the wait, and not the commit."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def _name(error: psycopg.Error) -> str | None:
    return error.diag.constraint_name
