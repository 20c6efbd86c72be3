"""The benchmark runs, small: every measurement is taken, nothing fails, and service and floor write equal rows."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.campaign import Size
from tests.benchmarks.quick_runs import PROJECT, quick_run
from tests.patience import PATIENCE_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_quick_run_measures_everything_and_is_valid(tmp_path: Path) -> None:
    readme = PROJECT / "benchmarks" / "README.md"
    before = readme.read_bytes()
    results = quick_run(main, tmp_path / "latest.json")

    assert results["valid"] is True
    assert results["errors"] == 0
    assert [results["postgresql"][name] for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
    # How large they are says something about this machine just now, and nothing about the product.
    for ratio in ("ratio_64", "ratio_16"):
        assert set(results[ratio]) == {"median", "min", "max", "pairs"}
    for in_flight in ("16", "64"):
        part = results["throughput"][in_flight]
        assert part["n"] > 0
        assert part["service"]["runs"][0]["open_max"] == part["floor"]["runs"][0]["open_max"] == int(in_flight)
        assert part["service"]["cpu_us_per_payment"]["payment-service"] > 0
    assert results["tls"]["n"] > 0
    assert results["tls"]["secured"]["runs"][0]["payments"] > 0
    assert results["latency"]["n"] > 0
    assert results["watchers"]["served"] == results["watchers"]["watchers"] == 20
    assert results["watchers"]["client_processes"] == 2
    assert Size().watcher_processes >= 4
    assert results["simulator_alone"]["callbacks_delivered"] == results["simulator_alone"]["pushes"] > 0
    assert_equal_rows(results["row_bytes"])
    assert readme.read_bytes() == before, "a quick run is no result to publish"


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.browsers"])
async def test_by_its_command_line_a_quick_run_wants_a_folder_of_its_own(module: str) -> None:
    words = [sys.executable, "-m", module, "--quick"]
    process = await asyncio.create_subprocess_exec(
        *words, cwd=PROJECT, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 2
    assert b"name another folder with --output" in said


def assert_equal_rows(row_bytes: dict[str, dict[str, int]]) -> None:
    """Within 8 %: some rows of a payment are shorter while it is under way, and lengths of texts differ by a little."""
    for table, ours in row_bytes["service"].items():
        assert row_bytes["floor"][table] == pytest.approx(ours, rel=0.08), table
