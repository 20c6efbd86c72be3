"""The audit of what the locks name: what is not known is never called sound."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.audit import LOCKS, SBOM, SOUND, UNKNOWN, VULNERABLE, main

SOUND_PART = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
VULNERABLE_PART = {
    "name": "protobuf",
    "version": "7.36.2",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["7.36.3"], "aliases": [], "description": "long"}],
}
UNKNOWN_PART = {"name": "grpcio", "skip_reason": "Dependency not found and could not be audited: grpcio (1.85.1)"}

Told = tuple[int, list[str]]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for stand-ins of both tools; the project is where the audit runs."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tools"
    folder.mkdir()
    stand_in(folder / "cyclonedx-py", f"pathlib.Path('{SBOM}').write_text('{{\"components\": [1, 2]}}')")
    return folder


def stand_in(path: Path, program: str) -> None:
    # By the shell: the first line of a script cannot name an interpreter in a folder with a space.
    written = path.with_name(f"{path.name}.py")
    written.write_text(f"import pathlib, sys\n{program}\n")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{written}"\n')
    path.chmod(0o700)


def told(tools: Path, capsys: pytest.CaptureFixture[str], *parts: object, code: int = 0) -> Told:
    report = json.dumps({"dependencies": parts, "fixes": []})
    stand_in(tools / "pip-audit", f"print({report!r}); sys.exit({code})")
    return main([str(tools)]), capsys.readouterr().out.splitlines()


def test_sound_parts_are_counted_and_listed(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = told(tools, capsys, SOUND_PART)
    assert (code, lines[1:]) == (SOUND, [f"No known vulnerability in {len(LOCKS)} packages."])
    assert lines[0] == f"{SBOM} lists the 2 packages that the programs run with."


def test_a_vulnerable_part_is_told_once_with_the_way_out(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = told(tools, capsys, SOUND_PART, VULNERABLE_PART, code=1)
    assert code == VULNERABLE
    assert lines[1:] == [
        "protobuf 7.36.2 has the known vulnerability PYSEC-2026-1; mended in 7.36.3.",
        "Raise these in pyproject.toml or the .in file, and run make lock.",
    ]


def test_a_part_that_the_database_says_nothing_about_is_not_called_sound(
    tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # pip-audit itself ends with 0 here.
    code, lines = told(tools, capsys, SOUND_PART, UNKNOWN_PART)
    assert code == UNKNOWN
    assert [line.partition(", so")[0] for line in lines[1:]] == [
        f"The database of known vulnerabilities could not be asked about {len(LOCKS)} of {2 * len(LOCKS)} packages"
    ]
    assert told(tools, capsys, UNKNOWN_PART, VULNERABLE_PART, code=1)[0] == VULNERABLE


def test_a_database_that_does_not_answer_is_one_sentence(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(tools / "pip-audit", "raise ConnectionError('Max retries exceeded')")
    code = main([str(tools)])
    captured = capsys.readouterr()
    assert code == UNKNOWN
    (sentence,) = captured.out.splitlines()[1:]
    assert sentence.startswith("The database of known vulnerabilities could not be asked about any package")
    assert "Traceback" not in captured.out + captured.err
    assert SBOM.exists(), "the list of parts needs no database"
