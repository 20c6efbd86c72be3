"""The bootstrap script: one sentence where Python is missing or too old, and an environment only when it is needed.

The environments made here are those of an empty lock, so that nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from development.slowness import slowness

PROJECT = Path(__file__).parents[2]
BOOTSTRAP_TIMEOUT_SECONDS = 90 * slowness()


async def bootstrap(folder: Path, environment: dict[str, str]) -> tuple[int | None, list[str]]:
    process = await asyncio.create_subprocess_exec(
        str(folder / "scripts" / "bootstrap.sh"),
        "generator",
        cwd="/",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), BOOTSTRAP_TIMEOUT_SECONDS)
    return process.returncode, output.decode().splitlines()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The script in a folder with a space and a letter that is not ASCII, closed to others."""
    folder = tmp_path / "a clone é"
    folder.mkdir(mode=0o700)
    (folder / "scripts").mkdir()
    shutil.copy(PROJECT / "scripts" / "bootstrap.sh", folder / "scripts")
    (folder / "requirements-generator.lock").write_text("# nothing\n")
    return folder


def interpreter_that_says(folder: Path, answer: str) -> dict[str, str]:
    """A PATH with the system's tools and one Python, which judges itself as told."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "cmp", "cat", "rm"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    python = tools / "python3"
    python.write_text(f"#!/bin/sh\necho {answer}\n")
    python.chmod(0o755)
    return {"PATH": str(tools)}


async def test_a_python_without_venv_gets_one_sentence_that_names_the_package(clone: Path) -> None:
    code, lines = await bootstrap(clone, interpreter_that_says(clone, "no-venv 3.12"))
    assert code == 1
    assert len(lines) == 1
    assert "install the package python3.12-venv" in lines[0]


async def test_an_old_python_gets_one_sentence_that_names_the_packages(clone: Path) -> None:
    code, lines = await bootstrap(clone, interpreter_that_says(clone, "old 3.9"))
    assert code == 1
    assert len(lines) == 1
    assert "only 3.9 was found" in lines[0]
    assert "python3.11 and python3.11-venv" in lines[0]


async def test_an_environment_is_made_once_and_made_anew_when_its_lock_changes(clone: Path) -> None:
    elsewhere = clone / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "venv.py").write_text("raise SystemExit('the caller's PYTHONPATH was used')\n")
    environment = {
        # The interpreter of these tests comes first; nothing of its environment may leak into the new one.
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "PYTHONPATH": str(elsewhere),
        "VIRTUAL_ENV": str(elsewhere),
        "HOME": str(clone),
    }
    made = clone / ".venv-generator"
    made.mkdir()
    (made / "stamp").write_text("of another lock\n")
    left = made / "left"
    left.touch()
    code, lines = await bootstrap(clone, environment)
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith("Setting up .venv-generator with Python 3.")
    assert [path.name for path in elsewhere.iterdir()] == ["venv.py"]
    assert not left.exists()

    witness = made / "witness"
    witness.touch()
    assert await bootstrap(clone, environment) == (0, [])
    assert witness.exists()

    # It would be made anew: for that alone an interpreter is looked for, and none that is new enough is here.
    nothing_to_make_it_with = interpreter_that_says(clone, "old 3.9")
    assert await bootstrap(clone, nothing_to_make_it_with) == (0, [])
    (clone / "requirements-generator.lock").write_text("# nothing, in other words\n")
    code, lines = await bootstrap(clone, nothing_to_make_it_with)
    assert code == 1
    assert "only 3.9 was found" in lines[0]


def test_the_lock_names_every_extra_that_is_asked_for() -> None:
    # An extra that the lock leaves out is looked for outside it, at whatever version is newest by then: setting up
    # then fails from the day of that package's next release.
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]
    extras = {canonicalize_name(package.name): package.extras for package in pinned}
    asked = [
        Requirement(text)
        for distribution in importlib.metadata.distributions()
        if canonicalize_name(distribution.name) in extras
        for text in distribution.requires or ()
    ]
    wanted = [r for r in asked if r.extras and (r.marker is None or r.marker.evaluate({"extra": ""}))]
    assert wanted
    for requirement in wanted:
        assert requirement.extras <= extras[canonicalize_name(requirement.name)], f"{requirement} in requirements.lock"
