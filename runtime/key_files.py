"""Changing a file of keys: one change at a time, the whole file at once, and never a key or an id twice.

A file holds one ring, or one for each purpose. Who may need a key is for those who hold it to say.
"""

import contextlib
import fcntl
import json
import os
import secrets
import string
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from runtime.key_rings import KEY_BYTES
from runtime.private_files import replace
from runtime.serving import StartRefused

RingText = dict[str, Any]
"""A ring as its file has it: {"current": ID, "keys": {ID: KEY in hex}}."""

ONE_CHARACTER = string.digits[1:] + string.ascii_letters
"""Ids of keys whose id is one byte of every value that is sealed with them."""


class KeyIdUnknown(StartRefused):
    """A command names a key that the file does not have."""


@contextlib.contextmanager
def changing(path: Path, purpose: str | None = None) -> Iterator[RingText]:
    """The ring of a file that holds one, or of one of its purposes; what the block makes of it is written at its end.

    StartRefused where the file cannot be changed, or somebody else is changing it.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is(path, file.fileno()):
                raise BlockingIOError
            document = json.load(file)
            yield document if purpose is None else document[purpose]
            replace(path, json.dumps(document, indent=2) + "\n")
    except BlockingIOError:
        raise StartRefused(f"Another command is changing {path}: run this one again.") from None
    except OSError as error:
        raise StartRefused(
            f"{path} cannot be changed: {error.strerror}. Run this as the user that the file belongs to."
        ) from error


def add_key(ring: RingText, taken: Collection[str], *, one_character: bool) -> str:
    """Add a new key, and give its id: one that no key has had."""
    ids = ONE_CHARACTER if one_character else [f"{number:02x}" for number in range(256)]
    free = [key_id for key_id in ids if key_id not in taken and key_id not in ring["keys"]]
    if not free:
        raise StartRefused("Every id has been used: no further key of this purpose can be added.")
    # Two files that are extended by mistake, each by itself, are told apart at once by their ids more often than not.
    key_id = free[0] if one_character else secrets.choice(free)
    ring["keys"][key_id] = secrets.token_hex(KEY_BYTES)
    return key_id


def use_key(ring: RingText, key_id: str) -> None:
    """Make a key the current one."""
    _check_known(ring, key_id)
    ring["current"] = key_id


def drop_key(ring: RingText, key_id: str) -> None:
    """Take a key out."""
    _check_known(ring, key_id)
    if ring["current"] == key_id:
        raise StartRefused(f"Key {key_id!r} is the current one: make another one current first.")
    del ring["keys"][key_id]


def _check_known(ring: RingText, key_id: str) -> None:
    if key_id not in ring["keys"]:
        raise KeyIdUnknown(f"The file has no key {key_id!r}: it has {', '.join(sorted(ring['keys']))}.")


def _is(path: Path, descriptor: int) -> bool:
    """Whether the name still leads to the open file: another command may have replaced it before the lock was had."""
    return os.fstat(descriptor).st_ino == path.stat().st_ino
