"""Where Daraja is, and one request to it: sent once, timed, traced, and given back as an exchange to keep.

What goes into a request, and what its answer means, stands in the file of its operation. Nothing is retried here. Every
call gives back the whole exchange, secrets blanked, for the caller to keep encrypted.

The caller's trace goes no further than this: a span is recorded, and no trace header is sent to Safaricom.
"""

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

import httpx
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from payment_service.daraja.shortcodes import check_daraja_url
from payment_service.daraja.transport import (
    ANSWER_MAX_BYTES,
    HttpAnswer,
    NoAnswer,
    Timeouts,
    always,
    exchange,
    open_http,
)

PUSH_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=30.0)
TOKEN_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=10.0)
QUERY_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=15.0)
QUESTION_TIMEOUTS = Timeouts(connect_seconds=5.0, total_seconds=30.0)


BLANK = b"[blanked]"

_tracer = trace.get_tracer("payment_service.daraja")


@dataclass(frozen=True, slots=True)
class DarajaClient:
    """Where Daraja is. One per process, for all of its apps; made by `open_daraja`."""

    base_url: str
    http: httpx.AsyncBaseTransport = field(repr=False)
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
    clock: Callable[[], datetime],
    *,
    tls: ssl.SSLContext | None = None,
    push_timeouts: Timeouts = PUSH_TIMEOUTS,
    token_timeouts: Timeouts = TOKEN_TIMEOUTS,
) -> AsyncIterator[DarajaClient]:
    """The client of this process; its connections are closed at the end. Raises ValueError as `check_daraja_url`."""
    check_daraja_url(base_url)
    async with open_http(tls) as http:
        yield DarajaClient(base_url.rstrip("/"), http, clock, push_timeouts, token_timeouts)


async def post(
    client: DarajaClient,
    token: str,
    operation: str,
    path: str,
    fields: Mapping[str, object],
    *,
    secret: str | None = None,
    timeouts: Timeouts = QUESTION_TIMEOUTS,
    may_send: Callable[[], bool] = always,
    answer_max_bytes: int = ANSWER_MAX_BYTES,
) -> tuple[HttpAnswer | NoAnswer, Callable[[str], Exchange]]:
    """One request, sent once; the caller knows whether it may be sent again. `secret` names a field that is not kept.

    The answer, and what makes the exchange once the caller has read it and says how it is classified. `may_send` is
    asked directly before the first byte.
    """
    started_at, started = client.clock(), time.monotonic()
    content = json.dumps(fields).encode()
    kept_content = json.dumps({**fields, secret: BLANK.decode()}).encode() if secret else content
    with span("POST", client, path, path) as spanned:
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
        describe(spanned, answer)
    took, kept = timedelta(seconds=time.monotonic() - started), answer.body.replace(token.encode(), BLANK)
    return answer, partial(Exchange, operation, answer.status, kept_content, kept, started_at, took)


def span(method: str, client: DarajaClient, template: str, target: str) -> AbstractContextManager[Span]:
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


def describe(span: Span, answer: HttpAnswer | NoAnswer) -> None:
    if answer.status is not None:
        span.set_attribute("http.response.status_code", answer.status)
    error = answer.why if isinstance(answer, NoAnswer) else str(answer.status) if answer.status >= 400 else None
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
