"""The faults of `make sabotage` still fit the code they are about."""

import functools
from pathlib import Path

from tests.cells import try_each
from tests.sabotage.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
# By the process that runs the tests of a copy, whose own they are not: see forked_runs.py.
READ_BEFORE_THE_FAULT = ("development/slowness.py",)


def test_a_fault_has_exactly_one_place_and_tests_that_exist() -> None:
    faults = {fault.name: (fault,) for fault in FAULTS}
    assert len(faults) == len(FAULTS), "every fault has a name of its own"
    try_each(faults, fault_has_exactly_one_place_and_tests_that_exist)


def fault_has_exactly_one_place_and_tests_that_exist(fault: Fault) -> None:
    assert text(fault.file).count(fault.old) == 1, "how often its text occurs"
    assert fault.old != fault.new
    assert fault.file not in READ_BEFORE_THE_FAULT
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in text(file) if name else (ROOT / file).exists(), test


@functools.cache
def text(file: str) -> str:
    return (ROOT / file).read_text()
