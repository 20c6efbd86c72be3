"""Money of a case that an operator sends back: one refund, the case that waits for it, and how both end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money

from payment_service.application.casework.show_cases import CaseFile
from payment_service.domain.case_rules import Resolution
from payment_service.domain.errors import (
    CaseAlreadySettled,
    CaseChanged,
    InvalidRequest,
    RefundBarred,
    ResolutionRefused,
)
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundBar
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from tests.application.casework.casefiles import OPERATOR, attempt, expired, late, only_case, open_cases, settle
from tests.application.casework.test_resolve_case import ACTS, broken
from tests.application.refunding.test_recorded_refunds import ask, tell
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.processes import Process, listed, paid, sent

WHY = "no seat is left, ticket 17"
RETURN = Resolution.RETURN
LATE_RECEIPT = "RCPT000001"


def done(receipt: str = LATE_RECEIPT, amount: int = 500) -> RefundReported:
    return RefundReported(f"callback:done:{receipt}", RefundVerdict.DONE, "0", receipt, amount)


FAILED = RefundReported("callback:failed", RefundVerdict.FAILED, "1")


async def told_of(process: Process, payment: Payment) -> list[payment_pb2.Payment]:
    """What callers have been told of a payment that was refunded, by the log: from the first event to the last."""
    told: list[payment_pb2.Payment] = []
    request = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    async for message in process.payments.WatchPayments(request):
        told += [event.payment for event in message.events if event.payment.payment_id == str(payment.payment_id)]
        if told and told[-1].status == payment_pb2.PAYMENT_STATUS_REFUNDED:
            break
    return told


async def returned(process: Process, file: CaseFile) -> tuple[CaseFile, UUID]:
    """The case while its money is on its way back, and the refund."""
    now = await settle(process, file, RETURN, why=WHY)
    assert now.case.refund_id is not None
    return now, now.case.refund_id


async def sent_and(process: Process, payment: Payment, refund_id: UUID, result: RefundReported) -> None:
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), result)


async def test_late_money_is_returned_and_its_case_ends_with_the_refund(process: Process, database: Database) -> None:
    payment = await late(process, 1, LATE_RECEIPT)
    now, refund_id = await returned(process, await only_case(process))
    assert (attempt(now), now.case.settled_at, now.case.refund_state) == ("RELEASE", None, "REQUESTED")
    assert await rows_of(database, "SELECT receipt, amount, reason, state FROM refunds") == [
        (LATE_RECEIPT, 500, "PAID_LATE", "REQUESTED")
    ]
    assert await rows_of(database, ACTS) == [("RETURN", OPERATOR, WHY, LATE_RECEIPT, 2)]
    last = "SELECT fact_kind, state FROM payment_events ORDER BY version DESC LIMIT 1"
    assert await rows_of(database, last) == [("CaseReturned", "REFUNDING")]
    assert await broken(process, database) == []
    await sent_and(process, payment, refund_id, done())
    assert await open_cases(process) == []
    ended = "SELECT resolution, settled_by FROM cases"
    assert await rows_of(database, ended) == [("RETURN", f"refund-done:{refund_id}")]
    assert await broken(process, database) == []


async def test_a_wrong_amount_is_returned_whole(process: Process, database: Database) -> None:
    payment = await process.tell(await process.create(), *sent(1))
    file = await only_case(process, payment, paid("RCPT000001", 499))
    _, refund_id = await returned(process, file)
    assert await rows_of(database, "SELECT receipt, amount FROM refunds") == [("RCPT000001", 499)]
    await sent_and(process, payment, refund_id, done(amount=499))
    states = "SELECT state, refunded_amount, money_case_open FROM payment_transactions"
    assert await rows_of(database, states) == [("REFUNDED", 499, False)]
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_a_case_whose_refund_fails_is_decided_again(process: Process, database: Database) -> None:
    payment = await late(process, 1, LATE_RECEIPT)
    under_way, first = await returned(process, await only_case(process))
    await sent_and(process, payment, first, FAILED)
    again = await only_case(process)
    assert (again.case.refund_state, again.case.refund_result_code, attempt(again)) == ("FAILED", "1", "RELEASE")
    with pytest.raises(CaseChanged):
        await settle(process, under_way, why="on the old picture")
    # By the same operator for the same reason: it is another act all the same.
    _, second = await returned(process, again)
    assert second != first
    await sent_and(process, payment, second, done())
    assert await open_cases(process) == []
    assert [act for act, *_ in await rows_of(database, ACTS)] == ["RETURN", "RETURN"]
    assert await broken(process, database) == []


async def test_the_rest_of_late_money_whose_return_fails_is_one_matter_still(
    process: Process, database: Database
) -> None:
    payment = await process.tell(await late(process, 1, LATE_RECEIPT), listed(LATE_RECEIPT))
    part = pb.RefundPaymentRequest(
        request_id="r-1",
        payment_id=str(payment.payment_id),
        reason=payment_pb2.REFUND_REASON_OTHER,
        amount=Money(currency_code="KES", units=200),
    )
    answer = await process.payments.RefundPayment(part)
    await sent_and(process, payment, UUID(answer.payment.refund.refund_id), done(amount=200))
    _, rest = await returned(process, await only_case(process))
    await sent_and(process, payment, rest, FAILED)
    again = await only_case(process)
    assert (again.case.kind, again.case.refund_state, attempt(again)) == ("LATE_PAYMENT", "FAILED", "RELEASE")
    assert await broken(process, database) == []


@pytest.mark.parametrize("amount", [500, 499], ids=["late", "a wrong amount"])
async def test_a_return_that_is_done_after_all_ends_the_case_and_the_one_that_followed(
    process: Process, database: Database, amount: int
) -> None:
    """The first return was refused, and a second one waits to be sent, when a result says that the first was done."""
    if amount == 500:
        payment = await late(process, 1, LATE_RECEIPT)
    else:
        payment = await process.tell(await process.create(), *sent(1), paid(LATE_RECEIPT, amount))
    _, first = await returned(process, await only_case(process))
    await sent_and(process, payment, first, FAILED)
    _, second = await returned(process, await only_case(process))
    process.writers.clock.move(60)
    await tell(process, payment, first, done(amount=amount))
    assert [case.kind for case in await open_cases(process)] == ["REFUND"], "a person compares it with the portal"
    ended = "SELECT resolution, settled_by FROM cases WHERE settled_at IS NOT NULL"
    assert await rows_of(database, ended) == [("RETURN", f"refund-done:{first}")]
    assert await broken(process, database) == []
    # Callers read of both that they have ended: now, and in the event that told of the first.
    await process.caught_up()
    read = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    told = await told_of(process, payment)
    of_done = [one for one in told if one.status == payment_pb2.PAYMENT_STATUS_REFUNDED]
    for payment_then in (read, *of_done):
        assert {one.refund_id: (one.status, one.HasField("end_time")) for one in payment_then.refunds} == {
            str(first): (payment_pb2.REFUND_STATUS_DONE, True),
            str(second): (payment_pb2.REFUND_STATUS_FAILED, True),
        }
    asked_again = [one for one in told if one.refund.refund_id == str(second)]
    assert [one.refund.status for one in asked_again] == [payment_pb2.REFUND_STATUS_PENDING], "it was under way then"


async def test_after_a_failed_return_the_money_is_not_accepted_for_a_seat_that_is_released(
    process: Process, database: Database
) -> None:
    payment = await late(process, 1, LATE_RECEIPT)
    _, refund_id = await returned(process, await only_case(process))
    await sent_and(process, payment, refund_id, FAILED)
    with pytest.raises(ResolutionRefused, match="return it again"):
        await settle(process, await only_case(process))
    assert attempt(await only_case(process)) == "RELEASE"
    settled = await settle(process, await only_case(process), Resolution.DISMISS, why="paid back in cash, ticket 18")
    assert (attempt(settled), settled.case.resolution) == ("RELEASE", "DISMISS")
    assert [(act, why) for act, _, why, *_ in await rows_of(database, ACTS)] == [
        ("RETURN", WHY),
        ("DISMISS", "paid back in cash, ticket 18"),
    ]
    assert await broken(process, database) == []


@pytest.mark.parametrize("receipt", [None, "RCPT000009"])
async def test_money_that_no_receipt_names_is_not_returned_out_of_other_money(
    process: Process, database: Database, receipt: str | None
) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid(LATE_RECEIPT))
    unnamed = replace(paid("any"), fact_id="callback:400", amount=400, receipt=None)
    file = await only_case(process, payment, unnamed)
    assert (file.case.kind, file.case.receipt, attempt(file)) == ("WRONG_AMOUNT", None, "CONFIRM")
    with pytest.raises(ResolutionRefused, match="No receipt names the money"):
        await settle(process, file, RETURN, why=WHY, receipt=receipt)
    assert (await count(database, "refunds"), await count(database, "case_acts")) == (0, 0)
    assert attempt(await only_case(process)) == "CONFIRM"


async def test_a_receipt_does_not_say_that_other_money_is_returned_than_the_cases(
    process: Process, database: Database
) -> None:
    await late(process, 1, LATE_RECEIPT)
    file = await only_case(process)
    with pytest.raises(InvalidRequest, match="the receipt that the case is about"):
        await settle(process, file, RETURN, why=WHY, receipt="RCPT000009")
    assert await count(database, "refunds") == 0
    returned_now = await settle(process, file, RETURN, why=WHY, receipt=LATE_RECEIPT)
    assert returned_now.case.refund_state == "REQUESTED"


async def test_money_is_not_returned_beside_a_refund_that_is_under_way_or_done(
    process: Process, database: Database
) -> None:
    payment = await late(process, 1, LATE_RECEIPT)
    refund_id = await ask(process, payment)
    file = await only_case(process)
    with pytest.raises(RefundBarred) as refusal:
        await settle(process, file, RETURN, why=WHY)
    assert refusal.value.bar is RefundBar.REFUND_UNDER_WAY
    assert (await count(database, "refunds"), await count(database, "case_acts")) == (1, 0)
    await sent_and(process, payment, refund_id, done())
    with pytest.raises(CaseAlreadySettled):
        await settle(process, file, RETURN, why=WHY)
    assert await broken(process, database) == []


async def test_while_money_is_on_its_way_back_the_case_is_not_settled_otherwise(
    process: Process, database: Database
) -> None:
    await late(process, 1, LATE_RECEIPT)
    now, refund_id = await returned(process, await only_case(process))
    assert (await settle(process, now, RETURN, why=WHY)).case.refund_id == refund_id, "asked again, it is as it is"
    with pytest.raises(ResolutionRefused):
        await settle(process, now)
    with pytest.raises(RefundBarred):
        await settle(process, now, RETURN, operator="brian", why=WHY)
    assert (await count(database, "refunds"), await count(database, "case_acts")) == (1, 1)


@pytest.mark.parametrize("other", [RETURN, Resolution.ACCEPT])
async def test_of_two_operators_at_once_one_settles_the_case_and_the_other_is_told(
    process: Process, database: Database, other: Resolution
) -> None:
    await late(process, 1, LATE_RECEIPT)
    file = await only_case(process)
    told = await asyncio.gather(
        settle(process, file, RETURN, operator="amina"),
        settle(process, file, other, operator="brian"),
        return_exceptions=True,
    )
    assert sum(isinstance(one, CaseFile) for one in told) == 1
    assert {type(one) for one in told if isinstance(one, Exception)} <= {CaseChanged, CaseAlreadySettled}
    assert await count(database, "case_acts") == 1
    assert await broken(process, database) == []


async def test_a_double_payment_is_returned_and_the_other_keeps_the_seat(process: Process, database: Database) -> None:
    first = await expired(process, 1, booking_id="BK-1")
    process.writers.clock.move(200)
    second = await process.tell(await process.create(booking_id="BK-1"), *sent(2), paid("RCPT000002"))
    file = await only_case(process, first, paid("RCPT000001"))
    assert (file.case.kind, attempt(file, second.payment_id)) == ("DUPLICATE_PAYMENT", "CONFIRM")
    now, refund_id = await returned(process, file)
    assert attempt(now) == "FOLLOW_SIBLING"
    assert attempt(now, second.payment_id) == "CONFIRM"
    await sent_and(process, first, refund_id, done())
    assert await open_cases(process) == []
    assert await rows_of(database, "SELECT reason FROM refunds") == [("PAID_TWICE",)]
    assert await broken(process, database) == []


async def test_money_is_not_returned_where_refunds_are_not_set_up(process: Process, database: Database) -> None:
    await late(process, 1, LATE_RECEIPT)
    file = await only_case(process)
    core = replace(process.core, refund_shortcodes=())
    with pytest.raises(RefundBarred) as refusal:
        await settle(replace(process, core=core), file, RETURN, why=WHY)
    assert refusal.value.bar is RefundBar.NOT_SET_UP
    assert (await count(database, "refunds"), await count(database, "case_acts")) == (0, 0)
