"""Gateways to test, in this process or as the program, and clients that say exactly the bytes they are told."""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from callback_gateway.app import run_gateway
from callback_gateway.config import GatewaySettings
from runtime.callback_tokens import REFERENCE_ALPHABET, CallbackKeys, callback_path
from runtime.key_rings import KeyRing
from tests.forks import MINIMAL, Forked, fork
from tests.patience import PATIENCE_SECONDS

KEYS = CallbackKeys(current_id="a1", keys={"a1": bytes(range(32)), "b2": bytes(reversed(range(32)))})
# Of a core that is there: longer than it takes, however busy the machine, and used up only when something is broken.
FORWARD_TIME_S = 30.0


@dataclass(frozen=True)
class Reply:
    """What a client received, to the last byte."""

    status: int
    header: bytes
    body: bytes


def new_reference() -> str:
    return "".join(secrets.choice(REFERENCE_ALPHABET) for _ in range(12))


def good_path() -> str:
    return callback_path(KEYS, "stk", new_reference())


def request_bytes(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: edge", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def gateway(core_address: str, **settings: object) -> AsyncIterator[str]:
    """A gateway in this process; yields its address."""
    async with gateway_with(KEYS, core_address, **settings) as address:
        yield address


@contextlib.asynccontextmanager
async def gateway_with(keys: CallbackKeys, core_address: str, /, **settings: object) -> AsyncIterator[str]:
    """The same with other callback keys, those of a core that judges the tokens too."""
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "listen_address": "127.0.0.1:0",
            "core_address": core_address,
            "plaintext": "core_ca_file" not in settings,
            "callback_keys_file": write_ring(Path(folder) / "callback-keys.json", keys),
        }
        # A ring of its own: the gateway follows the file.
        ring = CallbackKeys(keys.current_id, keys.keys)
        async with run_gateway(GatewaySettings.load(**values | settings), ring) as address:
            yield str(address)


def write_ring(path: Path, ring: KeyRing) -> Path:
    """A file of keys with this ring."""
    keys = {key_id: key.hex() for key_id, key in ring.keys.items()}
    path.write_text(json.dumps({"current": ring.current_id, "keys": keys}))
    return path


@contextlib.asynccontextmanager
async def connection(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    async with asyncio.timeout(PATIENCE_SECONDS):
        header = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in header.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        return Reply(int(header.split()[1]), header, await reader.readexactly(length))


async def send(address: str, data: bytes) -> Reply:
    """One request on a connection of its own."""
    async with connection(address) as (reader, writer):
        writer.write(data)
        return await read_reply(reader)


async def post(address: str, path: str, body: bytes = b"{}") -> Reply:
    return await send(address, request_bytes("POST", path, body))


async def closed_by_gateway(reader: asyncio.StreamReader) -> bytes:
    """What the gateway still says before it closes the connection."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def ask_to_send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    """Send all of a request but its body, and wait until the gateway has read that much."""
    writer.write(request_bytes("POST", good_path(), body, "Expect: 100-continue").removesuffix(body))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


async def listens_no_more(address: str) -> None:
    """Wait until the gateway takes no new connection, which it does as long as it is not told to stop."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(ConnectionError):
            while True:
                async with connection(address):
                    await asyncio.sleep(0.02)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass(eq=False)
class Program:
    """The gateway as a process."""

    process: asyncio.subprocess.Process | Forked
    address: str
    log: Path

    @property
    def output(self) -> bytes:
        """All that it has said. In a file: a pipe that nobody reads would hold the program up once it is full."""
        return self.log.read_bytes()

    async def stop(self, signal_number: int) -> list[dict[str, object]]:
        """Signal it, wait for its end, and give the lines it logged."""
        self.process.send_signal(signal_number)
        await self.wait()
        return self.lines()

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.process.wait()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.output.decode("ascii").splitlines()]


@contextlib.asynccontextmanager
async def gateway_program(folder: Path, core_address: str, **environment: str) -> AsyncIterator[Program]:
    """`callback-gateway serve`, serving; killed at the end if it still runs."""
    async with _serving(folder, core_address, environment, forked=True) as program:
        yield program


@contextlib.asynccontextmanager
async def gateway_command(folder: Path, core_address: str, **environment: str) -> AsyncIterator[Program]:
    """The same, started by its command line, as an operator starts it."""
    async with _serving(folder, core_address, environment, forked=False) as program:
        yield program


@contextlib.asynccontextmanager
async def _serving(
    folder: Path, core_address: str, settings: Mapping[str, str], *, forked: bool
) -> AsyncIterator[Program]:
    keys, mark = folder / "callback_keys.json", secrets.token_hex(4)
    ready, log = folder / f"ready-{mark}.json", folder / f"gateway-{mark}.log"
    keys.write_text(json.dumps({"current": KEYS.current_id, "keys": {k: v.hex() for k, v in KEYS.keys.items()}}))
    words = ["serve", "--listen", "127.0.0.1:0", "--core", core_address]
    words += ["--callback-keys-file", str(keys), "--ready-file", str(ready)]
    environment = {
        **MINIMAL,
        "http_proxy": "http://127.0.0.1:1",
        "GATEWAY_LOG_LEVEL": "DEBUG",
        "GATEWAY_PLAINTEXT": "true",
        **settings,
    }
    process: asyncio.subprocess.Process | Forked
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        if forked:
            files = {"stdin": nothing.fileno(), "stdout": output.fileno(), "stderr": output.fileno()}
            process = await fork("callback_gateway", words, environment, **files)
        else:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "callback_gateway", *words),
                stdin=nothing,
                stdout=output,
                stderr=output,
                env=environment,
            )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready.exists():
            assert process.returncode is None, log.read_text()
            assert time.monotonic() < deadline, "the gateway did not become ready"
            await asyncio.sleep(0.02)
        document = json.loads(ready.read_text())
        assert document["pid"] == process.pid
        yield Program(process, document["address"], log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def run_command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "callback_gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**MINIMAL, "GATEWAY_PLAINTEXT": "true", **environment},
    )


def write_keys(folder: Path) -> Path:
    path = folder / "keys.json"
    path.write_text(json.dumps({"current": "a1", "keys": {"a1": "00" * 32}}))
    return path
