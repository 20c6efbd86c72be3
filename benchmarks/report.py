"""The results as a table in README.md, between two marks; the text around it is written by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"


def write_table(readme: Path, results: Mapping[str, Any]) -> None:
    """Put the table of these results in the place of the last one."""
    write_between(readme, table(results), BEGIN, END)


def write_between(readme: Path, written: str, begin: str, end: str) -> None:
    """Put a text between two marks, in the place of the last one."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{begin}\n\n{written}\n\n{end}{after}", encoding="utf-8")


def table(results: Mapping[str, Any]) -> str:
    """Markdown."""
    sections = (machine_lines, throughput_lines, tls_lines, cpu_lines, latency_lines, watcher_lines)
    return "\n\n".join("\n".join(section(results)) for section in sections)


def machine_lines(results: Mapping[str, Any]) -> list[str]:
    machine, server = results["machine"], results["postgresql"]
    load = ", ".join(str(value) for value in machine["load_average_before"])
    durable = ", ".join(f"{name} {server[name]}" for name in ("fsync", "synchronous_commit", "full_page_writes"))
    validity = "valid" if results["valid"] else "**not valid**"
    return [
        f"{results['begun']}, {results['took_seconds']} s, {results['errors']} errors, {validity}.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}.",
        f"Load average before: {load}. Python {machine['python']}, PostgreSQL {server['server_version']}, {durable}.",
    ]


def throughput_lines(results: Mapping[str, Any]) -> list[str]:
    lines = [
        "| payments/s, median (least – most) | service | floor | service ÷ floor | pairs | payments |",
        "|---|---|---|---|---|---|",
    ]
    for in_flight, part in sorted(results["throughput"].items(), key=lambda item: int(item[0])):
        ours, floor = (spread(part[name]["payments_per_second"], 0) for name in ("service", "floor"))
        pairs = len(part["ratio"]["pairs"])
        lines.append(
            f"| {in_flight} in flight | {ours} | {floor} | {spread(part['ratio'], 2)} | {pairs} | {part['n']} |"
        )
    return lines


def tls_lines(results: Mapping[str, Any]) -> list[str]:
    part = results["tls"]
    secured, plain = (spread(part[name]["payments_per_second"], 0) for name in ("secured", "service"))
    pairs = len(part["ratio"]["pairs"])
    return [
        "| payments/s, median (least – most) | mutual TLS | plaintext | TLS ÷ plaintext | pairs | payments |",
        "|---|---|---|---|---|---|",
        f"| 64 in flight | {secured} | {plain} | {spread(part['ratio'], 2)} | {pairs} | {part['n']} |",
    ]


def cpu_lines(results: Mapping[str, Any]) -> list[str]:
    lines = ["| CPU per payment at 64 in flight, µs | service | floor |", "|---|---|---|"]
    service, floor = (dict(results["throughput"]["64"][name]["cpu_us_per_payment"]) for name in ("service", "floor"))
    rows = [
        ("core", "payment-service", "floor-core"),
        ("callback edge", "callback-gateway", "floor-edge"),
        ("PostgreSQL", "postgresql", "postgresql"),
        ("simulator", "simulator", "floor-simulator"),
        ("load generator", "load generator", "load generator"),
        ("subscriber", "subscriber", "subscriber"),
        ("all", "all", "all"),
    ]
    return lines + [f"| {name} | {service[ours]} | {floor[theirs]} |" for name, ours, theirs in rows]


def latency_lines(results: Mapping[str, Any]) -> list[str]:
    latency = results["latency"]
    asked = (
        f"{latency['rate_per_second']:.0f} payments/s, {latency['n']} payments, {latency['late_starts']} late starts"
    )
    lines = [f"| open loop, {asked}; ms | p50 | p95 | p99 | most |", "|---|---|---|---|---|"]
    rows = (
        (
            f"`InitiatePayment` over the simulator's {latency['simulator_delay_seconds']} s",
            "initiate_payment_over_delay_ms",
        ),
        ("callback → event at the subscriber", "callback_to_subscriber_ms"),
    )
    for name, key in rows:
        figures = latency[key]
        lines.append(f"| {name} | {figures['p50']} | {figures['p95']} | {figures['p99']} | {figures['max']} |")
    return lines


def watcher_lines(results: Mapping[str, Any]) -> list[str]:
    watchers, simulator = results["watchers"], results["simulator_alone"]
    alone = (
        f"{simulator['pushes_per_second']:.0f} pushes/s including delivered callbacks ({simulator['pushes']} pushes)"
    )
    return [
        f"| {watchers['watchers']} watchers from {watchers['client_processes']} processes | |",
        "|---|---|",
        f"| served exactly their own event | {watchers['served']} |",
        f"| memory of the core for each | {watchers['kib_each']} KiB |",
        f"| all opened in one burst, each with its snapshot, after | {watchers['open_burst_seconds']} s |",
        f"| all callbacks sent and all events received after | {watchers['deliver_seconds']} s |",
        "",
        f"The simulator alone: {alone}.",
    ]


def spread(figures: Mapping[str, float], digits: int) -> str:
    """Median (least – most)."""
    return f"{figures['median']:.{digits}f} ({figures['min']:.{digits}f} – {figures['max']:.{digits}f})"
