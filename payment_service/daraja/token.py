"""A new access token, and what Daraja says when it gives none: from "Daraja: Authorization".

Nothing is retried here. When to ask is decided in `access_token`, since a new token ends the life of the one before.
"""

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from payment_service.alarms import CREDENTIALS_REFUSED, EDGE_BLOCKS, TOKEN_UNREADABLE
from payment_service.daraja.client import BLANK, DarajaClient, Exchange, describe, span
from payment_service.daraja.envelopes import error_in, is_edge_page, lenient_json
from payment_service.daraja.refusals import EDGE_REFUSED_CODE, RATE_LIMITED_CODE
from payment_service.daraja.transport import NoAnswer, exchange
from runtime.alarms import Alarm, raise_alarm

TOKEN_PATH = "/oauth/v1/generate"

TOKEN_LIFE_DEFAULT = timedelta(seconds=3599)
"""What Daraja says in every recorded answer; used where `expires_in` cannot be read."""

_TOKEN = re.compile(r"[\x21-\x7e]{8,2048}")

_SECONDS = re.compile(r"[0-9]{1,6}")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DarajaApp:
    """An app of ours on Safaricom's portal, which access tokens are issued to. Several shortcodes may share one."""

    key: str
    """Names it where processes share its token and its budget; the same wherever its consumer key is the same."""
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    shortcodes: tuple[str, ...] = ()
    """Those that are called as this app: what people know it by."""
    set_by: str = "PAYMENTS_DARAJA_CONSUMER_KEY and PAYMENTS_DARAJA_CONSUMER_SECRET"
    """Where its consumer key and secret are set, for whoever has to put them right."""


@dataclass(frozen=True, slots=True)
class TokenIssued:
    """A new access token. It ends the life of the one before."""

    token: str = field(repr=False)
    expires_in: timedelta


@dataclass(frozen=True, slots=True)
class TokenUnavailable:
    """No token this time; nothing was sent that could have moved money."""

    code: str
    alarm: Alarm | None = None
    """What a person has to know of it; CREDENTIALS_REFUSED where Daraja does not take our key and secret."""


TokenAnswer = TokenIssued | TokenUnavailable


async def fetch_token(client: DarajaClient, app: DarajaApp) -> tuple[TokenAnswer, Exchange]:
    """A new token of the app. It ends the life of the one before for every process: `access_token` decides when."""
    credentials = base64.b64encode(f"{app.consumer_key}:{app.consumer_secret}".encode()).decode()
    started_at, started = client.clock(), time.monotonic()
    with span("GET", client, TOKEN_PATH, TOKEN_PATH + "?grant_type=client_credentials") as spanned:
        answer = await exchange(
            client.http,
            "GET",
            client.base_url + TOKEN_PATH + "?grant_type=client_credentials",
            headers={"Authorization": f"Basic {credentials}"},
            timeouts=client.token_timeouts,
        )
        describe(spanned, answer)
    took = timedelta(seconds=time.monotonic() - started)
    if isinstance(answer, NoAnswer):
        read: TokenAnswer = TokenUnavailable(answer.why)
    else:
        read = read_token_answer(answer.status, answer.headers, answer.body)
    kept = answer.body if isinstance(read, TokenUnavailable) else _without_token(answer.body, read.token)
    kind = type(read).__name__ + (f" {read.code}" if isinstance(read, TokenUnavailable) else "")
    made = Exchange("token", answer.status, b"", kept, started_at, took, kind)
    if isinstance(read, TokenUnavailable):
        _log.warning("token unavailable", code=read.code, http_status=answer.status, shortcodes=app.shortcodes)
        if read.alarm is not None:
            raise_alarm(read.alarm, code=read.code, shortcodes=app.shortcodes, set_by=app.set_by)
    return read, made


def _without_token(body: bytes, token: str) -> bytes:
    """Not even where everything is encrypted: whoever reads old exchanges shall not be able to push."""
    spelled = token.encode()
    # JSON may spell it with escapes; then none of the body is kept.
    return body.replace(spelled, BLANK) if spelled in body else BLANK


def read_token_answer(status: int, headers: Mapping[str, str], body: bytes) -> TokenAnswer:
    """The token in an answer of the token address, or why there is none."""
    value = lenient_json(body)
    if isinstance(value, dict):
        token, error = value.get("access_token"), error_in(value)
        if status == 200 and isinstance(token, str) and _TOKEN.fullmatch(token):
            return TokenIssued(token, _token_life(value.get("expires_in")))
        if status == 200 and token is not None:
            return TokenUnavailable("UNREADABLE_TOKEN", TOKEN_UNREADABLE)
        if error is not None and error[0] in ("400.008.01", "400.008.02"):
            return TokenUnavailable(error[0], CREDENTIALS_REFUSED)
    if status == 429:
        return TokenUnavailable(RATE_LIMITED_CODE)
    if value is None and is_edge_page(status, body):
        return TokenUnavailable(EDGE_REFUSED_CODE, EDGE_BLOCKS)
    # Wrong credentials are sometimes answered with HTTP 400 or 401 and nothing else.
    return TokenUnavailable(f"HTTP_{status}", CREDENTIALS_REFUSED if status in (400, 401) else None)


def _token_life(value: object) -> timedelta:
    """`expires_in` is a number on Daraja's page and a text in its answers."""
    seconds = str(value) if type(value) is int else value
    if isinstance(seconds, str) and _SECONDS.fullmatch(seconds) and int(seconds) > 0:
        return timedelta(seconds=int(seconds))
    return TOKEN_LIFE_DEFAULT
