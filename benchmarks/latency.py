"""Open-loop latencies: arrivals at times drawn beforehand, whatever becomes of the payments before them.

Two spans, each of one payment:

* `InitiatePayment` over the simulator's delay: from the scheduled time to the answer, less the time that the simulator
  was told to take. A late start of the load generator therefore counts against us.
* callback → subscriber: from the moment the simulator begins to send the callback, by its own ledger, to the moment
  the event is in the hands of the subscriber's code. That is more than from its receipt at the gateway.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.runs import Outcome, run_load, samples_of
from benchmarks.stage import Target

SIMULATOR_DELAY_SECONDS = 0.93
"""The median that is on record for Daraja; some ninety pushes are on the wire at any time."""
LEDGER_WAIT_SECONDS = 60.0


async def measure_latency(
    service: Target,
    simulator_url: str,
    folder: Path,
    first: int,
    rate: float,
    warm_up: float,
    seconds: float,
    measuring: asyncio.Event | None = None,
) -> tuple[Outcome, Mapping[str, Any]]:
    """One open-loop run; its outcome and the percentiles in milliseconds. `measuring` is set when those begin."""
    samples_file = folder / "latency-samples"
    options = [f"--rate={rate}", f"--warm-up={warm_up}", f"--seconds={seconds}"]
    async with aiohttp.ClientSession(simulator_url, timeout=aiohttp.ClientTimeout(LEDGER_WAIT_SECONDS)) as http:
        await control(http, "settings", {"latency_seconds": SIMULATOR_DELAY_SECONDS})
        try:
            async with http.get("/control/totals") as answer:
                before = (await answer.json())["totals"]["pushes"]
            outcome = await run_load(service, "open", first, [*options, f"--samples={samples_file}"], measuring)
            async with http.get("/control/ledger", params={"after": str(before)}) as answer:
                pushes = (await answer.json())["pushes"]
        finally:
            await control(http, "settings", {"latency_seconds": 0})
    sent = {push["account_reference"]: push["callbacks"][0]["sent_time"] for push in pushes if push["callbacks"]}
    samples = samples_of(samples_file)
    initiate = [answered - scheduled - SIMULATOR_DELAY_SECONDS for _, scheduled, answered, _ in samples]
    callback = [completed - sent[reference] for reference, _, _, completed in samples]
    return outcome, {
        "rate_per_second": rate,
        "simulator_delay_seconds": SIMULATOR_DELAY_SECONDS,
        "n": len(samples),
        "errors": outcome.errors,
        "late_starts": outcome.result["late_starts"],
        "initiate_payment_over_delay_ms": percentiles(initiate),
        "callback_to_subscriber_ms": percentiles(callback),
    }


async def control(http: aiohttp.ClientSession, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tell the simulator something; a refusal is an error."""
    async with http.post(f"/control/{what}", json=body) as answer:
        answer.raise_for_status()
        told: Mapping[str, Any] = await answer.json()
        return told


def percentiles(seconds: Sequence[float]) -> Mapping[str, float]:
    """p50, p95, p99 and the maximum in milliseconds, by nearest rank."""
    ordered = sorted(seconds)

    def rank(share: float) -> float:
        return round(ordered[math.ceil(len(ordered) * share) - 1] * 1e3, 2)

    return {"p50": rank(0.50), "p95": rank(0.95), "p99": rank(0.99), "max": round(ordered[-1] * 1e3, 2)}
