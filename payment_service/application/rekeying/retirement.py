"""Whether a key may be given up: only when nothing that is stored, under way or still to come needs it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from payment_service.application.rekeying.held_keys import CALLBACK, using
from payment_service.store.key_holders import Holder, KeyUse
from payment_service.store.pipeline import Connection
from payment_service.store.sealed_values import chained_with, fingerprinted_with, sealed_with, waiting_callbacks

NEEDED_AFTER_USE: Mapping[str, timedelta] = {
    # What was sealed just before is committed by then, whatever held it up.
    "sealing": timedelta(minutes=2),
    # Page tokens are made with it, and somebody may be turning pages.
    "fingerprint": timedelta(hours=1),
    "chain": timedelta(minutes=2),
    # Safaricom may post to a URL for as long as we wait for its word, and later.
    CALLBACK: timedelta(hours=49),
}
"""How long a key is needed after it was last used for what is new."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that is to be given up, and what is known of its use."""

    purpose: str
    key_id: str
    is_current: bool
    """In the file that is to be changed."""
    use: KeyUse | None
    now: datetime


async def reasons_to_keep(conn: Connection, key: Candidate, holders: list[Holder]) -> list[str]:
    """What still needs the key, a sentence each; empty where nothing does."""
    if key.purpose == "index":
        return ["What was indexed with it, such as the bodies of callbacks, is proven by it for as long as it is kept."]
    reasons = list(_in_use(key, holders))
    if reasons:
        return reasons
    return [*_used_lately(key), *[reason async for reason in _stored(conn, key)]]


def _in_use(key: Candidate, holders: list[Holder]) -> Iterator[str]:
    if key.is_current:
        yield "It is the current key: make another one current first, with `keys use`."
    for holder in using(holders, key.purpose, key.key_id):
        yield f"{holder} makes what is new with it: give it the newest file, and look again in a moment."


def _used_lately(key: Candidate) -> Iterator[str]:
    used = key.use.last_used_at if key.use is not None else key.now
    free_at = used + NEEDED_AFTER_USE[key.purpose]
    if free_at > key.now:
        yield (
            f"It was last used at {used:%Y-%m-%d %H:%M:%S} UTC, and what was made with it then may still come: it is"
            f" free from {free_at:%Y-%m-%d %H:%M:%S} UTC on."
        )


async def _stored(conn: Connection, key: Candidate) -> AsyncIterator[str]:
    match key.purpose:
        case "sealing":
            for place, count in (await sealed_with(conn, key.key_id)).items():
                yield f"{count} values of {place} are sealed with it: run `keys reseal`."
        case "fingerprint":
            if count := await fingerprinted_with(conn, key.key_id):
                yield f"{count} requests have a fingerprint by it: run `keys reseal`."
        case "chain":
            if count := await chained_with(conn, key.key_id):
                yield f"{count} events are chained with it, and are never changed: it is kept as long as they are."
        case _:
            used = key.use.last_used_at if key.use is not None else key.now
            if count := await waiting_callbacks(conn, used):
                yield f"{count} payments and refunds that were sent by then still wait for a callback."
