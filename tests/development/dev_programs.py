"""Runs `payment-service dev` for tests, and sees to it that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from mpesa_payments.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc

from development.certificates import Certificates
from development.slowness import slowness
from development.system import channel_to
from tests.commands.started import command
from tests.forks import Forked, fork
from tests.patience import PATIENCE_SECONDS

# Bounds, not expectations: a loaded machine starts five programs in well under these.
START_SECONDS = 90 * slowness()
STOP_SECONDS = 60 * slowness()
FREE_PORTS = ("--grpc-port=0", "--gateway-port=0", "--simulator-port=0", "--metrics-port=0")


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `dev`, and where it writes."""

    process: asyncio.subprocess.Process | Forked
    data_dir: Path
    ready_file: Path
    output_file: Path
    process_ids: set[int] = field(default_factory=set)
    """Of all parts that its ready file has named: a fork does not show the folder in its command line."""

    @property
    def output(self) -> str:
        return self.output_file.read_text(encoding="utf-8")

    async def ready(self) -> dict[str, Any]:
        return await self.ready_when(lambda _ready: True)

    async def ready_when(self, as_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What the ready file says, once it says what is wanted."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                assert self.process.returncode is None, self.output
                if self.ready_file.exists():
                    ready: dict[str, Any] = json.loads(self.ready_file.read_text(encoding="utf-8"))
                    self.process_ids.update(ready["processes"].values())
                    if as_wanted(ready):
                        return ready
                await asyncio.sleep(0.05)

    async def end(self) -> int:
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)

    async def until_nothing_runs(self) -> None:
        await until_nothing_runs(self.data_dir.parent, self.process_ids)


@contextlib.asynccontextmanager
async def running_dev(
    folder: Path, *words: str, settings: Mapping[str, str] | None = None, name: str = "dev", examples: bool = False
) -> AsyncIterator[Dev]:
    """`dev` on free ports, with its data below `folder`: it and its parts are forks. Ended if the test has not."""
    files = _files(folder, name)
    asked = (*words_of(folder, examples=examples), f"--ready-file={files.ready}", *words)
    with files.output.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        process = await fork(
            *("tests.development.forked", asked, {**machine(), **(settings or {})}),
            stdin=nothing.fileno(),
            stdout=output.fileno(),
            stderr=output.fileno(),
        )
    dev = Dev(process, files.data, files.ready, files.output)
    try:
        yield dev
    finally:
        # Not killed: nobody would end its parts then.
        process.terminate()
        await dev.end()
        await dev.until_nothing_runs()


@contextlib.asynccontextmanager
async def running_dev_by_command_line(
    folder: Path, *words: str, name: str = "dev", examples: bool = False
) -> AsyncIterator[Dev]:
    """As a developer starts it: its parts are watched, and end with it. Killed if the test has not ended it."""
    files = _files(folder, name)
    with files.output.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "payment_service", *words_of(folder, examples=examples)),
            *(f"--ready-file={files.ready}", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=machine(),
        )
    dev = Dev(process, files.data, files.ready, files.output)
    try:
        yield dev
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await dev.until_nothing_runs()


class Files(NamedTuple):
    """Where a `dev` writes."""

    data: Path
    ready: Path
    output: Path


def _files(folder: Path, name: str) -> Files:
    return Files(folder / "data", folder / f"{name}.json", folder / f"{name}.txt")


async def refused(folder: Path, *words: str, examples: bool = False) -> str:
    """What `dev` says that is refused; a fork, since its modules take longer to read than it takes to be refused."""
    code, output, errors = await command(machine(), *words_of(folder, examples=examples), *words)
    assert code == 1, output + errors
    await until_nothing_runs(folder)
    assert "Traceback" not in output + errors
    return output + errors


def words_of(folder: Path, *, examples: bool) -> tuple[str, ...]:
    pages = ("--booking-port=0", "--window-port=0", "--desk-port=0") if examples else ("--no-examples",)
    return ("dev", f"--data-dir={folder / 'data'}", *FREE_PORTS, *pages)


def machine() -> dict[str, str]:
    """The environment of these tests, but for settings of the service."""
    everything = dict(os.environ)  # noqa: TID251 -- passed on to another program, not read
    return {key: value for key, value in everything.items() if not key.startswith("PAYMENTS_")}


def url_in_a_file(folder: Path, url: str) -> str:
    """The word that names a database of one's own, whose password is for nobody else."""
    file = folder / "owner-url"
    file.write_text(f"{url}\n")
    return f"--database-url-file={file}"


def _runs(process_id: int) -> bool:
    try:
        return bool(psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


async def until_nothing_runs(folder: Path, process_ids: Collection[int] = ()) -> None:
    """Every process we start names a file below its data folder, or its parent did, or has one of these ids."""
    async with asyncio.timeout(STOP_SECONDS):
        while still_running(folder) or any(map(_runs, process_ids)):
            await asyncio.sleep(0.05)


def still_running(folder: Path) -> list[str]:
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if any(str(folder) in word for word in words) and process.status() != psutil.STATUS_ZOMBIE:
                lines.append(" ".join(words))
    return lines


async def first_end(ready: Mapping[str, Any], booking_id: str) -> payment_pb2.Payment:
    async with channel_to(ready["address"], Certificates(Path(ready["certificates"]))) as channel:
        service = payment_service_pb2_grpc.PaymentServiceStub(channel)
        request = payment_service_pb2.WatchPaymentRequest(booking_id=booking_id)
        async for message in service.WatchPayment(request, timeout=PATIENCE_SECONDS):
            payments = [*message.snapshot.payments, *(event.payment for event in message.events)]
            for payment in payments:
                if payment.status not in (payment_pb2.PAYMENT_STATUS_PENDING, payment_pb2.PAYMENT_STATUS_PROCESSING):
                    return payment
    raise AssertionError("the watch ended before the payment did")


async def shell(line: str) -> str:
    process = await asyncio.create_subprocess_shell(
        line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), START_SECONDS)
    assert process.returncode == 0, err.decode()
    return out.decode()
