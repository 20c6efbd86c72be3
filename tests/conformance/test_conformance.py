"""The conformance run, as `make conformance` runs it, and its judgement tried on a case that fails."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from conformance.account import Seen
from conformance.cases import CASES, essentials
from conformance.judgement import NotSo, expect
from conformance.running import Result
from conformance.table import PLAIN_WIDTH, show_table
from development.slowness import slowness

RUN_SECONDS = 1_100 * slowness()


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_every_case_passes_against_the_real_programs(tmp_path: Path) -> None:
    machine = dict(os.environ)  # noqa: TID251 -- passed on to another program, not read
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.conformance.forked"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**machine, "TMPDIR": str(tmp_path)},
    )
    out, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    text = out.decode()
    assert process.returncode == 0, text
    assert f"{len(CASES) + 1} of {len(CASES) + 1} pass" in text
    assert not re.search(r"25472\d{7}|2547000\d{5}", text), "a phone number in clear"
    assert list(tmp_path.iterdir()) == []


def test_every_case_says_what_is_done() -> None:
    assert len(CASES) >= 30
    assert [one.play.__module__ == essentials.__name__ for one in CASES[:15]] == [True] * 14 + [False]
    assert len({one.title for one in CASES}) == len(CASES)
    assert [one.title for one in CASES if not one.done.endswith(".")] == []


def test_a_case_that_fails_fails_the_run_and_says_why() -> None:
    console = Console(file=io.StringIO(), width=PLAIN_WIDTH)
    with pytest.raises(NotSo) as why:
        expect("prompts", 2, 1)
    passed = Result("pays", "A passenger pays.", Seen("COMPLETED", "1 prompt"), "", 0.1)
    failed = Result("pays twice", "A passenger pays.", Seen("", ""), str(why.value), 0.1)
    assert show_table(console, [passed, failed], 1) is False
    assert show_table(console, [passed], 1) is True
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, given above
    assert "prompts: found 2, wanted 1" in text
    assert "1 of 2 pass" in text
    assert "FAIL" in text
