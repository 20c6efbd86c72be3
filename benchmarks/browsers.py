"""`python -m benchmarks.browsers`: what a passenger's browser sees of a callback, and how many browsers may look on."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import meters
from benchmarks.event_streams import measure_streams
from benchmarks.meters import Metered
from benchmarks.page_updates import measure_pages
from benchmarks.report import write_between
from benchmarks.stage import PROJECT, SETTINGS, SIMULATOR_OPTIONS, target_of
from development.system import Plan, running_system

HERE = Path(__file__).parent
BEGIN = "<!-- browsers: written by `make bench-browsers` -->"
END = "<!-- end of browsers -->"


def main() -> int:
    """Command line; exit code 1 where a stream or a callback was lost."""
    parser = argparse.ArgumentParser(description="Measure what passengers' browsers see.")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that everything works")
    parser.add_argument("--rate", type=float, default=100.0, help="callbacks a second beside the streams")
    arguments = parser.parse_args()
    quick = arguments.quick
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if chromium is None:
        parser.error("there is no Chromium: scripts/install_browser.sh installs one")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = uvloop.run(_measure(Path(folder), chromium, _commit(), arguments.rate, quick))
    print(_table(results))
    if not quick:
        (HERE / "results" / "browsers.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        write_between(HERE / "README.md", _table(results), BEGIN, END)
    return 1 if results["streams"]["errors"] else 0


def _commit() -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


async def _measure(folder: Path, chromium: str, commit: str, rate: float, quick: bool) -> Mapping[str, Any]:
    machine, begun = meters.machine(), time.time()
    plan = Plan(
        folder / "streams",
        simulator_options=SIMULATOR_OPTIONS,
        settings=SETTINGS,
        plaintext=True,
        inherit_settings=False,
    )
    async with running_system(plan) as system:
        assert system.postgres_process_id is not None, "the benchmark runs on the embedded PostgreSQL"
        service = target_of("service", system, Metered("postgresql", system.postgres_process_id, tree=True))
        streams, seconds = (20, 3.0) if quick else (500, 20.0)
        held = await measure_streams(system, service, folder, streams, min(rate, 20.0) if quick else rate, seconds)
    # The examples follow every event, so they run for the pages alone.
    async with running_system(replace(plan, data_dir=folder / "pages", booking_port=0)) as system:
        pages = await measure_pages(system, chromium, 5 if quick else 50)
    return {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "took_seconds": round(time.time() - begun),
        "commit": commit,
        "machine": machine,
        "pages": pages,
        "streams": held,
    }


def _table(results: Mapping[str, Any]) -> str:
    machine, pages, streams = results["machine"], results["pages"], results["streams"]
    load = ", ".join(str(value) for value in machine["load_average_before"])
    rows = [
        ("callback answered → booking page changed in Chromium", pages["answer_to_page_ms"]),
        ("callback sent → booking page changed in Chromium", pages["callback_to_page_ms"]),
        (f"callback sent → event at one of {streams['streams']} SSE streams", streams["callback_to_stream_ms"]),
        (
            "callback → event at the subscriber, without streams",
            streams["without_streams"]["callback_to_subscriber_ms"],
        ),
        ("callback → event at the subscriber, beside them", streams["beside_streams"]["callback_to_subscriber_ms"]),
    ]
    rate = streams["callbacks_per_second"]
    head = [
        f"{results['begun']}, commit {results['commit']}, {results['took_seconds']} s, {streams['errors']} errors.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}.",
        f"Load average before: {load}. Python {machine['python']}.",
        "",
        f"| {pages['samples']} payments; streams beside {rate:.0f} callbacks/s; ms | p50 | p95 | p99 | most |",
        "|---|---|---|---|---|",
    ]
    body = [f"| {name} | {of['p50']} | {of['p95']} | {of['p99']} | {of['max']} |" for name, of in rows]
    memory = (
        f"{streams['served']} of {streams['streams']} streams were served. Each took {streams['gateway_kib_each']} KiB"
        f" of the gateway and {streams['service_kib_each']} KiB of the service."
    )
    return "\n".join([*head, *body, "", memory])


if __name__ == "__main__":
    sys.exit(main())
