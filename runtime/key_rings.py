"""Files of keys with ids: made once, extended by operators, and read again when they change.

One JSON file holds the keys of one purpose, each with a two-character id, so that a new key can be given to all
readers first and made current afterwards. What is made with a key is for those who hold it to say.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.private_files import why_not_private, write_once
from runtime.serving import StartRefused

KEY_ID_PATTERN = re.compile(r"[0-9a-f]{2}")
KEY_BYTES = 32


@dataclass
class KeyRing:
    """The keys by their ids: the current one makes what is new, any of them reads what is old.

    A program has one ring for each purpose for as long as it runs, and gives the ring itself to whoever needs a key: so
    all of them have what the file holds now.
    """

    current_id: str
    keys: Mapping[str, bytes] = field(repr=False)

    @property
    def current_key(self) -> bytes:
        """The key that makes what is new."""
        return self.keys[self.current_id]

    def renew(self, newer: "KeyRing") -> None:
        """Go on with these keys."""
        # In this order: another thread never finds a current id without its key.
        self.keys = newer.keys
        self.current_id = newer.current_id


class KeyRingUnusable(StartRefused):
    """A file of keys cannot be used."""


def create_key_ring(path: Path, mark: Mapping[str, str] | None = None) -> bool:
    """Write a file with one new key, readable by its owner only; False if there is one already, which stays.

    `mark` stands beside the key.
    """
    key_id = secrets.token_hex(1)
    ring = {"current": key_id, "keys": {key_id: secrets.token_hex(KEY_BYTES)}}
    text = json.dumps({**ring, **(mark or {})}, indent=2) + "\n"
    return write_once(path, text)


def load_key_ring(path: Path, name: str, if_unreadable: str) -> KeyRing:
    """Read a file that `create_key_ring` made, or an operator extended.

    `name` says in a sentence what the keys are, `if_unreadable` what to do when there is no such file.
    """
    if (why := why_not_private(path)) is not None:
        raise KeyRingUnusable(f"The {name} in {path} cannot be used: {why}.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyRingUnusable(f"The {name} cannot be read from {path}: {error.strerror}. {if_unreadable}") from error
    except ValueError as error:
        raise KeyRingUnusable(f"The {name} in {path} are not JSON. Restore the file from a backup.") from error
    match document:
        case {"current": str(current), "keys": dict(texts)} if current in texts:
            keys = {key_id: _key(path, name, key_id, text) for key_id, text in texts.items()}
        case _:
            raise KeyRingUnusable(
                f'The {name} in {path} must read {{"current": ID, "keys": {{ID: KEY, …}}}}, '
                'with "current" among the IDs.'
            )
    return KeyRing(current, keys)


def _key(path: Path, name: str, key_id: str, text: object) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or not KEY_ID_PATTERN.fullmatch(key_id):
        raise KeyRingUnusable(
            f"The {name} in {path}: each ID is two of 0-9a-f and each key {2 * KEY_BYTES} of 0-9a-f; "
            f"the entry {key_id[:8]!r} is not."
        )
    return key
