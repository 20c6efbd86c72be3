"""Money that is sent back by the programs that are shipped, some of which are killed on the way and started anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import find_free_port
from development.slowness import slowness
from tests.commands.started import command
from tests.end_to_end.town import Grounds, a_phone, initiate, payment_when, until
from tests.forks import MINIMAL, fork
from tests.parts import Process, channel
from tests.rows import count

PUSH_TIMEOUT_SECONDS = 5.0 * slowness()
PAYING_AT_ONCE = 32
RUNS_MAX = 50
"""Runs of the command until the last result is in. Each waits for the last results itself."""


@dataclass
class Mortals:
    """The payment service and its gateway, each of which is started anew at its address when it was killed."""

    address: str
    starts: Mapping[str, Callable[[], Any]]
    stack: contextlib.AsyncExitStack
    running: dict[str, Process] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)

    async def start(self, name: str) -> None:
        self.running[name] = await self.stack.enter_async_context(self.starts[name]())

    async def kill(self, name: str) -> None:
        """As a crash would, and start it anew."""
        await self.running[name].kill()
        self.kills[name] += 1
        await self.start(name)


@contextlib.asynccontextmanager
async def mortal(grounds: Grounds) -> AsyncIterator[Mortals]:
    """Both programs of an installation that can send money back."""
    address, settings = f"127.0.0.1:{find_free_port()}", await initiator_settings(grounds)
    starts = {
        "core": lambda: grounds.site.running_core(address, **settings),
        "gateway": lambda: grounds.site.running_gateway(address, grounds.edge_address),
    }
    async with contextlib.AsyncExitStack() as stack:
        programs = Mortals(address, starts, stack)
        for name in starts:
            await programs.start(name)
        yield programs


async def initiator_settings(grounds: Grounds) -> dict[str, Any]:
    """What a service needs to send money back here, at a pace that the command sets and not the service."""
    # A part waits until a query has backed the money, and no test is about how many are allowed.
    await grounds.simulator.control("settings", queries_per_minute=0)
    certificate = grounds.site.folder / "certificate.pem"
    certificate.write_text((await grounds.simulator.http.get("/control/certificate")).json()["certificate"])
    return {
        "initiator_name": "development-initiator",
        "initiator_password": "development-initiator-password",
        "initiator_certificate_file": certificate,
        "push_timeout_s": PUSH_TIMEOUT_SECONDS,
        "lease_s": PUSH_TIMEOUT_SECONDS + 3,
        "refunds_per_second": 50,
        "queries_per_minute": 6_000,
        "back_after_s": 0.1,
        # The whole waits until the books name its payment: they tell of all that is paid here at once.
        "pull_nominated_number": "254722000000",
        "pull_interval_s": 1,
    }


async def paid_trip(grounds: Grounds, address: str, bookings: int) -> tuple[Path, list[str]]:
    """A file of bookings that are paid, as more than a callback tells, and the phones that have paid them."""

    async def backed() -> bool | None:
        return await count(grounds.database, "mpesa_receipts WHERE proven_by IS NULL") == 0 or None

    phones = [a_phone() for _ in range(bookings)]
    async with channel(address) as client:
        payments = PaymentServiceStub(client)
        started = await paid(payments, phones)
    await until(backed, "books that list all that is paid")
    file = grounds.site.folder / "bookings.csv"
    file.write_text("".join(f"{line}\n" for line in ["booking_id", *(one.booking_id for one in started)]))
    return file, phones


@contextlib.asynccontextmanager
async def refunding(address: str, file: Path, *words: str) -> AsyncIterator[None]:
    """`payment-service refunds start` for a file, without asking; killed at the end if it still runs."""
    with Path(os.devnull).open("r+b") as unread:
        files = dict.fromkeys(("stdin", "stdout", "stderr"), unread.fileno())
        process = await fork("payment_service", words_for(file, *words), refunder(address), **files)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def refunded(address: str, file: Path, *words: str) -> dict[str, Any]:
    """The report of a run that is left alone."""
    code, output, errors = await command(refunder(address), *words_for(file, *words))
    assert code in (0, 1), errors
    report: dict[str, Any] = json.loads(output)
    assert (code == 0) is (report["sums"]["DONE"]["bookings"] == len(report["bookings"]))
    return report


def words_for(file: Path, *words: str) -> tuple[str, ...]:
    start = ("refunds", "start", "--file", str(file), "--yes", "--reason", "the bus broke down")
    return (*start, "--per-minute", "600", "--output", "json", *words)


def refunder(address: str) -> dict[str, str]:
    return {**MINIMAL, "PAYMENTS_GRPC_ADDRESS": address, "PAYMENTS_PLAINTEXT": "true"}


async def paid(payments: PaymentServiceStub, phones: Sequence[str]) -> list[payment_pb2.Payment]:
    """A payment of each phone, once its receipt is known."""
    places = asyncio.Semaphore(PAYING_AT_ONCE)

    async def one(phone: str) -> payment_pb2.Payment:
        async with places:
            started = await initiate(payments, phone)
            return await payment_when(
                payments, started.payment.payment_id, lambda found: bool(found.mpesa_receipt_number), "the receipt"
            )

    return list(await asyncio.gather(*map(one, phones)))


async def sent_back(grounds: Grounds, phones: Sequence[str]) -> list[int]:
    """What has gone back to each phone, by the simulator's ledger."""
    orders = (await grounds.simulator.http.get("/control/orders")).json()["orders"]
    return [sum(order["sent_kes"] for order in orders if order["phone"] == phone) for phone in phones]


@dataclass(frozen=True)
class KilledTrip:
    """A trip that was refunded, however often it was killed."""

    report: dict[str, Any]
    """Of a run that had nothing left to do."""
    phones: Sequence[str]
    returned: Sequence[int]
    """To each phone, by the simulator's books."""


async def killed_trip(grounds: Grounds, programs: Mortals, bookings: int, killed_after: Sequence[int]) -> KilledTrip:
    """A trip whose command is killed when M-Pesa has read so many orders; each second time the service dies as well."""

    async def none_unsent() -> bool | None:
        """A service that dies between its claim and the first byte leaves a doubt that only a person ends."""
        return None if await count(grounds.database, "refunds WHERE state IN ('REQUESTED', 'SENDING')") else True

    file, phones = await paid_trip(grounds, programs.address, bookings)
    for number, refunds in enumerate(killed_after):

        async def at_mpesa(nth: int = refunds) -> bool | None:
            shown = await grounds.simulator.http.get("/control/orders", params={"after": str(nth - 1)})
            return True if shown.json()["orders"] else None

        async with refunding(programs.address, file):
            await until(at_mpesa, f"{refunds} refunds at M-Pesa")
        if number % 2:
            await until(none_unsent, "an answer to all that was sent")
            await programs.kill("core")
    # A result that came while nobody was there is asked for first; a run does not wait for that for ever.
    for _ in range(RUNS_MAX):
        report = await refunded(programs.address, file)
        if report["sums"]["DONE"]["bookings"] == bookings:
            break
    else:
        raise AssertionError(f"not all refunds are done after {RUNS_MAX} runs: {report['sums']}")
    report = await refunded(programs.address, file)
    return KilledTrip(report, phones, await sent_back(grounds, phones))
