"""`python -m tests.sabotage`: break the code in one place at a time, and see the tests notice.

The faults go into copies of the tree, never into the tree itself. First the tests that are to notice must pass on an
untouched copy. A fault is caught when one of its tests has run and failed. Tests that cannot be imported, or that do
not end, have noticed nothing, unless the fault says that a hang is what it leads to. Exit code 1 if a fault survives.
"""

import argparse
import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from development.slowness import slowness
from tests.sabotage.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
# Several times what the slowest takes: whatever reaches these hangs.
RUN_SECONDS_MAX = 400.0
UNTOUCHED_SECONDS_MAX = 1800.0
SLOWEST_NAMED = 5
# In the copies what never comes is waited for less long, since most faults show by that. Long enough all the same: the
# untouched code must pass with it.
PATIENCE = ("60.0 * slowness()", "20.0 * slowness()")
_FAILED = re.compile(r"^FAILED (\S+)(.*)$", re.MULTILINE)
# How pytest-timeout says that it has ended a test.
_ENDED_BY_FORCE = "from pytest-timeout"


@dataclass(frozen=True)
class Run:
    """A run of pytest; without a code it had to be ended."""

    code: int | None
    output: str


@dataclass(frozen=True)
class Verdict:
    """Whether a fault was caught, and by which test, or why not."""

    fault: Fault
    caught: bool
    why: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{'caught' if self.caught else 'SURVIVED':<8} {self.fault.name}: {self.why} ({self.seconds:.0f} s)"


def main() -> int:
    """Command line; names of faults may be given, as parts of their text."""
    parser = argparse.ArgumentParser(prog="python -m tests.sabotage", description="See the tests catch every fault.")
    parser.add_argument("parts", nargs="*", help="only faults with one of these in their name")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="faults at a time, each in its own copy")
    words = parser.parse_args()
    chosen = [fault for fault in FAULTS if not words.parts or any(part in fault.name for part in words.parts)]
    if not chosen:
        parser.error(f"no fault has {' or '.join(words.parts)} in its name")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        copies = [Path(folder) / f"copy-{number}" for number in range(max(1, words.jobs))]
        for copy in copies:
            copy_tree(copy)
        tests = tuple(dict.fromkeys(test for fault in chosen for test in fault.tests))
        print(f"{len(chosen)} faults; first the {len(tests)} tests on the untouched code …", flush=True)
        untouched = run(copies[0], ("-n", "2", "--dist", "worksteal", *tests), UNTOUCHED_SECONDS_MAX)
        if untouched.code != 0:
            print(untouched.output[-4000:])
            print("The tests fail on the untouched code: nothing can be said about the faults.")
            return 1
        verdicts = judge(copies, chosen)
    survivors = [verdict for verdict in verdicts if not verdict.caught]
    for verdict in sorted(verdicts, key=lambda one: one.seconds, reverse=True)[:SLOWEST_NAMED]:
        print(f"slow     {verdict.seconds:.0f} s: {verdict.fault.name}")
    for verdict in survivors:
        print(verdict)
    minutes = (time.monotonic() - began) / 60
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults caught, in {minutes:.0f} min.")
    return 1 if survivors else 0


def copy_tree(copy: Path) -> None:
    """What git knows and does not ignore, as it stands in the work tree, but for its patience."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    patience = copy / "tests" / "patience.py"
    patience.write_text(patience.read_text().replace(*PATIENCE))


def judge(copies: Sequence[Path], faults: Sequence[Fault]) -> list[Verdict]:
    """A verdict for each fault, as many at a time as there are copies."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def judge_one(fault: Fault) -> Verdict:
        copy = free.get()
        try:
            verdict = with_fault(copy, fault)
        finally:
            free.put(copy)
        print(verdict, flush=True)
        return verdict

    with ThreadPoolExecutor(len(copies)) as threads:
        return list(threads.map(judge_one, faults))


def with_fault(copy: Path, fault: Fault) -> Verdict:
    """Apply one fault, run its tests, take it back."""
    file = copy / fault.file
    sound = file.read_text()
    if sound.count(fault.old) != 1:
        return Verdict(fault, False, f"its text does not stand exactly once in {fault.file}")
    file.write_text(sound.replace(fault.old, fault.new))
    began = time.monotonic()
    try:
        done = run(copy, ("-x", "-p", "no:xdist", *fault.tests), fault.hangs_after or RUN_SECONDS_MAX)
    finally:
        file.write_text(sound)
    caught, why = read(done, hang_expected=fault.hangs_after is not None)
    return Verdict(fault, caught, why, time.monotonic() - began)


def read(done: Run, *, hang_expected: bool) -> tuple[bool, str]:
    """Whether a run has caught its fault, and by which test, or why not."""
    failed = _FAILED.findall(done.output)
    by = [test for test, why in failed if _ENDED_BY_FORCE not in why]
    if by:
        return True, f"by {by[0]}"
    if done.code is None or failed:
        return hang_expected, "the tests did not end" + (", as they must not" if hang_expected else "")
    if done.code == 0:
        return False, "the tests passed"
    return False, f"no test failed, but pytest ended with {done.code}: {done.output[-500:]}"


def run(copy: Path, arguments: Sequence[str], seconds_max: float) -> Run:
    """Run tests of the copy."""
    options = ["-q", "-p", "no:cacheprovider", "--no-cov", "--tb=short"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=copy,
        # Wide enough for the line that says which test failed, and why.
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(copy),
            "PYTHONPATH": f"{copy}:{copy / 'generated'}",
            "COLUMNS": "1000",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds_max * slowness())
        return Run(process.returncode, output)
    except subprocess.TimeoutExpired:
        # Whatever it has started is in its session and ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return Run(None, process.communicate()[0])


if __name__ == "__main__":
    sys.exit(main())
