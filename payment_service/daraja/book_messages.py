"""Answers of Pull Transactions, read into rows of the books. Pure, and it never raises.

Shapes are those of "Daraja: Pull Transactions" and of recorded answers: the code as text or as a number, the rows in
one list, in a list of lists or in several, "nothing found" in five forms, registering with and without spaces in its
keys. Whose money a row is, is decided in `payment_service.domain.pull`; what an answer leads to, in
`pull_transactions`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from payment_service.daraja.envelopes import error_in, is_edge_page, lenient_json, retry_after
from payment_service.daraja.messages import NAIROBI, read_amount, read_receipt
from payment_service.daraja.push_errors import (
    EDGE_ALARM,
    EDGE_REFUSED_CODE,
    RATE_LIMITED_CODE,
    normalise,
)
from payment_service.domain.facts import UNREADABLE
from payment_service.domain.pull import BookRow, VisibleDigits

_DONE, _DONE_ALREADY = "1000", "1001"
"""Of a registration; of a pull, 1001 says that there is nothing in the window."""

NOT_REGISTERED_CODE = "400.001"

TOKEN_CODES = frozenset({"401.001", "400.003.01", "401.002.01", "401.003.01", "404.001.03"})
"""Every code under which Daraja refuses a token, whichever product is asked."""

TOKEN_ALARM = (
    "Daraja refuses our token for Pull Transactions: check that the app has the Pull Transactions product and that its"
    " keys belong to this environment. Prompts are not affected."
)
SHORTCODE_ALARM = (
    "Daraja does not list the transactions of our shortcode: check that it is set up for C2B, that the app was approved"
    " for it, and that the nominated number is the one it was registered with."
)

_NOTHING_FOUND = re.compile(r"failed to retrieve transactions\. the short code does not have any available .*")
_MASK = re.compile(r"([0-9]{0,12})(\*+)([0-9]{0,12})")
_NUMBER = re.compile(r"[0-9]{9,12}")
_DATE_FORMS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
_REFERENCE_MAX_CHARACTERS = 64
_DIGITS_SHOWN_MIN = 4
"""Fewer of a number would fit every thousandth passenger."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The shortcode's books may be asked for; now, or since an earlier registration."""


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """The shortcode has to be registered first."""

    code: str = NOT_REGISTERED_CODE


@dataclass(frozen=True, slots=True)
class NothingLearned:
    """Nothing was learned; it may be asked again."""

    code: str
    """A code or a word for the log; never a text of the other side."""
    token_refused: bool = False
    retry_after: timedelta | None = None
    alarm: str | None = None
    """A sentence for the log at error level: what to check."""


@dataclass(frozen=True, slots=True)
class PulledRow:
    """A row and what it was read from, to be kept with the payment it is about."""

    row: BookRow
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a window. A page without rows is behind the last one."""

    rows: tuple[PulledRow, ...] = ()
    unreadable: int = 0
    """Rows that are none; they count for the next page's offset."""

    @property
    def length(self) -> int:
        """How many rows the provider takes this page to have."""
        return len(self.rows) + self.unreadable


PullAnswer = Page | NotRegistered | NothingLearned
RegisterAnswer = Registered | NothingLearned


def read_page(status: int, headers: Mapping[str, str], body: bytes) -> PullAnswer:
    """What an answer to a pull says. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    if not isinstance(value, dict) or status != 200 or "ResponseCode" not in value:
        return _read_refusal(status, headers, body, value)
    rows = _rows_in(value)
    match _code(value["ResponseCode"]):
        case "1001" if not rows:
            return Page()
        case "1000" | "1001" if rows is not None:
            read = [_pulled(row) for row in rows]
            found = tuple(row for row in read if row is not None)
            return Page(found, unreadable=len(read) - len(found))
        case _:
            return NothingLearned("UNREADABLE_PAGE")


def read_registration(status: int, headers: Mapping[str, str], body: bytes) -> RegisterAnswer:
    """What an answer to a registration says. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    if isinstance(value, dict) and status == 200:
        # The page writes the key in one word, live answers also in two.
        code = _code(value.get("ResponseStatus", value.get("Response Status")))
        return Registered() if code in (_DONE, _DONE_ALREADY) else NothingLearned("UNREADABLE_REGISTRATION")
    answer = _read_refusal(status, headers, body, value)
    if isinstance(answer, NotRegistered):
        return NothingLearned(answer.code, alarm=SHORTCODE_ALARM)
    return answer if isinstance(answer, NothingLearned) else NothingLearned(f"HTTP_{status}")


def read_row(value: object) -> BookRow | None:
    """A row, or None for what has no receipt number: whatever it is, no payment can be recorded by it."""
    receipt = read_receipt(value.get("transactionId")) if isinstance(value, dict) else None
    if not isinstance(value, dict) or receipt is None:
        return None
    kind = value.get("transactiontype")
    return BookRow(
        receipt=receipt,
        # An amount that is absent is as good as an unreadable one: a row has to agree in it.
        amount=read_amount(value["amount"]) if value.get("amount") is not None else UNREADABLE,
        account_reference=_reference(value.get("billreference")),
        readings=_readings(value.get("trxDate")),
        # Customers' payments are c2b-pay-bill-debit and c2b-buy-goods-debit; a kind that is absent denies nothing.
        received=kind is None or (isinstance(kind, str) and kind.lower().startswith("c2b")),
        payer=_visible_digits(value.get("msisdn")),
    )


def _pulled(value: object) -> PulledRow | None:
    row = read_row(value)
    return PulledRow(row, json.dumps(value, default=str).encode()) if row is not None else None


def _rows_in(value: Mapping[str, object]) -> Sequence[object] | None:
    """The rows, however they are nested; None for what holds none because it is no list of them."""
    listed = value.get("Response")
    if not isinstance(listed, list):
        return None
    return [row for part in listed for row in (part if isinstance(part, list) else [part])]


def _read_refusal(status: int, headers: Mapping[str, str], body: bytes, value: object) -> PullAnswer:
    code, text = (error_in(value) if isinstance(value, dict) else None) or ("", "")
    if code == "500" and _NOTHING_FOUND.fullmatch(normalise(text)):
        return Page()
    if code == NOT_REGISTERED_CODE and normalise(text) == "invalid shortcode":
        return NotRegistered()
    return read_nothing(status, headers, body, TOKEN_ALARM)


def read_nothing(status: int, headers: Mapping[str, str], body: bytes, token_alarm: str) -> NothingLearned:
    """Why an answer to a question says nothing; `token_alarm` is what to check when the token was refused."""
    value = lenient_json(body)
    error = error_in(value) if isinstance(value, dict) else None
    if error is not None and error[0] in TOKEN_CODES and "invalid access token" in normalise(error[1]):
        return NothingLearned(error[0], token_refused=True, alarm=token_alarm)
    if status == 429:
        return NothingLearned(RATE_LIMITED_CODE, retry_after=retry_after(headers))
    if value is None and is_edge_page(status, body):
        return NothingLearned(EDGE_REFUSED_CODE, alarm=EDGE_ALARM)
    # Codes are Daraja's own, short and without anybody's data; anything longer is not repeated.
    return NothingLearned(error[0] if error is not None and len(error[0]) <= 16 else f"HTTP_{status}")


def _code(value: object) -> str | None:
    return str(value) if type(value) is int else value if isinstance(value, str) else None


def _reference(value: object) -> str:
    """What the payer's prompt showed as the account; the empty text for what cannot be one."""
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= _REFERENCE_MAX_CHARACTERS else ""


def _readings(value: object) -> tuple[datetime, ...]:
    """What a time may mean, the earliest first. A Z is written after UTC and after Nairobi's time alike."""
    if not isinstance(value, str):
        return ()
    for form in _DATE_FORMS:
        try:
            written = datetime.strptime(value, form)  # noqa: DTZ007 -- the zone is what is in question
        except ValueError:
            continue
        return written.replace(tzinfo=NAIROBI).astimezone(UTC), written.replace(tzinfo=UTC)
    return ()


def _visible_digits(value: object) -> VisibleDigits | None:
    """The digits that are shown of a number, in whatever notation: 722000126, 2547 ***** 126, 0722000***."""
    text = str(value) if type(value) is int else value.replace(" ", "") if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        leading, trailing = _national(text), ""
    elif masked := _MASK.fullmatch(text):
        leading, trailing = _national(masked[1]), masked[3]
    else:
        return None
    return VisibleDigits(leading, trailing) if len(leading) + len(trailing) >= _DIGITS_SHOWN_MIN else None


def _national(digits: str) -> str:
    return digits.removeprefix("254") if digits.startswith("254") else digits.removeprefix("0")
