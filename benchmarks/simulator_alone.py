"""The simulator by itself: how many pushes a second it answers and delivers the callbacks of."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import meters
from benchmarks.meters import Metered
from benchmarks.runs import client
from benchmarks.stage import SIMULATOR_OPTIONS, start_bench_part
from development.parts import Start, make_house, take_lock

CONNECTIONS = 32
"""Enough to keep the simulator busy all the time."""
DELIVERY_WAIT_SECONDS = 30.0


async def measure_simulator(folder: Path, seconds: float, start: Start) -> Mapping[str, Any]:
    """Push for some seconds; the rate is that of delivered callbacks, from the first push to the last callback."""
    folder.mkdir(mode=0o700)
    async with contextlib.AsyncExitStack() as stack:
        lock = stack.enter_context(await take_lock(folder))
        house = make_house(folder, lock, inherit_settings=False, start=start)
        sink = await start_bench_part(house, stack, "sink", ["benchmarks.sink"])
        words = ["daraja_simulator", "serve", "--port=0", *SIMULATOR_OPTIONS]
        simulator = await start_bench_part(house, stack, "simulator", words)
        meter = [Metered("simulator", int(simulator.ready["pid"]))]
        words = [f"--url={simulator.ready['url']}", f"--callback-url=http://{sink.ready['address']}/callbacks"]
        words += [f"--connections={CONNECTIONS}", f"--seconds={seconds}"]
        before = meters.read(meter)
        async with client("benchmarks.pushes", words, stdout=asyncio.subprocess.PIPE) as pushing:
            output, _ = await pushing.communicate()
        if not output:
            raise RuntimeError(f"the pushes ended without a result, with exit code {pushing.returncode}")
        result = json.loads(output)
        delivered, latest = await _delivered(sink.ready["address"], result["pushes"])
        after = meters.read(meter)
        cpu = (after.parts["simulator"] - before.parts["simulator"]) * 1e6 / result["pushes"]
        seconds_taken = max(latest - result["began_time"], 0.001)
        return {
            "pushes": result["pushes"],
            "callbacks_delivered": delivered,
            "pushes_per_second": delivered / seconds_taken,
            "cpu_us_per_push": round(cpu),
            "errors": result["refused"] + result["pushes"] - delivered,
        }


async def _delivered(sink: str, wanted: int) -> tuple[int, float]:
    """How many callbacks came, and when the last one did."""
    give_up, count, latest = time.monotonic() + DELIVERY_WAIT_SECONDS, 0, 0.0
    async with aiohttp.ClientSession() as session:
        while count < wanted and time.monotonic() < give_up:
            async with session.get(f"http://{sink}/") as answer:
                told = await answer.json(content_type=None)
                count, latest = int(told["callbacks"]), float(told["latest_time"])
            await asyncio.sleep(0.1)
    return count, latest
