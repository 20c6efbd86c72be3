"""What the edge shows to passengers' browsers: one payment, to whoever holds its status token.

The payment service makes the tokens and judges them: this program could make none. A token that is damaged, has expired
or is another payment's gets one and the same answer, and stands in no log. Callbacks come first: browsers have bounds
of their own, so that however many of them look, every callback finds its place.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import grpc
from aiohttp import web
from mpesa_payments.v1 import passenger_service_pb2 as pb

from callback_gateway.core_channel import CoreChannel
from callback_gateway.passenger_views import event, shown
from runtime.connections import BoundedConnection

PASSENGER_PATH = re.compile(r"/api/v1/payments/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(status|events)")
STATUS_TOKEN = re.compile(r"[0-9a-f]{40}")
BEARER = re.compile(r"bearer +([^ ]+)", re.IGNORECASE)
QUERY_FIELDS_MAX = 8
EVENT_ID_MAX_CHARACTERS = 64

# Each waits for the payment service; the next browser is asked to come again.
QUESTIONS_MAX = 64
ANSWER_TIME_S = 3.0
# Tabs of one passenger; more of them would be somebody who takes the places of others.
STREAMS_A_PAYMENT = 10
# A browser then comes back with its token, which may have ended meanwhile.
STREAM_TIME_S = 900.0
# The payment service says something at least every 15 s.
SILENCE_MAX_S = 45.0
# Apart, so that the browsers of a gateway that stops do not all come back at one moment.
COME_BACK_MIN_MS, COME_BACK_MAX_MS = 2_000, 6_000
RETRY_AFTER_S = 5
# How long a browser may keep what it was allowed to ask from another origin.
PREFLIGHT_KEPT_S = 600

# Nothing of this is kept anywhere, and no address with a token is told to another site.
PRIVATE_HEADERS = {
    "Server": "gateway",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Origin",
}


@dataclass(frozen=True)
class Passengers:
    """What answering passengers takes."""

    core: CoreChannel
    counts: Counter[str]
    # Those whose pages may read the answers.
    origins: frozenset[str]
    streams_max: int
    # How many are open for each payment.
    open_streams: Counter[str] = field(default_factory=Counter)
    telling: set["asyncio.Task[None]"] = field(default_factory=set)
    questions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUESTIONS_MAX))

    def end_streams(self) -> None:
        """End every stream, for the drain: the browsers come back by themselves, to another gateway."""
        for task in self.telling:
            task.cancel()


async def answer_passenger(
    passengers: Passengers, request: web.BaseRequest, payment_id: str, what: str, query: str, *, draining: bool
) -> web.StreamResponse:
    """Answer a browser's request for a payment's status or events."""
    headers = PRIVATE_HEADERS | _cross_origin(passengers, request)
    if request.method == "OPTIONS":
        return _preflight(headers)
    token = _token(request, query if what == "events" else "")
    if token is None:
        passengers.counts["passenger_refused"] += 1
        return _refused(headers)
    if what == "status":
        return await _status(passengers, payment_id, token, headers)
    if (
        draining
        or passengers.open_streams.total() >= passengers.streams_max
        or passengers.open_streams[payment_id] >= STREAMS_A_PAYMENT
    ):
        passengers.counts["passenger_turned_away"] += 1
        return _come_again(headers)
    passengers.open_streams[payment_id] += 1
    try:
        return await _events(passengers, request, payment_id, token, headers)
    finally:
        passengers.open_streams[payment_id] -= 1
        if not passengers.open_streams[payment_id]:
            del passengers.open_streams[payment_id]


async def _status(passengers: Passengers, payment_id: str, token: str, headers: dict[str, str]) -> web.Response:
    if passengers.questions.locked():
        passengers.counts["passenger_turned_away"] += 1
        return _come_again(headers)
    question = pb.GetPassengerPaymentRequest(payment_id=payment_id, status_token=token)
    async with passengers.questions:
        try:
            reply = await passengers.core.passengers.GetPassengerPayment(question, timeout=ANSWER_TIME_S)
        except grpc.aio.AioRpcError as error:
            return _why_not(passengers, error, headers)
    passengers.counts["passenger_status"] += 1
    return _json(200, shown(reply.payment), headers)


async def _events(
    passengers: Passengers, request: web.BaseRequest, payment_id: str, token: str, headers: dict[str, str]
) -> web.StreamResponse:
    last = request.headers.get("Last-Event-ID", "")
    known = last if last.isascii() and len(last) <= EVENT_ID_MAX_CHARACTERS else ""
    call = passengers.core.passengers.WatchPassengerPayment(
        pb.WatchPassengerPaymentRequest(payment_id=payment_id, status_token=token, last_event_id=known)
    )
    response = web.StreamResponse(
        headers=headers | {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
    )
    first: object
    try:
        async with asyncio.timeout(ANSWER_TIME_S):
            first = await call.read()
    except (grpc.aio.AioRpcError, TimeoutError) as error:
        if isinstance(error, grpc.aio.AioRpcError) and error.code() is not grpc.StatusCode.UNAVAILABLE:
            return _why_not(passengers, error, headers)
        # A browser gives up for good on a 503. So the stream opens, says when to come back, and ends.
        passengers.counts["passenger_unavailable"] += 1
        first = None
    try:
        await _tell_until_it_ends(passengers, request, response, call, first)
    finally:
        call.cancel()
    return response


async def _tell_until_it_ends(
    passengers: Passengers,
    request: web.BaseRequest,
    response: web.StreamResponse,
    call: "grpc.aio.UnaryStreamCall[pb.WatchPassengerPaymentRequest, pb.WatchPassengerPaymentResponse]",
    first: object,
) -> None:
    """Until the browser leaves, this gateway or the service drains, or the time is over."""
    telling = asyncio.create_task(_tell(request, response, call, first))
    passengers.telling.add(telling)
    passengers.counts["passenger_streams"] += 1
    if isinstance(request.protocol, BoundedConnection):
        request.protocol.answer_until_left(telling.cancel)
    try:
        await asyncio.wait({telling}, timeout=STREAM_TIME_S)
    finally:
        telling.cancel()
        passengers.telling.discard(telling)
    if telling.done() and not telling.cancelled():
        telling.result()


async def _tell(
    request: web.BaseRequest,
    response: web.StreamResponse,
    call: "grpc.aio.UnaryStreamCall[pb.WatchPassengerPaymentRequest, pb.WatchPassengerPaymentResponse]",
    message: object,
) -> None:
    # Written by hand, since aiohttp-sse writes its comments by a timer of its own and has no `retry` without an event:
    # here a comment passes on that the payment service is there.
    try:
        await response.prepare(request)
        await response.write(b"retry: %d\n\n" % random.randint(COME_BACK_MIN_MS, COME_BACK_MAX_MS))
        while isinstance(message, pb.WatchPassengerPaymentResponse):
            await response.write(event(message))
            async with asyncio.timeout(SILENCE_MAX_S):
                message = await call.read()
    except (grpc.aio.AioRpcError, TimeoutError, ConnectionError):
        # The service drains or is silent, or the browser has left. A browser that is there comes back.
        return


def _token(request: web.BaseRequest, query: str) -> str | None:
    """The token of a request, if it looks like one: a browser cannot set a header for live events."""
    bearer = BEARER.fullmatch(request.headers.get("Authorization", ""))
    if bearer is not None:
        given = bearer[1]
    else:
        try:
            given = parse_qs(query, max_num_fields=QUERY_FIELDS_MAX).get("token", [""])[0]
        except ValueError:
            return None
    return given if STATUS_TOKEN.fullmatch(given) else None


def _cross_origin(passengers: Passengers, request: web.BaseRequest) -> dict[str, str]:
    origin = request.headers.get("Origin", "")
    return {"Access-Control-Allow-Origin": origin} if origin in passengers.origins else {}


def _preflight(headers: dict[str, str]) -> web.Response:
    """A page of another origin asks whether it may send its token in a header."""
    if "Access-Control-Allow-Origin" not in headers:
        body = {"error": {"reason": "ORIGIN_NOT_ALLOWED", "message": "Pages of this origin may not ask."}}
        return _json(403, body, headers)
    allowed = {
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
        "Access-Control-Max-Age": str(PREFLIGHT_KEPT_S),
    }
    return web.Response(status=204, headers=headers | allowed)


def _why_not(passengers: Passengers, error: grpc.aio.AioRpcError, headers: dict[str, str]) -> web.Response:
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        passengers.counts["passenger_refused"] += 1
        return _refused(headers)
    passengers.counts["passenger_unavailable"] += 1
    return _come_again(headers)


def _refused(headers: dict[str, str]) -> web.Response:
    message = "The status token is not valid for this payment, or no longer."
    body = {"error": {"reason": "STATUS_TOKEN_REFUSED", "message": message}}
    return _json(401, body, headers | {"WWW-Authenticate": "Bearer"})


def _come_again(headers: dict[str, str]) -> web.Response:
    body = {"error": {"reason": "TRY_AGAIN_LATER", "message": f"Ask again in {RETRY_AFTER_S} seconds."}}
    return _json(503, body, headers | {"Retry-After": str(RETRY_AFTER_S)})


def _json(status: int, body: Mapping[str, object], headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers)
