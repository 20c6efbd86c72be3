"""How our programs connect to each other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from runtime.grpc_options import CLIENT_OPTIONS, RECONNECT_BACKOFF_MAX_MS, SERVER_OPTIONS
from tests.patience import PATIENCE_SECONDS


@contextlib.asynccontextmanager
async def a_server() -> AsyncIterator[int]:
    """A server of ours; yields its port."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs leave the asyncio form out
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def slow_to_answer(port: int, seconds: float) -> AsyncIterator[int]:
    """A way to a server on which a new connection hears nothing for a while; yields its port."""
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        carrying.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.sleep(seconds)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while content := await reader.read(65_536):
                writer.write(content)

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as way:
        yield int(way.sockets[0].getsockname()[1])
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying)


async def test_a_connection_that_takes_longer_than_the_pauses_between_attempts_is_made() -> None:
    seconds = 1.5 * RECONNECT_BACKOFF_MAX_MS / 1000
    async with (
        a_server() as port,
        slow_to_answer(port, seconds) as way,
        grpc.aio.insecure_channel(f"127.0.0.1:{way}", options=CLIENT_OPTIONS) as client,
    ):
        answer = await health_pb2_grpc.HealthStub(client).Check(HealthCheckRequest(), timeout=PATIENCE_SECONDS)
    assert answer.status == HealthCheckResponse.SERVING


@pytest.mark.slow
async def test_a_call_to_a_process_that_is_busy_for_longer_than_grpc_waits_is_answered_in_the_end() -> None:
    async with a_server() as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as client:
            check, request = health_pb2_grpc.HealthStub(client).Check, HealthCheckRequest()
            await asyncio.to_thread(check, request, timeout=PATIENCE_SECONDS)
            calls = [check.future(request, timeout=PATIENCE_SECONDS) for _ in range(20)]
            # The server's loop stands still, as it does where there is no processor for it.
            time.sleep(34)  # noqa: ASYNC251 -- a loop that stands still is the subject
            answers = await asyncio.to_thread(lambda: [call.result().status for call in calls])
    assert answers == [HealthCheckResponse.SERVING] * 20
