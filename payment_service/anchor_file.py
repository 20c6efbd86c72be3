"""The file of anchors: one line for each day, only ever appended to, and there after a power cut."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from payment_service.application.inspecting.anchors import Anchor, due_anchors, read_anchors
from payment_service.store.audit import moment
from payment_service.store.engines import connect_reader
from runtime.key_rings import KeyRing
from runtime.private_files import sync_folder
from runtime.serving import StartRefused

LOOK_SECONDS = 600.0
"""Between two looks for a day that is over."""


@dataclass(frozen=True, slots=True)
class AnchorTools:
    """What anchoring takes."""

    path: Path
    database_url: str
    ring: KeyRing


async def anchor_days(tools: AnchorTools) -> int:
    """Append a line for each day that is over and has none; how many. Another process that is at it does it alone."""
    count = 0
    with _appending(tools.path) as file:
        if file is None:
            return 0
        text = _text_of(file)
        anchors = read_anchors(text)
        if text and not text.endswith("\n"):
            # A power cut has torn the last line.
            _write(file, "\n")
        async with await connect_reader(tools.database_url) as conn:
            now = await moment(conn)
            async for anchor in due_anchors(conn, tools.ring, anchors[-1] if anchors else None, now):
                _write(file, anchor.line() + "\n")
                count += 1
    return count


def load_anchors(path: Path) -> list[Anchor]:
    """What the file holds, or StartRefused."""
    try:
        return read_anchors(path.read_text())
    except (OSError, ValueError) as error:
        raise StartRefused(f"The file of anchors {path} cannot be read: {error}.") from error


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int | None]:
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartRefused(
            f"The file of anchors {path} cannot be written: {error.strerror}. Name one in a folder that this user may"
            " write to."
        ) from error
    try:
        sync_folder(path.parent)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file
    finally:
        os.close(file)


def _text_of(file: int) -> str:
    with os.fdopen(os.dup(file), "rb") as reading:
        return reading.read().decode("utf-8", "replace")


def _write(file: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(file, data) :]
    os.fsync(file)
