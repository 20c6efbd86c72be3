"""A pytest plugin, loaded by `make test`: the run fails if a quirk of the simulator was never hit in it.

Every simulator that a test starts leaves a report in `REPORTS`. They are cleared before the run and summed after it;
a run of a few tests has no such duty, so the plugin is not loaded by default.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from daraja_simulator.__main__ import summed
from daraja_simulator.quirks import QUIRKS

REPORTS = Path(__file__).parents[1] / "build" / "quirk-reports"

NEVER_HIT = pytest.StashKey[list[str]]()


def is_worker(config: pytest.Config) -> bool:
    """Only the process that leads the run counts, when every worker has ended."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not is_worker(config):
        shutil.rmtree(REPORTS, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if is_worker(session.config):
        return
    hits = summed(REPORTS)
    never_hit = [quirk.id for quirk in QUIRKS if not hits[quirk.id]]
    session.config.stash[NEVER_HIT] = never_hit
    if never_hit and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    never_hit = config.stash.get(NEVER_HIT, [])
    if never_hit:
        terminalreporter.section("quirks of the simulator that no test met", red=True)
        terminalreporter.line(", ".join(never_hit))
    else:
        terminalreporter.line(f"Each of the simulator's {len(QUIRKS)} quirks was met at least once.")
