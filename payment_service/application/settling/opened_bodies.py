"""Bodies that were kept, opened for an operator to read, without the payer's number.

It is masked as everywhere, in whatever notation it stands, and so is what contains it.
"""

import json
from typing import Final
from uuid import UUID

from payment_service.domain.views import masked
from payment_service.security.sealing import PHONE_NUMBER, SealBroken, Sealer
from runtime.redaction import redact_text

BODY_SHOWN_MAX = 1_500
"""Characters of one body: Daraja's own have some 600, and a hostile one must not bury the rest of the story."""
NATIONAL_DIGITS: Final = 9
"""A phone number without its country code: the part that every way of writing it ends in."""


def opened_body(sealer: Sealer, place: str, row_id: bytes, sealed: bytes, number: str | None) -> str:
    """A stored body as `shown`, or that it does not open."""
    try:
        return shown(sealer.open(place, row_id, sealed), number) or "nothing"
    except SealBroken:
        return "[does not open]"


def payer_number(sealer: Sealer, payment_id: UUID, sealed: bytes) -> str | None:
    """The number that has to be masked in what is shown of a payment; None where it was erased, or does not open."""
    try:
        return sealer.open(PHONE_NUMBER, payment_id.bytes, sealed).decode() or None
    except SealBroken:
        return None


def shown(body: bytes, number: str | None) -> str:
    """A body on one line, the payer's number masked, and nothing in it that a terminal would obey."""
    try:
        # Read and written again, so that no escape sequence spells the number otherwise.
        text = json.dumps(json.loads(body), ensure_ascii=True)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")
    if number is not None:
        text = text.replace(number, masked(number)).replace(number[-NATIONAL_DIGITS:], masked(number)[-8:])
    text = redact_text(text)
    return text if len(text) <= BODY_SHOWN_MAX else f"{text[:BODY_SHOWN_MAX]}… ({len(body)} bytes)"
