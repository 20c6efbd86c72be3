"""The API operator who may ask for a transaction's status and order money to be sent: name, password, and its key.

A SecurityCredential is the password, encrypted with RSA PKCS#1 v1.5 for a certificate and written as base64. Every
process has a key pair of its own. Its certificate has run out, as the one published for the sandbox did in 2016:
what it is for is the key in it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from hmac import compare_digest
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from daraja_simulator.settings import Settings

_KEY_BITS: Final = 2048
# A password that was wrong so often in a row is locked, as on a phone.
_TRIES_MAX: Final = 3


class Standing(Enum):
    """What M-Pesa makes of an operator who asks for something."""

    ACCEPTED = "accepted"
    WRONG = "wrong"
    LOCKED = "locked"


@dataclass(slots=True)
class Initiator:
    """Whether the operator's password is locked, how near to it, and whether it has the role to order money sent."""

    locked: bool = False
    may_order: bool = True
    wrong_tries: int = 0

    def standing(self, settings: Settings, name: str, credential: bytes) -> Standing:
        """Check a name and an encrypted password, and lock after the third wrong one in a row."""
        if self.locked:
            return Standing.LOCKED
        if name == settings.initiator_name and _opens_to(credential, settings.initiator_password):
            self.wrong_tries = 0
            return Standing.ACCEPTED
        self.wrong_tries += 1
        self.locked = self.wrong_tries >= _TRIES_MAX
        return Standing.WRONG


def read_credential(text: str) -> bytes | None:
    """The encrypted password; None when the text is not base64 or not as long as the key."""
    try:
        credential = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return credential if len(credential) == _KEY_BITS // 8 else None


@lru_cache(maxsize=1)
def certificate() -> str:
    """The certificate, as PEM, whose key encrypts the operator's password."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "daraja-simulator")])
    ended = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(_key().public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(ended - timedelta(days=365)).not_valid_after(ended)
    return builder.sign(_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


# Made when first needed: it takes a good tenth of a second, and most runs never need it.
@lru_cache(maxsize=1)
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def _opens_to(credential: bytes, password: str) -> bool:
    """Whether the credential is the password; garbage decrypts to an error or to random bytes, never to it."""
    try:
        opened = _key().decrypt(credential, padding.PKCS1v15())
    except ValueError:
        return False
    return compare_digest(opened, password.encode())
