"""Pull Transactions: Safaricom's own list of what arrived at a shortcode, page by page; and registering for it, once.

From "Daraja: Pull Transactions" and recorded answers. The page there has GET, the live service wants POST. When to ask,
and for which window, is decided in `pull_transactions`; whose money a row is, in `payment_service.domain.pull`. Nothing
that is asked here moves money, so all of it may be asked again.

Answers come with the code as a text or a number, the rows in one list, in a list of lists or in several, "nothing
found" in five forms, and registering with and without spaces in its keys.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.envelopes import NothingLearned, error_in, learned, lenient_json, read_nothing
from payment_service.daraja.fields import NAIROBI, read_amount, read_receipt
from payment_service.daraja.refusals import normalise
from payment_service.domain.facts import UNREADABLE
from payment_service.domain.pull import BookRow, VisibleDigits

REGISTER_PATH = "/pulltransactions/v1/register"

PULL_PATH = "/pulltransactions/v1/query"

PAGE_MAX_BYTES = 1024 * 1024
"""A row has some 260 bytes. The documentation counts pages in hundreds, and no limit is written anywhere."""

_DONE, _DONE_ALREADY = "1000", "1001"
"""Of a registration; of a pull, 1001 says that there is nothing in the window."""

NOT_REGISTERED_CODE = "400.001"

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


async def register_pull(
    client: DarajaClient, token: str, shortcode: str, nominated_number: str, callback_url: str
) -> tuple[RegisterAnswer, Exchange]:
    """Register a shortcode for Pull. Repeating it changes nothing."""
    fields = {
        "ShortCode": shortcode,
        "RequestType": "Pull",
        "NominatedNumber": nominated_number,
        "CallBackURL": callback_url,
    }
    return await post(
        client, token, "register-pull", REGISTER_PATH, fields, read=learned(read_registration), name=_name_of
    )


async def pull(
    client: DarajaClient, token: str, shortcode: str, start: datetime, end: datetime, offset: int
) -> tuple[PullAnswer, Exchange]:
    """The rows of a window from the `offset`th on. The window goes by the second and includes both ends."""
    fields = {
        "ShortCode": shortcode,
        "StartDate": _written(start),
        "EndDate": _written(end),
        "OffSetValue": str(offset),
    }
    return await post(
        client,
        token,
        "pull",
        PULL_PATH,
        fields,
        read=learned(read_page),
        name=_name_of,
        answer_max_bytes=PAGE_MAX_BYTES,
    )


def _written(moment: datetime) -> str:
    return moment.astimezone(NAIROBI).strftime("%Y-%m-%d %H:%M:%S")


def _name_of(answer: PullAnswer | RegisterAnswer) -> str:
    match answer:
        case Page():
            return f"Page of {answer.length}"
        case NothingLearned(code=code) | NotRegistered(code=code):
            return f"{type(answer).__name__} {code}"
        case _:
            return type(answer).__name__


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


def _code(value: object) -> str | None:
    return str(value) if type(value) is int else value if isinstance(value, str) else None


def _reference(value: object) -> str:
    """What the payer's prompt showed as the account; the empty text for what cannot be one."""
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= _REFERENCE_MAX_CHARACTERS and text.isprintable() else ""


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
