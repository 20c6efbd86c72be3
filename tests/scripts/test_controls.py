"""The page of controls names tests that exist, and what is printed of them is what came out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.controls import Control, Outcome, controls_of, outcomes_of, shown

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "security.md"
CONTROLS = controls_of(PAGE.read_text(encoding="utf-8"))

ROWS = """
| control | what it does | shown by |
|---|---|---|
| doors | are shut | `tests/a.py::test_one`, `…::test_two` |
| windows | are shut too | the same, and `…::test_three` |
| walls | stand | `tests/b.py` |
"""
REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_one[x]"/>
<testcase classname="tests.a" name="test_one[y]"><failure message="open"/></testcase>
<testcase classname="tests.b" name="test_wall">
  <properties><property name="figure" value="1,000 blows, 0 holes"/></properties>
</testcase>
</testsuite></testsuites>"""


def test_every_control_names_tests_that_exist() -> None:
    named = {test.partition("::")[::2] for control in CONTROLS for test in control.tests}
    functions = {file: functions_of(PROJECT / file) for file, _ in named}
    assert {(file, name) for file, name in named if name and name not in functions[file]} == set()


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_a_row_may_name_the_file_of_the_one_before() -> None:
    assert controls_of(ROWS) == [
        Control("doors", ("tests/a.py::test_one", "tests/a.py::test_two")),
        Control("windows", ("tests/a.py::test_one", "tests/a.py::test_two", "tests/a.py::test_three")),
        Control("walls", ("tests/b.py",)),
    ]


def test_a_control_is_shown_once_all_its_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    outcomes = list(outcomes_of(tmp_path / "report.xml"))
    assert outcomes[-1] == Outcome("tests/b.py::test_wall", passed=True, figures=("1,000 blows, 0 holes",))
    lines, all_shown = shown(controls_of(ROWS), outcomes)
    assert not all_shown
    assert lines[2:] == [
        "| doors | 2 | **NO** |  |",
        "| windows | 2 | **NO** |  |",
        "| walls | 1 | yes | 1,000 blows, 0 holes |",
    ]


def test_a_control_none_of_whose_tests_ran_is_not_shown() -> None:
    lines, all_shown = shown([Control("doors", ("tests/a.py::test_one",))], [])
    assert (lines[-1], all_shown) == ("| doors | 0 | **NO** |  |", False)


def test_a_row_that_names_no_test_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"…/a\.py::test_one names no test"):
        controls_of(ROWS.replace("`tests/a.py::test_one`", "`…/a.py::test_one`"))
