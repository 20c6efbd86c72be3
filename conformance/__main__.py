"""`python -m conformance`: run every case against the real programs and print the table.

Exit code 1 if any fails; then everything that the programs logged is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from conformance.cases import CASES
from conformance.running import Case, run_cases
from conformance.table import a_console, show_progress, show_table
from development.foreground import run_in_foreground
from development.parts import Start, start_watched


def main(start: Start = start_watched) -> int:
    """Command line; 1 if a case failed, or the run was stopped. Tests may start the programs in another way."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description="Try every promise about money.")
    parser.add_argument("words", nargs="*", help="only the cases whose title contains one of these")
    words = parser.parse_args().words
    wanted = [one for one in CASES if not words or any(word in one.title for word in words)]
    if not wanted:
        parser.error(f"no case has {' or '.join(words)} in its title")
    return 0 if run_in_foreground(_run(wanted, start)) else 1


async def _run(wanted: list[Case], start: Start) -> bool:
    console, began = a_console(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mpesa-conformance-"))
    console.print(f"{len(wanted)} cases; starting PostgreSQL, the payment services, gateways and simulators …")
    # Of a run that failed, what the programs logged is the first thing one wants to read.
    keep = True
    try:
        results = await run_cases(folder, wanted, lambda result: show_progress(console, result), start)
        keep = not show_table(console, results, time.monotonic() - began)
    except asyncio.CancelledError:
        keep = False
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if keep:
        console.print(f"What the programs logged is in {folder}.", soft_wrap=True)
    return not keep


if __name__ == "__main__":
    sys.exit(main())
