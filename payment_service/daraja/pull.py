"""Pull Transactions: Safaricom's own list of what arrived at a shortcode, page by page; and registering for it, once.

From "Daraja: Pull Transactions" and recorded answers. The page there has GET, the live service wants POST. When to ask,
and for which slice of time, is decided in `pull_transactions`; how a row is read, in `pull_rows`. Nothing that is asked
here moves money, so all of it may be asked again.

Answers come with the code as a text or a number, the rows in one list, in a list of lists or in several, "nothing
found" in six forms, and registering with and without spaces in its keys. Only code 1000, or a row, shows that Pull
works for a shortcode: 1001 says "No records found or Organization Name not available", and means either.
"""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.envelopes import NothingLearned, error_in, learned, lenient_json, read_nothing
from payment_service.daraja.fields import NAIROBI
from payment_service.daraja.pull_rows import ListedRow, list_row
from payment_service.daraja.refusals import normalise
from payment_service.daraja.transport import HttpAnswer, NoAnswer

REGISTER_PATH = "/pulltransactions/v1/register"

PULL_PATH = "/pulltransactions/v1/query"

PAGE_MAX_BYTES = 1024 * 1024
"""A row has some 260 bytes. The documentation counts pages in hundreds, and no limit is written anywhere."""

_DONE, _DONE_ALREADY = "1000", "1001"

_NONE_OR_NO_PULL = "1001"
"""Of a pull: nothing was found, or Pull does not work for this shortcode at all. The same answer says both."""

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
_COUNT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Registered:
    """The shortcode's books may be asked for; now, or since an earlier registration."""


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """The shortcode has to be registered first."""

    code: str = NOT_REGISTERED_CODE


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a slice. A page without rows is behind the last one."""

    rows: tuple[ListedRow, ...] = ()
    unreadable: int = 0
    """Rows that are none; they count for the next page's offset."""
    rows_told: int | None = None
    """How many rows the provider says that the whole slice has; it rarely says so."""
    proves_pull: bool = False
    """It shows that Pull works for the shortcode: by code 1000, or by a row."""
    digest: str | None = None
    """Of the rows: the same in two pages means that they are one page. None without rows."""

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
    answer, classified = await post(client, token, "register-pull", REGISTER_PATH, fields)
    said = learned(answer, read_registration)
    return said, classified(_name_of(said))


async def pull(
    client: DarajaClient, token: str, shortcode: str, start: datetime, end: datetime, offset: int
) -> tuple[PullAnswer, Exchange]:
    """The rows of a slice from the `offset`th on. The slice goes by the second and includes both ends."""
    fields = {
        "ShortCode": shortcode,
        "StartDate": _written(start),
        "EndDate": _written(end),
        "OffSetValue": str(offset),
    }
    answer, classified = await post(client, token, "pull", PULL_PATH, fields, answer_max_bytes=PAGE_MAX_BYTES)
    said = await read_beside(answer)
    return said, classified(_name_of(said))


async def read_beside(answer: HttpAnswer | NoAnswer) -> PullAnswer:
    """What an answer says. A full page takes a tenth of a second to read, so it is read beside everything else."""
    return await asyncio.to_thread(learned, answer, read_page)


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
    code, rows, told = _code(value["ResponseCode"]), _rows_in(value), _count(value.get("TotalRecords"))
    if code == _DONE:
        return _page(rows, told) if rows is not None else NothingLearned("UNREADABLE_PAGE")
    if code == _NONE_OR_NO_PULL:
        return _page(rows, told) if rows else Page(rows_told=told)
    return _read_refusal(status, headers, body, value)


def _page(rows: Sequence[object], told: int | None) -> Page:
    read = [list_row(row) for row in rows]
    found = tuple(row for row in read if row is not None)
    digest = hashlib.sha256(b"\n".join(row.body for row in found) + b"%d" % len(read)).hexdigest() if rows else None
    return Page(found, unreadable=len(read) - len(found), rows_told=told, proves_pull=True, digest=digest)


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


def _rows_in(value: Mapping[str, object]) -> Sequence[object] | None:
    """The rows, however they are nested; None for what holds none because it is no list of them."""
    listed = value.get("Response")
    if not isinstance(listed, list):
        return None
    return [row for part in listed for row in (part if isinstance(part, list) else [part])]


def _read_refusal(status: int, headers: Mapping[str, str], body: bytes, value: object) -> PullAnswer:
    code, text = _error_of(value)
    if code == "500" and _NOTHING_FOUND.fullmatch(normalise(text)):
        return Page()
    if code == NOT_REGISTERED_CODE and normalise(text) == "invalid shortcode":
        return NotRegistered()
    nothing = read_nothing(status, headers, body, TOKEN_ALARM)
    # Codes are Daraja's own, short and without anybody's data; anything longer is not repeated.
    short = 0 < len(code) <= 16 and code.isascii() and code.isprintable()
    return replace(nothing, code=code) if status == 200 and short else nothing


def _error_of(value: object) -> tuple[str, str]:
    """Code and text of an error, also where they are called as in a success, under HTTP 200."""
    if not isinstance(value, dict):
        return "", ""
    code, text = _code(value.get("ResponseCode")), value.get("ResponseMessage")
    return error_in(value) or (code or "", text if isinstance(text, str) else "")


def _count(value: object) -> int | None:
    digits = _code(value)
    return int(digits) if digits is not None and _COUNT.fullmatch(digits) else None


def _code(value: object) -> str | None:
    return str(value) if type(value) is int else value if isinstance(value, str) else None
