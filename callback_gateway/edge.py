"""What the gateway answers to an HTTP request.

The order is the protection: path and token are judged before a byte of the body is read, the body has a bound in bytes
and in time, and 200 is said only once the payment service has committed the callback, or the spool has it safe on
disk. What the body means is never looked at here. Whatever is not a callback with a good token gets one and the same
404, so that nobody learns which part of a guess was right.
"""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import structlog
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.core_health import CoreHealth
from callback_gateway.forwarding import ForwardQueue, Outcome
from callback_gateway.hints import HINT_MAX_BYTES, HINT_PATH, Hints
from callback_gateway.passengers import PASSENGER_PATH, Passengers, answer_passenger
from callback_gateway.receipts import RECEIPT_PATH, answer_receipt
from callback_gateway.sources import SOURCE_HEADER, Sources, StrangeSources
from callback_gateway.spool import Spool
from runtime.callback_tokens import CallbackKeys, key_unknown, kind_of
from runtime.connections import BoundedConnection, Connections
from runtime.rarely import Rarely

CALLBACK_PATH = re.compile(r"/callbacks/(stk|result)/([^/]{1,64})/([^/]{1,64})")
# A proxy may send the whole address as the target (RFC 9112, section 3.2.2); the path is what counts.
_ABSOLUTE_FORM = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)
KINDS = {"stk": pb.CALLBACK_KIND_STK, "result": pb.CALLBACK_KIND_RESULT}
ACCEPTED_BODY = b'{"ResultCode":0,"ResultDesc":"Accepted"}'

log = structlog.get_logger()


class UnknownKeys:
    """Tells of tokens whose key this gateway does not have: they may be forged, or this gateway lacks a key.

    One line a minute at most, since anybody can send such tokens.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._refused = Rarely(now)

    def refused(self) -> None:
        """One more was refused."""
        if refused := self._refused.happened():
            log.warning(
                "callback key unknown",
                refused=refused,
                advice="if these are true callbacks, put the service's file in the place of GATEWAY_CALLBACK_KEYS_FILE",
            )


@dataclass(frozen=True)
class Edge:
    """What answering takes."""

    keys: CallbackKeys
    queue: ForwardQueue
    # None where there is no lasting volume.
    spool: Spool | None
    connections: Connections
    counts: Counter[str]
    body_max_bytes: int
    body_time_s: float
    core: CoreHealth
    unknown_keys: UnknownKeys
    sources: Sources
    strange_sources: StrangeSources
    hints: Hints
    passengers: Passengers


class BodyTooLarge(Exception):
    """The body is longer than allowed."""


async def answer(edge: Edge, request: web.BaseRequest) -> web.StreamResponse:
    """Answer one request, and let its connection go on to the next."""
    try:
        response = await _answer(edge, request)
    finally:
        connection = request.protocol
        if isinstance(connection, BoundedConnection):
            connection.answered(request.content)
    if edge.connections.draining:
        response.force_close()
    return response


async def _answer(edge: Edge, request: web.BaseRequest) -> web.StreamResponse:
    path = _ABSOLUTE_FORM.sub("", request.raw_path)
    if request.method == "POST" and (callback := CALLBACK_PATH.fullmatch(path)):
        return await _take_callback(edge, request, kind=callback[1], reference=callback[2], token=callback[3])
    if request.method == "POST" and path == HINT_PATH:
        return await _take_hint(edge, request)
    if request.method == "GET" and path == "/healthz":
        return _plain(200, b'{"status":"alive"}')
    if request.method == "GET" and path == "/readyz":
        ready = not edge.connections.draining and await _takes_callbacks(edge)
        return _plain(200, b'{"status":"ready"}') if ready else _plain(503, b'{"status":"not ready"}')
    path, _, query = path.partition("?")
    if request.method in ("GET", "OPTIONS") and (asked := PASSENGER_PATH.fullmatch(path)):
        draining = edge.connections.draining
        return await answer_passenger(edge.passengers, request, asked[1], asked[2], query, draining=draining)
    if request.method == "GET" and (receipt := RECEIPT_PATH.fullmatch(path)):
        return await answer_receipt(edge.passengers, receipt[1])
    edge.counts["not_found"] += 1
    return _not_found()


async def _take_callback(edge: Edge, request: web.BaseRequest, kind: str, reference: str, token: str) -> web.Response:
    if kind_of(edge.keys, kind, reference, token) is None:
        edge.counts["refused"] += 1
        if key_unknown(edge.keys, token):
            edge.unknown_keys.refused()
        return _not_found()
    body = await _whole_body(edge, request, edge.body_max_bytes)
    if isinstance(body, web.Response):
        return body
    edge.counts["received"] += 1
    source = _source(edge, request)
    callback = pb.Callback(kind=KINDS[kind], reference=reference, token=token, body=body, source_address=source)
    callback.receive_time.CopyFrom(_now())
    match await _secure(edge, callback):
        case Outcome.STORED:
            edge.counts["stored"] += 1
            return _plain(200, ACCEPTED_BODY)
        case Outcome.SPOOLED:
            edge.counts["spooled"] += 1
            return _plain(200, ACCEPTED_BODY)
        case Outcome.REFUSED:
            edge.counts["refused"] += 1
            return _not_found()
        case Outcome.NOT_STORED:
            edge.counts["unavailable"] += 1
            return _plain(503, b"")
        case outcome:
            assert_never(outcome)


async def _take_hint(edge: Edge, request: web.BaseRequest) -> web.Response:
    """Thank for a result without a token. Nobody learns from the answer whether it has met a payment."""
    if not edge.hints.has_room:
        edge.hints.drop()
        return _closing(200, ACCEPTED_BODY)
    edge.hints.being_read += 1
    try:
        body = await _whole_body(edge, request, HINT_MAX_BYTES)
    finally:
        edge.hints.being_read -= 1
    if isinstance(body, web.Response):
        return body
    edge.hints.offer(body)
    return _plain(200, ACCEPTED_BODY)


def _source(edge: Edge, request: web.BaseRequest) -> str:
    """From where a callback with a true token came; a person is told where nobody expects one from there."""
    source = edge.sources.of(request.remote, request.headers.getall(SOURCE_HEADER, []))
    if edge.sources.is_strange(source):
        edge.counts["strange_source"] += 1
        edge.strange_sources.seen(source)
    return source


async def _whole_body(edge: Edge, request: web.BaseRequest, bytes_max: int) -> bytes | web.Response:
    """The body, within its bounds in bytes and in time; or what to answer where it is not to be had."""
    try:
        async with asyncio.timeout(edge.body_time_s):
            return await _read_body(request, bytes_max)
    except BodyTooLarge:
        edge.counts["too_large"] += 1
        return _closing(413)
    except TimeoutError:
        edge.counts["timed_out"] += 1
        return _closing(408)
    except (web.RequestPayloadError, ConnectionError):
        # The client left, or its chunks were no chunks: there is no whole body to keep.
        edge.counts["malformed"] += 1
        return _closing(400)


async def _read_body(request: web.BaseRequest, bytes_max: int) -> bytes:
    if (request.content_length or 0) > bytes_max:
        raise BodyTooLarge
    if request.headers.get("Expect", "").lower() == "100-continue":
        # Without this word such a client holds its body back; curl for a second, others for ever.
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer proper has not begun.
        request.writer.output_size = 0
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > bytes_max:
            raise BodyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


async def _secure(edge: Edge, callback: pb.Callback) -> Outcome:
    """Get the callback committed by the service, or else on disk, within `forward_time_s` and `spool_time_s`."""
    # While the service is known to be away, waiting for it would only hold up Safaricom.
    spool_first = edge.queue.core_away
    if spool_first and await _spool(edge, callback):
        return Outcome.SPOOLED
    outcome = await _forward(edge, callback)
    if outcome is Outcome.NOT_STORED and not spool_first and await _spool(edge, callback):
        return Outcome.SPOOLED
    return outcome


async def _spool(edge: Edge, callback: pb.Callback) -> bool:
    return edge.spool is not None and await edge.spool.keep(callback)


async def _forward(edge: Edge, callback: pb.Callback) -> Outcome:
    # From here on the callback is in the queue, and stays there whatever becomes of its client: aiohttp does not
    # cancel an answer whose client has left, and the queue would not notice.
    pending = edge.queue.offer(callback)
    outcome = Outcome.NOT_STORED
    if pending is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(edge.queue.forward_time_s):
                outcome = await asyncio.shield(pending)
    return outcome


async def _takes_callbacks(edge: Edge) -> bool:
    await edge.core.look()
    spool_takes = edge.spool is not None and edge.spool.takes_callbacks
    return edge.core.keys_agree and (spool_takes or edge.core.reachable)


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now


def _not_found() -> web.Response:
    return _plain(404, b"")


def _closing(status: int, body: bytes = b"") -> web.Response:
    """The rest of the body is not wanted, so the connection cannot go on."""
    response = _plain(status, body)
    response.force_close()
    return response


def _plain(status: int, body: bytes) -> web.Response:
    # aiohttp would name itself and its version to the world.
    return web.Response(status=status, body=body, content_type="application/json", headers={"Server": "gateway"})
