"""How slow this machine is just now: what a time that was shortened for a test is multiplied by.

Tests shorten some times of the product by its settings, so that nobody waits two minutes for an expiry. What must
happen within such a time takes longer on a machine that has other work: a callback that comes in time on a quiet one
comes after the expiry, and that says nothing about the product. So the piece of work below is timed once, when a
process first asks, and every shortened time is multiplied by what comes out.

What a process has found out it tells the processes that it starts, with their environment: timing takes a second of a
processor itself, and a run of all tests starts dozens of processes that would ask.

Where tests run in several workers at a time, the work is timed before they begin. So what that many workers make of the
machine is added to what its other work makes of it.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time

# A start of Python with the modules that take longest: a small piece of what our own programs do.
PIECE_OF_WORK = "import grpc, psycopg, sqlalchemy"
# What it takes on a machine with nothing else to do.
QUIET_SECONDS = 0.4
# The first time may also read the modules from the disk, which is no sign of other work.
TIMES = 2
# What a worker of the tests keeps busy: itself, or the programs that it has started while it waits for them.
PROCESSORS_OF_A_WORKER = 1
# Keeps the longest of the shortened times within what the settings allow.
MOST = 10.0
# In the environment of a process that was started by one that has timed the piece of work already.
SECONDS_TAKEN = "PIECE_OF_WORK_SECONDS"


@functools.cache
def slowness() -> float:
    """1 on a quiet machine, 5 on one on which work takes five times as long."""
    told = os.environ.get(SECONDS_TAKEN)  # noqa: TID251 -- told from process to process, not a setting
    seconds_taken = float(told) if told else min(_seconds_taken() for _ in range(TIMES))
    os.environ[SECONDS_TAKEN] = str(seconds_taken)  # noqa: TID251 -- told, not a setting
    # Set by pytest-xdist in each of its workers, and so in the programs that they start with their environment.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # noqa: TID251 -- pytest's own word, not a setting
    return slowness_of(seconds_taken, workers, len(os.sched_getaffinity(0)))


def slowness_of(seconds_taken: float, workers: int, processors: int) -> float:
    """The same of a machine on which the piece of work takes so long, beside so many workers of the tests."""
    beside_others = max(1.0, seconds_taken / QUIET_SECONDS)
    beside_workers = max(1.0, workers * PROCESSORS_OF_A_WORKER / processors) if workers > 1 else 1.0
    return min(beside_others + beside_workers - 1, MOST)


def _seconds_taken() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", PIECE_OF_WORK], stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
