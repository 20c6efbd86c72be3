"""What became of a request that moves money, as far as its answer proves it: a push, a reversal, a B2C payment.

None of them may be sent twice, so one rule reads all their answers. A request was taken, or refused in a listed way
that proves that nothing will come of it, or it provably never reached M-Pesa. Everything else is uncertain. Nothing is
retried here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from payment_service.daraja.envelopes import error_in, is_edge_page, lenient_json, retry_after, unlisted_error
from payment_service.daraja.refusals import (
    EDGE_ALARM,
    EDGE_REFUSED_CODE,
    RATE_LIMITED_CODE,
    Kind,
    Refusal,
    find_refusal,
)
from payment_service.daraja.transport import HttpAnswer, NoAnswer

Taken = TypeVar("Taken")
Refused = TypeVar("Refused")


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request did not reach M-Pesa: it may be sent again."""

    code: str
    token_refused: bool = False
    """The token it was sent with has to be renewed first."""
    retry_after: timedelta | None = None
    """Set where we send too fast: how long to slow down."""
    alarm: str | None = None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Nothing proves what became of the request. It must never be sent again."""

    why: str
    """For the log and the stored exchange; never a text of the other side."""


def unless_answered(answer: NoAnswer) -> NotSent | Uncertain:
    """What a request proves that got no whole answer: whether a byte of it can have left decides."""
    return Uncertain(answer.why) if answer.may_have_been_sent else NotSent(answer.why)


def read_sent(
    answer: HttpAnswer | NoAnswer,
    taken: Callable[[dict[str, object]], Taken | Uncertain],
    refused: Callable[[Refusal], Refused | None],
) -> Taken | Refused | NotSent | Uncertain:
    """What an answer proves of the request.

    `taken` reads an acknowledgement whose code is 0. `refused` reads a listed refusal, and gives None for a row that
    proves nothing of this kind of request.
    """
    if isinstance(answer, NoAnswer):
        return unless_answered(answer)
    status, headers, body = answer.status, answer.headers, answer.body
    value = lenient_json(body)
    if isinstance(value, dict):
        if "ResponseCode" in value:
            why_not = _why_not_taken(status, value)
            return taken(value) if why_not is None else Uncertain(why_not)
        error = error_in(value)
        # 502 and 504 are written by a gateway that lost the answer of the server behind it.
        row = find_refusal(*error) if error is not None and status not in (502, 504) else None
        proven = _from_refusal(row, headers, refused) if row is not None else None
        if proven is not None:
            return proven
        if error is not None and status != 429:
            return Uncertain(unlisted_error(status, error[0]))
    if status == 429:
        return NotSent(RATE_LIMITED_CODE, retry_after=retry_after(headers))
    # With 403 the edge let nothing through; with 503 it may have lost the answer of the server behind it.
    if status == 403 and value is None and is_edge_page(status, body):
        return NotSent(EDGE_REFUSED_CODE, alarm=EDGE_ALARM)
    return Uncertain(f"HTTP {status} with an unreadable body")


def _why_not_taken(status: int, value: dict[str, object]) -> str | None:
    """Why an answer with a ResponseCode is no acknowledgement; None where it is one."""
    code = value["ResponseCode"]
    if status != 200 or "errorCode" in value:
        return f"HTTP {status} with a ResponseCode"
    return None if code == "0" or (type(code) is int and code == 0) else "a ResponseCode that is not 0"


def _from_refusal(
    row: Refusal, headers: Mapping[str, str], refused: Callable[[Refusal], Refused | None]
) -> Refused | NotSent | None:
    match row.kind:
        case Kind.REFUSED:
            return refused(row)
        case Kind.TOKEN_REFUSED:
            return NotSent(row.code, token_refused=True)
        case Kind.NOT_SENT:
            return NotSent(row.code, retry_after=retry_after(headers) if row.slow_down else None)
