"""Daraja's addresses, called once each: a token, a push, or a question.

What goes into a request is decided here, from "Daraja: Authorization" and "Daraja: M-Pesa Express Simulate" and
"Query". What an answer means is decided in `messages` and `query_answers`; whether the push may be repeated, by the
caller, from that answer alone. Nothing is retried here. Every call gives back the whole exchange, secrets blanked, for
the caller to keep encrypted.

The caller's trace goes no further than this: a span is recorded, and no trace header is sent to Safaricom.
"""

import base64
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar, assert_never
from urllib.parse import urlsplit

import httpx
import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from payment_service.daraja.messages import (
    NAIROBI,
    Accepted,
    NotSent,
    PushAnswer,
    Refused,
    TokenAnswer,
    TokenUnavailable,
    Uncertain,
    read_push_answer,
    read_token_answer,
)
from payment_service.daraja.query_answers import (
    NothingLearned,
    NotYet,
    QueryAnswer,
    TokenRefused,
    Told,
    TooFast,
    read_query_answer,
)
from payment_service.daraja.shortcodes import PushRequest, Shortcode, check_daraja_url
from payment_service.daraja.transport import (
    ANSWER_MAX_BYTES,
    HttpAnswer,
    NoAnswer,
    Timeouts,
    always,
    exchange,
    open_http,
)

Answer = TypeVar("Answer")

PUSH_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=30.0)
TOKEN_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=10.0)
QUERY_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=15.0)
QUESTION_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=30.0)

TOKEN_PATH = "/oauth/v1/generate"
PUSH_PATH = "/mpesa/stkpush/v1/processrequest"
QUERY_PATH = "/mpesa/stkpushquery/v1/query"

_BLANK = b"[blanked]"

_log = structlog.get_logger()
_tracer = trace.get_tracer("payment_service.daraja")


@dataclass(frozen=True, slots=True)
class DarajaClient:
    """Where Daraja is, and as whom we call it. One per process; made by `open_daraja`."""

    base_url: str
    http: httpx.AsyncBaseTransport = field(repr=False)
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    clock: Callable[[], datetime]
    push_timeouts: Timeouts = PUSH_TIMEOUTS
    token_timeouts: Timeouts = TOKEN_TIMEOUTS
    query_timeouts: Timeouts = QUERY_TIMEOUTS


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came back, to be kept encrypted. Password and token are blanked; the payer's data is not."""

    operation: str
    """"push", "token", or the name of a question: "query" and those of the books."""
    http_status: int | None
    """None when no status line came."""
    request_body: bytes = field(repr=False)
    answer_body: bytes = field(repr=False)
    """As much of it as was read."""
    started_at: datetime
    duration: timedelta
    classified_as: str
    """The kind of answer and its code, as "NotSent 404.001.03"."""


@asynccontextmanager
async def open_daraja(
    base_url: str,
    consumer_key: str,
    consumer_secret: str,
    clock: Callable[[], datetime],
    *,
    tls: ssl.SSLContext | None = None,
    push_timeouts: Timeouts = PUSH_TIMEOUTS,
    token_timeouts: Timeouts = TOKEN_TIMEOUTS,
) -> AsyncIterator[DarajaClient]:
    """The client of this process; its connections are closed at the end. Raises ValueError as `check_daraja_url`."""
    check_daraja_url(base_url)
    async with open_http(tls) as http:
        yield DarajaClient(
            base_url.rstrip("/"), http, consumer_key, consumer_secret, clock, push_timeouts, token_timeouts
        )


async def fetch_token(client: DarajaClient) -> tuple[TokenAnswer, Exchange]:
    """A new token. It ends the life of the one before for every process, so `access_token` decides when to ask."""
    credentials = base64.b64encode(f"{client.consumer_key}:{client.consumer_secret}".encode()).decode()
    started_at, started = client.clock(), time.monotonic()
    with _span("GET", client, TOKEN_PATH, TOKEN_PATH + "?grant_type=client_credentials") as span:
        answer = await exchange(
            client.http,
            "GET",
            client.base_url + TOKEN_PATH + "?grant_type=client_credentials",
            headers={"Authorization": f"Basic {credentials}"},
            timeouts=client.token_timeouts,
        )
        _describe(span, answer)
    if isinstance(answer, NoAnswer):
        read: TokenAnswer = TokenUnavailable(answer.why)
    else:
        read = read_token_answer(answer.status, answer.headers, answer.body)
    kept = answer.body if isinstance(read, TokenUnavailable) else _without_token(answer.body, read.token)
    kind = type(read).__name__ + (f" {read.code}" if isinstance(read, TokenUnavailable) else "")
    made = _exchange_made("token", b"", answer, kept, started_at, started, kind)
    if isinstance(read, TokenUnavailable):
        level = logging.WARNING if read.alarm is None else logging.ERROR
        _log.log(level, "daraja_token_unavailable", code=read.code, http_status=answer.status, check=read.alarm)
    return read, made


def _without_token(body: bytes, token: str) -> bytes:
    """Not even where everything is encrypted: whoever reads old exchanges shall not be able to push."""
    spelled = token.encode()
    # JSON may spell it with escapes; then none of the body is kept.
    return body.replace(spelled, _BLANK) if spelled in body else _BLANK


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


async def query(
    client: DarajaClient, token: str, shortcode: Shortcode, checkout_request_id: str
) -> tuple[QueryAnswer, Exchange]:
    """Ask once what became of a push. Asking changes nothing, so it may be cancelled, and asked again at any time."""

    def read(answer: HttpAnswer | NoAnswer) -> QueryAnswer:
        if isinstance(answer, NoAnswer):
            return NothingLearned(answer.why)
        return read_query_answer(answer.status, answer.headers, answer.body, checkout_request_id)

    said, made = await post(
        client,
        token,
        "query",
        QUERY_PATH,
        _credentials(shortcode, client.clock()) | {"CheckoutRequestID": checkout_request_id},
        read=read,
        name=_query_name,
        secret="Password",
        timeouts=client.query_timeouts,
    )
    if isinstance(said, NothingLearned):
        level = logging.WARNING if said.alarm is None else logging.ERROR
        _log.log(level, "daraja_query_unanswered", answer=said.why, http_status=made.http_status, check=said.alarm)
    return said, made


def _query_name(answer: QueryAnswer) -> str:
    match answer:
        case Told(code=code) | TooFast(code=code) | TokenRefused(code=code):
            return f"{type(answer).__name__} {code}"
        case NotYet(how=how):
            return f"NotYet {how}"
        case NothingLearned(why=why):
            return f"NothingLearned: {why}"
        case _:
            assert_never(answer)


async def post(
    client: DarajaClient,
    token: str,
    operation: str,
    path: str,
    fields: Mapping[str, object],
    *,
    read: Callable[[HttpAnswer | NoAnswer], Answer],
    name: Callable[[Answer], str],
    secret: str | None = None,
    timeouts: Timeouts = QUESTION_TIMEOUTS,
    may_send: Callable[[], bool] = always,
    answer_max_bytes: int = ANSWER_MAX_BYTES,
) -> tuple[Answer, Exchange]:
    """One request, sent once; the caller knows whether it may be sent again. `secret` names a field that is not kept.

    `read` and `name` say what the answer is, and what it is called in the exchange; `may_send` is asked directly before
    the first byte.
    """
    started_at, started = client.clock(), time.monotonic()
    content = json.dumps(fields).encode()
    kept_content = json.dumps({**fields, secret: _BLANK.decode()}).encode() if secret else content
    with _span("POST", client, path, path) as span:
        answer = await exchange(
            client.http,
            "POST",
            client.base_url + path,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            content=content,
            timeouts=timeouts,
            may_send=may_send,
            answer_max_bytes=answer_max_bytes,
        )
        _describe(span, answer)
    said = read(answer)
    kept = answer.body.replace(token.encode(), _BLANK)
    return said, _exchange_made(operation, kept_content, answer, kept, started_at, started, name(said))


def _credentials(shortcode: Shortcode, now: datetime) -> dict[str, object]:
    # One text for the field and inside the password: two readings of the clock could differ by a second.
    timestamp = now.astimezone(NAIROBI).strftime("%Y%m%d%H%M%S")
    password = base64.b64encode(f"{shortcode.number}{shortcode.passkey}{timestamp}".encode()).decode()
    return {"BusinessShortCode": shortcode.number, "Password": password, "Timestamp": timestamp}


def _push_fields(request: PushRequest, now: datetime) -> dict[str, object]:
    shortcode = request.shortcode
    return {
        **_credentials(shortcode, now),
        "TransactionType": shortcode.transaction_type,
        "Amount": request.amount,
        "PartyA": request.phone_number,
        "PartyB": shortcode.party_b,
        "PhoneNumber": request.phone_number,
        "CallBackURL": request.callback_url,
        "AccountReference": request.account_reference,
        "TransactionDesc": request.description,
    }


def _read_push(answer: HttpAnswer | NoAnswer) -> PushAnswer:
    if isinstance(answer, HttpAnswer):
        return read_push_answer(answer.status, answer.headers, answer.body)
    return Uncertain(answer.why) if answer.may_have_been_sent else NotSent(answer.why)


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
            _log.error("daraja_push_refused", answer=_name_of(answer), http_status=http_status, check=check)
        case NotSent() | Uncertain():
            _log.warning("daraja_push_unanswered", answer=_name_of(answer), http_status=http_status)
        case Accepted() | Refused():
            pass
        case _:
            assert_never(answer)


def _exchange_made(
    operation: str,
    request_body: bytes,
    answer: HttpAnswer | NoAnswer,
    answer_body: bytes,
    started_at: datetime,
    started: float,
    classified_as: str,
) -> Exchange:
    duration = timedelta(seconds=time.monotonic() - started)
    return Exchange(operation, answer.status, request_body, answer_body, started_at, duration, classified_as)


def _span(method: str, client: DarajaClient, template: str, target: str) -> AbstractContextManager[Span]:
    """A client span by the stable HTTP conventions. Neither address holds anything secret."""
    parts = urlsplit(client.base_url)
    return _tracer.start_as_current_span(
        f"{method} {template}",
        kind=SpanKind.CLIENT,
        attributes={
            "http.request.method": method,
            "url.full": client.base_url + target,
            "url.template": template,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        },
    )


def _describe(span: Span, answer: HttpAnswer | NoAnswer) -> None:
    if answer.status is not None:
        span.set_attribute("http.response.status_code", answer.status)
    error = answer.why if isinstance(answer, NoAnswer) else str(answer.status) if answer.status >= 400 else None
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
