"""The gRPC server: how it is built, when it says that it serves, and how it drains."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from mpesa_payments.v1 import callback_service_pb2, operations_service_pb2, passenger_service_pb2, payment_service_pb2

from payment_service.rpc.calls import Gate, Streaming, Unary, streaming_handler, unary_handler
from payment_service.rpc.identity import Door, check_address, check_rules
from payment_service.rpc.methods import METHODS, Core
from payment_service.rpc.operations import OPERATIONS
from payment_service.rpc.passengers import PASSENGERS
from payment_service.rpc.probes import PROBES, probe_handlers
from payment_service.rpc.receipts import RECEIPTS
from runtime.grpc_options import SERVER_OPTIONS
from runtime.serving import Address, AddressTaken, StartRefused
from runtime.tls import server_credentials

_PAYMENTS: Final[ServiceDescriptor] = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
_CALLBACKS: Final[ServiceDescriptor] = callback_service_pb2.DESCRIPTOR.services_by_name["CallbackService"]
_OPERATIONS: Final[ServiceDescriptor] = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"]
_PASSENGERS: Final[ServiceDescriptor] = passenger_service_pb2.DESCRIPTOR.services_by_name["PassengerService"]
SERVICES: Final = (_PAYMENTS, _CALLBACKS, _OPERATIONS, _PASSENGERS)

# A burst of new streams waits here until the loop takes them. By default gRPC begins to cancel at 1,000, and refused
# 44 % of a burst of 10,000.
PENDING_CALLS_MAX = 20_000
PENDING_CALLS_HARD_MAX = 40_000
RECEIVE_MAX_BYTES = 1_048_576 + 4_096
"""Above the largest request, so that it is our answer that says what was expected."""
METADATA_MAX_BYTES = 8_192
HANDSHAKE_MAX_MS = 10_000
"""Whoever connects and says nothing holds a descriptor for so long; by default, two minutes."""

DRAIN_LOOK_SECONDS = 0.02
QUIET_SECONDS = 0.2
"""Without a new call for so long, its callers have heard that this process stops."""
REFUSING_MAX_SECONDS = 2.0
"""For callers that go on calling all the same: gRPC itself cuts off what arrives after that."""
STOP_GRACE_SECONDS = 1.0
"""For answers that are already on their way."""

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *SERVER_OPTIONS,
    ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_HARD_MAX),
    ("grpc.max_receive_message_length", RECEIVE_MAX_BYTES),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MAX_MS),
    ("grpc.max_metadata_size", METADATA_MAX_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_MAX_BYTES),
    ("grpc.enable_http_proxy", 0),
)

_log = structlog.get_logger(__name__)


class MethodMissing(StartRefused):
    """A method of the API has no handler."""


@dataclass(frozen=True, slots=True)
class RpcServer:
    """A server that answers. It says that it is healthy only once `set_ready` was told so."""

    address: Address
    gate: Gate
    health: Any
    """The health servicer of the grpc package, whose stubs leave its asyncio form out."""

    async def set_ready(self, *, callbacks: bool, payments: bool) -> None:
        """Tell the gateway and load balancers what to send here. The service without a name stands for payments.

        It is advice: a call that comes all the same is answered as ever.
        """
        ready = {"": payments, _PAYMENTS.full_name: payments, _CALLBACKS.full_name: callbacks}
        # Operators and passengers need Safaricom as little as callbacks do.
        ready[_OPERATIONS.full_name] = ready[_PASSENGERS.full_name] = callbacks
        for name, is_ready in ready.items():
            await self.health.set(name, HealthCheckResponse.SERVING if is_ready else HealthCheckResponse.NOT_SERVING)


@contextlib.asynccontextmanager
async def serving(
    core: Core, address: Address, gate: Gate, *, setting: str, drain_seconds: float
) -> AsyncIterator[RpcServer]:
    """A server at the address; it drains when the block is left, with all that goes through the gate.

    `setting` names what chooses the address.
    """
    check_address(address, gate.door)
    check_rules(PROBES)
    server = grpc.aio.server(options=OPTIONS)
    for service in SERVICES:
        server.add_generic_rpc_handlers((_handlers(service, core, gate),))
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs leave the asyncio form out
    server.add_generic_rpc_handlers(probe_handlers(checks, [service.full_name for service in SERVICES], gate))
    port = _bound_port(server, address, gate.door, setting)
    running = RpcServer(Address(address.host, port), gate, checks)
    await running.set_ready(callbacks=False, payments=False)
    await server.start()
    try:
        yield running
    finally:
        await _drain(running, server, core, drain_seconds)


def _handlers(service: ServiceDescriptor, core: Core, gate: Gate) -> grpc.GenericRpcHandler[bytes, bytes]:
    names = {method.name: f"{service.full_name}/{method.name}" for method in service.methods}
    check_rules(names.values())
    answered: Mapping[str, Unary | Streaming] = {**METHODS, **RECEIPTS, **OPERATIONS, **PASSENGERS}
    missing = [name for name in names.values() if name not in answered]
    if missing:
        raise MethodMissing(f"Nothing answers {', '.join(missing)}: add it to the table of its service in rpc/.")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.methods:
        request_class = GetMessageClass(method.input_type)
        match answered[names[method.name]]:
            case Unary() as unary:
                handlers[method.name] = grpc.stream_unary_rpc_method_handler(
                    unary_handler(names[method.name], unary, request_class, core, gate)
                )
            case Streaming() as streaming:
                handlers[method.name] = grpc.stream_stream_rpc_method_handler(
                    streaming_handler(names[method.name], streaming, request_class, core, gate)
                )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _bound_port(server: grpc.aio.Server, address: Address, door: Door, setting: str) -> int:
    try:
        if door.certificate is None:
            return server.add_insecure_port(str(address))
        return server.add_secure_port(str(address), server_credentials(door.certificate))
    except RuntimeError as error:
        raise AddressTaken(address, setting) from error


async def _drain(running: RpcServer, server: grpc.aio.Server, core: Core, seconds: float) -> None:
    """No new calls; streams end with a cursor; calls in hand are finished, within the time there is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await running.health.enter_graceful_shutdown()
    running.gate.draining = True
    core.reads.feed.drain()
    while running.gate.in_hand and loop.time() < end:
        await asyncio.sleep(DRAIN_LOOK_SECONDS)
    left = {lane.value.lower(): count for lane, count in running.gate.in_hand.items()}
    if left:
        _log.warning("calls cut off by the drain", **left)
    await _refuse_until_quiet(running.gate)
    await server.stop(STOP_GRACE_SECONDS)


async def _refuse_until_quiet(gate: Gate) -> None:
    """Answer SERVICE_DRAINING until nobody calls any more, as gRPC's own stop gives calls that arrive no reason."""
    loop = asyncio.get_running_loop()
    end = loop.time() + REFUSING_MAX_SECONDS
    refused = -1
    while gate.refused != refused and loop.time() < end:
        refused = gate.refused
        await asyncio.sleep(QUIET_SECONDS)
