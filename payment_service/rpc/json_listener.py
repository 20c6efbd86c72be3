"""Payments asked for as JSON: for callers without gRPC, on a listener of its own that no browser reaches.

The door is the same: a caller is who its certificate says, under the row of InitiatePayment in the table of methods,
with the same limits; in plaintext it listens on this machine's loopback only. What is asked is read into the message
that gRPC callers send, and answered by the same method.
"""

import asyncio
import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from aiohttp import web
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.following.read_payments import request_id_of
from payment_service.domain.decisions import Bar
from payment_service.domain.errors import BookingBarred, InvalidRequest, RequestIdReused, StoreUnavailable, Violation
from payment_service.domain.payment import STATUS_OF, Status
from payment_service.rpc.caller_limits import CallLimit, TooManyCalls
from payment_service.rpc.calls import MESSAGE_WAIT_SECONDS, REQUEST_MAX_BYTES, UNARY_WAIT_SECONDS, Call, Gate, Lane
from payment_service.rpc.errors import Answer, answer_to
from payment_service.rpc.identity import AuthContext, check_address
from payment_service.rpc.json_replies import HTTP_STATUS, initiated_json, refused_json
from payment_service.rpc.json_requests import is_text, read_initiation
from payment_service.rpc.methods import Core, initiate_payment
from payment_service.rpc.requests import parse_initiation
from runtime.renewed_site import bound_socket, renewed_site
from runtime.serving import Address
from runtime.tls import server_context

INITIATE_PATH: Final = "/api/v1/payments/initiate"
METHOD: Final = "mpesa_payments.v1.PaymentService/InitiatePayment"
KEY_HEADER: Final = "Idempotency-Key"
STOP_GRACE_SECONDS: Final = 1.0
"""For answers that are already on their way: calls in hand were waited for by the drain."""
HEADERS: Final = {"Server": "payment-service", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """What answering takes."""

    core: Core
    gate: Gate


@contextlib.asynccontextmanager
async def json_listening(core: Core, gate: Gate, address: Address, *, setting: str) -> AsyncIterator[Address]:
    """A listener at the address, which ends when the block is left.

    A drain is that of the gate, and one for both listeners: it refuses new calls and waits for those in hand, while
    this one still answers. So the block that drains stands inside this one.
    """
    check_address(address, gate.door)
    calls = JsonCalls(core, gate)
    application = web.Application(client_max_size=REQUEST_MAX_BYTES)

    async def answer(request: web.Request) -> web.Response:
        return await answer_json(calls, request)

    application.router.add_post(INITIATE_PATH, answer)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=STOP_GRACE_SECONDS)
    await runner.setup()
    listening = bound_socket(address, setting)
    try:
        host, port = listening.getsockname()[:2]
        async with renewed_site(runner, listening, gate.door.certificate, server_context):
            yield Address(host, port)
    finally:
        await runner.cleanup()
        listening.close()


async def answer_json(calls: JsonCalls, request: web.Request) -> web.Response:
    """Answer one request; what is wrong is told as it is over gRPC."""
    gate, language = calls.gate, ""
    try:
        allowed = gate.door.allowed_on(METHOD, _connection_of(request))
        with gate.place(Lane.INITIATE, allowed):
            content = await _body_of(request, allowed.name)
            gate.take(Lane.INITIATE, allowed, content)
            key = _key_of(request)
            message, wrong = read_initiation(content, f"http-{uuid4()}" if key is None else key)
            language = message.language_code
            _refuse_all(calls.core, message, wrong)
            call = Call(allowed.name, allowed.sees, asyncio.get_running_loop().time() + UNARY_WAIT_SECONDS)
            async with asyncio.timeout(UNARY_WAIT_SECONDS):
                response = await _initiate(calls.core, call, message, repeats_by_content=key is None)
    except TimeoutError as error:
        return _refusal(answer_to(StoreUnavailable(str(error)), gate.clock), language)
    except Exception as error:
        return _refusal(answer_to(error, gate.clock), language)
    return web.json_response(initiated_json(response), status=200 if response.replayed else 201, headers=HEADERS)


async def _initiate(
    core: Core, call: Call, message: pb.InitiatePaymentRequest, *, repeats_by_content: bool
) -> pb.InitiatePaymentResponse:
    """InitiatePayment; without a key, a live payment of the booking that was asked for in the same way is answered."""
    try:
        return await initiate_payment(core, call, message)
    except BookingBarred as barred:
        live = STATUS_OF[barred.payment.state] in (Status.PENDING, Status.PROCESSING)
        if not (repeats_by_content and barred.bar is Bar.LIVE_OR_PAID and live):
            raise
        # Asked for with its own id, an identical request is a repetition, and any other is refused: both make nothing.
        message.request_id = await request_id_of(core.reads, call.caller, barred.payment.payment_id)
        try:
            return await initiate_payment(core, call, message)
        except RequestIdReused:
            raise barred from None


def _refuse_all(core: Core, message: pb.InitiatePaymentRequest, wrong: Sequence[Violation]) -> None:
    """Raise InvalidRequest if the JSON is wrong, with what is wrong with the other fields as well."""
    if not wrong:
        return
    others: Sequence[Violation] = ()
    try:
        parse_initiation(message, core.shortcodes, core.clock(), refunds_late_money=core.refunds_late_money)
    except InvalidRequest as error:
        others = error.violations
    named = {violation.field for violation in wrong}
    raise InvalidRequest([*wrong, *(one for one in others if one.field.partition(".")[0] not in named)])


async def _body_of(request: web.Request, caller: str) -> bytes:
    try:
        async with asyncio.timeout(MESSAGE_WAIT_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise InvalidRequest([Violation("request", f"expected at most {REQUEST_MAX_BYTES} bytes")]) from None
    except TimeoutError:
        # No fault of the request, as over gRPC: it is one to repeat.
        raise TooManyCalls(CallLimit.SENDING, caller) from None
    except (web.RequestPayloadError, ConnectionError):
        # The client left, or its chunks were no chunks. Nobody may be there to read the answer.
        raise InvalidRequest([Violation("request", "expected a whole body")]) from None


def _key_of(request: web.Request) -> str | None:
    keys = request.headers.getall(KEY_HEADER, [])
    if len(keys) > 1:
        raise InvalidRequest([Violation("request_id", f"expected the header {KEY_HEADER} once")])
    if not keys:
        return None
    if not is_text(keys[0]):
        raise InvalidRequest([Violation("request_id", f"expected the header {KEY_HEADER} in ASCII")])
    return keys[0].strip().removeprefix('"').removesuffix('"')


def _connection_of(request: web.Request) -> AuthContext:
    """What gRPC would say of the same connection."""
    encrypted = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    if encrypted is None or (shown := encrypted.getpeercert(binary_form=True)) is None:
        return {}
    pem = ssl.DER_cert_to_PEM_cert(shown).encode("ascii")
    return {"ssl_tls_version": (encrypted.version().encode("ascii"),), "x509_pem_cert": (pem,)}


def _refusal(answer: Answer, language: str) -> web.Response:
    headers = dict(HEADERS)
    if answer.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(answer.retry_after.total_seconds()))
    return web.json_response(refused_json(answer, language), status=HTTP_STATUS[answer.code], headers=headers)
