"""Clients and servers of another release, without its code: by the descriptors of its API, and on the wire.

`first_release.binpb` is the API as the first release had it (`buf build` of its proto files). It never changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from mpesa_payments.v1 import payment_service_pb2
from payment_client.options import SERVICE

from runtime.grpc_options import CLIENT_OPTIONS

TODAY: Final[ServiceDescriptor] = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
UNHEARD_OF: Final = 999
"""A value that no enumeration of today has."""
WHAT_IT_GOES_BY: Final = frozenset({"status", "previous_status", "booking_action", "position"})
_UNKNOWN_FIELD: Final = b"\xfa\x7f\x03new"
"""Field 2047, a text."""

Context = grpc.aio.ServicerContext[Any, Any]
Rewrite = Callable[[Descriptor, bytes], bytes]


def first_release() -> ServiceDescriptor:
    """PaymentService as the first release had it, with messages of its own."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((Path(__file__).with_name("first_release.binpb")).read_bytes()).file:
        pool.Add(file)
    service: ServiceDescriptor = pool.FindServiceByName(SERVICE)
    return service


class Caller:
    """A client that was generated from the API of some release."""

    def __init__(self, service: ServiceDescriptor, channel: grpc.aio.Channel) -> None:
        self._service, self._channel = service, channel

    async def ask(self, method: str, **fields: object) -> Any:
        """The answer to a call."""
        asked, answered = self._kinds(method)
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        return await call(asked(**fields))

    async def watch(self, method: str, **fields: object) -> AsyncGenerator[Any]:
        """The messages of a stream."""
        asked, answered = self._kinds(method)
        call = self._channel.unary_stream(
            f"/{SERVICE}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )(asked(**fields))
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    def _kinds(self, method: str) -> tuple[type[Message], type[Message]]:
        found = self._service.methods_by_name[method]
        return GetMessageClass(found.input_type), GetMessageClass(found.output_type)


def as_it_knows_it(kind: Descriptor, content: bytes) -> bytes:
    """What a release makes of a message: the fields that it has."""
    message = GetMessageClass(kind).FromString(content)
    message.DiscardUnknownFields()
    return message.SerializeToString()


def with_news(kind: Descriptor, content: bytes) -> bytes:
    """A message as a release of tomorrow sends it: with a field and with values that nobody knows today."""
    message = GetMessageClass(kind).FromString(content)
    _take_new_values(message)
    return message.SerializeToString() + _UNKNOWN_FIELD


def _take_new_values(message: Message) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_ENUM and not field.is_repeated and field.name not in WHAT_IT_GOES_BY:
            setattr(message, field.name, UNHEARD_OF)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                _take_new_values(inner)


@contextlib.asynccontextmanager
async def server_of(service: ServiceDescriptor, upstream: str, rewrite: Rewrite) -> AsyncIterator[str]:
    """A server of another release: what goes through it is written as that release would. Yields its address."""
    async with grpc.aio.insecure_channel(upstream, options=CLIENT_OPTIONS) as channel:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {
            method.name: _stream_handler(channel, method, rewrite)
            if method.server_streaming
            else _unary_handler(channel, method, rewrite)
            for method in service.methods
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)


def _unary_handler(channel: grpc.aio.Channel, method: Any, rewrite: Rewrite) -> grpc.RpcMethodHandler[bytes, bytes]:
    call = channel.unary_unary(f"/{SERVICE}/{method.name}", None, None)

    async def answer(content: bytes, context: Context) -> bytes:
        try:
            return rewrite(method.output_type, await call(as_it_knows_it(method.input_type, content)))
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
            raise

    return grpc.unary_unary_rpc_method_handler(answer)


def _stream_handler(channel: grpc.aio.Channel, method: Any, rewrite: Rewrite) -> grpc.RpcMethodHandler[bytes, bytes]:
    open_stream = channel.unary_stream(f"/{SERVICE}/{method.name}", None, None)

    async def answer(content: bytes, context: Context) -> AsyncGenerator[bytes]:
        call = open_stream(as_it_knows_it(method.input_type, content))
        try:
            async for message in call:
                yield rewrite(method.output_type, message)
        except grpc.aio.AioRpcError as error:
            await _abort(context, error)
        finally:
            call.cancel()

    return grpc.unary_stream_rpc_method_handler(answer)


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> None:
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", tuple(trailers))
