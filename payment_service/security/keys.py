"""The service's own keys: where they come from, and which is current.

One JSON file, mode 600, made once by `create_keys`, changed by `payment-service
keys`. Each purpose has its own keys, each key an id, so that a new one can be
added to all readers first and made current afterwards. Of the index keys only
the current one finds rows; the others prove what was indexed before.
"""

import hmac
import json
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.key_rings import KeyRing
from runtime.private_files import why_not_private, write_once

KEY_BYTES = 32
PURPOSES = ("sealing", "index", "fingerprint", "chain")
CHECK_BYTES = 8
"""Enough to tell keys apart, and far too little to be of use against one of 32 random bytes."""


class KeysUnusable(Exception):
    """The key file cannot be used: it is missing, unreadable, or not what `payment-service create-keys` makes."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """All keys of the service. Not shown by repr: they must not reach a log."""

    sealing: KeyRing
    index: KeyRing
    fingerprint: KeyRing
    chain: KeyRing

    @property
    def rings(self) -> dict[str, KeyRing]:
        """By purpose."""
        return {"sealing": self.sealing, "index": self.index, "fingerprint": self.fingerprint, "chain": self.chain}

    def renew(self, newer: "Keys") -> None:
        """Go on with these keys, for everybody who has the rings."""
        for purpose, ring in self.rings.items():
            ring.renew(newer.rings[purpose])

    def checks(self) -> dict[tuple[str, str], bytes]:
        """A value of each key, by purpose and id, that tells whether two files hold the same key, and no more."""
        return {
            (purpose, key_id): hmac.digest(key, f"key check|{purpose}|{key_id}".encode(), "sha256")[:CHECK_BYTES]
            for purpose, ring in self.rings.items()
            for key_id, key in ring.keys.items()
        }


def create_keys(path: Path, mark: Mapping[str, str] | None = None) -> None:
    """Make a key file for a new installation; an existing one is left alone. `mark` stands beside the keys."""
    rings = {purpose: {"current": "1", "keys": {"1": secrets.token_hex(KEY_BYTES)}} for purpose in PURPOSES}
    write_once(path, json.dumps({**rings, **(mark or {})}, indent=2) + "\n")


def load_keys(path: Path) -> Keys:
    """The keys of this installation, or `KeysUnusable` with a sentence that says what to do."""
    if (why := why_not_private(path)) is not None:
        raise KeysUnusable(f"The key file {path} cannot be used: {why}.")
    try:
        content = json.loads(path.read_text())
        rings = {purpose: _ring(content[purpose]) for purpose in PURPOSES}
    except FileNotFoundError as error:
        raise KeysUnusable(
            f"There is no key file {path}. If this installation has one, name it; for a new installation make one with:"
            f' payment-service create-keys {shlex.quote(str(path))} "$PAYMENTS_CALLBACK_KEYS_FILE"'
        ) from error
    except OSError as error:
        raise KeysUnusable(f"The key file {path} cannot be read: {error.strerror}. Let this user read it.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise KeysUnusable(
            f"The key file {path} is damaged ({type(error).__name__}: {error}). Restore it from a backup: new keys"
            " cannot open what was encrypted with these."
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
