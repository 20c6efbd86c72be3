"""The callbacks as they came: kept, waiting for another try, parked without a payment, or given up; never deleted.

Each is found by its reference and the keyed hash of its body, so that the same
one is kept once however often it comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from payment_service.domain.callbacks import CallbackKind, CallbackStatus
from payment_service.store.many_rows import columns_of, inserting
from payment_service.store.pipeline import Statement
from payment_service.store.refund_tables import refunds
from payment_service.store.tables import inbox, payments, replays


class NewCallback(NamedTuple):
    """A callback as it is kept; its body is sealed for the row (reference, body hash)."""

    callback_id: UUID
    kind: CallbackKind
    reference: str
    payment_id: UUID | None
    body: bytes
    body_hash: bytes
    source_address: str
    received_at: datetime
    stored_at: datetime
    status: CallbackStatus
    next_try_at: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class SealedCallback:
    """A callback that is to be kept, before it is known what becomes of it."""

    kind: CallbackKind
    sealed_body: bytes
    body_hash: bytes
    source_address: str
    received_at: datetime


REPLAY_FAILED = "FAILED"
"""The outcome of a replay that came to nothing."""


class ReplayRow(NamedTuple):
    """A callback that an operator has had applied once more, and why; `outcome` is the status it gave the callback."""

    replay_id: UUID
    callback_id: UUID
    operator: str
    reason: str
    outcome: str
    replayed_at: datetime


_INSERT_CALLBACKS = inserting(
    inbox,
    NewCallback._fields,
    # The same body again is the same callback; whatever became of it before, it is settled by being applied now. One
    # that is found to have no payment waits for that, not for another try.
    "ON CONFLICT (reference, body_hash) DO UPDATE"
    " SET status = EXCLUDED.status, next_try_at = NULL, payment_id = EXCLUDED.payment_id"
    " WHERE (callback_inbox.status <> 'APPLIED' AND EXCLUDED.status = 'APPLIED')"
    " OR (callback_inbox.status IN ('PENDING', 'DEAD') AND EXCLUDED.status IN ('UNMATCHED', 'UNREAD'))"
    " OR (callback_inbox.status = 'UNMATCHED' AND EXCLUDED.status = 'UNREAD')",
)
_INSERT_REPLAYS = inserting(replays, ReplayRow._fields, "ON CONFLICT DO NOTHING")

_c = inbox.c


class StoredCallback(NamedTuple):
    """One callback of the inbox; its body is sealed for the row (reference, body hash)."""

    callback_id: UUID
    kind: str
    reference: str
    sealed_body: bytes
    body_hash: bytes
    source_address: str
    received_at: datetime
    tries: int


_STORED = select(
    _c.callback_id, _c.kind, _c.reference, _c.body, _c.body_hash, _c.source_address, _c.received_at, _c.tries
)
CALLBACK_DUE = and_(_c.status == CallbackStatus.PENDING, _c.next_try_at <= bindparam("now"))
_DUE = _STORED.where(CALLBACK_DUE).order_by(_c.next_try_at).limit(bindparam("most"))


def new_callback(
    callback: SealedCallback,
    reference: str,
    payment_id: UUID | None,
    status: CallbackStatus,
    stored_at: datetime,
    *,
    next_try_at: datetime | None,
    last_error: str | None,
) -> NewCallback:
    """A callback as it is kept, with what became of it."""
    return NewCallback(
        callback_id=uuid7(),
        kind=callback.kind,
        reference=reference,
        payment_id=payment_id,
        body=callback.sealed_body,
        body_hash=callback.body_hash,
        source_address=callback.source_address,
        received_at=callback.received_at,
        stored_at=stored_at,
        status=status,
        next_try_at=next_try_at,
        last_error=last_error,
    )


def insert_callbacks(rows: Sequence[NewCallback]) -> Statement:
    """Keep callbacks; a body that is there already is not kept twice. Rows are sorted by (reference, hash)."""
    return Statement(_INSERT_CALLBACKS, columns_of(rows))


def insert_replays(rows: Sequence[ReplayRow]) -> Statement:
    """Note that operators have replayed callbacks."""
    return Statement(_INSERT_REPLAYS, columns_of(rows))


async def due_callbacks(conn: AsyncConnection, now: datetime, most: int) -> list[StoredCallback]:
    """Callbacks that could not be applied and are due for another try, the longest overdue first."""
    return await _fetched(conn, _DUE, {"now": now, "most": most})


async def matched_callbacks(conn: AsyncConnection, most: int) -> list[StoredCallback]:
    """Callbacks that were parked without a payment or a refund, and have it now."""
    # Looked up one by one. For `EXISTS … OR EXISTS …`, PostgreSQL may read a whole table instead, to have it at hand.
    found = [
        select(table.c.reference).where(table.c.reference == _c.reference).limit(1).scalar_subquery()
        for table in (payments, refunds)
    ]
    matched = _STORED.where(_c.status == CallbackStatus.UNMATCHED, or_(*(one.is_not(None) for one in found)))
    return await _fetched(conn, matched.order_by(_c.received_at).limit(most))


async def stored_callback(conn: AsyncConnection, callback_id: UUID) -> StoredCallback | None:
    """One callback, whatever its status."""
    found = await _fetched(conn, _STORED.where(_c.callback_id == callback_id))
    return found[0] if found else None


async def put_off(conn: AsyncConnection, callback: StoredCallback, next_try_at: datetime, error: str) -> None:
    """Another try failed; the next one is later. One that was parked is tried as any other from now on."""
    await conn.execute(
        update(inbox)
        .where(*_untouched(callback))
        .values(status=CallbackStatus.PENDING, tries=callback.tries + 1, next_try_at=next_try_at, last_error=error)
    )


async def give_up(conn: AsyncConnection, callback: StoredCallback, error: str) -> bool:
    """The last try failed: it stays, and is not tried again by itself. False when another process was faster."""
    given_up = await conn.execute(
        update(inbox)
        .where(*_untouched(callback))
        .values(status=CallbackStatus.DEAD, tries=callback.tries + 1, next_try_at=None, last_error=error)
    )
    return bool(given_up.rowcount)


async def insert_replay(conn: AsyncConnection, replay: ReplayRow) -> None:
    """Note one replay that came to nothing."""
    await conn.execute(insert(replays).values(replay._asdict()))


def _untouched(callback: StoredCallback) -> tuple[ColumnElement[bool], ...]:
    """Neither applied nor tried since it was read: two processes that fail with it at once count one try."""
    waiting = _c.status.in_((CallbackStatus.PENDING, CallbackStatus.UNMATCHED))
    return _c.callback_id == callback.callback_id, waiting, _c.tries == callback.tries


async def _fetched(
    conn: AsyncConnection,
    statement: Select[tuple[UUID, str, str, bytes, bytes, str, datetime, int]],
    values: Mapping[str, object] | None = None,
) -> list[StoredCallback]:
    return [StoredCallback._make(row) for row in await conn.execute(statement, values)]
