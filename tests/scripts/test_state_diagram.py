"""The state diagram says what the table says, and a stale one is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from payment_service.domain.edges import targets
from payment_service.domain.finding import Finding
from payment_service.domain.findings import finding
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import HEADINGS, TABLE
from scripts.state_diagram import main, page
from tests.domain.scenes import TIMES, standing_in
from tests.domain.test_every_pair import all_told
from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "state-diagram.md"


def test_the_committed_page_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_change_that_facts_can_make_is_an_arrow_of_the_diagram() -> None:
    walked = set()
    for before, fact, around, wait, outcome in all_told():
        origin, target = standing(before), standing(outcome.payment)
        if origin is not target:
            row = finding(before, fact, around, before.updated_at + wait, TIMES)
            assert target in targets(row, origin), (row, origin, target)
            walked.add((origin, target))
    # Only an operator leads there, by a case that none of the payments above has.
    walked.add((Standing.COMPLETED_BY_CALLBACK, standing(standing_in(Standing.REFUTED))))
    drawn = {(origin, target) for row in Finding for origin in Standing for target in targets(row, origin)}
    assert walked == drawn
    arrows = [line.split(":")[0].split() for line in page().splitlines() if " --> " in line]
    read = {(HEADINGS.get(origin), HEADINGS[target]) for origin, _, target in arrows}
    assert read == drawn | {(None, Standing.CREATED)}


def test_the_page_names_every_standing_and_shows_every_cell() -> None:
    text = page()
    assert list(HEADINGS.values()) == list(Standing)
    for heading, column in HEADINGS.items():
        assert f'state "{column.value}" as {heading}' in text
    for row in Finding:
        shown = next(line for line in text.splitlines() if line.startswith(f"| {row.value} |"))
        cells = [cell.strip().replace("\\", "") for cell in shown.replace("\\|", "\\/").strip("|").split(" | ")][1:]
        assert cells == [TABLE[row][column].replace("|", "/") for column in Standing]


def test_a_stale_page_is_told_apart_from_a_fresh_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "docs" / "page.md"
    assert main(["--check", str(path)]) == 1
    assert main(["--write", str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert main(["--check", str(path)]) == 1
    assert "make diagram" in capsys.readouterr().err


def test_the_command_runs_from_the_command_line() -> None:
    command = [sys.executable, "-m", "scripts.state_diagram", "--check", str(PAGE)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
