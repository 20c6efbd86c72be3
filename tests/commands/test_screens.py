"""The screens that `docs/operating.md` shows are what the commands print, but for ids, references and times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money

from payment_service.commands.booking_list import ListedBooking
from payment_service.commands.trip_plan import covered, sum_of, to_ask_for
from payment_service.commands.trip_run import Act, RunTimes, TripRun, floats_of, go_through, plan
from payment_service.commands.trip_screens import float_lines, plan_lines, report_lines
from payment_service.domain.facts import DeadlinePassed
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from tests.application.casework.casefiles import late
from tests.application.refunding.test_recorded_refunds import tell
from tests.commands.started import command
from tests.commands.test_refunds import WithFloat
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import Process, listed, paid, refused, running_process, sent

PAGE = Path("docs/operating.md")
_VARIES = {
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "ID",
    r"(?<=reference )[a-z0-9]{12}": "REFERENCE",
    r"(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d(?::\d\d(?:\.\d+)?)?": "TIME",
}


@pytest.fixture
def environment(process: Process) -> Mapping[str, str]:
    return {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}


def settled(text: str) -> str:
    """The text without what is another in every run."""
    for pattern, name in _VARIES.items():
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def not_on_the_page(*screens: str) -> list[str]:
    page = settled(PAGE.read_text(encoding="utf-8"))
    return [one for one in screens if settled(one) not in page]


async def screen(environment: Mapping[str, str], *words: str) -> str:
    code, shown, errors = await command(environment, *words)
    assert (code, errors) == (0, "")
    return shown


async def test_late_money_that_is_accepted(process: Process, environment: Mapping[str, str]) -> None:
    await late(process, 1, "RCPT000001")
    found = await screen(environment, "payments", "find", "--phone", "0712345678")
    (case_id,) = re.findall(r"^ +([0-9a-f-]{36})  LATE_PAYMENT", found, re.MULTILINE)
    shown = await screen(environment, "cases", "show", case_id)
    (etag,) = re.findall(f"cases resolve {case_id} accept --etag ([0-9.]+)", shown)
    words = ("--etag", etag, "--reason", "has the message, seat is free", "--operator", "amina", "--yes")
    ended = await screen(environment, "cases", "resolve", case_id, "accept", *words)
    assert not_on_the_page(found, shown, ended) == []


async def test_a_double_payment_that_is_returned(
    process: Process, database: Database, environment: Mapping[str, str]
) -> None:
    first = await process.create(booking_id="BK-1")
    await process.tell(first, *sent(1))
    process.writers.clock.move(400)
    await process.tell(first, DeadlinePassed())
    second = await process.create(booking_id="BK-1")
    await process.tell(second, *sent(2), paid("RCPT000002"))
    await process.tell(first, paid("RCPT000001"))
    found = await screen(environment, "payments", "find", "--booking", "BK-1")
    (case_id,) = re.findall(r"^ +([0-9a-f-]{36})  DUPLICATE_PAYMENT", found, re.MULTILINE)
    shown = await screen(environment, "cases", "show", case_id)
    (etag,) = re.findall(f"cases resolve {case_id} return --etag ([0-9.]+)", shown)
    words = ("--etag", etag, "--reason", "paid twice", "--operator", "amina", "--yes")
    returned = await screen(environment, "cases", "resolve", case_id, "return", *words)
    await process.tell(first, listed("RCPT000001"))
    ((refund_id,),) = await rows_of(database, "SELECT refund_id FROM refunds")
    done = RefundReported("callback:done", RefundVerdict.DONE, "0", "RCPT000001", 500)
    for about in (RefundClaimed(uuid4()), done):
        await tell(process, first, refund_id, about)
    ended = await screen(environment, "cases", "show", case_id)
    assert not_on_the_page(found, returned, ended) == []


async def test_a_trip_before_and_after_its_run(process: Process) -> None:
    """The float pays for four of five, of each of whom a fee is kept; one booking has no money."""
    for number in range(1, 7):
        made = await process.create("booking-service", booking_id=f"BK-{number}", request_id=f"p-{number}")
        receipt = f"RCPT00000{number}"
        facts = (refused(),) if number == 3 else (paid(receipt), listed(receipt))
        await process.tell(made, *sent(number), *facts)
    service, act = WithFloat(process, 2_100), Act("amina", "", "the bus to Kisumu broke down", 10)
    trip = await plan(service, [ListedBooking(number + 1, f"BK-{number}") for number in range(1, 7)], act)
    floats = await floats_of(service, trip.values(), act)
    wanted = covered(trip.values(), floats)
    left_out = sum_of(set(to_ask_for(trip.values())) - set(wanted))
    before = [*plan_lines("6 bookings in bookings.csv", list(trip.values())), *float_lines(floats, left_out)]
    running = TripRun(service, act, 60_000, trip, wanted, lambda _: None, RunTimes(look=0.05))
    assert len(await go_through(running, floats)) == 1
    after = report_lines(list(trip.values()), "The float covers no more.")
    assert not_on_the_page("\n".join(before), "\n".join(after)) == []


@pytest.mark.parametrize("part", [None, 300], ids=["whole", "a part"])
async def test_the_story_of_a_refund(database: Database, tmp_path: Path, part: int | None) -> None:
    async with running_process(database.application_url, tmp_path) as process:
        new = await process.create(booking_id="BK-1")
        for fact in (*sent(1), paid("RCPT000001"), listed("RCPT000001")):
            process.writers.clock.move(1)
            payment = await process.tell(new, fact)
        process.writers.clock.move(600)
        asked = pb.RefundPaymentRequest(
            request_id="r-1",
            payment_id=str(payment.payment_id),
            reason=payment_pb2.REFUND_REASON_BOOKING_CANCELLED,
            amount=Money(currency_code="KES", units=part) if part else None,
        )
        refund_id = UUID((await process.payments.RefundPayment(asked)).payment.refund.refund_id)
        for about in (
            RefundClaimed(uuid4()),
            RefundReported("callback:done", RefundVerdict.DONE, "0", "RCPT000001", part or 500),
        ):
            process.writers.clock.move(2)
            await tell(process, payment, refund_id, about)
    keys = {"PAYMENTS_DATABASE_URL": database.application_url, "PAYMENTS_KEYS_FILE": str(tmp_path / "keys.json")}
    shown = await screen(keys, "explain", payment.reference)
    assert not_on_the_page(shown) == []
