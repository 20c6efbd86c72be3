"""Reading payments: of one caller its own, or of everybody.

Whoever reads names the caller whose payments it sees; None sees everybody's.
Another caller's payment does not exist, as far as a caller can tell.

Every read comes with a bookmark: the feed's position from before the read.
Whoever watches from there misses nothing, and at worst is told again of what
the read has already shown.

Single payments are read in groups, as they are written: opening ten thousand
watches at once is some eighty statements.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_service.application.following.event_feed import Bookmark, EventFeed
from payment_service.application.following.stored_views import payment_view
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.domain.errors import LogDiverged, PaymentNotFound, StoreUnavailable
from payment_service.domain.views import PaymentView
from payment_service.security.sealing import Sealer
from payment_service.store import reads
from payment_service.store.pipeline import Connection
from payment_service.store.reads import PaymentFilter, PaymentRow

POINT_READS_MAX = 2_048
"""Waiting for a group at once; below the queue's own limit, so that a burst waits here, in order."""
LISTS_MAX = 4
"""Pages read at once, half of the pool: however many lists are asked for, watches and retries find a connection."""
PAGE_BYTES_MAX = 3 * 1_048_576
"""Of one page: below the 4 MiB that gRPC's clients take unless told otherwise."""
PAYMENT_BYTES = 2_048
"""More than a payment takes on the wire without its metadata."""
READ_WAIT_SECONDS = 10.0
"""Above the server's own statement timeout: it only speaks where the network is silent."""

PaymentName = UUID | str
"""A payment's id, or its reference."""


@dataclass(frozen=True, slots=True)
class PaymentReads:
    """What reading needs. `points.run()` must run for single payments to be read."""

    engine: AsyncEngine
    sealer: Sealer
    feed: EventFeed
    points: GroupCommit[PaymentName, PaymentRow | None]
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(POINT_READS_MAX))
    lists: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_MAX))


@dataclass(frozen=True, slots=True)
class PaymentPage:
    """Some payments, the newest first; `more` if others follow."""

    payments: Sequence[PaymentView]
    more: bool


def payment_reads(
    engine: AsyncEngine, connect: Callable[[], Awaitable[Connection]], sealer: Sealer, feed: EventFeed
) -> PaymentReads:
    """Reads over a pool; `connect` makes an autocommit connection for the single payments."""
    points: GroupCommit[PaymentName, PaymentRow | None] = GroupCommit(
        "point-reads", connect, _read_points, lambda: None
    )
    # A read has nothing to commit: without this each of its statements would open a transaction.
    return PaymentReads(engine.execution_options(isolation_level="AUTOCOMMIT"), sealer, feed, points)


async def get_payment(using: PaymentReads, caller: str | None, name: PaymentName) -> tuple[PaymentView, Bookmark]:
    """One payment, by id or by reference."""
    bookmark = using.feed.bookmark
    async with using.places:
        row = await using.points.submit(name, patient=True)
    if row is None or caller not in (None, row.caller):
        raise PaymentNotFound
    return payment_view(row, using.sealer), bookmark


async def get_attempts(using: PaymentReads, caller: str | None, booking_id: str) -> tuple[list[PaymentView], Bookmark]:
    """All attempts of a booking, the oldest first; there may be none."""
    bookmark = using.feed.bookmark
    async with reading(using) as connection:
        rows = await reads.payments_of_booking(connection, caller, booking_id)
    return [payment_view(row, using.sealer) for row in rows], bookmark


async def list_payments(
    using: PaymentReads, caller: str | None, wanted: PaymentFilter, before: UUID | None, page_size: int
) -> PaymentPage:
    """One page of a caller's payments. The bookmark of a list is that of its first page: take it before.

    A page ends early where its payments would be more than one message carries.
    """
    async with using.lists, reading(using) as connection:
        rows = await reads.list_payments(connection, caller, wanted, before, page_size + 1)
    page: list[PaymentView] = []
    room = PAGE_BYTES_MAX
    for row in rows[:page_size]:
        view = payment_view(row, using.sealer)
        room -= PAYMENT_BYTES + sum(len(f"{key}{value}".encode()) for key, value in view.metadata.items())
        if room < 0 and page:
            break
        page.append(view)
    return PaymentPage(page, len(rows) > len(page))


async def request_id_known(using: PaymentReads, caller: str, request_id: str) -> bool:
    """Whether this request id has made a payment; once true, it stays true."""
    async with reading(using) as connection:
        return await reads.request_id_known(connection, caller, request_id)


async def request_id_of(using: PaymentReads, caller: str, payment_id: UUID) -> str:
    """The request id that has made a payment of the caller's."""
    async with reading(using) as connection:
        return await reads.request_id_of(connection, caller, payment_id)


async def check_bookmark(using: PaymentReads, bookmark: Bookmark) -> None:
    """Raise LogDiverged unless this log holds the bookmark's event."""
    if bookmark.log_id != using.feed.bookmark.log_id:
        raise LogDiverged
    if bookmark.position == 0 or bookmark == using.feed.bookmark:
        return
    async with reading(using) as connection:
        if not await reads.place_exists(connection, bookmark.position, bookmark.tag):
            raise LogDiverged


@contextlib.asynccontextmanager
async def reading(using: PaymentReads) -> AsyncIterator[AsyncConnection]:
    """A connection for one read. A store that does not answer is StoreUnavailable, with the cause kept."""
    try:
        async with asyncio.timeout(READ_WAIT_SECONDS), using.engine.connect() as connection:
            yield connection
    except (PoolTimeout, TimeoutError, OSError) as error:
        raise StoreUnavailable from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError):
            raise StoreUnavailable from error
        raise


async def _read_points(connection: Connection, names: Sequence[PaymentName]) -> Sequence[PaymentRow | None]:
    ids = [name for name in names if isinstance(name, UUID)]
    references = [name for name in names if isinstance(name, str)]
    found: dict[PaymentName, PaymentRow] = {}
    for row in await reads.payments_by(connection, ids, references):
        found[row.payment_id] = found[row.reference] = row
    return [found.get(name) for name in names]
