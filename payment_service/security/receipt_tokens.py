"""The token in the link of a receipt: how it is made, and which payment it proves to be ours.

It carries the payment's reference, which is the receipt's number, and a MAC over it. Only the service has the key, so
the gateway that asks about tokens can make none. It has no end: a receipt on paper is to be proven years later, so
it is made with a key of the log's chain, which is kept as long as the log.
"""

import hmac
import re

from runtime.key_rings import KeyRing

# 128 bits: no one guesses it over HTTP.
MAC_HEX_CHARACTERS = 32
TOKEN_PATTERN = re.compile(rf"([0-9a-z]{{12}})([0-9a-f]{{{MAC_HEX_CHARACTERS}}})", re.ASCII)
# What the chain hashes begins with something else.
MAC_LABEL = b"mpesa-payments receipt v1|"


def receipt_token(keys: KeyRing, reference: str) -> str:
    """The token of the receipt of the payment with this reference, made with the current key."""
    return reference + _mac(keys.current_key, reference)


def payment_proven(keys: KeyRing, token: str) -> str | None:
    """The reference of the payment whose receipt a token is for; None unless it was made with one of the keys."""
    parts = TOKEN_PATTERN.fullmatch(token)
    if parts is None:
        return None
    proven = any(hmac.compare_digest(parts[2], _mac(key, parts[1])) for key in keys.keys.values())
    return parts[1] if proven else None


def _mac(key: bytes, reference: str) -> str:
    return hmac.digest(key, MAC_LABEL + reference.encode("ascii"), "sha256").hex()[:MAC_HEX_CHARACTERS]
