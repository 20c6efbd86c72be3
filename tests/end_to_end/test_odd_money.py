"""Money that comes late, twice, in the wrong amount, without a receipt, or under another payment's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import payment_pb2

from tests.end_to_end.town import (
    UNTIL_TOLD,
    HastyTown,
    Story,
    Town,
    a_phone,
    a_phone_that,
    action_of,
    events_until,
    get,
    initiate,
    lived,
    prompt,
    reason_of,
    status_of,
    told_by,
)
from tests.rows import rows_of


def ends(payment: payment_pb2.Payment) -> bool:
    return status_of(payment) not in ("PENDING", "PROCESSING")


def completed(payment: payment_pb2.Payment) -> bool:
    return status_of(payment) == "COMPLETED"


def receipted(payment: payment_pb2.Payment) -> bool:
    """The callback has come. A query may have said before it that the payment was made."""
    return completed(payment) and bool(payment.mpesa_receipt_number)


async def paid_after_the_end(hasty: HastyTown, **fields: Any) -> Story:
    """A payment that expired, and whose passenger paid after all."""
    phone = a_phone()
    await hasty.simulator.script(phone, UNTIL_TOLD)
    started = await prompt(hasty.payments, phone, **fields)
    events = await events_until(hasty.payments, started, ends)
    assert status_of(events[-1].payment) == "EXPIRED"
    assert await hasty.simulator.settle(phone, ending="paid") == [200]
    story = await told_by(hasty, hasty.payments, await events_until(hasty.payments, started, receipted))
    assert story.path == ["PENDING", "PROCESSING", "EXPIRED", "COMPLETED"]
    completing = next(event for event in story.events if completed(event.payment))
    assert completing.type == payment_pb2.PAYMENT_EVENT_TYPE_COMPLETED_LATE
    assert story.payment.paid_late
    assert (story.prompts, story.debited) == (1, 500)
    return story


async def test_late_money_is_for_an_operator_unless_the_caller_said_otherwise(hasty: HastyTown) -> None:
    story = await paid_after_the_end(hasty)
    assert action_of(story.payment) == "REVIEW"
    assert await hasty.cases(story.payment) == [("LATE_PAYMENT", True)]


async def test_late_money_confirms_the_booking_if_the_caller_said_so(hasty: HastyTown) -> None:
    story = await paid_after_the_end(hasty, late_payment_policy=payment_pb2.LATE_PAYMENT_POLICY_CONFIRM)
    assert action_of(story.payment) == "CONFIRM"
    assert await hasty.cases(story.payment) == []


async def test_late_money_within_the_hold_confirms_the_booking(hasty: HastyTown) -> None:
    hold = Timestamp()
    hold.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    story = await paid_after_the_end(hasty, hold_expire_time=hold)
    assert action_of(story.payment) == "CONFIRM"
    assert await hasty.cases(story.payment) == []


async def test_two_attempts_that_are_both_paid_confirm_the_booking_once(town: Town) -> None:
    confirm: dict[str, Any] = {"late_payment_policy": payment_pb2.LATE_PAYMENT_POLICY_CONFIRM}
    phone = a_phone_that("001")
    first = await lived(town, town.patient, phone, **confirm)
    second = await lived(town, town.other, a_phone(), booking_id=first.payment.booking_id, **confirm)
    assert (second.payment.attempt, second.payment.retry_of) == (2, first.payment.payment_id)
    assert (second.path[-1], action_of(second.payment)) == ("COMPLETED", "CONFIRM")
    assert await town.simulator.settle(phone, ending="paid") == [200]
    late = await get(town.patient, first.payment.payment_id)
    assert (status_of(late), action_of(late)) == ("COMPLETED", "REVIEW"), "a duplicate ignores the policy"
    assert await town.cases(late) == [("DUPLICATE_PAYMENT", True)]
    assert await get(town.other, second.payment.payment_id) == second.payment


async def test_money_after_a_failure_completes_the_payment_and_opens_a_case(town: Town) -> None:
    phone = a_phone_that("201")
    failed = await lived(town, town.patient, phone)
    assert failed.path[-1] == "FAILED"
    assert await town.simulator.settle(phone, ending="paid") == [200]
    payment = await get(town.patient, failed.payment.payment_id)
    assert (status_of(payment), payment.paid_late, action_of(payment)) == ("COMPLETED", True, "CONFIRM")
    assert await town.cases(payment) == [("PAID_AFTER_FAILURE", False)]


@pytest.mark.parametrize("amount", [499, 501, 1, 500.5, "500.50", "five", True, [], -500, 1e300])
async def test_a_wrong_amount_is_for_an_operator(town: Town, amount: object) -> None:
    phone = a_phone()
    await town.simulator.script(phone, UNTIL_TOLD)
    started = await prompt(town.patient, phone)
    assert await town.simulator.settle(phone, ending="paid", callback_items={"Amount": amount}) == [200]
    events = await events_until(town.patient, started, lambda payment: reason_of(payment) == "AMOUNT_DIFFERS")
    assert (status_of(events[-1].payment), action_of(events[-1].payment)) == ("PROCESSING", "REVIEW")
    assert events[-1].payment == await get(town.patient, started.payment.payment_id)
    assert await town.cases(started.payment) == [("WRONG_AMOUNT", True)]
    receipts = await rows_of(
        town.database,
        "SELECT receipt, counted FROM mpesa_receipts WHERE payment_id = %s",
        (started.payment.payment_id,),
    )
    assert receipts == [((await town.simulator.first_push(phone))["receipt"], False)]


@pytest.mark.parametrize("amount", [500, 500.0, "500", "500.00"])
async def test_the_right_amount_is_right_in_every_form(town: Town, amount: object) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {"callback_items": {"Amount": amount}})
    assert (await lived(town, town.patient, phone)).path[-1] == "COMPLETED"


async def test_the_quirks_of_a_success_are_understood(town: Town) -> None:
    phone = a_phone()
    quirks = ["callback.amount_string", "callback.code_string", "callback.date_string", "callback.phone_masked"]
    await town.simulator.script(phone, {"quirks": quirks})
    story = await lived(town, town.patient, phone)
    assert (story.path[-1], action_of(story.payment), story.debited) == ("COMPLETED", "CONFIRM", 500)


@pytest.mark.parametrize("left_out", ["MpesaReceiptNumber", "CallbackMetadata"])
async def test_success_without_a_receipt_waits_for_the_receipt(town: Town, left_out: str) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {"callback_without": [left_out]})
    started = await initiate(town.patient, phone)
    paid = (await events_until(town.patient, started, completed))[-1].payment
    assert (reason_of(paid), action_of(paid), paid.mpesa_receipt_number) == ("RECEIPT_PENDING", "WAIT", "")
    assert not paid.outcome_certain, "a client must not stop while it is to wait"
    assert await town.simulator.settle(phone, ending="paid") == [200]
    events = await events_until(town.patient, started, lambda payment: bool(payment.mpesa_receipt_number))
    story = await told_by(town, town.patient, events)
    assert (action_of(story.payment), reason_of(story.payment)) == ("CONFIRM", "UNSPECIFIED")
    assert (story.prompts, story.debited) == (1, 500)
    assert not story.payment.paid_late
    assert await town.cases(story.payment) == []


async def test_a_failure_after_the_money_is_a_money_case_and_takes_nothing_back(town: Town) -> None:
    phone = a_phone()
    story = await lived(town, town.patient, phone)
    assert await town.simulator.settle(phone, ending="cancelled") == [200]
    payment = await get(town.patient, story.payment.payment_id)
    assert payment.mpesa_receipt_number == story.payment.mpesa_receipt_number
    assert action_of(payment) == "CONFIRM", "what was said once is not taken back"
    assert await town.cases(payment) == [("UNBACKED_MONEY", True)], "nothing but a callback has told of it yet"


async def test_another_receipt_for_a_paid_payment_is_a_money_case(town: Town) -> None:
    phone = a_phone()
    story = await lived(town, town.patient, phone)
    other = {"MpesaReceiptNumber": "ZZ99ZZ99ZZ"}
    assert await town.simulator.settle(phone, ending="paid", callback_items=other) == [200]
    payment = await get(town.patient, story.payment.payment_id)
    assert payment.mpesa_receipt_number == story.payment.mpesa_receipt_number
    assert action_of(payment) == "CONFIRM", "what was said once is not taken back"
    assert await town.cases(payment) == [("SECOND_RECEIPT", True)]


async def test_the_receipt_of_another_payment_proves_nothing_here(town: Town) -> None:
    other = await lived(town, town.patient, a_phone())
    phone = a_phone()
    await town.simulator.script(phone, {"callback_items": {"MpesaReceiptNumber": other.payment.mpesa_receipt_number}})
    started = await initiate(town.patient, phone)
    events = await events_until(town.patient, started, lambda payment: action_of(payment) == "REVIEW")
    assert status_of(events[-1].payment) == "PROCESSING"
    assert await town.cases(started.payment) == [("FOREIGN_IDS", True)]
    assert await get(town.patient, other.payment.payment_id) == other.payment
    assert await town.simulator.settle(phone, ending="paid") == [200]
    payment = await get(town.patient, started.payment.payment_id)
    assert status_of(payment) == "COMPLETED", "its own receipt came, too"
