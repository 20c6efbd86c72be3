"""The chain that makes the log tamper-evident.

Each event carries an HMAC over its own content and the hash of the payment's
event before it, so that an altered, removed or inserted event breaks the chain
of that payment. The position in the log is left out: a restored database may
number its events anew without becoming untrue.
"""

import hmac
import json
from collections.abc import Sequence

from runtime.key_rings import KeyRing

ENCODING = 1
"""Version of the canonical encoding; stored with every event, so that old chains stay verifiable."""

START = bytes(32)
"""What the first event of a payment has for its previous hash."""


def link(ring: KeyRing, previous: bytes, fields: Sequence[object]) -> bytes:
    """The hash of an event: 32 bytes. `fields` are its columns in their fixed order, times in UTC."""
    return _hash(ring.current_key, previous, fields)


def link_holds(
    ring: KeyRing, key_id: str, encoding: int, previous: bytes, fields: Sequence[object], claimed: bytes
) -> bool:
    """Whether `claimed` is the hash of an event, by the key and the encoding that its row names."""
    key = ring.keys.get(key_id)
    if key is None or encoding != ENCODING:
        return False
    return hmac.compare_digest(_hash(key, previous, fields), claimed)


def _hash(key: bytes, previous: bytes, fields: Sequence[object]) -> bytes:
    encoded = json.dumps([str(field) if field is not None else None for field in fields], separators=(",", ":"))
    return hmac.digest(key, bytes([ENCODING]) + previous + encoded.encode(), "sha256")
