"""All that the relay keeps, in one SQLite file: its cursor, what is still to be posted, and what was given up.

Events and the cursor behind them are written in one transaction, so whenever the relay dies, each event is posted at
least once and none is left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 1), cursor TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    booking_id TEXT NOT NULL,
    body TEXT NOT NULL,
    first_tried_at REAL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '',
    given_up INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (booking_id, place) WHERE NOT given_up;
"""

# The oldest of each booking: those behind it wait, so that a booking's events come in order.
_DUE = """
SELECT place, event_id, booking_id, body, first_tried_at, tries FROM deliveries AS d
WHERE NOT given_up AND next_at <= ? AND NOT EXISTS (
    SELECT 1 FROM deliveries AS e WHERE e.booking_id = d.booking_id AND e.place < d.place AND NOT e.given_up)
ORDER BY place LIMIT ?"""


class Entry(NamedTuple):
    """An event to be posted."""

    event_id: str
    booking_id: str
    body: str
    """JSON, as it is signed and posted, the same at each try."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event whose turn it is."""

    place: int
    event_id: str
    booking_id: str
    body: str
    first_tried_at: float | None
    tries: int
    """Those that have failed."""


class GivenUp(NamedTuple):
    """A line of the dead letter list."""

    event_id: str
    booking_id: str
    tries: int
    last_error: str


class Outbox:
    """The file. One relay opens it at a time."""

    def __init__(self, path: Path, *, wait_seconds: float = 5.0) -> None:
        """sqlite3.OperationalError where another relay has it, or the file cannot be used."""
        self._db = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
        # A second relay on the same file would post everything twice, and out of order.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        self._db.close()

    @property
    def cursor(self) -> str:
        """Where to go on reading; empty before the first event."""
        row = self._db.execute("SELECT cursor FROM position").fetchone()
        return str(row[0]) if row else ""

    def take(self, entries: Iterable[Entry], cursor: str) -> None:
        """Keep events to be posted, and the cursor behind them. An event that is known already is not kept twice."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO deliveries (event_id, booking_id, body) VALUES (?, ?, ?)", entries
            )
            self._db.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (cursor,))

    def waiting(self) -> int:
        """How many events are still to be posted."""
        return int(self._db.execute("SELECT count(*) FROM deliveries WHERE NOT given_up").fetchone()[0])

    def due(self, now: float, most: int) -> list[Delivery]:
        """What may be posted now: one event of a booking, its oldest."""
        return [Delivery(*row) for row in self._db.execute(_DUE, (now, most))]

    def delivered(self, delivery: Delivery) -> None:
        """The team has it: nothing of it is kept."""
        self._db.execute("DELETE FROM deliveries WHERE place = ?", (delivery.place,))

    def failed(self, delivery: Delivery, now: float, next_at: float, error: str) -> None:
        """To be posted again at that time."""
        self._db.execute(
            "UPDATE deliveries SET tries = tries + 1, first_tried_at = coalesce(first_tried_at, ?), next_at = ?,"
            " last_error = ? WHERE place = ?",
            (now, next_at, error, delivery.place),
        )

    def give_up(self, delivery: Delivery, error: str) -> None:
        """Onto the dead letter list; the next event of its booking has its turn."""
        self._db.execute(
            "UPDATE deliveries SET tries = tries + 1, last_error = ?, given_up = 1 WHERE place = ?",
            (error, delivery.place),
        )

    def given_up(self) -> list[GivenUp]:
        """The dead letter list, oldest first."""
        query = "SELECT event_id, booking_id, tries, last_error FROM deliveries WHERE given_up ORDER BY place"
        return [GivenUp(*row) for row in self._db.execute(query)]

    def offer_again(self, event_ids: Iterable[str]) -> int:
        """Take events off the dead letter list, to be posted as if they were new; how many those were."""
        query = (
            "UPDATE deliveries SET given_up = 0, tries = 0, next_at = 0, first_tried_at = NULL"
            " WHERE event_id = ? AND given_up"
        )
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            return sum(self._db.execute(query, (event_id,)).rowcount for event_id in event_ids)
