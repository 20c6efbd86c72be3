"""HTTP to Daraja: one exchange, and whether its first byte can have left this machine.

A push that may have reached Safaricom must never be sent again, so the question is not which exception came but
whether anything was written. HTTP libraries cannot be asked: their exceptions name a symptom (aiohttp's transport for
httpx reports a connect timeout when the server read the whole request and then closed). The hook below runs in the
request's own task after the connection is made (name looked up, TLS agreed) and directly before the first byte is
handed to the socket. If it never ran, no byte was sent; once it ran, one may have been, whatever happens next.

httpx's transport interface over aiohttp's connection pool, by measurement: httpx's own pool scans its connections for
every request and costs 20 to 30 times the CPU at 256 connections. The transport is called without httpx's client, so
redirects, cookies, proxy variables and retries have nobody to do them. What an answer means is decided elsewhere.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

USER_AGENT = "mpesa-payment-service"
"""Our own: Safaricom's edge blocks the defaults of well-known libraries."""

_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}

IDLE_MAX_SECONDS = 2.0
"""A pooled connection that was idle for longer is not used again: the other side may be closing it at this moment,
and a push written into a closing connection is a push whose outcome nobody knows."""

CONNECTIONS_MAX = 1_000
"""Requests take 0.4 to 7 s, so hundreds are open at once; beyond this they wait, within the connect timeout."""

ANSWER_MAX_BYTES = 64 * 1024
"""Most answers have some 300 bytes. More than this is no answer of Daraja's and is not read on."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one exchange may take."""

    connect_seconds: float = 5.0
    """From the start to a connection in hand: a place in the pool, the name, TCP and TLS."""
    total_seconds: float = 30.0
    """From the start to the last byte of the answer; Daraja has taken 7 s and answered."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer that came whole."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer, or not a whole one."""

    may_have_been_sent: bool
    why: str
    """A word in capitals for the log; never a text of the other side."""
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    """What had come until then."""


class _TooLateToSend(Exception):
    """The caller no longer wants the request sent."""


class _SentBefore(Exception):
    """A library is about to send the same request again, as aiohttp does with a GET on a connection that died."""


@dataclass(slots=True)
class _Wire:
    may_send: Callable[[], bool]
    touched: bool = False


_wire: ContextVar[_Wire] = ContextVar("wire")


async def _before_first_byte(_session: object, _context: SimpleNamespace, _request: object) -> None:
    wire = _wire.get()
    # Whatever is raised here, aiohttp closes the connection with nothing more written to it.
    if wire.touched:
        raise _SentBefore
    if not wire.may_send():
        raise _TooLateToSend
    wire.touched = True


@asynccontextmanager
async def open_http(tls: ssl.SSLContext | None = None) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """The connections of a process, for `exchange` only. `tls` replaces the public certificate authorities."""
    hook = aiohttp.TraceConfig()
    hook.on_request_headers_sent.append(_before_first_byte)
    tls = tls or _public_authorities()
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_MAX_SECONDS, ssl=tls)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[hook]
    ) as session:
        yield AiohttpTransport(verify=tls, client=session)


@functools.cache
def _public_authorities() -> ssl.SSLContext:
    """Read once: there are some 140 of them, and several apps of Daraja have connections of their own."""
    return httpx.create_ssl_context(trust_env=False)


# There are as many addresses as operations; httpx takes a text apart anew for every request.
_parsed = functools.lru_cache(maxsize=16)(httpx.URL)


def always() -> bool:
    """For requests that may be sent at any time."""
    return True


async def exchange(
    http: httpx.AsyncBaseTransport,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes = b"",
    timeouts: Timeouts,
    may_send: Callable[[], bool] = always,
    answer_max_bytes: int = ANSWER_MAX_BYTES,
) -> HttpAnswer | NoAnswer:
    """One request, made once. `may_send` is asked directly before the first byte.

    If the calling task is cancelled the cancellation goes through, and what became of the request is not known.
    """
    wire = _Wire(may_send)
    reset = _wire.set(wire)
    received = _Received(answer_max_bytes)
    try:
        async with asyncio.timeout(timeouts.total_seconds):
            await _receive(http, method, url, headers, content, timeouts, received)
    # Any exception at all: which one it is decides nothing but the word in the log.
    except Exception as error:
        if not received.whole:
            return NoAnswer(wire.touched, _why(error), received.status, bytes(received.body))
    finally:
        _wire.reset(reset)
    if received.status is None or not received.whole:
        return NoAnswer(wire.touched, "ANSWER_TOO_LONG", received.status, bytes(received.body))
    return HttpAnswer(received.status, received.headers, bytes(received.body))


@dataclass(slots=True)
class _Received:
    """What has come so far, of an answer that may have `max_bytes`."""

    max_bytes: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False


async def _receive(
    http: httpx.AsyncBaseTransport,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    timeouts: Timeouts,
    received: _Received,
) -> None:
    limits = {
        "connect": timeouts.connect_seconds,
        "pool": timeouts.connect_seconds,
        "read": timeouts.total_seconds,
        "write": timeouts.total_seconds,
    }
    request = httpx.Request(
        method, _parsed(url), headers={**_HEADERS, **headers}, content=content, extensions={"timeout": limits}
    )
    response = await http.handle_async_request(request)
    try:
        received.status, received.headers = response.status_code, response.headers
        # Raw: we ask for no compression, and an answer that is compressed all the same is not unpacked, whatever its
        # size would be then.
        async for chunk in response.aiter_raw():
            received.body += chunk[: received.max_bytes - len(received.body) + 1]
            if len(received.body) > received.max_bytes:
                del received.body[received.max_bytes :]
                return
        received.whole = True
    finally:
        await response.aclose()


def _why(error: BaseException) -> str:
    """A word for what the exception and its causes tell. It decides nothing."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return next((word for kind, word in _WORDS for one in causes if isinstance(one, kind)), type(error).__name__)


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (_TooLateToSend, "TOO_LATE_TO_SEND"),
    (_SentBefore, "CONNECTION_LOST"),
    (socket.gaierror, "NAME_NOT_FOUND"),
    (ssl.SSLError, "TLS_FAILED"),
    (ssl.CertificateError, "TLS_FAILED"),
    (aiohttp.ConnectionTimeoutError, "CONNECT_TIMEOUT"),
    (aiohttp.ClientConnectorError, "NOT_CONNECTED"),
    (TimeoutError, "NO_ANSWER_IN_TIME"),
    (aiohttp.ClientPayloadError, "ANSWER_CUT"),
    (OSError, "CONNECTION_LOST"),
    (aiohttp.ClientConnectionError, "CONNECTION_LOST"),
)
