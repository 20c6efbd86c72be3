"""Simulators for the simulator's own tests: in this process for shapes, as a process for connections and signals.

Each leaves a report of the quirks it showed in build/quirk-reports; `daraja-simulator quirks --reports` sums them.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from daraja_simulator.quirks import listing
from daraja_simulator.server import Listener, serving, write_whole
from daraja_simulator.settings import DEFAULT_SHORTCODES, Settings, parse_shortcodes
from daraja_simulator.world import World
from tests.patience import PATIENCE_SECONDS

REPORTS = Path(__file__).parents[2] / "build" / "quirk-reports"

# Fast, and free of chance: what a test does not ask for does not happen.
PLAIN = Settings(
    latency_seconds=0.0,
    callback_delay_seconds=0.01,
    quirks=False,
    shortcodes=parse_shortcodes(DEFAULT_SHORTCODES),
    queries_per_minute=0,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator in a process of its own."""

    process: Process
    url: str
    ready: dict[str, object]


def new_report() -> Path:
    REPORTS.mkdir(parents=True, exist_ok=True)
    return REPORTS / f"{uuid.uuid4()}.json"


@asynccontextmanager
async def in_process(**changes: object) -> AsyncIterator[tuple[World, str]]:
    """A simulator in this process: its world, and its URL."""
    settings = replace(PLAIN, **changes)  # type: ignore[arg-type]  # Keywords of Settings, checked by replace itself.
    async with serving(settings, Listener("127.0.0.1", 0)) as (world, address):
        yield world, f"http://{address}"
    write_whole(new_report(), {"quirks": {entry["id"]: entry["hits"] for entry in listing(world.hits)}})


@asynccontextmanager
async def as_process(folder: Path, *flags: str) -> AsyncIterator[Running]:
    """A simulator as `daraja-simulator serve` runs it, stopped by SIGTERM at the end."""
    ready_file = folder / f"ready-{uuid.uuid4()}.json"
    command = [sys.executable, "-m", "daraja_simulator", "serve", "--port", "0", "--latency", "none"]
    command += ["--ready-file", str(ready_file), "--report-file", str(new_report()), *flags]
    process = await create_subprocess_exec(*command, stderr=PIPE)
    try:
        await until(lambda: ready_file.exists() or process.returncode is not None)
        assert process.returncode is None, "the simulator ended at once"
        ready = json.loads(ready_file.read_text())
        yield Running(process, ready["url"], ready)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to become true, for as long as patience lasts."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)
