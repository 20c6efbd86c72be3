"""One loaded run: a fresh load generator and a fresh subscriber against one target, with the meters read around it."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import meters
from benchmarks.meters import Metered, Reading
from benchmarks.stage import PROJECT, Target

RUN_WAIT_SECONDS = 300.0
"""No run takes longer; one that does is stuck."""
LINE_MAX_BYTES = 4 * 1024 * 1024
"""A client tells all its measurements in one line."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load generator said, and what the meters showed for the measured time."""

    target: str
    result: Mapping[str, Any]
    cpu_us_per_payment: Mapping[str, float]
    cores_used: Mapping[str, float]
    """By each part, of as many as the machine has."""
    machine_busy: float
    stolen: float

    @property
    def payments_per_second(self) -> float:
        return float(self.result["payments_per_second"])

    @property
    def errors(self) -> int:
        return sum(self.result["errors"].values())

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "target": self.target,
            **self.result,
            "cpu_us_per_payment": {name: round(value) for name, value in self.cpu_us_per_payment.items()},
            "machine_busy": round(self.machine_busy, 3),
            "stolen": round(self.stolen, 3),
        }


async def run_load(
    target: Target, name: str, first: int, load_options: Sequence[str], measuring: asyncio.Event | None = None
) -> Outcome:
    """Load a target once. Its payments are numbered from `first`, and no two runs may have a number in common.

    `measuring` is set when the measured time begins.
    """
    await checkpoint(target)
    from_subscriber, to_load = os.pipe()
    async with contextlib.AsyncExitStack() as stack:
        try:
            subscriber = await stack.enter_async_context(
                client("benchmarks.subscriber", target.reached, stdout=to_load)
            )
            words = [*target.reached, f"--name={name}", f"--first={first}", *load_options]
            load = await stack.enter_async_context(
                client("benchmarks.load", words, stdin=from_subscriber, stdout=asyncio.subprocess.PIPE)
            )
        finally:
            os.close(from_subscriber)
            os.close(to_load)
        metered = (*target.metered, Metered("load generator", load.pid), Metered("subscriber", subscriber.pid))
        async with asyncio.timeout(RUN_WAIT_SECONDS):
            return await _follow(target, load, metered, measuring or asyncio.Event())


async def _follow(
    target: Target, load: asyncio.subprocess.Process, metered: Sequence[Metered], measuring: asyncio.Event
) -> Outcome:
    assert load.stdout is not None
    readings: dict[str, Reading] = {}
    async for line in load.stdout:
        said = json.loads(line)
        if "phase" in said:
            readings[said["phase"]] = meters.read(metered)
            measuring.set()
            continue
        before, after = readings["measuring"], readings["measured"]
        payments = max(said["completed"], 1)
        used = {part: after.parts[part] - before.parts[part] for part in after.parts}
        elapsed = after.total - before.total
        return Outcome(
            target.name,
            said,
            {part: seconds * 1e6 / payments for part, seconds in used.items()},
            {part: seconds / said["seconds"] for part, seconds in used.items()},
            (after.busy - before.busy) / elapsed,
            (after.stolen - before.stolen) / elapsed,
        )
    raise RuntimeError(f"the load generator ended without a result, with exit code {await load.wait()}")


@contextlib.asynccontextmanager
async def client(
    module: str, words: Sequence[str], *, stdin: int | None = None, stdout: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client process of the benchmark, killed when the block is left: nothing it holds has to be put in order."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *words),
        env={"PYTHONPATH": str(PROJECT)},
        limit=LINE_MAX_BYTES,
        stdin=stdin,
        stdout=stdout,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def checkpoint(target: Target) -> None:
    """Every run begins right after a checkpoint, so that each pays for its own full-page writes and nobody else's."""
    async with await psycopg.AsyncConnection.connect(target.owner_url, autocommit=True) as connection:
        await connection.execute("CHECKPOINT")


def samples_of(path: Path) -> list[tuple[str, float, float, float]]:
    """What the load generator wrote: reference, scheduled, answered, completed."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return [(row[0], float(row[1]), float(row[2]), float(row[3])) for row in rows]
