"""`python -m tests.sabotage`: break the code in one place at a time, and see the tests notice.

The faults go into copies of the tree, never into the tree itself. First the tests that are to notice must pass on an
untouched copy. A fault is caught when one of its tests has run and failed. Tests that cannot be imported, or that do
not end, have noticed nothing, unless the fault says that a hang is what it leads to. Exit code 1 if a fault survives.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.databases import servers_folder
from tests.sabotage.benches import Bench, Run, Servers, bench, copy_tree, migrated_servers
from tests.sabotage.faults import FAULTS, Fault

# Several times what the slowest takes: whatever reaches these hangs.
RUN_SECONDS_MAX = 400.0
UNTOUCHED_SECONDS_MAX = 1800.0
SLOWEST_NAMED = 5
# A run that waits for what never comes leaves its processor to another one.
RUNS_OF_A_PROCESSOR = 2
# What makes the servers that are given to a run; a fault in it must meet servers of the run's own.
MAKES_SERVERS = ("payment_service/store/migrations/", "development/postgres")
# The times of the files with a fault: each its own, or Python would take what it has compiled of another one.
PLANTED_AT = itertools.count(1)
_FAILED = re.compile(r"^FAILED (\S+)(.*)$", re.MULTILINE)
# How pytest-timeout says that it has ended a test.
_ENDED_BY_FORCE = "from pytest-timeout"


@dataclass(frozen=True)
class Verdict:
    """Whether a fault was caught, and by which test, or why not."""

    fault: Fault
    caught: bool
    why: str
    seconds: float = 0.0
    processor_seconds: float = 0.0

    def __str__(self) -> str:
        took = f"{self.seconds:.0f} s, {self.processor_seconds:.1f} s of the processor"
        return f"{'caught' if self.caught else 'SURVIVED':<8} {self.fault.name}: {self.why} ({took})"


def main() -> int:
    """Command line; names of faults may be given, as parts of their text."""
    parser = argparse.ArgumentParser(prog="python -m tests.sabotage", description="See the tests catch every fault.")
    parser.add_argument("parts", nargs="*", help="only faults with one of these in their name")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="faults at a time, each in its own copy")
    words = parser.parse_args()
    chosen = [fault for fault in FAULTS if not words.parts or any(part in fault.name for part in words.parts)]
    if not chosen:
        parser.error(f"no fault has {' or '.join(words.parts)} in its name")
    jobs = words.jobs or RUNS_OF_A_PROCESSOR * len(os.sched_getaffinity(0))
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="sabotage-") as name,
        servers_folder(Path(name)) as servers,
    ):
        verdicts = asyncio.run(try_all(chosen, Path(name), servers, min(jobs, len(chosen))))
    if verdicts is None:
        return 1
    survivors = [verdict for verdict in verdicts if not verdict.caught]
    for verdict in sorted(verdicts, key=lambda one: one.seconds, reverse=True)[:SLOWEST_NAMED]:
        print(f"slow     {verdict.seconds:.0f} s: {verdict.fault.name}")
    for verdict in survivors:
        print(verdict)
    minutes = (time.monotonic() - began) / 60
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults caught, in {minutes:.0f} min.")
    return 1 if survivors else 0


async def try_all(faults: Sequence[Fault], folder: Path, servers: Path, jobs: int) -> list[Verdict] | None:
    """A verdict for each fault, or None if the tests fail without any."""
    copies = [folder / f"copy-{number}" for number in range(jobs)]
    copy_tree(copies[0])
    tests = tuple(dict.fromkeys(test for fault in faults for test in fault.tests))
    print(f"{len(faults)} faults; first the {len(tests)} tests on the untouched code …", flush=True)
    async with bench(copies[0]) as first:
        workers = ("-n", str(jobs), "--dist", "worksteal")
        untouched = await first.run((*workers, *tests), UNTOUCHED_SECONDS_MAX)
    if untouched.code != 0:
        print(untouched.output[-4000:])
        print("The tests fail on the untouched code: nothing can be said about the faults.")
        return None
    for copy in copies[1:]:
        # With what Python has compiled.
        shutil.copytree(copies[0], copy, symlinks=True)
    async with contextlib.AsyncExitStack() as stack:
        places = [
            (
                await stack.enter_async_context(bench(copy)),
                await stack.enter_async_context(migrated_servers(servers / copy.name)),
            )
            for copy in copies
        ]
        return await judge(places, faults)


async def judge(places: Sequence[tuple[Bench, Servers]], faults: Sequence[Fault]) -> list[Verdict]:
    """A verdict for each fault, as many at a time as there are places."""
    coming = iter(faults)

    async def in_place(bench: Bench, servers: Servers) -> list[Verdict]:
        verdicts = []
        for fault in coming:
            verdict = await with_fault(bench, servers, fault)
            print(verdict, flush=True)
            verdicts.append(verdict)
        return verdicts

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_place(*place)) for place in places]
    return [verdict for task in tasks for verdict in task.result()]


async def with_fault(bench: Bench, servers: Servers, fault: Fault) -> Verdict:
    """Apply one fault, run its tests, take it back."""
    file = bench.copy / fault.file
    sound, times = file.read_text(), file.stat()
    if sound.count(fault.old) != 1:
        return Verdict(fault, False, f"its text does not stand exactly once in {fault.file}")
    file.write_text(sound.replace(fault.old, fault.new))
    planted_at = next(PLANTED_AT)
    os.utime(file, (planted_at, planted_at))
    given = None if fault.file.startswith(MAKES_SERVERS) else servers
    began = time.monotonic()
    try:
        done = await bench.run(("-x", "-p", "no:xdist", *fault.tests), fault.hangs_after or RUN_SECONDS_MAX, given)
    finally:
        file.write_text(sound)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    caught, why = read(done, hang_expected=fault.hangs_after is not None)
    return Verdict(fault, caught, why, time.monotonic() - began, done.processor_seconds)


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


if __name__ == "__main__":
    sys.exit(main())
