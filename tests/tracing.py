"""Which programs, and which tests, count the lines that they run, where the coverage is measured.

Being traced nearly doubles what a program takes of the processor, and the programs that tests start run mostly the same
lines. So they run untraced, at their own speed, but for those that a test starts within `traced_programs`.

A test that goes through the same lines a hundred thousand times is untraced too, where it asks for `untraced`: shorter
tests count these lines.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

# A Python that finds it in its environment traces what it runs.
NAME = "COVERAGE_PROCESS_CONFIG"
# What stood there when the tests began; None where the coverage is not measured.
SWITCH = pytest.StashKey[str | None]()

TracedPrograms = Callable[[], AbstractContextManager[None]]


def untrace_programs() -> str | None:
    """From now on programs are started untraced; what traces them."""
    return os.environ.pop(NAME, None)  # noqa: TID251 -- what children inherit, not a setting


@contextlib.contextmanager
def tracing_nothing() -> Iterator[None]:
    """What this process runs within this is untraced."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@contextlib.contextmanager
def tracing_programs(switch: str | None) -> Iterator[None]:
    """Programs that are started within this are traced."""
    with pytest.MonkeyPatch.context() as environment:
        if switch is not None:
            environment.setenv(NAME, switch)
        yield
