"""Files of keys that a running program reads again once they have changed, and how it names itself to others.

What cannot be used raises an alarm, and the program goes on with the keys that it has.
"""

import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from runtime.alarms import Alarm, LastingAlarm
from runtime.private_files import stamp_of
from runtime.serving import StartRefused

LOOK_SECONDS = 2.0
"""Between two looks at a file of keys: whoever replaces one waits for every program to have read it."""

Content = TypeVar("Content")

_log = structlog.get_logger(__name__)


class FollowedKeys(Generic[Content]):
    """One file of keys. The first look reads it as well: it may have changed since the program read it to start."""

    def __init__(self, path: Path, load: Callable[[Path], Content], unusable: Alarm) -> None:
        """`load` raises StartRefused for what cannot be used."""
        self._path, self._load = path, load
        self._unusable = LastingAlarm(unusable)
        self._taken: tuple[int, int, int] | None = None

    async def look(self, take: Callable[[Content], Awaitable[None]]) -> None:
        """Have `take` go on with what the file holds, where that is new; StartRefused by it as well changes nothing."""
        stamp = stamp_of(self._path)
        if stamp is not None and stamp == self._taken:
            return
        try:
            await take(self._load(self._path))
        except StartRefused as refusal:
            # Looked at again each time: what is wrong may lie elsewhere, such as in the database.
            self._unusable.set(True, why=str(refusal))
            return
        if self._taken is not None:
            _log.info("keys read anew", file=str(self._path))
        self._taken = stamp
        self._unusable.set(False)


def name_of_process(program: str) -> str:
    """This process, for an operator to find it by; no two have the same."""
    return f"{program} on {socket.gethostname()}, process {os.getpid()} ({secrets.token_hex(3)})"
