"""What every call goes through, whichever method it is of: identity, limits, deadline, size, errors, trace.

Each method is wrapped once, when the server is built. That does what a chain of
interceptors would, at a fraction of the cost per call: requests arrive here as
bytes and replies leave as bytes, so a message that is too large or no message
at all is answered like any other bad request. On the wire all kinds of calls are
alike, and every method is served as one that reads its message itself: so a call
is here when it is opened, and a stranger is refused who never sends one.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry import trace

from payment_service.domain.consent import named_by
from payment_service.domain.errors import InvalidRequest, ShuttingDown, StoreUnavailable, Violation
from payment_service.rpc.caller_limits import CallerUse, CallLimit, TooManyCalls
from payment_service.rpc.errors import answer_to
from payment_service.rpc.identity import Allowed, Context, Door
from payment_service.telemetry import TRACEPARENT, note_status, start_server_span

UNARY_WAIT_SECONDS = 30.0
"""The longest a unary call takes, whatever deadline its caller has set."""
WRITE_WAIT_SECONDS = 60.0
"""A reader that takes nothing for so long is asked to come back with its cursor."""
REQUEST_MAX_BYTES = 65_536
MESSAGE_WAIT_SECONDS = 10.0
"""The longest that an open call may have sent no message: it holds a place."""

Core = TypeVar("Core")
Batch = TypeVar("Batch")


class Lane(StrEnum):
    """Calls that share a limit: slow ones must not keep out quick ones, nor streams either of them."""

    INITIATE = "INITIATE"
    UNARY = "UNARY"
    CALLBACKS = "CALLBACKS"
    GATEWAY = "GATEWAY"
    """What else the gateway asks: hints of strangers, and whether its keys are ours."""
    STREAM = "STREAM"
    PASSENGER = "PASSENGER"
    """Passengers who look at their payment."""
    PASSENGER_STREAM = "PASSENGER_STREAM"
    CHECK = "CHECK"
    """Of health."""
    PROBE = "PROBE"
    """Watches of health, and reflection."""


ENDLESS = frozenset({Lane.PROBE})
"""A drain does not wait for these."""
PROBES = frozenset({Lane.CHECK, Lane.PROBE})
"""Answered while the process drains as well."""
COUNTED = frozenset({Lane.INITIATE, Lane.UNARY, Lane.STREAM})
"""Those for which each caller has limits of its own."""
HALVED = frozenset({Lane.INITIATE, Lane.UNARY})
"""Those of which no caller has more than half the places, whatever the list of callers says. Streams have a limit that
is theirs alone, and one caller may be the only one that watches."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many calls may be open in one process."""

    initiate: int = 2_000
    """Each waits for the provider, 0.4 to 7 s."""
    unary: int = 256
    callbacks: int = 256
    """Apart from the reads: however many of those there are, they throw no callback away."""
    gateway: int = 64
    """Apart from the callbacks and the reads: however many hints there are, they keep out neither."""
    streams: int = 12_000
    """Some 30 KiB each."""
    passengers: int = 128
    """Apart from the reads of services: however many passengers look, a booking is answered."""
    passenger_streams: int = 6_000
    """Apart from the streams of services, for the same reason."""
    checks: int = 256
    """Apart from the watches: however many of those there are, a gateway hears that the service is well."""
    probes: int = 256

    def by_lane(self) -> Mapping[Lane, int]:
        """The same, by lane."""
        return {
            Lane.INITIATE: self.initiate,
            Lane.UNARY: self.unary,
            Lane.CALLBACKS: self.callbacks,
            Lane.GATEWAY: self.gateway,
            Lane.STREAM: self.streams,
            Lane.PASSENGER: self.passengers,
            Lane.PASSENGER_STREAM: self.passenger_streams,
            Lane.CHECK: self.checks,
            Lane.PROBE: self.probes,
        }


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, whose payments it sees (None: everybody's), and until when: `deadline` is in the loop's time."""

    caller: str
    sees: str | None
    deadline: float
    names_person: bool = False

    def person(self, operator: str) -> str:
        """Who acts, as far as it is proven: the caller itself, or whom a desk names as the operator."""
        return named_by(self.caller, operator) if self.names_person else self.caller


@dataclass(slots=True)
class Gate:
    """Who may call, how many calls are open, and whether new ones are let in."""

    most: Mapping[Lane, int]
    clock: Callable[[], datetime]
    door: Door
    draining: bool = False
    refused: int = 0
    """Calls that came while draining."""
    open_calls: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    uses: dict[str, CallerUse] = field(default_factory=dict)
    """By caller."""
    seconds: Callable[[], float] = time.monotonic

    @property
    def in_hand(self) -> Mapping[Lane, int]:
        """What a drain waits for."""
        return {lane: count for lane, count in self.open_calls.items() if count and lane not in ENDLESS}

    @contextlib.contextmanager
    def place(self, lane: Lane, allowed: Allowed) -> Iterator[None]:
        """A place for one call, or ShuttingDown or TooManyCalls."""
        if self.draining and lane not in PROBES:
            self.refused += 1
            raise ShuttingDown
        if self.open_calls[lane] >= self.most[lane]:
            raise TooManyCalls(CallLimit.PROCESS, allowed.name)
        use, stream = self._use_of(allowed, lane), lane is Lane.STREAM
        if use is not None:
            use.enter(lane, self.most[lane] // 2 if lane in HALVED else self.most[lane], stream=stream)
        self.open_calls[lane] += 1
        try:
            yield
        finally:
            self.open_calls[lane] -= 1
            if use is not None:
                use.leave(lane, stream=stream)

    def take(self, lane: Lane, allowed: Allowed, content: bytes) -> None:
        """What a call uses up by what it brings, or TooManyCalls."""
        if (use := self._use_of(allowed, lane)) is not None:
            use.take(len(content), self.seconds(), payment=lane is Lane.INITIATE)

    def _use_of(self, allowed: Allowed, lane: Lane) -> CallerUse | None:
        """None where nothing is counted for the caller itself."""
        if allowed.limits is None or lane not in COUNTED:
            return None
        use = self.uses.get(allowed.name)
        if use is None:
            use = self.uses[allowed.name] = CallerUse(allowed.name, allowed.limits).begin(self.seconds())
        return use


@dataclass(frozen=True, slots=True)
class Unary:
    """A method with one reply."""

    handle: Callable[[Any, Call, Any], Awaitable[Message]]
    lane: Lane = Lane.UNARY
    request_max_bytes: int = REQUEST_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method with many replies, one for each batch."""

    handle: Callable[[Any, Call, Any], AsyncGenerator[Any]]
    render: Callable[[Any], Message]
    request_max_bytes: int = REQUEST_MAX_BYTES
    lane: Lane = Lane.STREAM


def unary_handler(
    name: str, method: Unary, request_class: type[Message], core: object, gate: Gate
) -> Callable[[object, Context], Awaitable[bytes]]:
    """The method as grpc.aio calls it."""

    async def serve(_messages: object, context: Context) -> bytes:
        span, language = start_server_span(name, _traceparent(context)), ""
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                # Before any limit: a stranger takes no caller's place.
                allowed = gate.door.allowed(name, context)
                with gate.place(method.lane, allowed):
                    content = await message_of(context, allowed.name)
                    gate.take(method.lane, allowed, content)
                    request = parsed(content, request_class, method.request_max_bytes)
                    language = getattr(request, "language_code", "")
                    async with _bound(context) as deadline:
                        reply = await method.handle(core, _call(allowed, deadline), request)
                note_status(span, "OK")
                return reply.SerializeToString()
            except asyncio.CancelledError:
                note_status(span, "CANCELLED")
                raise
            except Exception as error:
                await _abort(error, context, gate, span, language)

    return serve


def streaming_handler(
    name: str, method: Streaming, request_class: type[Message], core: object, gate: Gate
) -> Callable[[object, Context], Awaitable[None]]:
    """The method as grpc.aio calls it. It has no span: one that lasts for days tells nothing."""

    async def serve(_messages: object, context: Context) -> None:
        try:
            allowed = gate.door.allowed(name, context)
            with gate.place(method.lane, allowed):
                content = await message_of(context, allowed.name)
                gate.take(method.lane, allowed, content)
                call = _call(allowed, float("inf"))
                request = parsed(content, request_class, method.request_max_bytes)
                async with aclosing(method.handle(core, call, request)) as batches:
                    async for batch in batches:
                        await _write(context, call.caller, method.render(batch).SerializeToString())
        except Exception as error:
            span = start_server_span(name, _traceparent(context))
            with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                await _abort(error, context, gate, span)

    return serve


async def abort(error: Exception, context: Context, gate: Gate) -> NoReturn:
    """End a call that has no span with the answer to an error."""
    await _abort(error, context, gate, trace.INVALID_SPAN)


def _call(allowed: Allowed, deadline: float) -> Call:
    return Call(allowed.name, allowed.sees, deadline, allowed.names_person)


async def _abort(error: Exception, context: Context, gate: Gate, span: trace.Span, language: str = "") -> NoReturn:
    """End a call; `language` is that of the passenger's sentence, where the request names one."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    answer = answer_to(error, gate.clock)
    note_status(span, answer.code.name)
    await context.abort(answer.code, answer.message, answer.trailing_metadata(language))


async def message_of(context: Context, caller: str) -> bytes:
    """The message of a call that brings one, InvalidRequest where it brings none, or TooManyCalls."""
    try:
        async with asyncio.timeout(MESSAGE_WAIT_SECONDS):
            content = await context.read()
    except TimeoutError:
        # No fault of the request: the network may be slow, or this process. So it is one to repeat.
        raise TooManyCalls(CallLimit.SENDING, caller) from None
    if not isinstance(content, bytes):
        # What gRPC gives at the end of what the caller sends.
        raise InvalidRequest([Violation("request", "expected a message")])
    return content


def parsed(content: bytes, request_class: type[Message], most: int = REQUEST_MAX_BYTES) -> Any:
    """The message, or InvalidRequest."""
    if len(content) > most:
        raise InvalidRequest([Violation("request", f"expected at most {most} bytes")])
    try:
        return request_class.FromString(content)
    except DecodeError as error:
        raise InvalidRequest([Violation("request", f"expected a {request_class.DESCRIPTOR.full_name}")]) from error


@contextlib.asynccontextmanager
async def _bound(context: Context) -> AsyncGenerator[float]:
    """Hold the call to its caller's deadline, or to ours if that is sooner; gRPC itself enforces the caller's."""
    now = asyncio.get_running_loop().time()
    # None without a deadline, which the stubs do not say.
    remaining: Any = context.time_remaining()
    if remaining is not None and remaining <= UNARY_WAIT_SECONDS:
        yield now + remaining
        return
    try:
        async with asyncio.timeout(UNARY_WAIT_SECONDS):
            yield now + UNARY_WAIT_SECONDS
    except TimeoutError as error:
        raise StoreUnavailable from error


async def _write(context: Context, caller: str, content: bytes) -> None:
    try:
        async with asyncio.timeout(WRITE_WAIT_SECONDS):
            await context.write(content)
    except TimeoutError as error:
        raise TooManyCalls(CallLimit.READING, caller) from error


def _traceparent(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT:
            return value if isinstance(value, str) else None
    return None
