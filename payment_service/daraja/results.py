"""The envelope in which Safaricom posts what became of a request, read leniently whichever request it was.

Results come with codes as numbers, texts or letters, parameters as a list, as a lone object, without their wrapper or
with its two names exchanged, keys with spaces and without values, the same key twice, times in three forms; some came
without the outer `Result`. Each value is read by itself, and a defect costs that value and no other. A post to the
timeout address has the shape of a result too; it says that nobody knows what became of the request.

What a result proves is decided beside its request.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from payment_service.daraja.envelopes import lenient_json
from payment_service.daraja.fields import NAIROBI, is_id, nairobi_time, read_amount, read_receipt

DONE = "0"

INITIATOR_REFUSED_CODES = frozenset({"2001", "8006"})
"""The initiator's name or password is wrong, or the password is locked; a third wrong one in a row locks it."""

_CODE = re.compile(r"[A-Za-z0-9_]{1,12}")

# The day, and seven noughts; or ten X, as one sandbox has them.
_PLACEHOLDER = re.compile(r"[A-Z0-9]{3}0{7}|X{10}")

_DOTTED = "%d.%m.%Y %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Result:
    """What was posted."""

    code: str | None
    """None where there is none, or none that can be read."""
    came_to_an_end: bool
    """Whether M-Pesa has decided. A post to the timeout address says that it has not, and may carry any code."""
    originator_conversation_id: str | None
    conversation_id: str | None
    own_receipt: str | None
    """Of the request itself, where it is a transaction; None for a placeholder, which failures have."""
    told: Mapping[str, list[object]] = field(repr=False)
    """The parameters' values, by folded key."""

    def only(self, key: str) -> object:
        """The value of a parameter; what comes twice and says two things says nothing."""
        told = self.told.get(_folded(key), [])
        return told[0] if told and all(value == told[0] for value in told) else None

    def told_of(self, key: str) -> bool:
        """Whether a parameter is there with any value at all."""
        return bool(self.told.get(_folded(key)))

    def amount(self, key: str) -> int | str | None:
        """Whole shillings, `UNREADABLE`, or None where no amount is said."""
        value = self.only(key)
        return None if value is None else read_amount(value)

    def time(self, key: str) -> datetime | None:
        """A time of fourteen digits, or with dots and a colon."""
        value = self.only(key)
        if isinstance(value, str) and "." in value:
            try:
                return datetime.strptime(value, _DOTTED).replace(tzinfo=NAIROBI)
            except ValueError:
                return None
        return nairobi_time(value)


def read_result(body: bytes) -> Result:
    """What is in a body, as far as it can be read. Never raises."""
    value = lenient_json(body)
    # Results without the outer object were recorded in 2020.
    inner = value.get("Result", value) if isinstance(value, dict) else None
    result = inner if isinstance(inner, dict) else {}
    return Result(
        code=_code(result.get("ResultCode")),
        came_to_an_end=_code(result.get("ResultType")) == DONE,
        # The second spelling is Safaricom's own, in another product's answers.
        originator_conversation_id=_id(result.get("OriginatorConversationID", result.get("OriginatorCoversationID"))),
        conversation_id=_id(result.get("ConversationID")),
        own_receipt=_own_receipt(result.get("TransactionID")),
        told=_told(result),
    )


def _code(value: object) -> str | None:
    """A code; a number, or digits and letters. False is an int that equals 0, and must not read as done."""
    text = str(value) if type(value) is int else value
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and is_id(value) else None


def _own_receipt(value: object) -> str | None:
    receipt = read_receipt(value)
    return None if receipt is None or _PLACEHOLDER.fullmatch(receipt) else receipt


def _told(result: Mapping[str, object]) -> dict[str, list[object]]:
    """What the parameters say. A key without a value says nothing."""
    found: dict[str, list[object]] = {}
    for parameter in _parameters(result):
        key, value = parameter.get("Key"), parameter.get("Value")
        if isinstance(key, str) and value is not None and value != "":
            found.setdefault(_folded(key), []).append(value)
    return found


def _folded(key: str) -> str:
    return key.replace(" ", "").casefold()


def _parameters(result: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The parameters, under either of the two names, in or out of the other, many or one."""
    listed: object = result.get("ResultParameters", result.get("ResultParameter"))
    if isinstance(listed, dict) and "Key" not in listed:
        listed = listed.get("ResultParameter", listed.get("ResultParameters"))
    for one in listed if isinstance(listed, list) else [listed]:
        if isinstance(one, dict):
            yield one
