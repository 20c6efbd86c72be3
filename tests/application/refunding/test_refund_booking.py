"""Refunds by booking: which payment it is, that it is asked for once by whomever, and what stands in the way."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2, payment_service_pb2
from rich.console import Console

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.inspecting.invariants import Instruments, Invariant
from payment_service.application.recording.record_facts import Submission
from payment_service.application.recording.request_encoding import KeptRequest, request_row
from payment_service.commands.screens import show_tallies
from payment_service.domain.booking_refunds import request_ids
from payment_service.domain.facts import RefundRequested
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundOrder, RefundReason, RefundRequest
from payment_service.domain.refund_facts import RefundClaimed, RefundRefused, RefundReported, RefundVerdict
from payment_service.store.engines import connect_reader
from runtime.callback_tokens import new_reference
from tests.application.casework.casefiles import late
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, listed, paid, sent
from tests.rpc.processes import refused as no_money

RECEIPT = "TKA1B2C3D4"
WHY = "the bus to Kisumu broke down"


def asked(booking_id: str = "BK-1", **changed: Any) -> pb.RefundBookingRequest:
    fields: dict[str, Any] = {
        "booking_id": booking_id,
        "refund_reason": payment_pb2.REFUND_REASON_BOOKING_CANCELLED,
        "operator": "amina",
        "reason": WHY,
    }
    return pb.RefundBookingRequest(**(fields | changed))


async def completed(
    process: Process, number: int = 1, booking_id: str = "BK-1", caller: str = "development"
) -> Payment:
    made = await process.create(caller, booking_id=booking_id, request_id=f"p-{caller}-{number}")
    receipt = f"{RECEIPT[:-1]}{number}"
    return await process.tell(made, *sent(number), paid(receipt), listed(receipt))


async def failed(process: Process, answer: pb.RefundBookingResponse) -> None:
    """M-Pesa refuses the refund: too little money."""
    payment_id, refund_id = UUID(answer.payment.payment.payment_id), UUID(answer.refund.refund_id)
    claim = UUID(refund_id.hex)
    for fact in (RefundClaimed(claim), RefundRefused(claim, "1")):
        await process.writers.facts.submit(Submission(fact, payment_id, refund_id=refund_id))


async def test_a_look_says_what_would_go_back_and_leaves_nothing(process: Process, database: Database) -> None:
    payment = await completed(process)
    answer = await process.operations.RefundBooking(
        pb.RefundBookingRequest(
            booking_id="BK-1", refund_reason=payment_pb2.REFUND_REASON_BOOKING_CANCELLED, validate_only=True
        )
    )
    assert (answer.payment.payment.payment_id, answer.amount.units) == (str(payment.payment_id), 500)
    assert (answer.HasField("refund"), answer.shortcode) == (False, "174379")
    assert await count(database, "refunds") == 0
    assert await count(database, "caller_requests") == 0


async def test_whoever_asks_however_often_there_is_one_refund(process: Process, database: Database) -> None:
    await completed(process)
    first = await process.operations.RefundBooking(asked())
    assert first.refund.status == payment_pb2.REFUND_STATUS_PENDING
    assert first.payment.payment.booking_action == payment_pb2.BOOKING_ACTION_RELEASE
    others = [asked(), asked(operator="brian", reason="asked for by the manager"), asked(validate_only=True)]
    answers = await asyncio.gather(*(process.operations.RefundBooking(other) for other in others * 3))
    assert {answer.refund.refund_id for answer in answers} == {first.refund.refund_id}
    assert await count(database, "refunds") == 1
    async with await connect_reader(database.application_url) as connection:
        payment_id = UUID(first.payment.payment.payment_id)
        story = await explain_payment(process.writers.sealer, connection, payment_id)
    assert [moment.by for moment in story.moments if moment.what.startswith("refund ")] == [f"operator amina: {WHY}"]


async def test_a_fee_is_kept_once_and_what_was_asked_for_stays(process: Process, database: Database) -> None:
    await completed(process)
    look = await process.operations.RefundBooking(asked(fee_percent=15, validate_only=True))
    assert (look.amount.units, look.fee.units, look.HasField("refund")) == (425, 75, False)
    first = await process.operations.RefundBooking(asked(fee_percent=15))
    assert (first.refund.amount.units, first.payment.payment.booking_action) == (
        425,
        payment_pb2.BOOKING_ACTION_RELEASE,
    )
    for percent in (0, 15, 50):
        again = await process.operations.RefundBooking(asked(fee_percent=percent))
        assert (again.refund.refund_id, again.amount.units) == (first.refund.refund_id, 425)
    assert await rows_of(database, "SELECT amount FROM refunds") == [(425,)]
    refusal = await refused(process.operations.RefundBooking(asked(fee_percent=100)))
    assert list(refusal.fields) == ["fee_percent"]


async def test_after_a_refund_that_failed_the_next_call_asks_again(process: Process, database: Database) -> None:
    await completed(process)
    first = await process.operations.RefundBooking(asked())
    await failed(process, first)
    look = await process.operations.RefundBooking(asked(validate_only=True))
    assert (look.refund.refund_id, look.refund.status) == (first.refund.refund_id, payment_pb2.REFUND_STATUS_FAILED)
    assert (look.provider_result_code, look.amount.units) == ("1", 500)
    answers = await asyncio.gather(*(process.operations.RefundBooking(asked()) for _ in range(5)))
    assert len({answer.refund.refund_id for answer in answers}) == 1
    assert answers[0].refund.status == payment_pb2.REFUND_STATUS_PENDING
    assert await rows_of(database, "SELECT state FROM refunds ORDER BY requested_at, refund_id") == [
        ("FAILED",),
        ("REQUESTED",),
    ]


@pytest.mark.parametrize(
    ("operator", "why"),
    [("brian", WHY), ("amina", "a favour"), (None, None)],
    ids=["another operator", "another reason", "a caller"],
)
async def test_whoever_rewrites_who_asked_or_why_is_found_out(
    process: Process, database: Database, operator: str | None, why: str | None
) -> None:
    """Even with the keys of this service but that of the log: the row is sealed, and its fingerprint fits."""
    payment = await completed(process)
    answer = await process.operations.RefundBooking(asked())
    refund_id, (request_id,) = UUID(answer.refund.refund_id), request_ids(payment.payment_id, 0)
    writers = process.writers
    tools = Instruments(writers.sealer, writers.keys)

    async def broken() -> list[str]:
        async with await connect_reader(database.application_url) as conn:
            tallies = await check_invariants(tools, conn)
        return [invariant for invariant, tally in tallies.items() if tally.violations]

    assert await broken() == []
    other = RefundRequest(request_id, payment.payment_id, RefundReason.BOOKING_CANCELLED, operator=operator, why=why)
    kept = KeptRequest(refund_id, payment.caller, other)
    row = request_row(writers.sealer, writers.keys.fingerprint, kept, writers.clock())
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        changed = await owner.execute(
            "UPDATE caller_requests SET request = %s, request_fingerprint = %s WHERE kept_id = %s",
            (row.request, row.request_fingerprint, refund_id),
        )
        assert changed.rowcount == 1
    assert await broken() == [Invariant.ACTS]


async def test_what_an_earlier_release_logged_of_an_operators_refund_is_no_violation(
    process: Process, database: Database
) -> None:
    """It logged the refund alone, so nothing can be told of who asked."""
    payment, refund_id = await completed(process), uuid4()
    (request_id,) = request_ids(payment.payment_id, 0)
    made = RefundRequest(request_id, payment.payment_id, RefundReason.BOOKING_CANCELLED, operator="amina", why=WHY)
    order = RefundOrder(new_reference(), "174379", made.reason, None, possible=True, by_person=True)
    kept = KeptRequest(refund_id, payment.caller, made)
    await process.core.facts.submit(
        Submission(RefundRequested(refund_id), payment.payment_id, request=kept, refund=order)
    )
    tools = Instruments(process.writers.sealer, process.writers.keys)
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(tools, conn)
    assert [invariant for invariant, tally in tallies.items() if tally.violations] == []
    told = f"of refund {refund_id} the log does not tell which operator asked: earlier releases wrote it so"
    assert [(one.subject, one.what) for one in tallies[Invariant.ACTS].unvouched] == [(str(payment.payment_id), told)]
    screen = io.StringIO()
    show_tallies(Console(file=screen, width=300), tallies)
    shown = screen.getvalue()
    assert f"not vouched for: {payment.payment_id}: {told}" in shown
    assert f"all {len(tallies)} hold" in shown


async def test_what_cannot_be_refunded_is_refused_with_its_cause_and_leaves_nothing(
    process: Process, database: Database
) -> None:
    refusal = await refused(process.operations.RefundBooking(asked("BK-9")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")
    await process.create(booking_id="BK-1")
    await late(process, 2, "RCPT000002")
    first = await process.tell(await process.create(booking_id="BK-3", request_id="p-3"), *sent(3), no_money())
    await completed(process, 4, "BK-3")
    await process.tell(first, paid(f"{RECEIPT[:-1]}3"))
    await process.tell(await process.create(booking_id="BK-4", request_id="p-5"), *sent(5), no_money())
    for booking_id, cause in (("BK-1", "NOT_PAID_YET"), ("BK-3", "SEVERAL_PAID"), ("BK-4", "NOT_PAID")):
        for only_look in (True, False):
            refusal = await refused(process.operations.RefundBooking(asked(booking_id, validate_only=only_look)))
            assert (refusal.reason, refusal.metadata["cause"]) == ("REFUND_NOT_POSSIBLE", cause)
    assert await count(database, "refunds") == 0


async def test_what_each_payment_of_a_booking_holds_goes_back_by_its_name(process: Process, database: Database) -> None:
    """Two payments of a booking hold money, and no case of theirs is open any more."""
    first = await process.tell(await process.create(booking_id="BK-1", request_id="p-1"), *sent(1), no_money())
    second = await completed(process, 2)
    await process.tell(first, paid(f"{RECEIPT[:-1]}1"))
    other = await completed(process, 3, "BK-2")
    refusal = await refused(process.operations.RefundBooking(asked()))
    ids = [str(first.payment_id), str(second.payment_id)]
    assert (refusal.metadata["cause"], refusal.metadata["payment_ids"].split(",")) == ("SEVERAL_PAID", ids)
    assert "refunds one --booking … --payment …" in refusal.message
    assert all(one in refusal.message for one in ids)

    for payment_id in ids * 2:
        answer = await process.operations.RefundBooking(asked(payment_id=payment_id))
        assert (answer.payment.payment.payment_id, answer.amount.units) == (payment_id, 500)
    assert await count(database, "refunds") == 2
    refusal = await refused(process.operations.RefundBooking(asked(payment_id=str(other.payment_id))))
    assert (refusal.reason, refusal.code) == ("PAYMENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    refusal = await refused(process.operations.RefundBooking(asked(payment_id="BK-1")))
    assert list(refusal.fields) == ["payment_id"]


async def test_nothing_of_another_callers_booking_goes_back(process: Process, database: Database) -> None:
    """Booking ids are a caller's own: two callers may have one of the same id."""
    mine = await completed(process, 1)
    answer = await process.operations.RefundBooking(asked())
    for fact in (
        RefundClaimed(refund_id := UUID(answer.refund.refund_id)),
        RefundReported("callback:9", RefundVerdict.DONE, "0", mine.receipt),
    ):
        await process.writers.facts.submit(Submission(fact, mine.payment_id, refund_id=refund_id))
    theirs = await completed(process, 2, "BK-1", "another")

    for only_look in (True, False):
        refusal = await refused(process.operations.RefundBooking(asked(validate_only=only_look)))
        assert (refusal.reason, refusal.metadata["cause"]) == ("REFUND_NOT_POSSIBLE", "SEVERAL_CALLERS")
        assert "--caller" in refusal.message
        again = await process.operations.RefundBooking(asked(caller="development", validate_only=only_look))
        assert (again.refund.refund_id, again.payment.caller) == (answer.refund.refund_id, "development")
    assert await count(database, "refunds") == 1

    refusal = await refused(process.operations.RefundBooking(asked(caller="nobody")))
    assert refusal.reason == "PAYMENT_NOT_FOUND"
    other = await process.operations.RefundBooking(asked(caller="another"))
    assert (other.payment.payment.payment_id, other.payment.caller) == (str(theirs.payment_id), "another")


async def test_a_caller_cannot_use_the_request_ids_of_refunds_by_booking(process: Process) -> None:
    payment = await completed(process)
    used = payment_service_pb2.RefundPaymentRequest(
        request_id=request_ids(payment.payment_id, 0)[0],
        payment_id=str(payment.payment_id),
        reason=payment_pb2.REFUND_REASON_OTHER,
    )
    refusal = await refused(process.payments.RefundPayment(used))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_REQUEST", ["request_id"])


async def test_of_several_attempts_the_paid_one_is_refunded_and_later_the_returned_one_is_shown(
    process: Process,
) -> None:
    unpaid = await process.tell(await process.create(booking_id="BK-1"), *sent(1), no_money())
    payment = await completed(process, 2)
    assert payment.payment_id != unpaid.payment_id
    answer = await process.operations.RefundBooking(asked())
    assert answer.payment.payment.payment_id == str(payment.payment_id)
    refund_id = UUID(answer.refund.refund_id)
    for fact in (
        RefundClaimed(refund_id),
        RefundReported("callback:9", RefundVerdict.DONE, "0", payment.receipt),
    ):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))
    look = await process.operations.RefundBooking(asked(validate_only=True))
    assert (look.refund.status, look.amount.units) == (payment_pb2.REFUND_STATUS_DONE, 500)


@pytest.mark.parametrize("field", ["booking_id", "refund_reason", "operator", "reason"])
async def test_each_bad_field_is_named(process: Process, field: str) -> None:
    request = asked()
    request.ClearField(field)  # type: ignore[arg-type]  # one of the fields
    refusal = await refused(process.operations.RefundBooking(request))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_REQUEST", [field])
