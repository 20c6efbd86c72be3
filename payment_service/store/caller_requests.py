"""Request ids that made no payment, and the lock that keeps an id from serving two requests at once.

All methods of a caller share one namespace of request ids. Those that make a
payment keep theirs in its row, under a unique constraint; the others keep it
here, under another. No constraint spans both tables, so an advisory lock does:

* whoever makes payments shares the locks of its ids, before it inserts, and
  inserts only where no row stands here for the id;
* whoever keeps a request here has the lock of its id alone, before it looks
  whether the id has been used by either.

All hold their locks to the end of their transaction, and look in a statement
after the one that locks, so that it sees what was committed before the lock was
had. Of two that meet, the later one therefore sees the earlier one's row.

Sharing is what keeps payments fast: it waits for nobody but a request kept
here, and is taken within the statement that reads the earlier payments of the
ids. Locks of ids come before locks of rows, in the order of their keys. Two ids
with one key wait for each other without need, and no harm is done.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.many_rows import columns_of, inserting, selected
from payment_service.store.pipeline import Connection, Statement
from payment_service.store.tables import caller_requests

# Keys of two halves are apart from those of one, of which the log's lock is. The number is "reqs" in ASCII.
_KEYS = (
    "(SELECT DISTINCT hashtext(caller || ' ' || request_id) AS key"
    " FROM unnest($1::text[], $2::text[]) AS asked (caller, request_id) ORDER BY key) AS keys"
)
SHARED_LOCKS = f"(SELECT count(pg_advisory_xact_lock_shared(1919250803, key)) FROM {_KEYS})"
"""An expression that takes the locks of the (caller, request id) pairs in the arrays $1 and $2, shared."""

_LOCK = f"SELECT count(pg_advisory_xact_lock(1919250803, key)) FROM {_KEYS}"

_WANTED = "(SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS pairs (caller, request_id)) AS wanted"


class NewRequest(NamedTuple):
    """A request that makes no payment, as it is kept; sealed for its own id."""

    kept_id: UUID
    caller: str
    request_id: str
    payment_id: UUID
    request: bytes
    request_fingerprint: bytes
    request_encoding: int
    request_key_id: str
    kept_at: datetime


_SEALED = "SELECT kept_id, request FROM caller_requests WHERE kept_id = ANY(%s)"
_ABOUT = "SELECT kept_id, request, kept_at FROM caller_requests WHERE payment_id = %s ORDER BY kept_id"
_INSERT = inserting(caller_requests, NewRequest._fields)

UNUSED = (
    "WHERE NOT EXISTS (SELECT FROM caller_requests k WHERE k.request_id = rows.request_id AND k.caller = rows.caller)"
)
"""A filter for payments to be inserted: none whose request id has been used without making one."""


class UsedId(NamedTuple):
    """A request id that has been used, and its request, sealed for the row `kept_id`."""

    caller: str
    request_id: str
    kept_id: UUID
    """The row that it stands in: a payment's id where it made one."""
    payment_id: UUID
    sealed: bytes
    fingerprint: bytes
    key_id: str


_KEPT_COLUMNS = selected(
    UsedId._fields, "k", sealed="k.request", fingerprint="k.request_fingerprint", key_id="k.request_key_id"
)
_KEPT = f"SELECT {_KEPT_COLUMNS} FROM caller_requests k JOIN {_WANTED} USING (request_id, caller)"

_MADE_COLUMNS = selected(
    UsedId._fields,
    "p",
    kept_id="p.payment_id",
    sealed="p.request",
    fingerprint="p.request_fingerprint",
    key_id="p.request_key_id",
)
_MADE = f"""
SELECT {_MADE_COLUMNS}
FROM payment_transactions p JOIN {_WANTED} USING (request_id) WHERE p.caller || '' = wanted.caller"""


def used_by(request: NewRequest) -> UsedId:
    """The id of a request that is about to be kept, as one that has been used."""
    return UsedId(
        caller=request.caller,
        request_id=request.request_id,
        kept_id=request.kept_id,
        payment_id=request.payment_id,
        sealed=request.request,
        fingerprint=request.request_fingerprint,
        key_id=request.request_key_id,
    )


def lock_ids(ids: Sequence[tuple[str, str]]) -> Statement:
    """Have these (caller, request id) pairs alone until the end of the transaction."""
    return Statement(_LOCK, columns_of(ids))


def used_ids(ids: Sequence[tuple[str, str]]) -> Statement:
    """Which of these (caller, request id) pairs have been used, by whatever method; rows of `UsedId`."""
    return Statement(f"{_KEPT} UNION ALL {_MADE}", columns_of(ids))


def insert_requests(rows: Sequence[NewRequest]) -> Statement:
    """Keep requests. An id that is there already is an error: `caller_requests_pk`."""
    return Statement(_INSERT, columns_of(rows))


async def sealed_requests(conn: Connection, kept_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Requests that made no payment, each sealed for its own id, by that id."""
    cursor = await conn.execute(_SEALED, (list(kept_ids),))
    return dict(await cursor.fetchall())


async def kept_requests(conn: Connection, payment_id: UUID) -> list[tuple[UUID, bytes, datetime]]:
    """Requests about a payment that made none, each sealed for its own id, and when they were kept."""
    cursor = await conn.execute(_ABOUT, (payment_id,))
    return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


async def kept_ids(conn: AsyncConnection, caller: str, request_ids: Sequence[str]) -> dict[str, UUID]:
    """Under which id the requests of a caller are kept that made no payment, by request id."""
    kept = caller_requests.c
    named = select(kept.request_id, kept.kept_id).where(kept.caller == caller, kept.request_id.in_(request_ids))
    return {row.request_id: row.kept_id for row in await conn.execute(named)}
