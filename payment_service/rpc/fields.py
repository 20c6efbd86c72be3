"""The fields that requests have in common: what is wrong with one is noted by its name, with what was expected."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from payment_service.daraja.fields import RECEIPT_PATTERN
from payment_service.domain.booking_refunds import RESERVED_PREFIX
from payment_service.domain.errors import InvalidRequest, Violation

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_PHONE = re.compile(r"(?:\+?254|0)([17][0-9]{8})")
_PHONE_FILLERS = str.maketrans("", "", " -")
_PHONE_TEXT_MAX = 32
"""Characters: more than any spelling of a number needs."""
DRIVES_TERMINALS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that break lines or turn the direction of text: on an operator's screen they act."""
_REFERENCE = re.compile(r"[0-9a-z]{12}")

NAME_EXPECTED = 'expected 1 to 64 letters, digits or "-_.:"'
PHONE_EXPECTED = "expected a Kenyan mobile number: 0712345678, 0112345678, 254712345678 or +254712345678"
TIME_EXPECTED = "expected a time from year 1 to 9999, with 0 to 999999999 nanos"


class Fields:
    """Collects violations while a request is read."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def refuse(self, field: str, expected: str) -> None:
        self.violations.append(Violation(field, expected))

    def require(self, field: str, good: object, expected: str) -> None:
        if not good:
            self.refuse(field, expected)

    def end(self) -> None:
        if self.violations:
            raise InvalidRequest(self.violations)


def phone_number_in(fields: Fields, text: str) -> str:
    """The number as 2547XXXXXXXX or 2541XXXXXXXX; empty where it is refused."""
    found = _PHONE.fullmatch(text.translate(_PHONE_FILLERS)) if len(text) <= _PHONE_TEXT_MAX else None
    if found is None:
        # What was given is not repeated: it may be somebody's number.
        fields.refuse("phone_number", PHONE_EXPECTED)
        return ""
    return "254" + found[1]


def request_id_in(fields: Fields, text: str) -> None:
    """A caller's id of a request; those that this service makes itself are refused."""
    if text.startswith(RESERVED_PREFIX):
        fields.refuse("request_id", f"expected another beginning than {RESERVED_PREFIX!r}, which is this service's own")
    else:
        fields.require("request_id", NAME.fullmatch(text), NAME_EXPECTED)


def payment_id_in(fields: Fields, text: str) -> UUID | None:
    """The id; None where it is refused."""
    try:
        payment_id = UUID(text)
    except ValueError:
        payment_id = None
    if payment_id is None or str(payment_id) != text.lower():
        fields.refuse("payment_id", "expected the id of a payment, such as 01890a5d-ac96-774b-bcce-b302099a8057")
        return None
    return payment_id


def reference_in(fields: Fields, text: str) -> str:
    """The reference in lower case."""
    reference = text.lower()
    fields.require("reference", _REFERENCE.fullmatch(reference), "expected 12 letters and digits")
    return reference


def receipt_in(fields: Fields, text: str) -> str:
    """The receipt number in capital letters."""
    receipt = text.upper()
    fields.require("mpesa_receipt_number", RECEIPT_PATTERN.fullmatch(receipt), "expected 6 to 20 letters and digits")
    return receipt


def moment_in(fields: Fields, field: str, stamp: Timestamp) -> datetime | None:
    """The time; None where it is refused."""
    moment = moment_of(stamp)
    fields.require(field, moment, TIME_EXPECTED)
    return moment


def moment_of(stamp: Timestamp) -> datetime | None:
    """The time of a timestamp, to the microsecond; None if there is no such time."""
    if not 0 <= stamp.nanos <= 999_999_999:
        return None
    try:
        return datetime.fromtimestamp(stamp.seconds, UTC) + timedelta(microseconds=stamp.nanos // 1_000)
    except (ValueError, OverflowError, OSError):
        return None
