"""How slow this machine is just now: what a time that was shortened for a test is multiplied by.

Tests shorten some times of the product by its settings, so that nobody waits two minutes for an expiry. What must
happen within such a time takes longer on a machine that has other work: a callback that comes in time on a quiet one
comes after the expiry, and that says nothing about the product. So the piece of work below is timed once, when a
process first asks, and every shortened time is multiplied by what comes out.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time

# A start of Python with the modules that take longest: a small piece of what our own programs do.
PIECE_OF_WORK = "import grpc, psycopg, sqlalchemy"
# What it takes on a machine with nothing else to do.
QUIET_SECONDS = 0.4
# The first time may also read the modules from the disk, which is no sign of other work.
TIMES = 2
# Keeps the longest of the shortened times within what the settings allow.
MOST = 10.0


@functools.cache
def slowness() -> float:
    """1 on a quiet machine, 5 on one on which work takes five times as long."""
    return min(max(1.0, min(_seconds_taken() for _ in range(TIMES)) / QUIET_SECONDS), MOST)


def _seconds_taken() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", PIECE_OF_WORK], stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
