"""How a callback stands on disk: sealed by a key of the gateway's own, framed, and readable behind damage.

A record is a mark (8 bytes), the id of its key (2), the length of the rest (4, big-endian), a nonce (12), and the
callback's wire form under AES-256-GCM. The seal decides alone whether a record is whole: nothing that was cut, flipped
or written by anybody else opens. Where none begins, reading goes on at the next mark, so damage costs the records it
touched and no other. A random nonce is safe for 2^32 records a key (NIST SP 800-38D, 8.3): five months of 300 a second.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from mpesa_payments.v1 import callback_service_pb2 as pb

from runtime.key_rings import KeyRing

# No text, and no likely accident: eight bytes that a sealed record holds by chance once in 10^19.
MARK = b"\xf5spool1\n"
HEADER = struct.Struct(">8s2sI")
NONCE_BYTES = 12
SEAL_LABEL = b"mpesa-payments callback spool v1|"
# A body has at most 64 KiB; its reference, token, address and time, the header and the seal are well under 1 KiB.
RECORD_MAX_BYTES = 65_536 + 1_024


@dataclass(frozen=True)
class Record:
    """An intact record, and where it stands: `data[start:end]` of what was read."""

    start: int
    end: int
    callback: pb.Callback


@dataclass(frozen=True)
class Contents:
    """What was found in some bytes: every intact record in order, and how many bytes belong to none."""

    records: tuple[Record, ...]
    unreadable_bytes: int


def key_ids(data: bytes) -> Iterator[str]:
    """The id of the key of every record in some bytes, readable or not."""
    start = data.find(MARK)
    while start >= 0:
        yield data[start + len(MARK) : start + len(MARK) + 2].decode("ascii", "replace")
        start = data.find(MARK, start + 1)


class RecordSealer:
    """Makes records and reads them. Holds the ciphers, which are costly to make."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._ciphers: dict[bytes, AESGCM] = {}

    def seal(self, callback: pb.Callback) -> bytes:
        """The record of a callback, to be appended as it is."""
        nonce, key_id = os.urandom(NONCE_BYTES), self.ring.current_id.encode("ascii")
        plaintext = callback.SerializeToString()
        sealed = nonce + self._cipher(self.ring.current_key).encrypt(nonce, plaintext, SEAL_LABEL + key_id)
        return HEADER.pack(MARK, key_id, len(sealed)) + sealed

    def read(self, data: bytes) -> Contents:
        """Every intact record of a file's bytes, whatever else is in them; it never raises."""
        records: list[Record] = []
        position, unreadable_bytes = 0, 0
        while position < len(data):
            record = self._record_at(data, position)
            if record is not None:
                records.append(record)
                position = record.end
            else:
                mark = data.find(MARK, position + 1)
                end = mark if mark >= 0 else len(data)
                unreadable_bytes += end - position
                position = end
        return Contents(tuple(records), unreadable_bytes)

    def _record_at(self, data: bytes, start: int) -> Record | None:
        sealed_at = start + HEADER.size
        if sealed_at > len(data):
            return None
        mark, key_id, length = HEADER.unpack_from(data, start)
        key, end = self.ring.keys.get(key_id.decode("ascii", "replace")), sealed_at + length
        if mark != MARK or key is None or end > len(data):
            return None
        nonce, ciphertext = data[sealed_at : sealed_at + NONCE_BYTES], data[sealed_at + NONCE_BYTES : end]
        try:
            plaintext = self._cipher(key).decrypt(nonce, ciphertext, SEAL_LABEL + key_id)
            return Record(start, end, pb.Callback.FromString(plaintext))
        except (InvalidTag, ValueError, DecodeError):
            # ValueError: too short for a nonce. DecodeError: what opens was sealed by us, but not by this version.
            return None

    def _cipher(self, key: bytes) -> AESGCM:
        cipher = self._ciphers.get(key)
        if cipher is None:
            cipher = self._ciphers[key] = AESGCM(key)
        return cipher
