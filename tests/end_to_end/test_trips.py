"""A trip that is refunded by the operators' command, through programs that are killed on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import find_free_port
from development.slowness import slowness
from tests.end_to_end.town import Grounds, a_phone, initiate, payment_when, until
from tests.parts import channel
from tests.rows import rows_of

pytestmark = pytest.mark.slow

BOOKINGS = 60
KILLED_AFTER = (3, 12, 25, 40)
"""Refunds that M-Pesa has read when the command is killed; with the second one, the service dies as well."""
PUSH_TIMEOUT_SECONDS = 5.0 * slowness()


async def initiator_settings(grounds: Grounds) -> dict[str, Any]:
    """What a service needs to send money back here, at a pace that the command sets and not the service."""
    certificate = grounds.site.folder / "certificate.pem"
    certificate.write_text((await grounds.simulator.http.get("/control/certificate")).json()["certificate"])
    return {
        "initiator_name": "development-initiator",
        "initiator_password": "development-initiator-password",
        "initiator_certificate_file": certificate,
        "push_timeout_s": PUSH_TIMEOUT_SECONDS,
        "lease_s": PUSH_TIMEOUT_SECONDS + 3,
        "refunds_per_second": 50,
    }


async def paid_trip(address: str, folder: Path, bookings: int) -> tuple[Path, list[str]]:
    """A file of bookings that are paid, and the phones that have paid them."""
    phones = [a_phone() for _ in range(bookings)]
    async with channel(address) as client:
        payments = PaymentServiceStub(client)
        started = await asyncio.gather(*(initiate(payments, phone) for phone in phones))
        for one in started:
            await payment_when(
                payments, one.payment.payment_id, lambda found: bool(found.mpesa_receipt_number), "the receipt"
            )
    file = folder / "bookings.csv"
    file.write_text("".join(f"{line}\n" for line in ["booking_id", *(one.payment.booking_id for one in started)]))
    return file, phones


@contextlib.asynccontextmanager
async def refunding(address: str, file: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`payment-service refunds start` for a file, without asking; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "payment_service", "refunds", "start", "--file", str(file), "--yes"),
        *("--reason", "the bus broke down", "--per-minute", "600", "--output", "json", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PAYMENTS_GRPC_ADDRESS": address, "PAYMENTS_PLAINTEXT": "true"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def refunded(address: str, file: Path, *words: str) -> dict[str, Any]:
    """The report of a run that is left alone."""
    async with refunding(address, file, *words) as process:
        output, errors = await process.communicate()
    assert process.returncode in (0, 1), errors.decode()
    report: dict[str, Any] = json.loads(output)
    assert (process.returncode == 0) is (report["sums"]["DONE"]["bookings"] == len(report["bookings"]))
    return report


async def sent_back(grounds: Grounds, phones: Sequence[str]) -> list[int]:
    """What has gone back to each phone, by the simulator's ledger."""
    orders = (await grounds.simulator.http.get("/control/orders")).json()["orders"]
    return [sum(order["sent_kes"] for order in orders if order["phone"] == phone) for phone in phones]


async def test_a_trip_that_is_killed_again_and_again_is_refunded_once_each(grounds: Grounds) -> None:
    address, settings = f"127.0.0.1:{find_free_port()}", await initiator_settings(grounds)

    async def killed_after(refunds: int) -> None:
        async def at_mpesa() -> bool | None:
            shown = (await grounds.simulator.http.get("/control/orders")).json()
            return True if shown["totals"]["orders"] >= refunds else None

        async with refunding(address, file):
            await until(at_mpesa, f"{refunds} refunds at M-Pesa")

    async with grounds.site.running_gateway(address, grounds.edge_address):
        async with grounds.site.running_core(address, **settings) as core:
            file, phones = await paid_trip(address, grounds.site.folder, BOOKINGS)
            for refunds in KILLED_AFTER[:2]:
                await killed_after(refunds)
            await core.kill()
        async with grounds.site.running_core(address, **settings):
            for refunds in KILLED_AFTER[2:]:
                await killed_after(refunds)

            # What was on the wire when the service died is asked about first; a run does not wait for that for ever.
            while (await refunded(address, file))["sums"]["DONE"]["bookings"] < BOOKINGS:
                pass
            again = await refunded(address, file)
    assert again["sums"]["DONE"] == {"bookings": BOOKINGS, "amount_kes": 500 * BOOKINGS}
    assert await sent_back(grounds, phones) == [500] * BOOKINGS
    totals = (await grounds.simulator.http.get("/control/orders")).json()["totals"]
    assert (totals["orders"], totals["carried_out"]) == (BOOKINGS, BOOKINGS)
    assert await rows_of(grounds.database, "SELECT state, count(*) FROM refunds GROUP BY state") == [("DONE", BOOKINGS)]


async def test_a_run_goes_as_far_as_the_float_and_the_next_one_does_what_was_left(grounds: Grounds) -> None:
    """A fee is kept, so parts go back. At first the float covers three, which is seen in time; then it is
    gone on the way, which only M-Pesa's refusal tells.
    """
    address, settings = f"127.0.0.1:{find_free_port()}", await initiator_settings(grounds)
    async with (
        grounds.site.running_gateway(address, grounds.edge_address),
        grounds.site.running_core(address, **settings),
    ):
        file, phones = await paid_trip(address, grounds.site.folder, 20)
        await grounds.simulator.control("balance", shortcode="174379", kes=1_400)
        report = await refunded(address, file, "--fee-percent", "10")
        assert report["floats"] == [{"shortcode": "174379", "available_kes": 1_400, "problem": ""}]
        assert (report["stopped"], sums(report)) == ("The float covers no more.", {"DONE": 3, "TO_REFUND": 17})
        await grounds.simulator.control("balance", shortcode="174379", kes=100_000)
        await grounds.simulator.control(f"phones/{phones[5]}/orders", carries_out=False, result_code=1)
        report = await refunded(address, file, "--fee-percent", "10")
        assert report["stopped"].startswith("M-Pesa says that too little money is left")
        assert sums(report)["FAILED"] == 1
        assert sums(report)["TO_REFUND"] > 0
        report = await refunded(address, file, "--fee-percent", "10")
    assert (report["stopped"], sums(report)) == ("", {"DONE": 20})
    assert await sent_back(grounds, phones) == [450] * 20


def sums(report: dict[str, Any]) -> dict[str, int]:
    """How many bookings stand how."""
    return {state: found["bookings"] for state, found in report["sums"].items() if found["bookings"]}
