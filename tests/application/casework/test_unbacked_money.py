"""Money that only a callback told of, and that an operator does not find: its booking can be paid all the same."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.domain.case_rules import Resolution
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.payment import BookingAction, Payment
from payment_service.domain.reasons import Reason
from tests.application.casework.casefiles import only_case, open_cases, settle
from tests.application.casework.test_resolve_case import broken
from tests.databases import Database
from tests.rpc.answers import refused
from tests.rpc.processes import Process, listed, paid, sent

FORGED, REAL = "RCPTFORGED", "RCPT000002"


async def refuted(process: Process) -> Payment:
    """A callback confirmed the booking, a query denied the money, and an operator did not find it."""
    payment = await process.tell(await process.create(booking_id="BK-1"), *sent(1), paid(FORGED))
    assert payment.booking_action is BookingAction.CONFIRM
    denial = ResultReported(
        "query:1", Source.QUERY, Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER, checkout_request_id="ws_CO_1"
    )
    await process.tell(payment, denial)
    await settle(process, await only_case(process), Resolution.DISMISS, why="not in the portal")
    return payment


@pytest.mark.parametrize("by_retry", [False, True], ids=["a new payment", "a retry"])
async def test_a_booking_whose_money_never_came_is_paid_and_confirmed_by_another_payment(
    process: Process, database: Database, by_retry: bool
) -> None:
    first = await refuted(process)
    told = await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(first.payment_id)))
    assert (told.payment.booking_action, told.payment.status_reason) == (
        payment_pb2.BOOKING_ACTION_RELEASE,
        payment_pb2.STATUS_REASON_MONEY_NEVER_CAME,
    )
    process.writers.clock.move(1)
    if by_retry:
        asked = pb.RetryPaymentRequest(request_id="r-2", payment_id=str(first.payment_id))
        answer = await process.payments.RetryPayment(asked)
        second = replace(first, payment_id=UUID(answer.payment.payment_id))
    else:
        second = await process.create(booking_id="BK-1")
    after = await process.tell(second, *sent(2), paid(REAL), listed(REAL))
    assert (after.booking_action, after.attempt) == (BookingAction.CONFIRM, 2)
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_forged_money_that_is_found_after_all_is_one_payment_too_many(
    process: Process, database: Database
) -> None:
    first = await refuted(process)
    second = await process.create(booking_id="BK-1")
    await process.tell(second, *sent(2), paid(REAL), listed(REAL))
    await process.tell(first, listed(FORGED))
    case = await only_case(process)
    assert (case.case.kind, case.case.payment_id) == ("DUPLICATE_PAYMENT", first.payment_id)
    assert await broken(process, database) == []


async def test_a_refund_of_money_that_never_came_is_refused(process: Process) -> None:
    first = await refuted(process)
    asked = pb.RefundPaymentRequest(
        request_id="r-1", payment_id=str(first.payment_id), reason=payment_pb2.REFUND_REASON_OTHER
    )
    refusal = await refused(process.payments.RefundPayment(asked))
    assert refusal.metadata["cause"] == "NOT_PAID"
