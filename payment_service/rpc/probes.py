"""Health and reflection: the same door as for the API's own methods, and limits of their own.

A check is answered also while the process drains, for that is when its answer matters. A watch of somebody's health has
no end, so a drain does not wait for it. As everywhere, requests arrive here as bytes: nothing of a stranger's is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from payment_service.rpc.calls import Gate, Lane, abort, message_of, parsed
from payment_service.rpc.identity import Context

CHECK: Final = f"{health.SERVICE_NAME}/Check"
WATCH: Final = f"{health.SERVICE_NAME}/Watch"
REFLECT: Final = f"{reflection.SERVICE_NAME}/ServerReflectionInfo"
PROBES: Final = (CHECK, WATCH, REFLECT)


def probe_handlers(checks: Any, services: Sequence[str], gate: Gate) -> tuple[grpc.GenericRpcHandler[Any, Any], ...]:
    """Both services. `checks` is the health servicer of the grpc package, whose stubs leave its asyncio form out."""
    schemas = ReflectionServicer((*services, health.SERVICE_NAME, reflection.SERVICE_NAME))

    async def check(_messages: object, context: Context) -> Any:
        try:
            allowed = gate.door.allowed(CHECK, context)
            with gate.place(Lane.CHECK, allowed):
                content = await message_of(context, allowed.name)
                return await checks.Check(parsed(content, health_pb2.HealthCheckRequest), context)
        except Exception as error:
            await abort(error, context, gate)

    async def watch(_messages: object, context: Context) -> None:
        try:
            allowed = gate.door.allowed(WATCH, context)
            with gate.place(Lane.PROBE, allowed):
                content = await message_of(context, allowed.name)
                await checks.Watch(parsed(content, health_pb2.HealthCheckRequest), context)
        except Exception as error:
            await abort(error, context, gate)

    async def reflect(contents: AsyncIterable[bytes], context: Context) -> AsyncGenerator[Any]:
        try:
            allowed = gate.door.allowed(REFLECT, context)
            with gate.place(Lane.PROBE, allowed):
                asked = (parsed(content, reflection_pb2.ServerReflectionRequest) async for content in contents)
                async for reply in schemas.ServerReflectionInfo(asked, context):
                    yield reply
        except Exception as error:
            await abort(error, context, gate)

    written = health_pb2.HealthCheckResponse.SerializeToString
    of_health = {
        "Check": grpc.stream_unary_rpc_method_handler(check, response_serializer=written),
        "Watch": grpc.stream_stream_rpc_method_handler(watch, response_serializer=written),
    }
    of_reflection = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            reflect, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
        )
    }
    return (
        grpc.method_handlers_generic_handler(health.SERVICE_NAME, of_health),
        grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, of_reflection),
    )
