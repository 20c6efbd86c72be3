"""Every part of the service as a process of its own, on free ports."""

import asyncio
import contextlib
import functools
import json
import os
import resource
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from development.slowness import slowness
from payment_service.security.keys import create_keys
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.key_rings import create_key_ring
from tests import tracing
from tests.forks import MINIMAL, MODULES, Forked, fork
from tests.patience import PATIENCE_SECONDS

QUIRK_REPORTS = Path("build/quirk-reports")

# Safaricom's public sandbox values; the simulator has the same.
SHORTCODES = [
    {
        "number": "174379",
        "kind": "PAYBILL",
        "passkey": "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919",
    }
]


@dataclass(frozen=True)
class Process:
    """One running part."""

    name: str
    process: asyncio.subprocess.Process | Forked
    ready_file: Path
    log: Path

    @functools.cached_property
    def ready(self) -> Mapping[str, Any]:
        """What it said when it began to serve."""
        ready: Mapping[str, Any] = json.loads(self.ready_file.read_text())
        return ready

    @property
    def address(self) -> str:
        return str(self.ready["address"])

    async def serves(self) -> None:
        """Wait until it serves."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not self.ready_file.exists():
                    if self.process.returncode is not None:
                        raise AssertionError(f"{self.name} did not start: {self.log.read_text()[-2000:]}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"{self.name} was not ready in time: {self.log.read_text()[-2000:]}") from None

    async def kill(self) -> None:
        """End it as a crash would."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """End it as an operator would, and expect it to leave cleanly."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self.process.wait()
        assert code == 0, f"{self.name} ended with {code}: {self.log.read_text()[-2000:]}"


async def spawn(name: str, folder: Path, arguments: list[str], environment: Mapping[str, str]) -> Process:
    """Start a part, which does not serve yet."""
    mark = secrets.token_hex(4)
    ready_file, log = folder / f"{name}-{mark}.json", folder / f"{name}-{mark}.log"
    program, words = arguments[0], [*arguments[1:], "--ready-file", str(ready_file)]
    environment = {**MINIMAL, **_inherited(), **environment}
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        if program in MODULES and tracing.NAME not in environment:
            files = {"stdin": nothing.fileno(), "stdout": output.fileno(), "stderr": output.fileno()}
            return Process(name, await fork(program, words, environment, **files), ready_file, log)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", program, *words), stdin=nothing, stdout=output, stderr=output, env=environment
        )
    return Process(name, process, ready_file, log)


async def start(name: str, folder: Path, arguments: list[str], environment: Mapping[str, str]) -> Process:
    """Start a part and wait until it serves."""
    part = await spawn(name, folder, arguments, environment)
    await part.serves()
    return part


@contextlib.asynccontextmanager
async def running(
    name: str, folder: Path, arguments: list[str], environment: Mapping[str, str]
) -> AsyncIterator[Process]:
    """A part that is stopped at the end, unless the test has ended it already."""
    part = await start(name, folder, arguments, environment)
    try:
        yield part
    finally:
        if part.process.returncode is None:
            await part.stop()


@dataclass(frozen=True)
class Site:
    """One installation: its keys and files, and the environment of its parts."""

    folder: Path
    database_url: str
    simulator_url: str
    gateway_url: str = ""

    def core_environment(self, **settings: object) -> dict[str, str]:
        """The settings of a payment service of this site; `settings` are names without the prefix."""
        values: dict[str, object] = {
            "plaintext": True,
            "database_url": self.database_url,
            "keys_file": self.folder / "keys.json",
            "callback_keys_file": self.folder / "callback-keys.json",
            "shortcodes_file": self.folder / "shortcodes.json",
            "daraja_base_url": self.simulator_url,
            "daraja_consumer_key": "development-consumer-key",
            "daraja_consumer_secret": "development-consumer-secret",
            "callback_base_url": self.gateway_url,
            "pushes_per_second": 2_000,
            "send_within_s": 20 * slowness(),
        }
        return {f"PAYMENTS_{name.upper()}": str(value) for name, value in (values | settings).items()}

    def running_core(self, listen: str = "127.0.0.1:0", **settings: object) -> Any:
        """A payment service of this site, as a context manager."""
        arguments = ["payment_service", "serve", "--listen", listen]
        return running("core", self.folder, arguments, self.core_environment(**settings))

    def running_gateway(self, core_address: str, listen: str = "127.0.0.1:0", **settings: object) -> Any:
        """A gateway of this site with a spool, as a context manager; `settings` are names without the prefix."""
        arguments = ["callback_gateway", "serve", "--listen", listen, "--core", core_address]
        values: dict[str, object] = {
            "plaintext": True,
            "callback_keys_file": self.folder / "callback-keys.json",
            # After it a callback goes into the spool, and the simulator has its answer well within the 30 s it waits.
            "forward_time_s": min(3 * slowness(), 15.0),
            "spool_folder": self.folder / "callback-spool",
            "spool_keys_file": self.folder / "callback-spool-keys.json",
        }
        environment = {f"GATEWAY_{name.upper()}": str(value) for name, value in (values | settings).items()}
        return running("gateway", self.folder, arguments, environment)


def make_site(folder: Path, database_url: str, simulator_url: str, gateway_url: str) -> Site:
    """The files of an installation."""
    create_keys(folder / "keys.json")
    create_key_ring(folder / "callback-keys.json")
    (folder / "shortcodes.json").write_text(json.dumps(SHORTCODES))
    return Site(folder, database_url, simulator_url, gateway_url)


def running_simulator(folder: Path, *flags: str) -> Any:
    """A simulator whose quirks count for the whole test run, as a context manager."""
    QUIRK_REPORTS.mkdir(parents=True, exist_ok=True)
    report = QUIRK_REPORTS / f"{secrets.token_hex(8)}.json"
    arguments = ["daraja_simulator", "serve", "--port", "0", "--report-file", str(report), *flags]
    return running("simulator", folder, arguments, {})


@contextlib.contextmanager
def soft_limit(descriptors: int) -> Iterator[int]:
    """What is started in the block may open so many descriptors at first; gives how many it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def read_page(address: str) -> str:
    """What Prometheus would read at the address."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        answer = await client.get(f"http://{address}/metrics")
    assert answer.status_code == 200
    return answer.text


def channel(address: str) -> grpc.aio.Channel:
    """A client's channel, with the options we ship."""
    return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)


def _inherited() -> dict[str, str]:
    inherited = ("COVERAGE_PROCESS_START", tracing.NAME, "HOME", "LANG")
    return {name: os.environ[name] for name in inherited if name in os.environ}  # noqa: TID251 -- what a child inherits, not a setting
