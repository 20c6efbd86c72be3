"""Whether the events of a payment are all there, and are those that were written."""

from collections.abc import Iterator, Sequence

from payment_service.security.chain import START
from payment_service.store.event_log import LoggedEvent, event_holds
from runtime.key_rings import KeyRing


def missing_versions(version: int, events: Sequence[LoggedEvent]) -> Iterator[str]:
    """What is wrong with which events there are, by the version that the payment's row has."""
    versions = [event.version for event in events]
    if versions != list(range(1, version + 1)):
        yield f"the row has version {version}, its events {_listed(versions)}"


def broken_links(chain_hash: bytes, events: Sequence[LoggedEvent], ring: KeyRing) -> Iterator[str]:
    """What is wrong with what they say, and with the row's own end of the chain."""
    previous = START
    for event in events:
        if event.previous_hash != previous:
            yield f"version {event.version} does not build on the event before it"
        if not event_holds(event, ring):
            yield f"version {event.version} is not what was hashed"
        previous = event.hash
    if chain_hash != previous:
        yield "the row's hash is not that of its last event"


def _listed(versions: Sequence[int]) -> str:
    """A few of them are enough to know the gap by."""
    shown = ", ".join(str(version) for version in versions[:20])
    return f"{shown} …" if len(versions) > 20 else shown or "none"
