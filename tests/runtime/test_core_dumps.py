"""What a crash leaves behind: no image of a memory that holds keys, whichever command was typed."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from development.slowness import slowness

PR_GET_DUMPABLE = 3

CRASH = """
import ctypes, os, resource, sys
from runtime.core_dumps import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl({get}, 0, 0, 0, 0), flush=True)
os.abort()
"""

COMMAND = """
import ctypes, sys
from typer.testing import CliRunner
from {program}.__main__ import app
@app.command()
def tell() -> None:
    import resource
    print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl({get}, 0, 0, 0, 0))
print(CliRunner().invoke(app, ["tell"]).output)
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60 * slowness(),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        # As much as a machine may allow: what forbids it has to be the program.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
    )


def test_a_crash_writes_no_image_of_the_memory(tmp_path: Path) -> None:
    ended = run(CRASH.format(get=PR_GET_DUMPABLE), tmp_path)
    assert ended.returncode == -signal.SIGABRT, ended.stderr
    assert ended.stdout.strip() == "(0, 0) 0"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["payment_service", "callback_gateway", "case_desk"])
def test_every_command_of_both_programs_forbids_it(tmp_path: Path, program: str) -> None:
    told = run(COMMAND.format(program=program, get=PR_GET_DUMPABLE), tmp_path)
    assert told.stdout.strip() == "(0, 0) 0", told.stderr
