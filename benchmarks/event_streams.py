"""Passengers' live events beside a stream of callbacks: browsers hold streams at the gateway that takes the callbacks.

A payment for each stream is prompted, with its callback held back in the simulator. The open loop of `latency` runs
twice, without any stream and beside all of them, so that what the streams cost the callbacks is seen. In the middle of
the second run the held callbacks are let go. A stream is served once it has told that its payment is completed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import meters
from benchmarks.latency import control, measure_latency, percentiles
from benchmarks.load import NOT_ASKED_FOR
from benchmarks.stage import Target
from benchmarks.watching import SETTLE_SECONDS, Prompted, let_go, prompted
from development.system import GATEWAY, SERVICE, System

OPEN_WAIT_SECONDS = 60.0
END_WAIT_SECONDS = 60.0
"""After the last callback was sent."""
COMPLETED = b'"status": "COMPLETED"'


class Stream:
    """One browser's."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.completed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def read(self, http: aiohttp.ClientSession) -> None:
        """Until its payment is completed, and then until it is closed from here: a page stays open."""
        async with http.get(self._url) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data:"):
                    if not self.opened.done():
                        self.opened.set_result(None)
                    if COMPLETED in line and not self.completed.done():
                        self.completed.set_result(time.time())


async def measure_streams(
    system: System, service: Target, folder: Path, streams: int, rate: float, seconds: float
) -> Mapping[str, Any]:
    """The whole scenario."""
    timeout = aiohttp.ClientTimeout(END_WAIT_SECONDS)
    async with aiohttp.ClientSession(system.daraja_url, timeout=timeout) as simulator:
        _, alone = await measure_latency(service, system.daraja_url, folder, 0, rate, 2.0, seconds)
        await control(simulator, "faults", {"behaviour": {"callback": "held"}, "count": streams})
        payments = await prompted(system.grpc_address, range(1_000_000, 1_000_000 + streams))
        processes = {part.name: int(part.ready["pid"]) for part in system.parts}
        await asyncio.sleep(SETTLE_SECONDS)
        before = {name: meters.resident_bytes(processes[name]) for name in (GATEWAY, SERVICE)}
        async with _reading(system.gateway_url, payments) as read:
            async with asyncio.timeout(OPEN_WAIT_SECONDS):
                await asyncio.gather(*(stream.opened for stream in read.values()))
            await asyncio.sleep(SETTLE_SECONDS)
            grown = {name: meters.resident_bytes(processes[name]) - before[name] for name in before}
            loading = asyncio.create_task(
                measure_latency(service, system.daraja_url, folder, 2_000_000, rate, 2.0, seconds)
            )
            await asyncio.sleep(2.0 + seconds / 2)
            sent, refused = await let_go(simulator, payments)
            await asyncio.wait([stream.completed for stream in read.values()], timeout=END_WAIT_SECONDS)
            seen = {one: stream.completed.result() for one, stream in read.items() if stream.completed.done()}
            loaded, beside = await loading
    # The subscriber of the open loop has seen the end of these payments, too, and nobody there had asked for them.
    others = loaded.result["errors"].get(NOT_ASKED_FOR, 0)
    beside_errors = loaded.errors - others + abs(others - len(seen))
    return {
        "streams": streams,
        "served": len(seen),
        "callbacks_not_taken": refused,
        "errors": streams - len(seen) + refused + alone["errors"] + beside_errors,
        "callback_to_stream_ms": percentiles([seen[one] - sent[one] for one in seen]),
        "gateway_kib_each": round(grown[GATEWAY] / 1024 / streams, 1),
        "service_kib_each": round(grown[SERVICE] / 1024 / streams, 1),
        "callbacks_per_second": rate,
        "without_streams": alone,
        "beside_streams": {**beside, "errors": beside_errors},
    }


@contextlib.asynccontextmanager
async def _reading(gateway_url: str, payments: Mapping[str, Prompted]) -> AsyncIterator[Mapping[str, Stream]]:
    """A stream for each payment, read until the block is left."""
    streams = {
        payment_id: Stream(f"{gateway_url}/api/v1/payments/{payment_id}/events?token={payment.status_token}")
        for payment_id, payment in payments.items()
    }
    connector, endless = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=endless) as http:
        reading = [asyncio.create_task(stream.read(http)) for stream in streams.values()]
        try:
            yield streams
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
