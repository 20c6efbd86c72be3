"""Show every control of docs/security.md at work: `python -m scripts.controls PAGE`.

The page names for each control the tests that show it. They are run here, those that have a size at full size
(`--at-length`), and the page's tables are printed again with what came out and the figures that the tests tell.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

FIGURE = "figure"
"""The property by which a test tells what it has counted."""
_ROW = re.compile(r"\| (?P<control>[^|]+) \| (?P<what>[^|]+) \| (?P<tests>[^|]+) \|")
_QUOTED = re.compile(r"`([^`]+)`")
_TEST = re.compile(r"tests/[\w/]+\.py(::\w+)?|…::\w+")


@dataclass(frozen=True, slots=True)
class Control:
    """One row of the page."""

    name: str
    tests: tuple[str, ...]
    """As pytest takes them: a file, or a test of it with all its parameters."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one test came to."""

    test: str
    """Its file and name, without parameters."""
    passed: bool
    figures: tuple[str, ...]


def controls_of(page: str) -> list[Control]:
    """The controls of a page, in order. "…::test" is a test of the file that was named last, "the same" that row's."""
    controls: list[Control] = []
    file = ""
    before: tuple[str, ...] = ()
    for row in _ROW.finditer(page):
        tests = [] if "the same" not in row["tests"] else list(before)
        for quoted in _QUOTED.findall(row["tests"]):
            if not _TEST.fullmatch(quoted):
                raise ValueError(f"{quoted} names no test: expected tests/…/test_file.py::test, or …::test")
            place, separator, name = quoted.partition("::")
            file = file if place == "…" else place
            tests.append(file + separator + name)
        if tests:
            before = tuple(tests)
            controls.append(Control(row["control"].strip(), before))
    return controls


def outcomes_of(report: Path) -> Iterator[Outcome]:
    """What a report of pytest (JUnit XML) says of each test."""
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.attrib["classname"].replace(".", "/") + ".py"
        passed = case.find("failure") is None and case.find("error") is None
        told = [one.attrib["value"] for one in case.iter("property") if one.attrib["name"] == FIGURE]
        yield Outcome(f"{file}::{case.attrib['name'].partition('[')[0]}", passed, tuple(told))


def shown(controls: Sequence[Control], outcomes: Sequence[Outcome]) -> tuple[list[str], bool]:
    """The table, and whether every control was seen at work."""
    lines, all_shown = ["| control | tests | shown | figures |", "|---|---|---|---|"], True
    for control in controls:
        of_it = [one for one in outcomes if {one.test, one.test.partition("::")[0]} & set(control.tests)]
        is_shown = bool(of_it) and all(one.passed for one in of_it)
        all_shown &= is_shown
        figures = "; ".join(dict.fromkeys(figure for one in of_it for figure in one.figures))
        lines.append(f"| {control.name} | {len(of_it)} | {'yes' if is_shown else '**NO**'} | {figures} |")
    return lines, all_shown


def main(words: Sequence[str]) -> int:
    """Command line; 1 where a control was not seen at work."""
    controls = controls_of(Path(words[0]).read_text(encoding="utf-8"))
    tests = sorted({test for control in controls for test in control.tests})
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="controls-") as folder:
        report = Path(folder) / "report.xml"
        pytest = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--at-length", "-o", "junit_family=xunit1"]
        ended = subprocess.run([*pytest, f"--junitxml={report}", *tests], stdin=subprocess.DEVNULL, check=False)
        outcomes = list(outcomes_of(report)) if report.exists() else []
    lines, all_shown = shown(controls, outcomes)
    minutes = (time.monotonic() - begun) / 60
    lines = ["", *lines, "", f"{len(controls)} controls, {len(outcomes)} tests, {minutes:.0f} min.", ""]
    sys.stdout.write("\n".join(lines))
    return 0 if all_shown and ended.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
