"""Rows of Safaricom's own list of what arrived, which we call its books. Pure, and it never raises.

A row is read field by field: what cannot be read is absent, and takes nothing else with it. Whose money a row is, is
decided in `payment_service.domain.pull`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from payment_service.daraja.fields import NAIROBI, nairobi_time, read_amount, read_receipt
from payment_service.daraja.json_reading import Several
from payment_service.domain.facts import UNREADABLE
from payment_service.domain.pull import HashedNumber, PulledRow, VisibleDigits

_MASK = re.compile(r"([0-9]{0,12})(\*+)([0-9]{0,12})")
_HASH = re.compile(r"([0-9a-f]{0,64})(\*+)([0-9a-f]{0,64})|[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{9,12}")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?(Z|[+-][0-9:]{4,6})?")
_REVERSAL = re.compile(r"\brev(?:$|ers)", re.IGNORECASE)
_REFERENCE_MAX_CHARACTERS = 64
_DIGITS_SHOWN_MIN = 4
"""Fewer of a number would fit every thousandth passenger."""
_HASH_SHOWN_MIN = 8
"""Of a hash that is masked; fewer could be digits of a number."""


@dataclass(frozen=True, slots=True)
class ListedRow:
    """A row and what it was read from, to be kept with the payment it is about."""

    row: PulledRow
    body: bytes = field(repr=False)


def list_row(value: object) -> ListedRow | None:
    """A row of a page; None for what is none."""
    row = read_row(value)
    return ListedRow(row, _body(value)) if row is not None else None


def read_row(value: object) -> PulledRow | None:
    """A row; None for what cannot be read as one: neither a receipt number nor a reference, or several references."""
    if not isinstance(value, dict) or isinstance(value.get("billreference"), Several):
        return None
    receipt, reference = read_receipt(value.get("transactionId")), _reference(value.get("billreference"))
    if receipt is None and not reference:
        return None
    return PulledRow(
        receipt=receipt,
        key=receipt or hashlib.sha256(_body(value)).hexdigest()[:20],
        # An amount that is absent is as good as an unreadable one: a row has to agree in it.
        amount=read_amount(value["amount"]) if value.get("amount") is not None else UNREADABLE,
        account_reference=reference,
        readings=_readings(value.get("trxDate")),
        received=_says_received(value),
        reversal=_says_reversal(value),
        payer=_payer(value.get("msisdn")),
    )


def _body(value: object) -> bytes:
    return json.dumps(value, default=str).encode()


def _says_received(value: Mapping[str, object]) -> bool:
    """Customers' payments are c2b-pay-bill-debit and c2b-buy-goods-debit, cut to 16 characters by some; a type that is
    absent denies nothing. There are others, of banks and of credit, that nobody has listed."""
    kind = value.get("transactiontype")
    return kind is None or (isinstance(kind, str) and kind.lower().startswith("c2b"))


def _says_reversal(value: Mapping[str, object]) -> bool:
    """organization-reversal and its like, also cut to 16 characters. No recording shows what it is called, so a word
    that begins as "reversal" does is enough."""
    kind = value.get("transactiontype")
    return isinstance(kind, str) and _REVERSAL.search(kind) is not None


def _reference(value: object) -> str:
    """What the payer's prompt showed as the account; the empty text for what cannot be one."""
    text = str(value) if type(value) is int else value.strip() if isinstance(value, str) else ""
    return text if len(text) <= _REFERENCE_MAX_CHARACTERS and text.isprintable() else ""


def _readings(value: object) -> tuple[datetime, ...]:
    """What a time may mean, the earliest first.

    With an offset it means one thing. Without one, and with a Z, which is written after UTC and after Nairobi's time
    alike, it means two.
    """
    digits = nairobi_time(value)
    if digits is not None:
        return _both(digits.replace(tzinfo=None))
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return ()
    date, clock, zone = found.groups()
    try:
        if zone in (None, "Z"):
            return _both(datetime.fromisoformat(f"{date}T{clock}"))
        return (datetime.fromisoformat(f"{date}T{clock}{zone}").astimezone(UTC),)
    except (ValueError, OverflowError):
        return ()


def _both(written: datetime) -> tuple[datetime, ...]:
    return written.replace(tzinfo=NAIROBI).astimezone(UTC), written.replace(tzinfo=UTC)


def _payer(value: object) -> VisibleDigits | HashedNumber | None:
    """What is shown of a number, in whatever notation: 722000126, 2547 ***** 126, 0722000***, or its SHA-256."""
    text = str(value) if type(value) is int else value.replace(" ", "") if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        leading, trailing = _national(text), ""
    elif masked := _MASK.fullmatch(text):
        leading, trailing = _national(masked[1]), masked[3]
    else:
        return _hashed(text.lower())
    return VisibleDigits(leading, trailing) if len(leading) + len(trailing) >= _DIGITS_SHOWN_MIN else None


def _hashed(text: str) -> HashedNumber | None:
    found = _HASH.fullmatch(text)
    if found is None:
        return None
    leading, trailing = (text, "") if found[2] is None else (found[1], found[3])
    return HashedNumber(leading, trailing) if len(leading) + len(trailing) >= _HASH_SHOWN_MIN else None


def _national(digits: str) -> str:
    return digits.removeprefix("254") if digits.startswith("254") else digits.removeprefix("0")
