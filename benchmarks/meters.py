"""Meters: CPU and memory of processes, read from the kernel; and what machine this is."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Metered:
    """A part and its process; with `tree`, also the processes it has started, as PostgreSQL's backends are."""

    name: str
    pid: int
    tree: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds used so far by each part, and by the machine as a whole."""

    parts: Mapping[str, float]
    busy: float
    total: float
    stolen: float


def read(parts: Sequence[Metered]) -> Reading:
    """Read all meters."""
    times = psutil.cpu_times()
    total = sum(times)
    return Reading(
        {part.name: cpu_seconds(part) for part in parts}, total - times.idle - times.iowait, total, times.steal
    )


def cpu_seconds(part: Metered) -> float:
    """User and system time of a part so far. A backend that has ended is in its parent's account."""
    process = psutil.Process(part.pid)
    times = process.cpu_times()
    seconds = times.user + times.system
    if part.tree:
        seconds += times.children_user + times.children_system
        for child in process.children(recursive=True):
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds += own.user + own.system
    return float(seconds)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(psutil.Process(pid).memory_info().rss)


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    return {
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": [round(value, 2) for value in psutil.getloadavg()],
    }


def cpu_model() -> str:
    """The processor's name, as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
