"""`payment-service refunds` as operators type it: a client of a running service, without its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.application.refunding.test_refund_booking import completed
from tests.commands.started import command
from tests.databases import Database
from tests.rows import count
from tests.rpc.processes import Process

WHY = "the bus to Kisumu broke down"


@pytest.fixture
def environment(process: Process) -> Mapping[str, str]:
    return {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}


@pytest.fixture
async def trip(process: Process, tmp_path: Path) -> Path:
    """Two bookings that are paid, and one that is not."""
    await completed(process, 1, "BK-1")
    await completed(process, 2, "BK-2")
    await process.create(booking_id="BK-3")
    file = tmp_path / "bookings.csv"
    file.write_text("booking_id\nBK-1\nBK-2\nBK-3\n")
    return file


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    environment: Mapping[str, str], trip: Path, database: Database
) -> None:
    words = ("refunds", "start", "--file", str(trip), "--reason", WHY, "--dry-run")
    code, output, errors = await command(environment, *words)
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "3 bookings in bookings.csv",
        "  caller: development",
        "  to be refunded: 2, KES 1,000",
        "  cannot be refunded from here: 1",
        "  line 4  BK-3  No money of this payment is known to have arrived, so none can go back.",
        "  float of 174379: not known. Refunds are not set up for this shortcode.",
    ]
    _, output, _ = await command(environment, *words, "--output", "json")
    assert json.loads(output)["sums"]["TO_REFUND"] == {"bookings": 2, "amount_kes": 1000}
    code, output, errors = await command(environment, *words[:-1])
    assert (code, errors) == (1, "Nobody can be asked here whether to do it: say so with --yes.\n")
    assert output.startswith("3 bookings in bookings.csv\n")
    assert await count(database, "refunds") == 0


async def test_what_is_wrong_with_the_list_is_named_by_line_and_nothing_is_started(
    environment: Mapping[str, str], trip: Path, database: Database
) -> None:
    words = ("refunds", "start", "--file", str(trip), "--reason", WHY, "--yes")
    for text, said in (
        (
            "booking_id\nBK-1\nBK-9\nBK 2\n",
            "line 3: There is no payment of booking BK-9.\nline 4: booking_id: expected",
        ),
        ("booking_id\nBK-1\nBK-1\n", "line 3: booking BK-1 stands on line 2 already"),
    ):
        trip.write_text(text)
        code, output, errors = await command(environment, *words)
        assert (code, output) == (1, "")
        assert errors.startswith(f"Nothing was started, because of these lines of the file:\n{said}")
    trip.write_text("booking_id\nBK-1\n")
    for wrong, said in (
        (("--file", str(trip.with_name("none.csv"))), "--file "),
        (("--reason", " ", "--operator", "0712345678"), "operator: expected a name"),
    ):
        code, output, errors = await command(environment, *words, *wrong)
        assert (code, output, errors.startswith(said)) == (1, "", True), errors
    assert await count(database, "refunds") == 0


async def test_each_passenger_is_shown_with_the_number_masked(environment: Mapping[str, str], trip: Path) -> None:
    code, output, errors = await command(environment, "refunds", "show", "--file", str(trip))
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "line 2  BK-1  KES 500 to 2547*****678  TO_REFUND",
        "line 3  BK-2  KES 500 to 2547*****678  TO_REFUND",
        "line 4  BK-3  NOT_POSSIBLE  No money of this payment is known to have arrived, so none can go back.",
        "0 refunded, 0 under way, 2 to come",
    ]
