"""The token by which a passenger's browser sees one payment: how it is made, and whether it is ours.

It carries its end and a MAC over that and the payment. Only the service has the key, so the gateway that passes tokens
on can make none. Nothing is stored: a token cannot be taken back, so it ends by itself after a day.
"""

import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from payment_service.domain.errors import StatusTokenRefused
from runtime.key_rings import KeyRing

STATUS_TOKEN_LIFE = timedelta(hours=24)
"""A passenger looks at the payment until the journey begins; whoever looks later asks the booking service anew."""
# 128 bits: no one guesses it over HTTP.
MAC_HEX_CHARACTERS = 32
TOKEN_PATTERN = re.compile(rf"([0-9a-f]{{8}})([0-9a-f]{{{MAC_HEX_CHARACTERS}}})")
# The same keys sign page tokens, under a label of their own.
MAC_LABEL = b"mpesa-payments status v1|"


def status_token(keys: KeyRing, payment_id: UUID, now: datetime) -> str:
    """A token for one payment, made with the current key."""
    end = f"{int((now + STATUS_TOKEN_LIFE).timestamp()):08x}"
    return end + _mac(keys.current_key, payment_id, end)


def check_status_token(keys: KeyRing, payment_id: UUID, token: str, now: datetime) -> None:
    """Raise StatusTokenRefused unless it is a token of this payment, by any of the keys, that has not ended."""
    parts = TOKEN_PATTERN.fullmatch(token)
    if parts is None or not any(hmac.compare_digest(parts[2], mac) for mac in _macs(keys, payment_id, parts[1])):
        raise StatusTokenRefused
    # Looked at only now: the MAC does not fit an end that was altered.
    if now >= datetime.fromtimestamp(int(parts[1], 16), UTC):
        raise StatusTokenRefused


def _macs(keys: KeyRing, payment_id: UUID, end: str) -> Iterator[str]:
    return (_mac(key, payment_id, end) for key in keys.keys.values())


def _mac(key: bytes, payment_id: UUID, end: str) -> str:
    return hmac.digest(key, MAC_LABEL + payment_id.bytes + end.encode("ascii"), "sha256").hex()[:MAC_HEX_CHARACTERS]
