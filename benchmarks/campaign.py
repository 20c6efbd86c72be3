"""The order of the measurements, and what makes a benchmark valid.

The simulator is measured first, while nothing else runs. Then service and floor take turns at each number in flight,
and take turns at going first, so that a machine that slows down or speeds up does so for both. In the same way the
service over mutual TLS takes turns with the service in plaintext.
"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import meters
from benchmarks.latency import measure_latency
from benchmarks.runs import Outcome, run_load
from benchmarks.simulator_alone import measure_simulator
from benchmarks.stage import Target, running_stage
from benchmarks.watching import measure_watchers
from development.parts import Start, start_watched

MUST_BE_ON = ("fsync", "synchronous_commit", "full_page_writes")
"""Without any of these PostgreSQL may lose what it has committed, and the numbers are worth nothing."""
NUMBERS_PER_RUN = 1_000_000
"""Payments are numbered apart from run to run, and so are their phones: a phone shows one prompt at a time."""
TABLES = ("payment_transactions", "payment_events", "daraja_exchanges", "callback_inbox", "mpesa_receipts")


@dataclass(frozen=True, slots=True)
class Size:
    """How long and how much."""

    pairs_64: int = 6
    pairs_16: int = 3
    pairs_tls: int = 6
    warm_up: float = 2.0
    seconds: float = 8.0
    latency_rate: float = 100.0
    latency_seconds: float = 40.0
    watchers: int = 10_000
    watcher_processes: int = 5
    simulator_seconds: float = 5.0


def quick_size() -> Size:
    """Little enough for a machine that runs other tests. Each run waits for the end of what it has begun, so that even
    a slow machine has something to measure.
    """
    return Size(
        1,
        1,
        1,
        warm_up=0.2,
        seconds=0.5,
        latency_rate=20.0,
        latency_seconds=1.0,
        watchers=20,
        watcher_processes=2,
        simulator_seconds=0.5,
    )


async def run_campaign(folder: Path, size: Size, start: Start = start_watched) -> dict[str, Any]:
    """Everything, as the results file has it."""
    begun = time.time()
    machine = meters.machine()
    show("the simulator alone")
    simulator = await measure_simulator(folder / "simulator", size.simulator_seconds, start)
    async with running_stage(folder, start) as stage:
        settings = await server_settings(stage.service)
        firsts = iter(range(0, 100 * NUMBERS_PER_RUN, NUMBERS_PER_RUN))
        throughput = {
            str(in_flight): await measure_pairs(stage.service, stage.floor, in_flight, pairs, size, firsts)
            for in_flight, pairs in ((64, size.pairs_64), (16, size.pairs_16))
        }
        tls = await measure_pairs(stage.secured, stage.service, 64, size.pairs_tls, size, firsts)
        show("open loop")
        loaded, latency = await measure_latency(
            stage.service,
            stage.simulator_url,
            folder,
            next(firsts),
            size.latency_rate,
            size.warm_up,
            size.latency_seconds,
        )
        show(f"{size.watchers} watchers")
        watchers = await measure_watchers(stage, folder, next(firsts), size.watchers, size.watcher_processes)
        row_bytes = {target.name: await bytes_per_row(target) for target in (stage.service, stage.floor)}
    errors = simulator["errors"] + latency["errors"] + watchers["errors"]
    loaded_parts = [*throughput.values(), tls]
    errors += sum(part["errors"] for part in loaded_parts)
    counts = [part["n"] for part in loaded_parts] + [latency["n"], watchers["served"], simulator["pushes"]]
    return {
        "valid": errors == 0 and all(counts) and all(settings[name] == "on" for name in MUST_BE_ON),
        "errors": errors,
        "machine": machine,
        "postgresql": settings,
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "took_seconds": round(time.time() - begun),
        "ratio_64": throughput["64"]["ratio"],
        "ratio_16": throughput["16"]["ratio"],
        "throughput": throughput,
        "tls": tls,
        "latency": {**latency, "cpu_us_per_payment": loaded.as_json()["cpu_us_per_payment"]},
        "watchers": watchers,
        "simulator_alone": simulator,
        "row_bytes": row_bytes,
    }


async def measure_pairs(
    ours: Target, base: Target, in_flight: int, pairs: int, size: Size, firsts: Iterator[int]
) -> Mapping[str, Any]:
    """The two in turn, and the ratio of each pair."""
    outcomes: dict[str, list[Outcome]] = {ours.name: [], base.name: []}
    for pair in range(pairs):
        turns = [ours, base] if pair % 2 == 0 else [base, ours]
        for target in turns:
            options = [f"--in-flight={in_flight}", f"--warm-up={size.warm_up}", f"--seconds={size.seconds}"]
            # Names are equally long for both, since they are stored.
            outcome = await run_load(target, f"{target.name[0]}{in_flight}-{pair}", next(firsts), options)
            outcomes[target.name].append(outcome)
            show(
                f"{in_flight} in flight, pair {pair + 1} of {pairs}: {target.name:<8}"
                f" {outcome.payments_per_second:7.1f} payments/s, {outcome.errors} errors"
            )
    ratios = [
        one.payments_per_second / max(other.payments_per_second, 0.001)
        for one, other in zip(outcomes[ours.name], outcomes[base.name], strict=True)
    ]
    return {
        "ratio": {**spread(ratios), "pairs": [round(ratio, 3) for ratio in ratios]},
        **{name: summary(runs) for name, runs in outcomes.items()},
        "n": sum(outcome.result["payments"] for runs in outcomes.values() for outcome in runs),
        "errors": sum(outcome.errors for runs in outcomes.values() for outcome in runs),
    }


def summary(runs: Sequence[Outcome]) -> Mapping[str, Any]:
    """The runs of one target: their spread, the CPU of each part, and each run by itself."""
    parts = runs[0].cpu_us_per_payment
    cpu = {part: round(statistics.median(run.cpu_us_per_payment[part] for run in runs)) for part in parts}
    return {
        "payments_per_second": spread([run.payments_per_second for run in runs]),
        "cpu_us_per_payment": {**cpu, "all": sum(cpu.values())},
        "runs": [run.as_json() for run in runs],
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


async def server_settings(target: Target) -> Mapping[str, str]:
    """What the server itself says."""
    wanted = ["server_version", *MUST_BE_ON, "shared_buffers", "wal_sync_method", "max_wal_size"]
    async with await psycopg.AsyncConnection.connect(target.owner_url, autocommit=True) as connection:
        rows = await connection.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [wanted])
        return dict(await rows.fetchall())


async def bytes_per_row(target: Target) -> Mapping[str, int]:
    """The average row of each table, so that everyone sees that service and floor write equally much."""
    async with await psycopg.AsyncConnection.connect(target.owner_url, autocommit=True) as connection:
        sizes = {}
        for table in TABLES:
            rows = await connection.execute(f"SELECT coalesce(avg(pg_column_size(t.*)), 0) FROM {table} AS t")
            row = await rows.fetchone()
            assert row is not None
            sizes[table] = round(row[0])
        return sizes


def show(text: str) -> None:
    """Say where the benchmark is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
