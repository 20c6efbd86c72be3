"""A cursor in a file, for a consumer whose effects are in no database: a mail that is sent, a line that is printed.

The cursor is written after the effect, so a crash in between repeats the effect: at least once, not exactly once. Who
needs more keeps the event's id with the effect. The file belongs to one process, which holds a lock on it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from payment_client.contract import payment_pb2


class CursorFileInUse(Exception):
    """Another process has this file: one consumer with a file is one process."""


class FileCursors:
    """A CursorStore for SyncPaymentsClient."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None
        self._cursor = ""
        self._waiting: list[tuple[payment_pb2.PaymentEvent, str]] = []

    def load(self) -> str:
        self._own()
        if self.path.exists():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self._cursor = kept["cursor"]
            self._waiting = [
                (payment_pb2.PaymentEvent.FromString(base64.b64decode(one["event"])), one["why"])
                for one in kept["set_aside"]
            ]
        return self._cursor

    @contextmanager
    def moving(self, before: str, after: str) -> Iterator[None]:
        waiting = list(self._waiting)
        try:
            yield
            self._write(after)
        except BaseException:
            self._waiting = waiting
            raise

    def set_aside(self, transaction: None, event: payment_pb2.PaymentEvent, why: str) -> None:
        self._waiting.append((event, why))

    def waiting(self) -> list[payment_pb2.PaymentEvent]:
        return [event for event, _ in self._waiting]

    @contextmanager
    def retaking(self, event_id: str) -> Iterator[None]:
        yield
        self._waiting = [one for one in self._waiting if one[0].event_id != event_id]
        self._write(self._cursor)

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _own(self) -> None:
        if self._lock is None:
            self._lock = self.path.with_name(f"{self.path.name}.lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CursorFileInUse(f"Another process keeps its cursor in {self.path}: name another file.") from error

    def _write(self, cursor: str) -> None:
        set_aside = [
            {"event": base64.b64encode(event.SerializeToString()).decode("ascii"), "why": why}
            for event, why in self._waiting
        ]
        draft = self.path.with_name(f"{self.path.name}.new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"cursor": cursor, "set_aside": set_aside}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        self._cursor = cursor


class AsyncFileCursors:
    """An AsyncCursorStore for PaymentsClient. The file is some bytes, written within a millisecond or so."""

    def __init__(self, path: Path | str) -> None:
        self._file = FileCursors(path)
        self.close = self._file.close

    async def load(self) -> str:
        return self._file.load()

    @asynccontextmanager
    async def moving(self, before: str, after: str) -> AsyncIterator[None]:
        with self._file.moving(before, after):
            yield

    async def set_aside(self, transaction: None, event: payment_pb2.PaymentEvent, why: str) -> None:
        self._file.set_aside(transaction, event, why)

    async def waiting(self) -> list[payment_pb2.PaymentEvent]:
        return self._file.waiting()

    @asynccontextmanager
    async def retaking(self, event_id: str) -> AsyncIterator[None]:
        with self._file.retaking(event_id):
            yield
