"""What the log was on a day, in one line that is kept outside the database, and what has become of it since.

The chain tells of an event that was altered, inserted or taken out between two others. It cannot tell of a payment that
is gone with all its events, or of events that are cut off at its end together with the row: what is not there has no
chain. So once a day is over, its events are counted and digested by the hour. A line names the MAC of the one before it
and has one of its own, by the key of the chain: whoever can write the database, the file or both cannot make one.
"""

import hmac
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from payment_service.application.inspecting.chains import broken_links, missing_versions
from payment_service.store import audit
from payment_service.store.audit import HourOfLog
from payment_service.store.event_log import events_of_payments
from payment_service.store.pipeline import Connection
from runtime.key_rings import KeyRing

FORMAT = 1
BATCH = 200
DAYS_MAX = 31
"""Made at once: after a long while without, the rest follows with the next look."""
EXPECTED_WITHIN = timedelta(hours=2)
"""Of the end of a day: whoever makes its anchor looks now and then."""
CLOSED_AFTER = timedelta(hours=1)
"""The end of a day: a transaction that was under way at midnight is committed by then, or never."""
DAY = timedelta(days=1)
_LABEL = b"mpesa-payments audit anchor v1|"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a line says: the hours of a day in UTC, and which line it builds on."""

    day: date
    hours: Sequence[HourOfLog]
    previous: str
    """The MAC of the line before; empty for the first."""
    key_id: str
    mac: str = ""

    def line(self) -> str:
        """As it stands in the file."""
        return json.dumps(self._content() | {"mac": self.mac}, separators=(",", ":"))

    def with_mac(self, ring: KeyRing) -> "Anchor":
        """The same, with the MAC by its key."""
        encoded = json.dumps(self._content(), separators=(",", ":"), sort_keys=True).encode()
        mac = hmac.digest(ring.keys[self.key_id], _LABEL + encoded, "sha256").hex()
        return Anchor(self.day, self.hours, self.previous, self.key_id, mac)

    def _content(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "day": self.day.isoformat(),
            "events": sum(hour.events for hour in self.hours),
            "payments": sum(hour.payments for hour in self.hours),
            "hours": [[hour.events, hour.payments, hour.digest] for hour in self.hours],
            "previous": self.previous,
            "key": self.key_id,
        }


def read_anchors(text: str) -> list[Anchor]:
    """The anchors of a file.

    A line that is none, such as one that a power cut has torn, is left out: if it was one, the line behind it builds on
    nothing, and that is found.
    """
    return [anchor for line in text.splitlines() if (anchor := _read(line)) is not None]


def _read(line: str) -> Anchor | None:
    try:
        found = json.loads(line)
        hours = [HourOfLog(int(events), int(payments), str(digest)) for events, payments, digest in found["hours"]]
        anchor = Anchor(date.fromisoformat(found["day"]), hours, found["previous"], found["key"], found["mac"])
        # What stands there beside the hours is for people, and has to say the same.
        return anchor if len(hours) == 24 and json.loads(anchor.line()) == found else None
    except (ValueError, KeyError, TypeError):
        return None


async def due_anchors(conn: Connection, ring: KeyRing, last: Anchor | None, now: datetime) -> AsyncIterator[Anchor]:
    """The anchors of the days that are over and have none, the oldest first."""
    first = last.day + DAY if last is not None else await audit.first_day_of_log(conn)
    previous = last.mac if last is not None else ""
    for day in _closed(first, now)[:DAYS_MAX]:
        hours = [await audit.hour_of_log(conn, _start(day) + timedelta(hours=hour)) for hour in range(24)]
        anchor = Anchor(day, hours, previous, ring.current_id).with_mac(ring)
        yield anchor
        previous = anchor.mac


def _closed(first: date | None, now: datetime) -> list[date]:
    """The days from the first on that are over."""
    if first is None:
        return []
    days = ((now - CLOSED_AFTER).astimezone(UTC).date() - first).days
    return [first + index * DAY for index in range(days)]


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


async def contradictions(
    conn: Connection, ring: KeyRing, anchors: Sequence[Anchor], now: datetime
) -> AsyncIterator[str]:
    """Where the log is not what the anchors say, and where the anchors are not whole; a sentence each."""
    if not anchors:
        yield "there is no anchor in the file"
        return
    for finding in _broken_lines(ring, anchors, now):
        yield finding
    for anchor in anchors:
        for number, then in enumerate(anchor.hours):
            start = _start(anchor.day) + timedelta(hours=number)
            found = await audit.hour_of_log(conn, start)
            if found == then:
                continue
            what = f"{start:%Y-%m-%d %H}:00 UTC: there were {then.events} events and {then.payments} new payments,"
            if (found.events, found.payments) == (then.events, then.payments):
                yield f"{what} and as many are there, but not the same ones"
            else:
                yield f"{what} and there are {found.events} and {found.payments}"


def _broken_lines(ring: KeyRing, anchors: Sequence[Anchor], now: datetime) -> Iterator[str]:
    before: Anchor | None = None
    for anchor in anchors:
        if anchor.key_id not in ring.keys or not hmac.compare_digest(anchor.with_mac(ring).mac, anchor.mac):
            yield f"the anchor of {anchor.day} was not made with a key of this service"
        if before is None and anchor.previous:
            yield f"the anchor of {anchor.day} follows another, which is missing"
        if before is not None and (anchor.previous, anchor.day) != (before.mac, before.day + DAY):
            yield f"the anchor of {anchor.day} does not follow that of {before.day}: one is missing, or was put in"
        before = anchor
    if before is not None and (missing := _closed(before.day + DAY, now - EXPECTED_WITHIN)):
        yield f"no day has an anchor from {missing[0]} on: the last {len(missing)} are not in the file"


async def broken_chains(conn: Connection, ring: KeyRing) -> AsyncIterator[tuple[int, list[str]]]:
    """All payments, a batch at a time: how many, and what is wrong with their events."""
    after = audit.FIRST
    while batch := await audit.payments_after(conn, after, BATCH):
        after = batch[-1].payment_id
        events = await events_of_payments(conn, [row.payment_id for row in batch])
        findings = []
        for row in batch:
            mine = [event for event in events if event.payment_id == row.payment_id]
            wrong = [*missing_versions(row.version, mine), *broken_links(row.chain_hash, mine, ring)]
            findings += [f"{row.payment_id}: {what}" for what in wrong]
        yield len(batch), findings
