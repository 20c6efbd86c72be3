"""What the benchmark of passengers' browsers holds itself to, and its results as a table in README.md."""

from collections.abc import Mapping
from typing import Any

PAGE_CHANGES_WITHIN_MS = 300.0
EVENT_AT_BROWSER_WITHIN_MS = 2_000.0
KIB_A_STREAM_MAX = 60.0
UNHARMED_FACTOR, UNHARMED_MORE_MS = 1.5, 50.0
"""A callback is unharmed by streams that make it at most half as slow again; below the milliseconds nobody notices."""
AT_ITS_LIMIT = 0.95
"""Of a core: a program in Python hardly ever uses more than one."""
OTHER_WORK_MAX = 0.25
"""Cores. Where others take more than this, a missed number may be theirs."""


def misses(results: Mapping[str, Any]) -> list[str]:
    """Each number that the results do not hold, in a sentence."""
    pages, streams = results["pages"], results["streams"]
    alone, beside = (streams[run]["callback_to_subscriber_ms"]["p95"] for run in ("without_streams", "beside_streams"))
    bounds = (
        ("errors", streams["errors"], 0, ""),
        ("the slowest change of a page", pages["answer_to_page_ms"]["max"], PAGE_CHANGES_WITHIN_MS, " ms"),
        ("the last event at a browser", streams["callback_to_stream_ms"]["max"], EVENT_AT_BROWSER_WITHIN_MS, " ms"),
        ("memory of the gateway for each stream", streams["gateway_kib_each"], KIB_A_STREAM_MAX, " KiB"),
        ("p95 of callbacks beside streams", beside, round(alone * UNHARMED_FACTOR + UNHARMED_MORE_MS, 2), " ms"),
    )
    return [f"{what}: {value}{unit}, more than {most:g}{unit}" for what, value, most, unit in bounds if value > most]


def table(results: Mapping[str, Any]) -> str:
    """Markdown."""
    sections = (_head, _verdict, _latencies, _memory, _cores, _limits)
    return "\n\n".join("\n".join(section(results)) for section in sections)


def _head(results: Mapping[str, Any]) -> list[str]:
    machine = results["machine"]
    load = ", ".join(str(value) for value in machine["load_average_before"])
    return [
        (
            f"{results['begun']}, commit {results['commit']}, {results['took_seconds']} s,"
            f" {results['streams']['errors']} errors."
        ),
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}.",
        f"Load average before: {load}. Python {machine['python']}.",
    ]


def _verdict(results: Mapping[str, Any]) -> list[str]:
    missed = misses(results)
    if not missed:
        return ["Every number is held."]
    return [f"**Not held**: {'; '.join(missed)}."]


def _latencies(results: Mapping[str, Any]) -> list[str]:
    pages, streams = results["pages"], results["streams"]
    count, rate = streams["streams"], streams["callbacks_per_second"]
    alone, beside = streams["without_streams"], streams["beside_streams"]
    rows = [
        ("callback answered → booking page changed in Chromium", pages["answer_to_page_ms"]),
        ("callback sent → booking page changed in Chromium", pages["callback_to_page_ms"]),
        (f"callback sent → event at one of {count} SSE streams", streams["callback_to_stream_ms"]),
        ("callback → event at the subscriber, without streams", alone["callback_to_subscriber_ms"]),
        ("callback → event at the subscriber, beside them", beside["callback_to_subscriber_ms"]),
    ]
    return [
        f"| {pages['samples']} payments; streams beside {rate:.0f} callbacks/s; ms | p50 | p95 | p99 | most |",
        "|---|---|---|---|---|",
        *(f"| {name} | {of['p50']} | {of['p95']} | {of['p99']} | {of['max']} |" for name, of in rows),
    ]


def _memory(results: Mapping[str, Any]) -> list[str]:
    streams = results["streams"]
    return [
        (
            f"{streams['served']} of {streams['streams']} streams were served."
            f" Each took {streams['gateway_kib_each']} KiB of the gateway"
            f" and {streams['service_kib_each']} KiB of the service."
        )
    ]


def _cores(results: Mapping[str, Any]) -> list[str]:
    streams = results["streams"]
    alone, beside = streams["without_streams"], streams["beside_streams"]
    columns = (alone["cores_used"], beside["cores_used"], alone["cores_used_at_let_go"], beside["cores_used_at_let_go"])
    burst = f"while {streams['streams']} callbacks more are let go in"
    return [
        (
            f"| CPU, % of a core | without streams | beside them | {burst} {alone['let_go_seconds']} s, without streams"
            f" | {burst} {beside['let_go_seconds']} s, beside them |"
        ),
        "|---|---|---|---|---|",
        *(f"| {part} | {' | '.join(_percent(column.get(part)) for column in columns)} |" for part in columns[1]),
        (
            f"| other work on this machine | {_percent(alone['cores_used_by_others'])} |"
            f" {_percent(beside['cores_used_by_others'])} | – | – |"
        ),
    ]


def _limits(results: Mapping[str, Any]) -> list[str]:
    """Which process was at its limit, and whether others took what the benchmark needed."""
    runs = [results["streams"][run] for run in ("without_streams", "beside_streams")]
    used = [run[when] for run in runs for when in ("cores_used", "cores_used_at_let_go")]
    full = sorted({part for shares in used for part, share in shares.items() if share >= AT_ITS_LIMIT})
    said = [f"At the limit of a core: {', '.join(full) or 'no process'}."]
    others = max(run["cores_used_by_others"] for run in runs)
    if others > OTHER_WORK_MAX:
        said.append(
            f"Other work took {_percent(others)} % of a core meanwhile: what is late here may be late because of it."
        )
    return said


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.0f}"
