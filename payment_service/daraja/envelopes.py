"""The wrappings of Daraja's answers, whichever address gave them: JSON or not, errors, and the edge before it.

What an error means depends on what was asked, and is decided beside that. An answer that says nothing, or none at all,
is the same for every question: `NothingLearned`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from payment_service.daraja.json_reading import NotJson, read_json
from payment_service.daraja.refusals import (
    EDGE_ALARM,
    EDGE_PAGE,
    EDGE_REFUSED_CODE,
    EDGE_STATUSES,
    RATE_LIMIT_WAIT,
    RATE_LIMITED_CODE,
    TOKEN_CODES,
    normalise,
)
from payment_service.daraja.transport import HttpAnswer, NoAnswer
from runtime.redaction import redact_text

Answer = TypeVar("Answer")

RETRY_AFTER_MAX = timedelta(minutes=5)
"""A longer Retry-After is cut: nothing that is sent later than this is still wanted."""

CODE_MAX_CHARACTERS = 16
"""A longer code is not repeated."""

_SECONDS = re.compile(r"[0-9]{1,6}")


def lenient_json(body: bytes) -> object:
    """The value in the body, None where there is none to read."""
    try:
        return read_json(body)
    except NotJson:
        return None


def error_in(value: dict[str, object]) -> tuple[str, str] | None:
    """Code and text, from Daraja's own envelope or from that of the Apigee gateway before it."""
    fault = value.get("fault")
    if isinstance(fault, dict):
        detail = fault.get("detail")
        code, text = (detail.get("errorcode") if isinstance(detail, dict) else None), fault.get("faultstring")
    else:
        code, text = value.get("errorCode"), value.get("errorMessage")
    # A code is stored and logged; a text is only compared.
    if not isinstance(code, str) or not (code.isascii() and code.isprintable()):
        return None
    return code, text if isinstance(text, str) else ""


def is_edge_page(status: int, body: bytes) -> bool:
    """Whether the Imperva edge answered, and the request went no further. Ask of bodies that are no JSON."""
    return status in EDGE_STATUSES and EDGE_PAGE.search(body.decode("utf-8", "replace")) is not None


def retry_after(headers: Mapping[str, str]) -> timedelta:
    """How long a rate limit asks us to wait. `headers` is asked with lower-case names."""
    given = headers.get("retry-after", "")
    return min(timedelta(seconds=int(given)), RETRY_AFTER_MAX) if _SECONDS.fullmatch(given) else RATE_LIMIT_WAIT


@dataclass(frozen=True, slots=True)
class NothingLearned:
    """Nothing was learned; it may be asked again."""

    code: str
    """A code or a word for the log; never a text of the other side."""
    token_refused: bool = False
    retry_after: timedelta | None = None
    alarm: str | None = None
    """Where the reason lies in our set-up: what to check, for an alarm."""


def learned(
    answer: HttpAnswer | NoAnswer, read: Callable[[int, Mapping[str, str], bytes], Answer]
) -> Answer | NothingLearned:
    """What `read` finds in an answer; from no answer at all, nothing is learned."""
    if isinstance(answer, NoAnswer):
        return NothingLearned(answer.why)
    return read(answer.status, answer.headers, answer.body)


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
    return NothingLearned(error[0] if error is not None and _is_nobodys(error[0]) else f"HTTP_{status}")


def unlisted_error(status: int, code: str) -> str:
    """How an error that no list has is told: by its code, so that somebody can ask Safaricom what it means."""
    return f"HTTP {status} with " + (f"the unlisted error {code}" if _is_nobodys(code) else "an unlisted error")


def _is_nobodys(code: str) -> bool:
    """Whether a code may be repeated. Daraja's own are short and hold nobody's data; what may be a number is not."""
    return len(code) <= CODE_MAX_CHARACTERS and redact_text(code) == code
