"""Runs one command in the foreground: to its end, or until it is told to stop, and then everything it started ends.

Not on uvloop: these programs wait for others and do little themselves, and the standard loop's subprocesses can do all
that the embedded PostgreSQL needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from runtime.serving import ending_on_refusal, stop_requested

Outcome = TypeVar("Outcome")


def run_in_foreground(main: Coroutine[Any, Any, Outcome]) -> Outcome | None:
    """What `main` returns, or None when it was told to stop. A StartRefused ends the program with its sentence."""
    _open_standard_input()
    with ending_on_refusal():
        return asyncio.run(_until_stopped(main))


async def _until_stopped(main: Coroutine[Any, Any, Outcome]) -> Outcome | None:
    """Stopping is possible at any time, also while parts are still starting."""
    stop = stop_requested()
    stopped = asyncio.create_task(stop.wait())
    running = asyncio.create_task(main)
    await asyncio.wait({stopped, running}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set() and not running.done():
        typer.echo("Stopping.")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return None
    return await running


def _open_standard_input() -> None:
    """With standard input closed, the next file opened would become it, and a child would read from that."""
    try:
        os.fstat(0)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)
