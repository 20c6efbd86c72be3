"""Passengers' live events beside a stream of callbacks: browsers hold streams at the gateway that takes the callbacks.

The open loop of `latency` runs twice. In the middle of each run, callbacks that the simulator has held back are let go
all at once, one for each stream. In the first run nobody looks at their payments; in the second each has a stream. So
the two differ by the streams alone, and what those cost the callbacks is seen. A stream is served once it has told that
its payment is completed.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks import meters
from benchmarks.latency import control, measure_latency, percentiles
from benchmarks.meters import Metered
from benchmarks.stage import Target
from benchmarks.watching import SETTLE_SECONDS, Prompted, let_go, prompted
from development.system import GATEWAY, SERVICE, System

OPEN_WAIT_SECONDS = 60.0
END_WAIT_SECONDS = 60.0
"""After the last callback was sent."""
WARM_UP_SECONDS = 2.0
COMPLETED = b'"status": "COMPLETED"'
DRIVER = "browsers"
"""The process that reads all streams: this one."""


@dataclass(frozen=True, slots=True)
class Load:
    """The open loop, and how many callbacks are let go in its middle."""

    rate: float
    seconds: float
    let_go: int


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


async def measure_streams(system: System, service: Target, folder: Path, load: Load) -> Mapping[str, Any]:
    """The whole scenario."""
    streams, measured = load.let_go, replace(service, metered=(*service.metered, Metered(DRIVER, os.getpid())))
    timeout = aiohttp.ClientTimeout(END_WAIT_SECONDS)
    async with aiohttp.ClientSession(system.daraja_url, timeout=timeout) as simulator:
        await control(simulator, "faults", {"behaviour": {"callback": "held"}, "count": 2 * streams})
        unwatched = await prompted(system.grpc_address, range(1_000_000, 1_000_000 + streams))
        watched = await prompted(system.grpc_address, range(2_000_000, 2_000_000 + streams))
        _, alone = await _loaded(system, simulator, measured, folder, 3_000_000, load, unwatched, {})
        processes = {part.name: int(part.ready["pid"]) for part in system.parts}
        await asyncio.sleep(SETTLE_SECONDS)
        before = {name: meters.resident_bytes(processes[name]) for name in (GATEWAY, SERVICE)}
        async with _reading(system.gateway_url, watched) as read:
            async with asyncio.timeout(OPEN_WAIT_SECONDS):
                await asyncio.gather(*(stream.opened for stream in read.values()))
            await asyncio.sleep(SETTLE_SECONDS)
            grown = {name: meters.resident_bytes(processes[name]) - before[name] for name in before}
            sent, beside = await _loaded(system, simulator, measured, folder, 4_000_000, load, watched, read)
            seen = {one: stream.completed.result() for one, stream in read.items() if stream.completed.done()}
    return {
        "streams": streams,
        "served": len(seen),
        "errors": streams - len(seen) + alone["errors"] + beside["errors"],
        "callback_to_stream_ms": percentiles([seen[one] - sent[one] for one in seen]),
        "gateway_kib_each": round(grown[GATEWAY] / 1024 / streams, 1),
        "service_kib_each": round(grown[SERVICE] / 1024 / streams, 1),
        "callbacks_per_second": load.rate,
        "without_streams": alone,
        "beside_streams": beside,
    }


async def _loaded(
    system: System,
    simulator: aiohttp.ClientSession,
    target: Target,
    folder: Path,
    first: int,
    load: Load,
    held: Mapping[str, Prompted],
    read: Mapping[str, Stream],
) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    """One run; when each held callback was sent, and what was measured."""
    measuring = asyncio.Event()
    running = asyncio.create_task(
        measure_latency(target, system.daraja_url, folder, first, load.rate, WARM_UP_SECONDS, load.seconds, measuring)
    )
    waiting = asyncio.create_task(measuring.wait())
    # Whichever comes first: a run that cannot begin says why.
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.sleep(load.seconds / 2)
    before, began = meters.read(target.metered), time.monotonic()
    sent, refused = await let_go(simulator, held)
    after, took = meters.read(target.metered), time.monotonic() - began
    if read:
        await asyncio.wait([stream.completed for stream in read.values()], timeout=END_WAIT_SECONDS)
    outcome, latency = await running
    at_let_go = {part: (after.parts[part] - before.parts[part]) / took for part in after.parts}
    return sent, {
        **latency,
        "errors": latency["errors"] + refused,
        "callbacks_not_taken": refused,
        "cores_used": {part: round(share, 3) for part, share in outcome.cores_used.items()},
        "cores_used_by_others": _others(outcome.machine_busy, outcome.cores_used),
        "let_go_seconds": round(took, 2),
        "cores_used_at_let_go": {part: round(share, 3) for part, share in at_let_go.items()},
    }


def _others(busy: float, ours: Mapping[str, float]) -> float:
    """The cores that were taken by what is no part of this benchmark, and by other machines on the same hardware."""
    return round(max(0.0, busy * (psutil.cpu_count() or 1) - sum(ours.values())), 3)


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
