"""What is stored is sealed and fingerprinted anew with the current keys, a few rows at a time, beside the service.

Each batch is one statement, and a row that has been done needs nothing more: so it can be broken off at any moment, and
goes on when it is run again. A value that the service has written meanwhile stays as the service wrote it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg

from payment_service.application.recording.request_encoding import fingerprint
from payment_service.security.keys import Keys
from payment_service.security.sealing import SealBroken, Sealer
from payment_service.store.pipeline import Connection
from payment_service.store.sealed_values import (
    REQUESTS,
    SEALED,
    Key,
    Place,
    SealedValue,
    next_fingerprinted,
    next_sealed,
    replace_fingerprints,
    replace_sealed,
)

BATCH = 200
"""Rows locked at once, for some milliseconds."""
TRIES_MAX = 10
PAUSE_SECONDS = 0.5
"""Before a batch is tried again: somebody holds one of its rows."""
_PASSING = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


@dataclass(slots=True)
class Resealed:
    """What was done of one place."""

    name: str
    changed: int = 0
    unreadable: int = 0
    """Not opened by any key that is here."""


@dataclass(frozen=True, slots=True)
class Resealing:
    """What making values anew takes."""

    conn: Connection
    keys: Keys
    sealer: Sealer = field(init=False)
    batch: int = BATCH

    def __post_init__(self) -> None:
        object.__setattr__(self, "sealer", Sealer(self.keys))


@dataclass(frozen=True, slots=True)
class _Opened:
    key: Key
    row_id: bytes
    sealed: bytes
    content: bytes


async def reseal(tools: Resealing, done: Callable[[Resealed], None]) -> None:
    """Make every value anew that is not by a current key; `done` is told of each place at its end."""
    for place in REQUESTS:
        current = tools.keys.fingerprint.current_id
        name = f"{place.table}.request_fingerprint"
        done(await _through(tools, name, place, partial(next_fingerprinted, current=current), _fingerprint))
    for place in SEALED:
        current = tools.keys.sealing.current_id
        done(await _through(tools, place.name, place, partial(next_sealed, current=current), _seal))


async def _through(
    tools: Resealing,
    name: str,
    place: Place,
    read: Callable[..., Awaitable[list[SealedValue]]],
    write: Callable[[Resealing, Place, Sequence[_Opened]], Awaitable[int]],
) -> Resealed:
    result, after = Resealed(name), place.first
    while rows := await read(tools.conn, place, after=after, most=tools.batch):
        after = rows[-1].key
        stale = [row for row in rows if row.value is not None]
        opened = [one for row in stale if (one := _open(tools.sealer, place, row)) is not None]
        result.unreadable += len(stale) - len(opened)
        if opened:
            result.changed += await _patiently(partial(write, tools, place, opened))
    return result


async def _seal(tools: Resealing, place: Place, values: Sequence[_Opened]) -> int:
    sealed = [(one.key, one.sealed, tools.sealer.seal(place.name, one.row_id, one.content)) for one in values]
    return await replace_sealed(tools.conn, place, sealed)


async def _fingerprint(tools: Resealing, place: Place, values: Sequence[_Opened]) -> int:
    ring = tools.keys.fingerprint
    made = [(one.key, fingerprint(ring.current_key, one.content)) for one in values]
    return await replace_fingerprints(tools.conn, place, ring.current_id, made)


def _open(sealer: Sealer, place: Place, row: SealedValue) -> _Opened | None:
    assert row.value is not None, "rows that need nothing are left out"
    try:
        return _Opened(row.key, row.row_id, row.value, sealer.open(place.name, row.row_id, row.value))
    except SealBroken:
        return None


async def _patiently(write: Callable[[], Awaitable[int]]) -> int:
    for _ in range(TRIES_MAX - 1):
        try:
            return await write()
        except _PASSING:
            await asyncio.sleep(PAUSE_SECONDS)
    return await write()
