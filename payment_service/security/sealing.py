"""Encryption of personal data at rest, and the blind indexes that find it again.

A sealed value is key id (1 byte), nonce (12 bytes), AES-256-GCM ciphertext and
tag. The place and the row are authenticated with it, so a value that is moved
to another row or column does not open. A random nonce is safe for 2^32 values a
key (NIST SP 800-38D, 8.3); rotate long before.

A blind index is an HMAC: equal values have equal indexes, and without the key
nothing can be guessed from one. A bare hash would give up every Kenyan number
in minutes.
"""

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from payment_service.security.keys import Keys
from runtime.key_rings import KeyRing

PHONE_NUMBER: Final = "payment_transactions.phone_number"
CHECKOUT_REQUEST_ID: Final = "payment_transactions.checkout_request_id"
REQUEST: Final = "payment_transactions.request"
CALLER_REQUEST: Final = "caller_requests.request"
CALLBACK_BODY: Final = "callback_inbox.body"
EXCHANGE_REQUEST: Final = "daraja_exchanges.request"
EXCHANGE_ANSWER: Final = "daraja_exchanges.answer"
ACCESS_TOKEN: Final = "daraja_access_token.token"

INDEX_BYTES = 16
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A sealed value does not open: it was moved, altered, or sealed with a key that is not here."""


class Sealer:
    """Seals and opens values, and makes their blind indexes. Holds the ciphers, which are costly to make."""

    def __init__(self, keys: Keys) -> None:
        self._sealing: KeyRing = keys.sealing
        self._index: KeyRing = keys.index
        self._ciphers: dict[bytes, AESGCM] = {}

    def seal(self, place: str, row_id: bytes | str, plaintext: bytes) -> bytes:
        """`plaintext` for one column (`place`) of one row."""
        nonce, key_id = os.urandom(_NONCE_BYTES), self._sealing.current_id.encode()
        ciphertext = self._cipher(self._sealing.current_key).encrypt(nonce, plaintext, _context(place, row_id, key_id))
        return key_id + nonce + ciphertext

    def open(self, place: str, row_id: bytes | str, sealed: bytes) -> bytes:
        """What was sealed for this column of this row, or `SealBroken`."""
        key_id, nonce, ciphertext = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        # As text a byte beyond ASCII is no key's id.
        key = self._sealing.keys.get(key_id.decode("ascii", "replace"))
        if key is None:
            raise SealBroken(f"no key {key_id!r} for {place}")
        try:
            return self._cipher(key).decrypt(nonce, ciphertext, _context(place, row_id, key_id))
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"a value of {place} does not open") from error

    def index(self, kind: str, value: bytes | str) -> bytes:
        """The blind index of a value, 16 bytes; `kind` keeps equal values of different kinds apart."""
        return _index(self._index.current_key, kind, value)

    def index_holds(self, kind: str, value: bytes | str, claimed: bytes) -> bool:
        """Whether `claimed` is the blind index of the value, by whichever of the index keys."""
        return any(hmac.compare_digest(_index(key, kind, value), claimed) for key in self._index.keys.values())

    def _cipher(self, key: bytes) -> AESGCM:
        cipher = self._ciphers.get(key)
        if cipher is None:
            cipher = self._ciphers[key] = AESGCM(key)
        return cipher


def _index(key: bytes, kind: str, value: bytes | str) -> bytes:
    message = kind.encode() + b"|" + (value.encode() if isinstance(value, str) else value)
    return hmac.digest(key, message, "sha256")[:INDEX_BYTES]


def _context(place: str, row_id: bytes | str, key_id: bytes) -> bytes:
    return b"|".join((place.encode(), row_id.encode() if isinstance(row_id, str) else row_id, key_id))
