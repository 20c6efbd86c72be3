"""Daraja's JSON, read into facts and answers. Pure, and it never raises: what cannot be read is an answer, too.

Shapes are those of "Daraja: M-Pesa Express Simulate", "Daraja: Authorization" and recorded messages. What a result
code means stands in `result_codes`, which refusals are proof in `push_errors`. What an answer does to a payment is
decided elsewhere: here "uncertain" is simply everything that the lists do not name.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TypeVar, assert_never

from payment_service.daraja.envelopes import error_in, is_edge_page, lenient_json, retry_after
from payment_service.daraja.push_errors import (
    EDGE_ALARM,
    EDGE_REFUSED_CODE,
    RATE_LIMITED_CODE,
    Kind,
    PushError,
    find_push_error,
)
from payment_service.daraja.result_codes import meaning_of, read_code
from payment_service.daraja.strict_json import NotStrictJson, read_strict_json
from payment_service.domain.facts import UNREADABLE, ResultReported, Source, Unreadable
from payment_service.domain.reasons import Reason

NAIROBI = timezone(timedelta(hours=3), "EAT")
"""Kenya has kept UTC+3 without summer time since 1960; a fixed zone needs no data on the machine."""

ID_MAX_CHARACTERS = 64
"""Both ids are opaque; the longest form recorded has 43 characters."""

AMOUNT_MAX = 99_999_999
"""What NUMERIC(10,2) holds in whole shillings, 400 times what M-Pesa moves at once."""

TOKEN_LIFE_DEFAULT = timedelta(seconds=3599)
"""What Daraja says in every recorded answer; used where `expires_in` cannot be read."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Daraja took the push. Accepted is not paid."""

    merchant_request_id: str
    checkout_request_id: str = field(repr=False)
    """Ends in the payer's digits, so it stands in no log."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Daraja refused the push in a way that proves no prompt was shown, and would refuse it again."""

    code: str
    reason: Reason
    alarm: str | None = None
    """A sentence for the log at error level: what to check."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The push did not reach M-Pesa: it may be sent again."""

    code: str
    token_refused: bool = False
    """The token it was sent with has to be renewed first."""
    retry_after: timedelta | None = None
    """Set where we send too fast: how long to slow down."""
    alarm: str | None = None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Nothing proves what became of the push. It must never be sent again."""

    why: str
    """For the log and the stored exchange; never a text of the other side."""


PushAnswer = Accepted | Refused | NotSent | Uncertain


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """A new access token. It ends the life of the one before."""

    token: str = field(repr=False)
    expires_in: timedelta


@dataclass(frozen=True, slots=True)
class TokenUnavailable:
    """No token this time; nothing was sent that could have moved money."""

    code: str
    alarm: str | None = None


TokenAnswer = TokenIssued | TokenUnavailable

T = TypeVar("T")

_WHOLE_AMOUNT = re.compile(r"([0-9]{1,10})(\.0{1,10})?")
# Ten capitals and digits today and always so far; the width leaves room for a longer form, the alphabet for no junk.
RECEIPT_PATTERN = re.compile(r"[A-Z0-9]{6,20}")
_DATE = re.compile(r"20[0-9]{12}")
_TOKEN = re.compile(r"[\x21-\x7e]{8,2048}")
_SECONDS = re.compile(r"[0-9]{1,6}")


TOKEN_ALARM = (
    "Daraja refuses our credentials: check the consumer key and secret, and that they belong to this environment."
)


class _NotAResult(Exception):
    """The body is no callback; the text says why and quotes nothing of it."""


def read_stk_callback(body: bytes) -> ResultReported | Unreadable:
    """The result in the body of a callback, whatever is in there."""
    fact_id = "callback:" + hashlib.sha256(body).hexdigest()[:32]
    try:
        return _read_result(fact_id, _callback_in(read_strict_json(body)))
    except (NotStrictJson, _NotAResult) as error:
        return Unreadable(fact_id, str(error))


def _callback_in(value: object) -> dict[str, object]:
    outer = value.get("Body") if isinstance(value, dict) else None
    callback = outer.get("stkCallback") if isinstance(outer, dict) else None
    if not isinstance(callback, dict):
        raise _NotAResult("no Body.stkCallback")
    return callback


def _read_result(fact_id: str, callback: dict[str, object]) -> ResultReported:
    code = read_code(callback.get("ResultCode"))
    if code is None:
        raise _NotAResult("ResultCode is no integer and no digits")
    meaning = meaning_of(code)
    items = _items(callback.get("CallbackMetadata"))
    return ResultReported(
        fact_id=fact_id,
        source=Source.CALLBACK,
        verdict=meaning.verdict,
        code=code,
        reason=meaning.reason,
        merchant_request_id=_id(callback, "MerchantRequestID"),
        checkout_request_id=_id(callback, "CheckoutRequestID"),
        amount=_agreed("Amount", read_amount, items["Amount"]),
        receipt=_agreed("MpesaReceiptNumber", read_receipt, items["MpesaReceiptNumber"]),
        transaction_at=_agreed("TransactionDate", nairobi_time, items["TransactionDate"]),
    )


def _id(callback: dict[str, object], name: str) -> str | None:
    value = callback.get(name)
    if value is None or value == "":
        return None
    if not _is_id(value):
        raise _NotAResult(f"{name} is no text of at most {ID_MAX_CHARACTERS} printable characters")
    return str(value)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= ID_MAX_CHARACTERS and value.isascii() and value.isprintable()


def _items(metadata: object) -> dict[str, list[object]]:
    """The values of the items we read, by name, never by place: the order is not fixed, and some come without a value.

    Items that we do not read are not looked at, whatever they are.
    """
    found: dict[str, list[object]] = {"Amount": [], "MpesaReceiptNumber": [], "TransactionDate": []}
    if metadata is None:
        return found
    if not isinstance(metadata, dict):
        raise _NotAResult("CallbackMetadata is no object")
    listed = metadata.get("Item")
    if isinstance(listed, dict):
        # Sister APIs send a list of one as the bare object.
        listed = [listed]
    if not isinstance(listed, list | None):
        raise _NotAResult("CallbackMetadata.Item is no list")
    for item in listed or ():
        if not isinstance(item, dict):
            continue
        name, value = item.get("Name"), item.get("Value")
        if isinstance(name, str) and name in found and value is not None:
            found[name].append(value)
    return found


def _agreed(name: str, read: Callable[[object], T], values: list[object]) -> T | None:
    """What the item says; an item that comes twice and says two things is no result."""
    readings = {read(value) for value in values}
    if len(readings) > 1:
        raise _NotAResult(f"{name} comes twice, with different values")
    return readings.pop() if readings else None


def read_amount(value: object) -> int | str:
    """Whole shillings from a number or a text, or `UNREADABLE`."""
    if isinstance(value, str):
        whole = _WHOLE_AMOUNT.fullmatch(value)
        if whole is None:
            return UNREADABLE
        number = Decimal(whole[1])
    elif type(value) is int or isinstance(value, Decimal):
        number = Decimal(value)
    else:
        return UNREADABLE
    # Compared before it is converted: 1e400000 is a fine Decimal, and an int of 400,000 digits.
    if not number.is_finite() or not 1 <= number <= AMOUNT_MAX or number != int(number):
        return UNREADABLE
    return int(number)


def read_receipt(value: object) -> str | None:
    """A receipt number, or None: what is none proves no receipt, and must not cost the payer the payment."""
    return value if isinstance(value, str) and RECEIPT_PATTERN.fullmatch(value) else None


def nairobi_time(value: object) -> datetime | None:
    """A time of fourteen digits, as a text or a number; None for anything else."""
    digits = str(value) if type(value) is int else value
    if not isinstance(digits, str) or not _DATE.fullmatch(digits):
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=NAIROBI)
    except ValueError:
        return None


def read_push_answer(status: int, headers: Mapping[str, str], body: bytes) -> PushAnswer:
    """What the answer to a push proves. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    if isinstance(value, dict):
        if "ResponseCode" in value:
            return _read_acceptance(status, value)
        error = error_in(value)
        # 502 and 504 are written by a gateway that lost the answer of the server behind it.
        row = find_push_error(*error) if error is not None and status not in (502, 504) else None
        if row is not None:
            return _from_row(row, headers)
        if error is not None and status != 429:
            return Uncertain(f"HTTP {status} with an unlisted error")
    if status == 429:
        return NotSent(RATE_LIMITED_CODE, retry_after=retry_after(headers))
    if value is None and is_edge_page(status, body):
        return NotSent(EDGE_REFUSED_CODE, alarm=EDGE_ALARM)
    return Uncertain(f"HTTP {status} with an unreadable body")


def _read_acceptance(status: int, value: dict[str, object]) -> PushAnswer:
    code, merchant, checkout = (value.get(n) for n in ("ResponseCode", "MerchantRequestID", "CheckoutRequestID"))
    if status != 200 or "errorCode" in value:
        return Uncertain(f"HTTP {status} with a ResponseCode")
    if code != "0" and not (type(code) is int and code == 0):
        return Uncertain("a ResponseCode that is not 0")
    if not _is_id(merchant) or not _is_id(checkout):
        return Uncertain("accepted, without readable ids")
    return Accepted(str(merchant), str(checkout))


def _from_row(row: PushError, headers: Mapping[str, str]) -> PushAnswer:
    match row.kind:
        case Kind.REFUSED:
            return Refused(row.code, row.reason, row.alarm)
        case Kind.TOKEN_REFUSED:
            return NotSent(row.code, token_refused=True)
        case Kind.NOT_SENT:
            return NotSent(row.code, retry_after=retry_after(headers) if row.slow_down else None)
        case _:
            assert_never(row.kind)


def read_token_answer(status: int, headers: Mapping[str, str], body: bytes) -> TokenAnswer:
    """The token in an answer of the token address, or why there is none."""
    value = lenient_json(body)
    if isinstance(value, dict):
        token, error = value.get("access_token"), error_in(value)
        if status == 200 and isinstance(token, str) and _TOKEN.fullmatch(token):
            return TokenIssued(token, _token_life(value.get("expires_in")))
        if error is not None and error[0] in ("400.008.01", "400.008.02"):
            return TokenUnavailable(error[0], TOKEN_ALARM)
    if status == 429:
        return TokenUnavailable(RATE_LIMITED_CODE)
    if value is None and is_edge_page(status, body):
        return TokenUnavailable(EDGE_REFUSED_CODE, EDGE_ALARM)
    # Wrong credentials are sometimes answered with HTTP 400 or 401 and nothing else.
    return TokenUnavailable(f"HTTP_{status}", TOKEN_ALARM if status in (400, 401) else None)


def _token_life(value: object) -> timedelta:
    """`expires_in` is a number on Daraja's page and a text in its answers."""
    seconds = str(value) if type(value) is int else value
    if isinstance(seconds, str) and _SECONDS.fullmatch(seconds) and int(seconds) > 0:
        return timedelta(seconds=int(seconds))
    return TOKEN_LIFE_DEFAULT
