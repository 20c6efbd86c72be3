"""The rules of the house that no linter knows: sizes, names, and a reason beside every exception that is made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import callback_gateway.alarms
import case_desk.alarms
import payment_service.alarms
from runtime.alarms import Alarm

PROJECT = Path(__file__).parents[2]
PROGRAMS = (
    "payment_service",
    "callback_gateway",
    "case_desk",
    "runtime",
    "development",
    "daraja_simulator",
    "conformance",
    "benchmarks",
    "payment_client",
    "examples",
)

FUNCTION_LINES = 60
MODULE_LINES = 400
# Such a name says where code was put, not what it is.
EMPTY_NAMES = {"common", "data", "handler", "handlers", "helper", "helpers", "info", "manager", "managers", "misc"}
EMPTY_NAMES |= {"util", "utils"}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((PROJECT / folder).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def test_modules_fit_in_one_reading() -> None:
    sizes = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(*PROGRAMS)}
    assert sizes, "no modules were found"
    assert {name: size for name, size in sizes.items() if size > MODULE_LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    too_long = {}
    for path in modules(*PROGRAMS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > FUNCTION_LINES:
                    too_long[f"{named(path)}:{node.name}"] = size
    assert too_long == {}


def test_modules_are_named_for_what_they_are() -> None:
    names = {named(path) for path in modules(*PROGRAMS) if EMPTY_NAMES & set(path.stem.split("_"))}
    assert names == set()


def test_whatever_calls_for_a_person_is_an_alarm_of_a_list() -> None:
    """An error line of another kind has no name, no counter, and no entry in docs/alarms.md."""
    calls = re.compile(r"log(ger)?\.(error|exception|critical)\(|logging\.ERROR|getLogger\(")
    places = [
        f"{named(path)}:{number}"
        for path in modules("payment_service", "callback_gateway", "case_desk")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if calls.search(line)
    ]
    assert places == []
    for listed in (payment_service.alarms, callback_gateway.alarms, case_desk.alarms):
        alarms = [value for value in vars(listed).values() if isinstance(value, Alarm)]
        assert set(listed.ALARMS) == set(alarms)
        assert len({alarm.name for alarm in alarms}) == len(alarms)


@pytest.mark.parametrize("exception", ["type: ignore", "noqa", "pragma: no cover"])
def test_every_exception_to_a_rule_has_its_reason_beside_it(exception: str) -> None:
    without_reason = []
    pattern = re.compile(rf"#\s*{exception}(\[[\w-]+(,\s*[\w-]+)*\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?\s*(?P<rest>.*)$")
    for path in modules(*PROGRAMS, "tests"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = pattern.search(line)
            if found and path != Path(__file__) and len(found["rest"].strip(" -#:")) < 10:
                without_reason.append(f"{named(path)}:{number}")
    assert without_reason == []
