"""The service's own keys: where they come from, and which is current.

One JSON file, mode 600, made once by `create_keys` and never overwritten. Each
purpose has its own keys, each key an id, so that a new one can be added to all
readers first and made current afterwards.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEY_BYTES = 32
PURPOSES = ("sealing", "index", "fingerprint", "chain")


class KeysUnusable(Exception):
    """The key file cannot be used: it is missing, unreadable, or not what `payment-service create-keys` makes."""


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """The keys of one purpose. The current one is used for everything new."""

    current_id: str
    keys: Mapping[str, bytes]

    @property
    def current(self) -> bytes:
        return self.keys[self.current_id]


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """All keys of the service. Not shown by repr: they must not reach a log."""

    sealing: KeyRing
    index: KeyRing
    fingerprint: KeyRing
    chain: KeyRing


def create_keys(path: Path) -> None:
    """Make a key file for a new installation; an existing one is left alone."""
    ring = {purpose: {"current": "1", "keys": {"1": secrets.token_hex(KEY_BYTES)}} for purpose in PURPOSES}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        json.dump(ring, file, indent=2)


def load_keys(path: Path) -> Keys:
    """The keys of this installation, or `KeysUnusable` with a sentence that says what to do."""
    try:
        content = json.loads(path.read_text())
        rings = {purpose: _ring(content[purpose]) for purpose in PURPOSES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeysUnusable(
            f"{path} is not a usable key file ({error}). Make one with: payment-service create-keys {path}"
        ) from error
    return Keys(**rings)


def _ring(content: Mapping[str, object]) -> KeyRing:
    current, keys = content["current"], content["keys"]
    if not isinstance(current, str) or not isinstance(keys, dict) or current not in keys:
        raise ValueError("each purpose needs `keys` and the id of the `current` one")
    parsed = {str(key_id): bytes.fromhex(value) for key_id, value in keys.items()}
    if any(len(key) != KEY_BYTES for key in parsed.values()):
        raise ValueError(f"every key has {KEY_BYTES} bytes")
    if any(not key_id.isascii() or len(key_id) != 1 for key_id in parsed):
        raise ValueError("every key id is one ASCII character")
    return KeyRing(current, parsed)
