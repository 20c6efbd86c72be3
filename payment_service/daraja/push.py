"""The push: what is sent, from "Daraja: M-Pesa Express Simulate", and what an answer to it proves.

Whether a push may be repeated follows from its answer alone; nothing is retried here. Which refusals are proof that no
prompt was shown stands in `refusals`. What is not on that list is uncertain.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

import structlog

from payment_service.alarms import PUSH_REFUSED
from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.envelopes import error_in, is_edge_page, lenient_json, retry_after
from payment_service.daraja.fields import NAIROBI, is_id
from payment_service.daraja.refusals import (
    EDGE_ALARM,
    EDGE_REFUSED_CODE,
    RATE_LIMITED_CODE,
    Kind,
    Refusal,
    find_refusal,
)
from payment_service.daraja.shortcodes import PushRequest, Shortcode
from payment_service.daraja.transport import HttpAnswer, NoAnswer
from payment_service.domain.reasons import Reason
from runtime.alarms import raise_alarm

PUSH_PATH = "/mpesa/stkpush/v1/processrequest"

_log = structlog.get_logger()


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


async def push(
    client: DarajaClient, token: str, request: PushRequest, *, send_before: datetime | None = None
) -> tuple[PushAnswer, Exchange]:
    """One push, sent once. From `send_before` on no first byte leaves, and the answer is NotSent.

    Call it in a task that nobody cancels: after a cancellation nothing is known about the push.
    """
    read, made = await post(
        client,
        token,
        "push",
        PUSH_PATH,
        _push_fields(request, client.clock()),
        read=_read_push,
        name=_name_of,
        secret="Password",
        timeouts=client.push_timeouts,
        may_send=lambda: send_before is None or client.clock() < send_before,
    )
    _report_push(read, made.http_status)
    return read, made


def _push_fields(request: PushRequest, now: datetime) -> dict[str, object]:
    shortcode = request.shortcode
    return {
        **express_credentials(shortcode, now),
        "TransactionType": shortcode.transaction_type,
        "Amount": request.amount,
        "PartyA": request.phone_number,
        "PartyB": shortcode.party_b,
        "PhoneNumber": request.phone_number,
        "CallBackURL": request.callback_url,
        "AccountReference": request.account_reference,
        "TransactionDesc": request.description,
    }


def express_credentials(shortcode: Shortcode, now: datetime) -> dict[str, object]:
    """The fields by which Daraja knows a shortcode, in a push and in a query alike."""
    # One text for the field and inside the password: two readings of the clock could differ by a second.
    timestamp = now.astimezone(NAIROBI).strftime("%Y%m%d%H%M%S")
    password = base64.b64encode(f"{shortcode.number}{shortcode.passkey}{timestamp}".encode()).decode()
    return {"BusinessShortCode": shortcode.number, "Password": password, "Timestamp": timestamp}


def _read_push(answer: HttpAnswer | NoAnswer) -> PushAnswer:
    if isinstance(answer, HttpAnswer):
        return read_push_answer(answer.status, answer.headers, answer.body)
    return Uncertain(answer.why) if answer.may_have_been_sent else NotSent(answer.why)


def read_push_answer(status: int, headers: Mapping[str, str], body: bytes) -> PushAnswer:
    """What the answer to a push proves. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    if isinstance(value, dict):
        if "ResponseCode" in value:
            return _read_acceptance(status, value)
        error = error_in(value)
        # 502 and 504 are written by a gateway that lost the answer of the server behind it.
        row = find_refusal(*error) if error is not None and status not in (502, 504) else None
        if row is not None:
            return _from_refusal(row, headers)
        if error is not None and status != 429:
            return Uncertain(f"HTTP {status} with an unlisted error")
    if status == 429:
        return NotSent(RATE_LIMITED_CODE, retry_after=retry_after(headers))
    # With 403 the edge let nothing through; with 503 it may have lost the answer of the server behind it.
    if status == 403 and value is None and is_edge_page(status, body):
        return NotSent(EDGE_REFUSED_CODE, alarm=EDGE_ALARM)
    return Uncertain(f"HTTP {status} with an unreadable body")


def _read_acceptance(status: int, value: dict[str, object]) -> PushAnswer:
    code, merchant, checkout = (value.get(n) for n in ("ResponseCode", "MerchantRequestID", "CheckoutRequestID"))
    if status != 200 or "errorCode" in value:
        return Uncertain(f"HTTP {status} with a ResponseCode")
    if code != "0" and not (type(code) is int and code == 0):
        return Uncertain("a ResponseCode that is not 0")
    if not is_id(merchant) or not is_id(checkout):
        return Uncertain("accepted, without readable ids")
    return Accepted(str(merchant), str(checkout))


def _from_refusal(row: Refusal, headers: Mapping[str, str]) -> PushAnswer:
    match row.kind:
        case Kind.REFUSED:
            return Refused(row.code, row.reason, row.alarm)
        case Kind.TOKEN_REFUSED:
            return NotSent(row.code, token_refused=True)
        case Kind.NOT_SENT:
            return NotSent(row.code, retry_after=retry_after(headers) if row.slow_down else None)
        case _:
            assert_never(row.kind)


def _name_of(answer: PushAnswer) -> str:
    match answer:
        case Accepted():
            return "Accepted"
        case Refused(code=code) | NotSent(code=code):
            return f"{type(answer).__name__} {code}"
        case Uncertain(why=why):
            return f"Uncertain: {why}"
        case _:
            assert_never(answer)


def _report_push(answer: PushAnswer, http_status: int | None) -> None:
    """A line for what an operator may have to look at. Payers who are busy or mistyped a number are none of it."""
    match answer:
        case Refused(alarm=str() as check) | NotSent(alarm=str() as check):
            raise_alarm(PUSH_REFUSED, answer=_name_of(answer), http_status=http_status, check=check)
        case NotSent() | Uncertain():
            _log.warning("push not sent or unanswered", answer=_name_of(answer), http_status=http_status)
        case Accepted() | Refused():
            pass
        case _:
            assert_never(answer)
