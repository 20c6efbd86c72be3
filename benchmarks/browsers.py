"""`python -m benchmarks.browsers`: what a passenger's browser sees of a callback, and how many browsers may look on."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import meters
from benchmarks.browsers_report import misses, table
from benchmarks.event_streams import Load, measure_streams
from benchmarks.meters import Metered
from benchmarks.page_updates import measure_pages
from benchmarks.report import write_between
from benchmarks.stage import PROJECT, SETTINGS, SIMULATOR_OPTIONS, target_of
from development.parts import Start, start_watched
from development.slowness import slowness
from development.system import Plan, running_system

HERE = Path(__file__).parent
BEGIN = "<!-- browsers: written by `make bench-browsers` -->"
END = "<!-- end of browsers -->"


@dataclass(frozen=True, slots=True)
class Size:
    """How long and how much."""

    streams: int = 500
    rate: float = 100.0
    """Callbacks a second beside the streams."""
    seconds: float = 20.0
    pages: int = 50


def quick_size() -> Size:
    """Little enough for a machine that runs other tests, and on a slow one long enough for some payments to end."""
    return Size(streams=10, rate=20.0, seconds=1.0 * slowness(), pages=2)


def main(words: Sequence[str] | None = None, start: Start = start_watched) -> int:
    """Command line; exit code 1 where a number is not held; in a quick run, where a stream or a callback was lost.

    Tests may start the programs in another way.
    """
    parser = argparse.ArgumentParser(description="Measure what passengers' browsers see.")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that everything works")
    parser.add_argument("--output", type=Path, help="folder for browsers.json (default: benchmarks/results)")
    arguments = parser.parse_args(words)
    if arguments.quick and arguments.output is None:
        parser.error("a quick run is no result to keep: name another folder with --output")
    size = quick_size() if arguments.quick else Size()
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if chromium is None:
        parser.error("there is no Chromium: scripts/install_browser.sh installs one")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = uvloop.run(_measure(Path(folder), chromium, _commit(), size, start))
    output = arguments.output or HERE / "results"
    output.mkdir(parents=True, exist_ok=True)
    (output / "browsers.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if arguments.output is None:
        write_between(HERE / "README.md", table(results), BEGIN, END)
    print(f"\n{table(results)}\n\nResults are in {output / 'browsers.json'}.")
    return 1 if results["streams"]["errors"] or (misses(results) and not arguments.quick) else 0


def _commit() -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


async def _measure(folder: Path, chromium: str, commit: str, size: Size, start: Start) -> Mapping[str, Any]:
    machine, begun = meters.machine(), time.time()
    plan = Plan(
        folder / "streams",
        simulator_options=SIMULATOR_OPTIONS,
        settings=SETTINGS,
        plaintext=True,
        inherit_settings=False,
        start=start,
    )
    async with running_system(plan) as system:
        assert system.postgres_process_id is not None, "the benchmark runs on the embedded PostgreSQL"
        service = target_of("service", system, Metered("postgresql", system.postgres_process_id, tree=True))
        held = await measure_streams(system, service, folder, Load(size.rate, size.seconds, size.streams))
    # The examples follow every event, so they run for the pages alone.
    async with running_system(replace(plan, data_dir=folder / "pages", booking_port=0)) as system:
        pages = await measure_pages(system, chromium, size.pages)
    return {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "took_seconds": round(time.time() - begun),
        "commit": commit,
        "machine": machine,
        "pages": pages,
        "streams": held,
    }


if __name__ == "__main__":
    sys.exit(main())
