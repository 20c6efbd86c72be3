"""Which programs, and which tests, count the lines that they run, where the coverage is measured.

Being traced nearly doubles what a program takes of the processor, and the programs that tests start run mostly the same
lines. So they run untraced, at their own speed, but for those that a test starts within `traced_programs`.

A test that goes through the same lines a hundred thousand times is untraced too, where it asks for `untraced`: shorter
tests count these lines. So is every test of the folders below.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# A Python that finds it in its environment traces what it runs.
NAME = "COVERAGE_PROCESS_CONFIG"
# What stood there when the tests began; None where the coverage is not measured.
SWITCH = pytest.StashKey[str | None]()

# As pyproject.toml names their folders.
MEASURED_PACKAGES = ("payment_service", "callback_gateway", "case_desk", "payment_client")

# Programs, what only Alembic or Django imports, and what pytest itself loads and rewrites.
NOT_IMPORTED = frozenset({"__main__", "migrations", "django", "testing"})

# Their tests run in this process hardly a line whose coverage is measured: they drive programs, or try the simulator,
# the examples or the tools.
UNTRACED_FOLDERS = frozenset(
    {
        "benchmarks",
        "conformance",
        "daraja_simulator",
        "deploy",
        "development",
        "examples",
        "kill",
        "order",
        "sabotage",
        "scripts",
    }
)

TracedPrograms = Callable[[], AbstractContextManager[None]]


def untrace_programs() -> str | None:
    """From now on programs are started untraced; what traces them."""
    return os.environ.pop(NAME, None)  # noqa: TID251 -- what children inherit, not a setting


@contextlib.contextmanager
def tracing_nothing() -> Iterator[None]:
    """What this process runs within this is untraced."""
    tracer, tracer_of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        threading.settrace(tracer_of_threads)


@contextlib.contextmanager
def tracing_programs(switch: str | None) -> Iterator[None]:
    """Programs that are started within this are traced."""
    with pytest.MonkeyPatch.context() as environment:
        if switch is not None:
            environment.setenv(NAME, switch)
        yield


def import_measured() -> None:
    """Import what is measured, so that the lines at the top of its modules count also where collecting is untraced."""
    for package in MEASURED_PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not NOT_IMPORTED & set(module.name.split(".")):
                importlib.import_module(module.name)


def in_untraced_folder(item: pytest.Item) -> bool:
    """Whether no line that the test runs counts."""
    return item.path.relative_to(TESTS).parts[0] in UNTRACED_FOLDERS
