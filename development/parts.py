"""Starts one part of the system as a process by its command line, waits until it serves, and ends it.

A part is never imported: what runs here is what runs in production. It writes a ready file once it serves, its output
goes to a log of its own, and it cannot outlive the process that asked for it (`part_watchdog`). Which parts there are,
with which settings and in which order, is decided in `system`. Tests may have the processes made in another way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from development.postgres import LockFile, last_lines
from runtime.serving import StartRefused

# Bounds, reached only when something is broken: on a small and busy machine each of these takes a minute.
START_TIMEOUT_SECONDS = 300
# Also longer than the 20 s that a draining service gives its open calls.
STOP_TIMEOUT_SECONDS = 120
# After SIGKILL there is only the kernel to wait for.
KILL_TIMEOUT_SECONDS = 10
COMMAND_TIMEOUT_SECONDS = 600
# Parts whose parent was killed are killed too; their ports are free a moment later.
LEFTOVER_TIMEOUT_SECONDS = 15
POLL_SECONDS = 0.02

# Settings with these prefixes configure our programs; all else in the environment belongs to the machine.
SETTING_PREFIXES = ("PAYMENTS_", "GATEWAY_", "DESK_")


class PartFailed(StartRefused):
    """A part ended by itself, or did not begin to serve; the text ends with its last log lines."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        self.report = last_lines(log)
        super().__init__(f"{name} {what}. The end of {log}:\n{self.report}")


class Running(Protocol):
    """A program that was started."""

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    async def wait(self) -> int:
        """Wait until it has ended; how it did."""

    def terminate(self) -> None:
        """Tell it to drain."""

    def kill(self) -> None:
        """End it as it stands."""


Start = Callable[[Sequence[str], Mapping[str, str], int, int], Awaitable[Running]]
"""How `python -m WORDS` is started with an environment: its output goes to the first file, the second is a lock that
is to be held until it has ended."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A program that is killed when we are gone: what we see is its watchdog, which passes everything on."""

    watchdog: asyncio.subprocess.Process

    @property
    def returncode(self) -> int | None:
        return self.watchdog.returncode

    async def wait(self) -> int:
        code = await self.watchdog.wait()
        # Nobody listens any more.
        self.kill()
        return code

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.watchdog.terminate()

    def kill(self) -> None:
        # The end of its standard input tells the watchdog to kill.
        if self.watchdog.stdin is not None:
            self.watchdog.stdin.close()


async def start_watched(words: Sequence[str], environment: Mapping[str, str], output: int, lock: int) -> Watched:
    """Start it as an operator does, by its command line."""
    watchdog = await asyncio.create_subprocess_exec(
        # Isolated and without site-packages: the watchdog must start fast and depend on nothing.
        *(sys.executable, "-I", "-S", str(Path(__file__).with_name("part_watchdog.py"))),
        # -P: a file in the folder of the caller cannot stand in for a module.
        *(sys.executable, "-P", "-m", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        pass_fds=(lock,),
        # A Ctrl-C in the terminal is for us, who then stop the parts in their order.
        start_new_session=True,
    )
    return Watched(watchdog)


@dataclass(frozen=True, slots=True)
class House:
    """Where the parts live."""

    data_dir: Path
    # Held by every part's watchdog, so that it is free only when all of them are gone.
    lock: LockFile
    # The machine's environment, with or without the settings someone exported.
    environment: Mapping[str, str]
    start: Start

    def log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"

    def ready_file(self, name: str) -> Path:
        return self.data_dir / "ready" / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Part:
    """A serving part: what its ready file said, and what it was started with, so that it can be started again."""

    name: str
    process: Running
    log: Path
    ready: Mapping[str, Any]
    words: Sequence[str]
    settings: Mapping[str, str]


def make_house(data_dir: Path, lock: LockFile, *, inherit_settings: bool, start: Start = start_watched) -> House:
    """The folders for logs and ready files. Settings that are not inherited reach no part."""
    for folder in ("logs", "ready"):
        (data_dir / folder).mkdir(mode=0o700, exist_ok=True)
    machine = dict(os.environ)  # noqa: TID251 -- passed on to other programs, not read for settings
    if not inherit_settings:
        machine = {name: value for name, value in machine.items() if not name.upper().startswith(SETTING_PREFIXES)}
    return House(data_dir, lock, machine, start)


async def take_lock(data_dir: Path) -> LockFile:
    """Wait until the parts of a killed run are gone, as they are killed too. The caller closes the lock."""
    lock = LockFile(data_dir / "parts.lock")
    for _ in range(int(LEFTOVER_TIMEOUT_SECONDS / POLL_SECONDS)):
        if lock.try_lock():
            return lock
        await asyncio.sleep(POLL_SECONDS)
    os.close(lock.detach())
    raise StartRefused(f"Parts of an earlier run on {data_dir} do not end: end the processes that hold parts.lock.")


async def start_part(house: House, name: str, words: Sequence[str], settings: Mapping[str, str]) -> Part:
    """Start `python -m WORDS --ready-file …` and wait until it serves."""
    ready_file = house.ready_file(name)
    ready_file.unlink(missing_ok=True)
    process = await _start(house, name, [*words, f"--ready-file={ready_file}"], settings)
    try:
        for _ in range(int(START_TIMEOUT_SECONDS / POLL_SECONDS)):
            if process.returncode is not None:
                raise PartFailed(name, f"ended before it served, with exit code {process.returncode}", house.log(name))
            with contextlib.suppress(FileNotFoundError):
                ready = json.loads(ready_file.read_text(encoding="utf-8"))
                return Part(name, process, house.log(name), ready, tuple(words), dict(settings))
            await asyncio.sleep(POLL_SECONDS)
        raise PartFailed(name, f"did not serve within {START_TIMEOUT_SECONDS} s", house.log(name))
    except BaseException:
        await _stop(process)
        raise


async def run_command(house: House, name: str, words: Sequence[str], settings: Mapping[str, str]) -> None:
    """Run `python -m WORDS` to its end; anything but exit code 0 is a failed part."""
    process = await _start(house, name, words, settings)
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
            await process.wait()
    except TimeoutError:
        raise PartFailed(name, f"was not done within {COMMAND_TIMEOUT_SECONDS} s", house.log(name)) from None
    finally:
        await _stop(process)
    if process.returncode != 0:
        raise PartFailed(name, f"ended with exit code {process.returncode}", house.log(name))


async def stop_part(part: Part) -> None:
    """Let the part drain; kill it if it takes too long."""
    await _stop(part.process)


async def _start(house: House, name: str, words: Sequence[str], settings: Mapping[str, str]) -> Running:
    log_path = house.log(name)
    if log_path.exists():
        # The log of the run before is what one wants to read after a crash.
        log_path.replace(log_path.with_suffix(".log.previous"))
    with os.fdopen(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        return await house.start(words, _environment(house.environment, settings), log.fileno(), house.lock.fd)


async def _stop(process: Running) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_SECONDS)
    except TimeoutError:
        process.kill()
        await asyncio.wait_for(process.wait(), KILL_TIMEOUT_SECONDS)


def _environment(machine: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The machine's environment with our settings; NAME and NAME_FILE are one setting, and both at once an error."""
    ours = {name.removesuffix("_FILE") for name in settings}
    kept = {name: value for name, value in machine.items() if name.upper().removesuffix("_FILE") not in ours}
    return {**kept, **settings}


def write_secret(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
    return path


def lives(process_id: int) -> bool:
    """Whether there is such a process, whoever started it."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
