"""A trip that is refunded by the operators' command, through programs that are killed on the way."""

from __future__ import annotations

from typing import Any

import pytest

from development.postgres import find_free_port
from development.slowness import slowness
from tests.end_to_end.refunding import initiator_settings, killed_trip, mortal, paid_trip, refunded, sent_back
from tests.end_to_end.town import Grounds
from tests.rows import rows_of

pytestmark = pytest.mark.slow

BOOKINGS = 24
KILLED_AFTER = (3, 8, 14)
"""Refunds that M-Pesa has read when the command is killed."""


async def test_a_trip_that_is_killed_again_and_again_is_refunded_once_each(grounds: Grounds) -> None:
    async with mortal(grounds) as programs:
        trip = await killed_trip(grounds, programs, BOOKINGS, KILLED_AFTER)
    assert trip.report["sums"]["DONE"] == {"bookings": BOOKINGS, "amount_kes": 500 * BOOKINGS}
    assert trip.returned == [500] * BOOKINGS
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
        file, phones = await paid_trip(grounds, address, 12)
        await grounds.simulator.control("balance", shortcode="174379", kes=1_400)
        report = await refunded(address, file, "--fee-percent", "10")
        assert report["floats"] == [{"shortcode": "174379", "available_kes": 1_400, "problem": ""}]
        assert (report["stopped"], sums(report)) == ("The float covers no more.", {"DONE": 3, "TO_REFUND": 9})
        await grounds.simulator.control("balance", shortcode="174379", kes=100_000)
        # The next that is asked for.
        await grounds.simulator.control(f"phones/{phones[3]}/orders", carries_out=False, result_code=1)
        # So slowly that the refusal is known before all are asked for, however long its way takes.
        per_minute = max(1, round(30 / slowness()))
        report = await refunded(address, file, "--fee-percent", "10", "--per-minute", str(per_minute))
        assert report["stopped"].startswith("M-Pesa says that too little money is left")
        assert sums(report)["FAILED"] == 1
        assert sums(report)["TO_REFUND"] > 0
        report = await refunded(address, file, "--fee-percent", "10")
    assert (report["stopped"], sums(report)) == ("", {"DONE": 12})
    assert await sent_back(grounds, phones) == [450] * 12


def sums(report: dict[str, Any]) -> dict[str, int]:
    """How many bookings stand how."""
    return {state: found["bookings"] for state, found in report["sums"].items() if found["bookings"]}
