"""A program that is a fork is what the same words would start, as far as whoever started it can tell."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from pathlib import Path

import pytest

from tests import forks
from tests.commands.started import command
from tests.forks import MINIMAL, PROJECT
from tests.parts import running_simulator, start
from tests.patience import PATIENCE_SECONDS


async def test_a_command_ends_with_its_code_and_says_what_it_says_where_it_should() -> None:
    assert (await command({}, "--help"))[0] == 0
    code, output, errors = await command({}, "no-such-command")
    assert (code, output) == (2, "")
    assert "no-such-command" in errors


async def test_a_command_has_an_environment_of_its_own_and_no_other() -> None:
    """Neither that of these tests nor that of a command before it."""
    words = ("explain", "00000000-0000-0000-0000-000000000001")
    _, _, with_one = await command({"PAYMENTS_KEYS_FILE": "none.json"}, *words)
    _, _, without = await command({}, *words)
    assert "PAYMENTS_KEYS_FILE" not in with_one
    assert "PAYMENTS_KEYS_FILE" in without
    assert "PAYMENTS_DATABASE_URL" in with_one


async def test_a_part_that_is_killed_has_ended_by_that_signal(tmp_path: Path) -> None:
    async with running_simulator(tmp_path) as part:
        await part.kill()
    assert part.process.returncode == -signal.SIGKILL


async def test_what_tests_have_left_ends_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that forks sees their end by its standard input, also where they were killed."""
    address = str(tmp_path / "forks")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.forks", address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=MINIMAL,
        cwd=PROJECT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    monkeypatch.setattr(forks, "_forks", lambda: address)
    part = await start("simulator", tmp_path, ["daraja_simulator", "serve", "--port", "0"], {})
    left = os.pidfd_open(part.process.pid)
    process.stdin.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not select.select([left], [], [], 0)[0]:
            await asyncio.sleep(0.02)
    os.close(left)
    assert await process.wait() == 0
    with pytest.raises(AssertionError, match="the process that forks has ended"):
        await part.process.wait()
