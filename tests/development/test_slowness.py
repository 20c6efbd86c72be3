"""How slow a machine is taken to be, from what a piece of work took and from who else will be working."""

from __future__ import annotations

import asyncio
import sys

import pytest

from development.slowness import MOST, QUIET_SECONDS, SECONDS_TAKEN, slowness_of


@pytest.mark.parametrize(
    ("seconds", "workers", "processors", "slow"),
    [
        pytest.param(QUIET_SECONDS / 2, 1, 2, 1, id="a fast one is not taken for less than a quiet one"),
        pytest.param(QUIET_SECONDS * 4, 1, 2, 4, id="a slow one"),
        pytest.param(QUIET_SECONDS, 4, 2, 2, id="idle as yet, and soon with four workers on two processors"),
        pytest.param(QUIET_SECONDS * 4, 4, 2, 5, id="a slow one, and soon slower with four workers"),
        pytest.param(QUIET_SECONDS, 3, 16, 1, id="with processors for everybody"),
        pytest.param(QUIET_SECONDS, 1, 1, 1, id="with one test at a time"),
        pytest.param(QUIET_SECONDS * 99, 3, 2, MOST, id="slower than settings can be stretched"),
    ],
)
def test_a_machine_is_as_slow_as_its_work_or_its_workers_make_it(
    seconds: float, workers: int, processors: int, slow: float
) -> None:
    assert slowness_of(seconds, workers, processors) == slow


async def test_who_starts_a_process_tells_it_what_the_piece_of_work_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.setenv(SECONDS_TAKEN, str(QUIET_SECONDS * 7))
    words = (sys.executable, "-c", "from development.slowness import slowness; print(slowness())")
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert float(out) == pytest.approx(7)
