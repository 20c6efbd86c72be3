"""A gRPC server in the place of the payment service: it records the callbacks it gets and answers as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from mpesa_payments.v1 import callback_service_pb2 as pb
from mpesa_payments.v1.callback_service_pb2_grpc import CallbackServiceServicer, add_CallbackServiceServicer_to_server

from runtime.callback_tokens import CallbackKeys, differing_keys
from runtime.grpc_options import SERVER_OPTIONS

Context = grpc.aio.ServicerContext[Any, Any]


def stored(_callback: pb.Callback) -> int:
    return pb.CALLBACK_OUTCOME_STORED


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(eq=False)
class RecordingCore(CallbackServiceServicer):
    """What came, call by call, and the outcome to give to each callback."""

    outcome: Callable[[pb.Callback], int] = stored
    delay_s: float = 0.0
    # While it is clear, no call is answered.
    may_answer: asyncio.Event = field(default_factory=_set_event)
    # While set, calls end with this code instead of an answer.
    failing: grpc.StatusCode | None = None
    # Outcomes to leave out of every answer, as only a broken server would.
    forget: int = 0
    # None for a service that is too old to compare keys.
    keys: CallbackKeys | None = None
    calls: list[list[pb.Callback]] = field(default_factory=list)
    # Every body that came without a token.
    hints: list[bytes] = field(default_factory=list)
    # Every question about its keys.
    compared: list[pb.CheckCallbackKeysRequest] = field(default_factory=list)
    # What the gateway showed, call by call; empty in plaintext.
    shown: list[bytes] = field(default_factory=list)
    refused_calls: int = 0
    address: str = ""

    @property
    def bodies(self) -> list[bytes]:
        """Every body, in order of arrival."""
        return [callback.body for call in self.calls for callback in call]

    async def SubmitCallbacks(self, request: pb.SubmitCallbacksRequest, context: Context) -> pb.SubmitCallbacksResponse:
        """Record, wait, answer."""
        if self.failing is not None:
            self.refused_calls += 1
            await context.abort(self.failing, "told to")
        self.calls.append(list(request.callbacks))
        self.shown += context.auth_context().get("x509_pem_cert", ())
        await asyncio.sleep(self.delay_s)
        await self.may_answer.wait()
        outcomes = [self.outcome(callback) for callback in request.callbacks]
        kept = outcomes[: len(outcomes) - self.forget]
        return pb.SubmitCallbacksResponse(outcomes=[pb.CallbackOutcome.ValueType(outcome) for outcome in kept])

    async def SubmitHint(self, request: pb.SubmitHintRequest, context: Context) -> pb.SubmitHintResponse:
        """Record."""
        if self.failing is not None:
            await context.abort(self.failing, "told to")
        self.hints.append(request.body)
        return pb.SubmitHintResponse()

    async def CheckCallbackKeys(
        self, request: pb.CheckCallbackKeysRequest, context: Context
    ) -> pb.CheckCallbackKeysResponse:
        """Compare as the service does."""
        self.compared.append(request)
        if self.keys is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "an older service")
        checks = {key.key_id: key.check for key in request.keys}
        return pb.CheckCallbackKeysResponse(differing_key_ids=differing_keys(self.keys, checks))


@contextlib.asynccontextmanager
async def serve_core(
    core: RecordingCore, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[RecordingCore]:
    """The server, ready for callbacks and for nothing else, on the port; nothing listens there after the block."""
    server = grpc.aio.server(options=(*SERVER_OPTIONS, ("grpc.max_receive_message_length", 1024 * 1024)))
    add_CallbackServiceServicer_to_server(core, server)
    servicer = HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await servicer.set(
        pb.DESCRIPTOR.services_by_name["CallbackService"].full_name, health_pb2.HealthCheckResponse.SERVING
    )
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{port}"
    bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    assert bound, f"port {port} is taken"
    core.address = f"127.0.0.1:{bound}"
    await server.start()
    try:
        yield core
    finally:
        await server.stop(0.1)
