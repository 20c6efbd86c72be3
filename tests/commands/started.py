"""Commands of `payment-service`, each a process of its own with an environment of its own, as operators run them.

To read the modules takes a process nearly two seconds, and what a command then does a tenth of one. So one process
for each test process reads them once, and makes every command's process by a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]
MESSAGE_BYTES_MAX = 100_000
MINIMAL = {"PATH": "/usr/bin:/bin"}


async def command(
    environment: Mapping[str, str], *words: str, stdin: int = asyncio.subprocess.DEVNULL
) -> tuple[int, str, str]:
    """Run `payment-service` with these words: exit code, output, errors."""
    asked = json.dumps({"words": words, "environment": {**MINIMAL, **environment}}).encode()
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        Path(os.devnull).open("rb") as nothing,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line,
    ):
        line.connect(_forks())
        given = nothing.fileno() if stdin == asyncio.subprocess.DEVNULL else stdin
        socket.send_fds(line, [asked], [given, output.fileno(), errors.fileno()])
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        process_id = int(await loop.sock_recv(line, MESSAGE_BYTES_MAX))
        try:
            code = await asyncio.wait_for(loop.sock_recv(line, MESSAGE_BYTES_MAX), PATIENCE_SECONDS)
        except (asyncio.CancelledError, TimeoutError):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
            raise
        output.seek(0)
        errors.seek(0)
        said = output.read().decode(), errors.read().decode()
        assert code, f"the process ended without an exit code: {said}"
        return int(code), *said


@functools.cache
def _forks() -> str:
    """The address of the process that forks; it ends with this one."""
    folder = tempfile.mkdtemp(prefix="commands-")
    address = str(Path(folder) / "forks")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.commands.started", address],
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
            process.communicate(timeout=PATIENCE_SECONDS)
        Path(address).unlink(missing_ok=True)
        Path(folder).rmdir()

    atexit.register(end)
    return address


def _fork_until_the_end(address: str) -> None:
    """Make a process for each command that is asked for, until standard input is closed."""
    import payment_service.__main__

    # And so is what a command imports once it is asked for.
    asked_for = pkgutil.iter_modules(payment_service.commands.__path__, "payment_service.commands.")
    for module in ("payment_service.app", "development.dev", *(one.name for one in asked_for)):
        importlib.import_module(module)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        while True:
            can_be_read, _, _ = select.select([listener.fileno(), sys.stdin.fileno()], [], [])
            if sys.stdin.fileno() in can_be_read:
                return
            line, _ = listener.accept()
            with line:
                if os.fork() == 0:
                    listener.close()
                    _be_a_command(line)


def _be_a_command(line: socket.socket) -> None:
    """In the new process: do what is asked for, tell the exit code, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(line, MESSAGE_BYTES_MAX, 3)
    line.send(str(os.getpid()).encode())
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    asked = json.loads(message)
    os.environ.clear()  # noqa: TID251 -- what the command's own process would have begun with
    os.environ.update(asked["environment"])  # noqa: TID251 -- for the same reason
    code = _run(asked["words"])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    line.send(str(code).encode())
    os._exit(code)


def _run(words: list[str]) -> int:
    from payment_service.__main__ import app

    try:
        app(args=words, prog_name="payment-service")
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
