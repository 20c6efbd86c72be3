"""`payment-service refunds` as operators type it: a client of a running service, without its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money

from payment_service.application.recording.record_facts import Submission
from payment_service.commands.booking_list import ListedBooking
from payment_service.commands.trip_plan import Passenger, Standing, covered, sum_of, to_ask_for
from payment_service.commands.trip_run import UNDER_WAY_MAX, Act, RunTimes, TripRun, floats_of, go_through, plan
from payment_service.commands.trip_screens import report_lines
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from tests.application.refunding.test_refund_booking import completed
from tests.commands.started import command
from tests.databases import Database
from tests.rows import count
from tests.rpc.processes import Process, paid, refused, running_process, sent

WHY = "the bus to Kisumu broke down"
UNPAID_YET = "No money of this payment is known to have arrived, and some may still come. Ask again later."


@pytest.fixture
def environment(process: Process) -> Mapping[str, str]:
    return {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}


@pytest.fixture
async def trip(process: Process, tmp_path: Path) -> Path:
    """Two bookings that are paid, and one whose prompt is not sent yet."""
    await completed(process, 1, "BK-1")
    await completed(process, 2, "BK-2")
    await process.create(booking_id="BK-3")
    file = tmp_path / "bookings.csv"
    file.write_text("booking_id\nBK-1\nBK-2\nBK-3\n")
    return file


class Restored:
    """Passes calls on to the service, until its database is an older one: then it knows no booking."""

    def __init__(self, service: Any, calls: int) -> None:
        self._service = service
        self._calls = calls

    async def RefundBooking(  # as the method is called
        self, asked: pb.RefundBookingRequest, timeout: float
    ) -> pb.RefundBookingResponse:
        self._calls -= 1
        if self._calls < 0:
            asked.booking_id = "BK-unknown"
        answer: pb.RefundBookingResponse = await self._service.RefundBooking(asked, timeout=timeout)
        return answer


async def listed(process: Process, bookings: int) -> list[ListedBooking]:
    """Bookings that are paid, as a file lists them."""
    for number in range(bookings):
        made = await process.create(booking_id=f"BK-{number}", request_id=f"p-{number}")
        await process.tell(made, *sent(number), paid(f"TKA1B2C{number:03}"))
    return [ListedBooking(number + 2, f"BK-{number}") for number in range(bookings)]


class WithFloat:
    """Passes calls on to the service, says what the float is, and has M-Pesa do each refund at once."""

    def __init__(self, process: Process, available: int) -> None:
        self._process = process
        self._available = available

    async def GetFloat(self, _asked: pb.GetFloatRequest, timeout: float) -> pb.GetFloatResponse:
        return pb.GetFloatResponse(shortcode="174379", available=Money(currency_code="KES", units=self._available))

    async def RefundBooking(self, asked: pb.RefundBookingRequest, timeout: float) -> pb.RefundBookingResponse:
        answer: pb.RefundBookingResponse = await self._process.operations.RefundBooking(asked, timeout=timeout)
        if answer.HasField("refund") and not asked.validate_only:
            found = answer.payment.payment
            done = RefundReported(f"callback:{found.payment_id}", RefundVerdict.DONE, "0", found.mpesa_receipt_number)
            for fact in (RefundClaimed(uuid4()), done):
                submission = Submission(fact, UUID(found.payment_id), refund_id=UUID(answer.refund.refund_id))
                await self._process.writers.facts.submit(submission)
        return answer


class Enough(Exception):
    """The run has looked at its refunds as often as the test needs."""


async def test_no_more_are_asked_for_than_the_rate_allows(process: Process, database: Database) -> None:
    """The first has its turn at once. At none in a minute the next one never has, however often the run looks."""
    looks = iter(range(5))

    def tell(_trip: Sequence[Passenger]) -> None:
        if next(looks, None) is None:
            raise Enough

    service, act = WithFloat(process, 10_000), Act("amina", "", WHY)
    trip = await plan(service, await listed(process, 3), act)
    running = TripRun(service, act, 0, trip, to_ask_for(trip.values()), tell, RunTimes(look=0.01))
    with pytest.raises(Enough):
        await running.go()
    assert await count(database, "refunds") == 1


async def test_a_group_that_waits_for_a_second_operator_leaves_its_float_to_the_rest_of_the_trip(
    database: Database, tmp_path: Path
) -> None:
    async with running_process(database.application_url, tmp_path, approval_above=600) as process:
        amounts = {"BK-1": 700, "BK-2": 500, "BK-3": 500}
        for number, (booking, amount) in enumerate(amounts.items()):
            made = await process.create(booking_id=booking, request_id=f"p-{number}", amount=amount)
            await process.tell(made, *sent(number), paid(f"TKA1B2C{number:03}", amount))
        service, act = WithFloat(process, 1_200), Act("amina", "", WHY)
        trip = await plan(service, [ListedBooking(n + 2, booking) for n, booking in enumerate(amounts)], act)
        floats = await floats_of(service, trip.values(), act)
        wanted = covered(trip.values(), floats)
        assert [one.listed.booking_id for one in wanted] == ["BK-1", "BK-2"]
        running = TripRun(service, act, 60_000, trip, wanted, lambda _: None, RunTimes(look=0.05))
        assert (await go_through(running, floats), running.stopped) == ([], "")
        assert {booking: one.standing for booking, one in trip.items()} == {
            "BK-1": Standing.NOT_POSSIBLE,
            "BK-2": Standing.DONE,
            "BK-3": Standing.DONE,
        }
        # Looked at anew, as by `refunds show`, what waits is not to be refunded.
        again = await plan(service, [ListedBooking(2, "BK-1")], act)
        assert again["BK-1"].standing is Standing.NOT_POSSIBLE
        assert "waits for a second operator" in again["BK-1"].why


async def test_a_trip_whose_refunds_are_held_up_stops_with_ten_under_way(process: Process, database: Database) -> None:
    """Nothing is sent here, so no refund ends: a run forgets none of those under way, and asks for no other."""
    bookings, act = await listed(process, UNDER_WAY_MAX + 3), Act("amina", "", WHY)
    times = RunTimes(look=0.05, result=0, held_up=0.5)
    for _ in range(2):
        trip = await plan(process.operations, bookings, act)
        running = TripRun(process.operations, act, 60_000, trip, to_ask_for(trip.values()), lambda _: None, times)
        await running.go()
        assert running.stopped.startswith("10 refunds have had no result"), running.stopped
        assert await count(database, "refunds") == UNDER_WAY_MAX
        assert sum_of(trip.values(), Standing.TO_REFUND).bookings == 3


@pytest.mark.parametrize("calls", [0, 1], ids=["while it asks", "while it looks"])
async def test_a_service_that_has_forgotten_its_bookings_stops_the_run(process: Process, calls: int) -> None:
    bookings, act = await listed(process, 2), Act("amina", "", WHY)
    trip = await plan(process.operations, bookings, act)
    service = Restored(process.operations, calls)
    running = TripRun(service, act, 60_000, trip, to_ask_for(trip.values()), lambda _: None, RunTimes(look=0.05))
    await running.go()
    assert running.stopped.startswith("The payment service knows bookings of this trip no more: line "), running.stopped
    assert sum_of(trip.values(), Standing.TO_REFUND).bookings == 2 - calls
    said = list(report_lines(list(trip.values()), running.stopped))
    assert said[0] == f"Stopped: {running.stopped}"
    assert "Nothing was started" not in "".join(said)


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
        "  may still be paid: 1",
        f"  line 4  BK-3  {UNPAID_YET}",
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


async def test_one_payment_of_a_booking_is_refunded_by_its_name(
    process: Process, environment: Mapping[str, str], trip: Path, database: Database
) -> None:
    first = await process.tell(await process.create(booking_id="BK-4", request_id="p-4"), *sent(4), refused())
    second = await completed(process, 5, "BK-4")
    await process.tell(first, paid("TKA1B2C3D9"))
    trip.write_text("booking_id\nBK-4\n")
    code, output, _ = await command(environment, "refunds", "show", "--file", str(trip))
    assert (code, output.startswith("line 2  BK-4  NOT_POSSIBLE  More than one payment")) == (0, True), output
    words = ("refunds", "one", "--booking", "BK-4", "--reason", WHY)
    for one in (first, second):
        assert str(one.payment_id) in output
        code, said, errors = await command(environment, *words, "--payment", str(one.payment_id))
        assert (code, errors) == (1, "Nobody can be asked here whether to do it: say so with --yes.\n")
        assert said.splitlines()[:3] == ["booking BK-4", "  caller: development", "  to be refunded: 1, KES 500"]
    for wrong, why in (("BK-4", "payment_id: expected the id"), (str(UUID(int=1)), "Booking BK-4 has no payment")):
        code, said, errors = await command(environment, *words, "--yes", "--payment", wrong)
        assert (code, said, errors.startswith(why)) == (1, "", True), errors
    assert await count(database, "refunds") == 0


async def test_each_passenger_is_shown_with_the_number_masked(environment: Mapping[str, str], trip: Path) -> None:
    code, output, errors = await command(environment, "refunds", "show", "--file", str(trip))
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "line 2  BK-1  KES 500 to 2547*****678  TO_REFUND",
        "line 3  BK-2  KES 500 to 2547*****678  TO_REFUND",
        f"line 4  BK-3  MAY_STILL_PAY  {UNPAID_YET}",
        "0 refunded, 0 under way, 2 to come",
    ]
