"""What counts as caught: a test that ran and failed, and nothing else."""

from pathlib import Path

import pytest

from tests.sabotage.__main__ import PATIENCE, ROOT, read, run
from tests.sabotage.faults import FAULTS

TESTS = {
    "passes": "def test_it() -> None: pass",
    "fails": "def test_it() -> None: assert False",
    "cannot be imported": "import no_such_module\ndef test_it() -> None: pass",
    "has no ground to stand on": "import pytest\n@pytest.fixture\ndef ground(): 1 / 0\ndef test_it(ground): pass",
    "hangs": "import time, pytest\n@pytest.mark.timeout(1)\ndef test_it() -> None: time.sleep(60)",
}


@pytest.mark.parametrize("kind", TESTS)
def test_only_a_test_that_ran_and_failed_has_caught_a_fault(tmp_path: Path, kind: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    (tmp_path / "test_it.py").write_text(TESTS[kind])
    done = run(tmp_path, ("-x", "test_it.py"), 300.0)
    caught, why = read(done, hang_expected=False)
    assert caught is (kind == "fails"), done.output
    assert ("did not end" in why) is (kind == "hangs")
    assert read(done, hang_expected=True)[0] is (kind in ("fails", "hangs"))


def test_a_run_that_had_to_be_ended_has_caught_nothing_unless_a_hang_is_expected(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import time\ndef test_it() -> None: time.sleep(600)")
    done = run(tmp_path, ("test_it.py",), 0.5)
    assert done.code is None
    assert read(done, hang_expected=False) == (False, "the tests did not end")
    assert read(done, hang_expected=True)[0] is True


def test_what_is_shortened_in_the_copies_is_there() -> None:
    assert (ROOT / "tests" / "patience.py").read_text().count(PATIENCE[0]) == 1


def test_names_of_faults_are_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
