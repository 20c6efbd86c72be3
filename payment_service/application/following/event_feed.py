"""The live end of the log: one tailer a process, and everybody who watches.

Theory of operation. The tailer reads the log after its position and hands each
event to those who subscribed to its payment, its booking, or its caller. Events
are in commit order (see `store.event_log`), so a position is a complete account
of everything before it, and the tailer's own position, taken before a read, is
where a reader of that read may go on watching.

Three things make the tailer look: a commit of this process (`wake`), a NOTIFY
of another one, and a poll. The first two are hints that may be lost; the poll
is the truth. A burst of hints is one look every `LOOK_INTERVAL_SECONDS`: fuller
messages cost less than faster ones.

A subscriber that does not take its events in time loses them here, and is told
so (`behind`): it then reads the table from its own position. Slow means late,
never lost, and never a burden on others.

Any error of the database ends in a new connection, from the same position. If
the log no longer holds that position the database was restored to an earlier
point; then the feed fails, and with it the process, because every cursor it has
given out since is void.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar
from uuid import UUID

import psycopg
import structlog

from payment_service.alarms import LOG_DIVERGED
from payment_service.application.following.stored_views import event_view
from payment_service.domain.errors import LogDiverged
from payment_service.domain.views import EventView
from payment_service.security.sealing import Sealer
from payment_service.store import reads
from payment_service.store.pipeline import Connection, Statement, backends_notifying, run_together
from payment_service.store.reads import EventRow
from runtime.alarms import raise_alarm

Key = TypeVar("Key")

CHANNEL = "payment_events"
POLL_SECONDS = 0.1
"""The longest a commit of another process can go unseen when its NOTIFY is lost."""
LOOK_INTERVAL_SECONDS = 0.005
"""Between two looks at the log, and between two NOTIFYs, of a busy process."""
EVENTS_A_LOOK = 1_000
READ_WAIT_SECONDS = 10.0
"""Above the server's own statement timeout: it only speaks where the network is silent."""
RECONNECT_WAIT_SECONDS = 0.1
RECONNECT_WAIT_MAX_SECONDS = 2.0
LISTEN_WAIT_SECONDS = 30.0
"""A silent listener is asked for a sign of life this often."""

_SIGN_OF_LIFE = Statement("SELECT 1")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A place in a log: right after the event with this position and random tag. Position 0 is the beginning."""

    log_id: UUID
    position: int
    tag: bytes
    rewinds: int = 0
    """How often the consumer that reads had been moved back by then: those after it in the stream know it too."""

    def after(self, position: int, tag: bytes) -> "Bookmark":
        """Another place of the same reader: right after this event."""
        return Bookmark(self.log_id, position, tag, self.rewinds)


@dataclass(frozen=True, slots=True)
class PaymentTopic:
    """The events of one payment."""

    payment_id: UUID


@dataclass(frozen=True, slots=True)
class BookingTopic:
    """The events of all attempts of one booking; without a caller, of everybody's booking of that name."""

    caller: str | None
    booking_id: str


@dataclass(frozen=True, slots=True)
class CallerTopic:
    """The events of all payments of one caller; without one, of everybody's."""

    caller: str | None


Topic = PaymentTopic | BookingTopic | CallerTopic


class Subscription:
    """What has happened on one topic and was not taken yet; bounded."""

    __slots__ = ("_events", "_most", "_waiter", "behind")

    def __init__(self, most: int) -> None:
        self._events: list[EventView] = []
        self._most = most
        self._waiter: asyncio.Future[None] | None = None
        self.behind = False
        """Events were dropped: call `catch_up`, then read the table from your own position."""

    def take(self) -> list[EventView]:
        """Everything that has come, oldest first."""
        taken, self._events = self._events, []
        return taken

    @property
    def pending(self) -> bool:
        """Whether there is something to do: events to take, or the table to read."""
        return self.behind or bool(self._events)

    def fall_behind(self) -> None:
        """Drop everything: what comes next is read from the table."""
        self._events, self.behind = [], True

    def catch_up(self) -> None:
        """Start collecting anew, from the feed's position at this moment."""
        self._events, self.behind = [], False

    def offer(self, event: EventView) -> None:
        """Add an event, unless the subscriber is too far behind already."""
        if self.behind:
            return
        if len(self._events) >= self._most:
            self.fall_behind()
        else:
            self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """End the subscriber's wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until something has come, or for so many seconds."""
        if self.pending:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None


class EventFeed:
    """The tailer's position and its subscribers. `run` must run for the feed to move."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        sealer: Sealer,
        *,
        poll_seconds: float = POLL_SECONDS,
        subscriber_events_max: int = 512,
    ) -> None:
        """`connect` makes an autocommit connection of the feed's own; two are made."""
        self._connect = connect
        self._sealer = sealer
        self._poll_seconds = poll_seconds
        self._subscriber_events_max = subscriber_events_max
        self._by_payment: dict[UUID, set[Subscription]] = {}
        self._by_booking: dict[tuple[str | None, str], set[Subscription]] = {}
        self._by_caller: dict[str | None, set[Subscription]] = {}
        self._bookmark: Bookmark | None = None
        self._started = asyncio.Event()
        self._look = asyncio.Event()
        self._untold = False
        self._looked_at = 0.0
        self._own_backend = 0
        self.draining = asyncio.Event()
        """Watchers are to end: another process goes on."""

    @property
    def bookmark(self) -> Bookmark:
        """Everything up to here has been handed to the subscribers."""
        if self._bookmark is None:
            raise RuntimeError("the feed has not been started: await started() before serving")
        return self._bookmark

    @property
    def lag_seconds(self) -> float:
        """How long ago the feed last knew that it had seen the whole log."""
        return asyncio.get_running_loop().time() - self._looked_at

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return sum(len(subscriptions) for subscriptions in self._all())

    async def started(self) -> None:
        """Wait until the feed has a position."""
        await self._started.wait()

    def wake(self) -> None:
        """Something was committed here: look at once, and tell the other processes."""
        self._look.set()
        self._untold = True

    def drain(self) -> None:
        """Tell all watchers to end."""
        self.draining.set()
        for subscriptions in self._all():
            for subscription in subscriptions:
                subscription.wake()

    @contextlib.contextmanager
    def subscribe(self, topic: Topic) -> Iterator[Subscription]:
        """Collect the events of a topic, from the feed's position at this moment."""
        subscription = Subscription(self._subscriber_events_max)
        match topic:
            case PaymentTopic(payment_id):
                with _registered(self._by_payment, payment_id, subscription):
                    yield subscription
            case BookingTopic(caller, booking_id):
                with _registered(self._by_booking, (caller, booking_id), subscription):
                    yield subscription
            case CallerTopic(caller):
                with _registered(self._by_caller, caller, subscription):
                    yield subscription

    def _all(self) -> tuple[set[Subscription], ...]:
        return (*self._by_payment.values(), *self._by_booking.values(), *self._by_caller.values())

    async def run(self) -> NoReturn:
        """Follow the log until cancelled. Raises LogDiverged if the database was restored to an earlier point."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._stay_connected("tail", self._tail))
            parts.create_task(self._stay_connected("listen", self._listen))
        raise AssertionError("the parts run until they are cancelled")

    async def _stay_connected(self, part: str, work: Callable[[Connection], Awaitable[NoReturn]]) -> NoReturn:
        wait = RECONNECT_WAIT_SECONDS
        while True:
            connected_at = asyncio.get_running_loop().time()
            try:
                connection = await self._connect()
                try:
                    await work(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, OSError, TimeoutError) as error:
                _log.warning("event feed reconnects", part=part, cause=repr(error))
            if asyncio.get_running_loop().time() - connected_at > RECONNECT_WAIT_MAX_SECONDS:
                wait = RECONNECT_WAIT_SECONDS
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, RECONNECT_WAIT_MAX_SECONDS)

    async def _tail(self, connection: Connection) -> NoReturn:
        self._own_backend = connection.info.backend_pid
        await self._take_position(connection)
        loop = asyncio.get_running_loop()
        while True:
            self._look.clear()
            began = loop.time()
            rows = await self._read_on(connection)
            self._hand_out(rows)
            if len(rows) == EVENTS_A_LOOK:
                continue
            self._looked_at = began
            await asyncio.sleep(max(0.0, began + LOOK_INTERVAL_SECONDS - loop.time()))
            poll = loop.call_later(self._poll_seconds, self._look.set)
            await self._look.wait()
            poll.cancel()

    async def _read_on(self, connection: Connection) -> list[EventRow]:
        """The next events; and where something was committed here, word of it to the others on the same way."""
        statements = [reads.tail(self.bookmark.position, EVENTS_A_LOOK)]
        telling, self._untold = self._untold, False
        if telling:
            statements.insert(0, Statement(f"NOTIFY {CHANNEL}"))
        try:
            async with asyncio.timeout(READ_WAIT_SECONDS):
                *_, found = await run_together(connection, statements)
        except BaseException:
            self._untold = self._untold or telling
            raise
        return [EventRow._make(row) for row in found.rows]

    async def _take_position(self, connection: Connection) -> None:
        """The end of the log at first, and after a reconnect the same position as before."""
        async with asyncio.timeout(READ_WAIT_SECONDS):
            if self._bookmark is None:
                self._bookmark = Bookmark(*await reads.head(connection))
                self._started.set()
                return
            position, tag = self._bookmark.position, self._bookmark.tag
            if position and await reads.tag_at(connection, position) != tag:
                raise_alarm(LOG_DIVERGED, position=position)
                raise LogDiverged

    def _hand_out(self, rows: list[EventRow]) -> None:
        """Give the events out and move on, in one go: no subscriber can see the one without the other."""
        for row in rows:
            wanted = [
                subscription
                for subscriptions in (
                    self._by_payment.get(row.payment_id),
                    self._by_booking.get((row.caller, row.booking_id)),
                    self._by_booking.get((None, row.booking_id)),
                    self._by_caller.get(row.caller),
                    self._by_caller.get(None),
                )
                if subscriptions is not None
                for subscription in subscriptions
            ]
            if wanted:
                event = event_view(row, self._sealer)
                for subscription in wanted:
                    subscription.offer(event)
        if rows:
            self._bookmark = Bookmark(self.bookmark.log_id, rows[-1].position, rows[-1].tag)

    async def _listen(self, connection: Connection) -> NoReturn:
        async with asyncio.timeout(READ_WAIT_SECONDS):
            await connection.execute(f"LISTEN {CHANNEL}")
        # Whatever was told while nobody listened.
        self._look.set()
        while True:
            while tellers := await backends_notifying(connection, LISTEN_WAIT_SECONDS):
                if tellers != {self._own_backend}:
                    self._look.set()
            async with asyncio.timeout(READ_WAIT_SECONDS):
                await run_together(connection, [_SIGN_OF_LIFE])


@contextlib.contextmanager
def _registered(registry: dict[Key, set[Subscription]], key: Key, subscription: Subscription) -> Iterator[None]:
    registry.setdefault(key, set()).add(subscription)
    try:
        yield
    finally:
        registry[key].remove(subscription)
        if not registry[key]:
            del registry[key]
