"""Programs of the project, each a process of its own with an environment of its own, made by a fork.

To read its modules takes a program up to two seconds of the processor, and what it then does until it serves a tenth
of them. So one process for each test process reads them once, and makes every program's process by a fork. How programs
start by their command lines is shown by their own tests, and by those of `dev` and the demo.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

PROJECT = Path(__file__).parents[1]
MESSAGE_BYTES_MAX = 100_000
# It has nothing to do at its end, however busy the machine.
END_SECONDS = 60
ENDED = "the process that forks has ended"
MINIMAL = {"PATH": "/usr/bin:/bin"}

# All that a program imports, at once or when it is told what to do. What is left out is imported in each process.
MODULES: Mapping[str, Sequence[str]] = {
    "payment_service": (
        "development.dev",
        "payment_service.__main__",
        "payment_service.app",
        "payment_service.commands.audit_steps",
        "payment_service.commands.callbacks",
        "payment_service.commands.check_config",
        "payment_service.commands.inspect",
        "payment_service.commands.key_steps",
        "payment_service.rpc.json_listener",
        "runtime.exporting",
    ),
    "callback_gateway": ("callback_gateway.__main__", "callback_gateway.app", "runtime.exporting"),
    "case_desk": ("case_desk.__main__", "case_desk.app", "runtime.exporting"),
    "daraja_simulator": ("daraja_simulator.__main__",),
    "examples.booking_service": ("examples.booking_service.__main__",),
    "examples.notification_service": ("examples.notification_service.__main__",),
    "tests.development.forked": ("tests.development.forked.__main__", "development.desk_door", "development.window"),
}


class Forked:
    """A process, as asyncio shows one of its own."""

    def __init__(self, process_id: int, line: socket.socket) -> None:
        self.pid = process_id
        self.returncode: int | None = None
        self._end = asyncio.create_task(self._told(line))

    async def wait(self) -> int:
        """Wait until it has ended; how it did."""
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        # Once it has ended, another process may have its number.
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _told(self, line: socket.socket) -> int:
        with line:
            code = await asyncio.get_running_loop().sock_recv(line, MESSAGE_BYTES_MAX)
        assert code, ENDED
        self.returncode = int(code)
        return self.returncode


async def fork(
    program: str, words: Sequence[str], environment: Mapping[str, str], *, stdin: int, stdout: int, stderr: int
) -> Forked:
    """Start `python -m PROGRAM WORDS`."""
    return await fork_by(_forks(), program, words, environment, stdin=stdin, stdout=stdout, stderr=stderr)


async def fork_by(
    forks: str,
    program: str,
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
) -> Forked:
    """The same by the process that forks at this address."""
    asked = {
        "program": program,
        "words": list(words),
        "environment": dict(environment),
        # As a child of this process would have it.
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
    }
    assert program in MODULES, f"{program} is not among the programs that are forked: see MODULES"
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(forks)
        socket.send_fds(line, [json.dumps(asked).encode()], [stdin, stdout, stderr])
        line.setblocking(False)
        process_id = await asyncio.get_running_loop().sock_recv(line, MESSAGE_BYTES_MAX)
        assert process_id, ENDED
        return Forked(int(process_id), line)
    except BaseException:
        line.close()
        raise


def made_by() -> str:
    """In a process that was made by a fork: the address of the one that made it, which is its last word."""
    return Path(f"/proc/{os.getppid()}/cmdline").read_text(encoding="utf-8").split("\0")[-2]


@functools.cache
def _forks() -> str:
    """The address of the process that forks; it ends with this one."""
    folder = tempfile.mkdtemp(prefix="forks-")
    address = str(Path(folder) / "forks")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forks", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=MINIMAL,
        cwd=PROJECT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout as ready:
        assert ready.readline() == b"ready\n"

    def end() -> None:
        with contextlib.suppress(OSError):
            process.communicate(timeout=END_SECONDS)
        Path(address).unlink(missing_ok=True)
        Path(folder).rmdir()

    atexit.register(end)
    return address


def _fork_until_the_end(address: str) -> None:
    """Make a process for each program that is asked for, and tell how it ended, until standard input is closed."""
    running: dict[int, tuple[int, socket.socket]] = {}
    try:
        _fork_what_is_asked_for(address, running)
    finally:
        # Of tests that were themselves ended by force.
        for left in running:
            signal.pidfd_send_signal(left, signal.SIGKILL)


def _fork_what_is_asked_for(address: str, running: dict[int, tuple[int, socket.socket]]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        while True:
            can_be_read, _, _ = select.select([listener.fileno(), sys.stdin.fileno(), *running], [], [])
            if sys.stdin.fileno() in can_be_read:
                break
            for ended in running.keys() & can_be_read:
                process_id, line = running.pop(ended)
                os.close(ended)
                _, status = os.waitpid(process_id, 0)
                with line, contextlib.suppress(OSError):
                    line.send(str(os.waitstatus_to_exitcode(status)).encode())
            if listener.fileno() in can_be_read:
                line, _ = listener.accept()
                message, descriptors, _, _ = socket.recv_fds(line, MESSAGE_BYTES_MAX, 3)
                asked = json.loads(message)
                _read_modules(asked["program"])
                process_id = os.fork()
                if process_id == 0:
                    _begin([listener, line, *(one for _, one in running.values())], running, descriptors, asked)
                for descriptor in descriptors:
                    os.close(descriptor)
                with contextlib.suppress(OSError):
                    line.send(str(process_id).encode())
                running[os.pidfd_open(process_id)] = (process_id, line)


def _begin(
    inherited: Sequence[socket.socket], others: Iterable[int], standard: Sequence[int], asked: Mapping[str, Any]
) -> NoReturn:
    """In the new process: leave to the old one what is its own, and never come back to what only that may do."""
    try:
        for one in inherited:
            one.close()
        for other in others:
            os.close(other)
        _be_the_program(standard, **asked)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


@functools.cache
def _read_modules(program: str) -> None:
    for name in MODULES[program]:
        importlib.import_module(name)
    # They stay, so no process has to look through them, and all share the same memory.
    gc.freeze()


def _be_the_program(
    standard: Sequence[int],
    program: str,
    words: Sequence[str],
    environment: Mapping[str, str],
    descriptors: tuple[int, int],
) -> None:
    """Do what is asked for, and end."""
    resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()  # noqa: TID251 -- what the program's own process would have begun with
    os.environ.update(environment)  # noqa: TID251 -- for the same reason
    code = _run(program, words)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _run(program: str, words: Sequence[str]) -> int:
    try:
        module = importlib.import_module(f"{program}.__main__")
        if hasattr(module, "app"):
            module.app(args=words, prog_name=program.replace("_", "-"))
        else:
            sys.argv[1:] = words
            module.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _fork_until_the_end(sys.argv[1])
