"""The benchmark of passengers' browsers runs, small, and a full one holds itself to its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browsers import BEGIN, END, main
from benchmarks.browsers_report import misses, table
from tests.benchmarks.quick_runs import PROJECT, quick_run
from tests.browsing import CHROMIUM

TIMES = {"p50": 10.0, "p95": 20.0, "p99": 30.0, "max": 40.0}
RUN = {
    "callback_to_subscriber_ms": TIMES,
    "cores_used": {"payment-service": 0.5, "browsers": 0.03},
    "cores_used_at_let_go": {"payment-service": 0.9, "browsers": 0.2},
    "cores_used_by_others": 0.05,
    "let_go_seconds": 1.5,
}
HELD: dict[str, Any] = {
    "begun": "2026-01-01T00:00:00Z",
    "took_seconds": 200,
    "commit": "abcdef0",
    "machine": {
        "cpu": "A processor",
        "cores": 2,
        "memory_gib": 8.0,
        "kernel": "Linux",
        "python": "3.11",
        "load_average_before": [0.1, 0.1, 0.1],
    },
    "pages": {"samples": 50, "answer_to_page_ms": TIMES, "callback_to_page_ms": TIMES},
    "streams": {
        "streams": 500,
        "served": 500,
        "errors": 0,
        "callback_to_stream_ms": TIMES,
        "gateway_kib_each": 41.0,
        "service_kib_each": 11.0,
        "callbacks_per_second": 100.0,
        "without_streams": RUN,
        "beside_streams": deepcopy(RUN),
    },
}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_quick_run_measures_pages_and_streams_and_loses_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: `scripts/install_browser.sh` installs one")
    readme = PROJECT / "benchmarks" / "README.md"
    before = readme.read_bytes()
    results = quick_run(main, tmp_path / "browsers.json")
    streams = results["streams"]
    assert streams["errors"] == 0
    assert streams["served"] == streams["streams"] == 10
    assert results["pages"]["samples"] == 2
    for run in ("without_streams", "beside_streams"):
        assert streams[run]["n"] > 0
        assert streams[run]["cores_used"]["payment-service"] > 0
        assert "browsers" in streams[run]["cores_used_at_let_go"]
    assert table(results) in capfd.readouterr().out
    assert readme.read_bytes() == before, "a quick run is no result to publish"


def _slow_page(results: dict[str, Any]) -> None:
    results["pages"]["answer_to_page_ms"] = TIMES | {"max": 301.0}


def _late_event(results: dict[str, Any]) -> None:
    results["streams"]["callback_to_stream_ms"] = TIMES | {"max": 2_001.0}


def _fat_stream(results: dict[str, Any]) -> None:
    results["streams"]["gateway_kib_each"] = 60.1


def _harmed_callbacks(results: dict[str, Any]) -> None:
    results["streams"]["beside_streams"]["callback_to_subscriber_ms"] = TIMES | {"p95": 80.1}


def _lost_stream(results: dict[str, Any]) -> None:
    results["streams"]["errors"] = 1


@pytest.mark.parametrize(
    ("spoil", "missed"),
    [
        (_slow_page, "the slowest change of a page: 301.0 ms, more than 300 ms"),
        (_late_event, "the last event at a browser: 2001.0 ms, more than 2000 ms"),
        (_fat_stream, "memory of the gateway for each stream: 60.1 KiB, more than 60 KiB"),
        (_harmed_callbacks, "p95 of callbacks beside streams: 80.1 ms, more than 80 ms"),
        (_lost_stream, "errors: 1, more than 0"),
    ],
)
def test_each_number_that_is_not_held_is_named(spoil: Callable[[dict[str, Any]], None], missed: str) -> None:
    results = deepcopy(HELD)
    assert misses(results) == []
    assert "Every number is held." in table(results)
    spoil(results)
    assert misses(results) == [missed]
    assert f"**Not held**: {missed}." in table(results)


def test_the_table_names_the_process_at_its_limit_and_work_of_others() -> None:
    results = deepcopy(HELD)
    assert "At the limit of a core: no process." in table(results)
    assert "Other work took" not in table(results)
    results["streams"]["beside_streams"]["cores_used_at_let_go"]["browsers"] = 0.99
    results["streams"]["without_streams"]["cores_used_by_others"] = 0.9
    assert "At the limit of a core: browsers." in table(results)
    assert "Other work took 90 % of a core" in table(results)


def test_the_published_table_is_that_of_the_published_results() -> None:
    published = PROJECT / "benchmarks"
    results = json.loads((published / "results" / "browsers.json").read_text(encoding="utf-8"))
    readme = (published / "README.md").read_text(encoding="utf-8")
    assert readme.partition(BEGIN)[2].partition(END)[0].strip() == table(results)
