"""How a long-running program starts, says that it serves, and is told to stop.

Every program here keeps the same manners: it runs on uvloop, writes its ready file once it really serves, drains on
SIGTERM or SIGINT and leaves with 0, and what stops it from starting is one sentence on stderr and exit code 1.
What there is to drain is each program's own affair.
"""

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import resource
import secrets
import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import uvloop


class StartRefused(Exception):
    """The program cannot start; the text says why and what to do, in sentences for people."""


class AddressTaken(StartRefused):
    """Another program listens on the address."""

    def __init__(self, address: "Address", setting: str) -> None:
        super().__init__(
            f"Port {address.port} on {address.host} is taken by another program: "
            f"stop that one, or choose another port with {setting} (0 picks a free one)."
        )


class Address(NamedTuple):
    """Where to listen or connect."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, where plaintext stays."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read HOST:PORT ("127.0.0.1:0", "[::1]:8080"); ValueError says what was expected."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    port_readable = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not colon or not host or not port_readable or (":" in host) is not bracketed:
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080, with a port from 0 to 65535")
    return Address(host, int(port))


def raise_descriptor_limit(needed: int, setting: str) -> None:
    """Let this process open as many descriptors as the system allows; StartRefused if that is less than it needs.

    The usual soft limit is 1,024, and a server that reaches it accepts no connection any more, good or bad.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise StartRefused(
            f"This process may open {hard} descriptors, and {setting} asks for {needed}: raise the limit"
            f" (LimitNOFILE, ulimit -n), or lower {setting}."
        )


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run the program on uvloop; a refused start ends it with its sentence on stderr and exit code 1."""
    with ending_on_refusal():
        uvloop.run(main)


@contextlib.contextmanager
def ending_on_refusal() -> Iterator[None]:
    """End the program with the sentence of a refused start, also where a task group has wrapped it."""
    try:
        yield
    except StartRefused as refusal:
        refuse(refusal)
    except BaseExceptionGroup as failures:
        refused = failures.subgroup(StartRefused)
        if refused is None:
            raise
        refuse(_first(refused))


def _first(failures: BaseExceptionGroup[StartRefused]) -> StartRefused:
    first = failures.exceptions[0]
    return first if isinstance(first, StartRefused) else _first(first)


def refuse(refusal: StartRefused) -> NoReturn:
    """End the program: it cannot start."""
    sys.stderr.write(f"{refusal}\n")
    raise SystemExit(1) from None


def stop_requested() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once. Call it once per program."""
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            # Someone insists: whatever the drain still waits for is abandoned, as in a crash.
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def write_ready_file(path: Path | None, payload: Mapping[str, object]) -> None:
    """Say that the program serves: the payload and our pid as JSON, whole or not at all. Without a path, nothing.

    StartRefused where that cannot be said: whoever waits for the file would wait for ever.
    """
    if path is None:
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # Some payloads name files with credentials: for the owner only.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps({"pid": os.getpid(), **payload}, indent=2) + "\n")
        draft.replace(path)
    except OSError as error:
        raise StartRefused(
            f"The ready file {path} cannot be written: {error.strerror}. Name another one with --ready-file."
        ) from error


def is_address_taken(error: OSError) -> bool:
    """Whether binding failed because the address is in use."""
    # asyncio wraps the failures of several sockets into one text without an errno of its own.
    return error.errno == errno.EADDRINUSE or "address already in use" in str(error).lower()
