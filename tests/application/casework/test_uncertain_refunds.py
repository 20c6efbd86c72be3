"""Refunds that nobody can tell of: what an operator finds in the M-Pesa portal settles them."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.casework.show_cases import CaseFile, get_case
from payment_service.domain.case_rules import Resolution
from payment_service.domain.errors import CaseAlreadySettled, CaseChanged, InvalidRequest, ResolutionRefused
from payment_service.domain.payment import Payment
from payment_service.domain.refund_facts import (
    RefundAnswerLost,
    RefundClaimed,
    RefundDue,
    RefundReported,
    RefundVerdict,
)
from tests.application.casework.casefiles import late, only_case, open_cases, settle
from tests.application.casework.test_resolve_case import ACTS, broken
from tests.application.refunding.test_recorded_refunds import ask, asked, completed, tell
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, paid, sent

WHY = "found in the portal, ticket 18"
REVERSAL = "TKR7E8V9E0"
REFUNDED, NOT_REFUNDED = Resolution.REFUNDED, Resolution.NOT_REFUNDED
STANDS = "SELECT state, refund_status, refunded_amount, booking_action FROM payment_transactions WHERE payment_id = %s"


async def in_doubt(process: Process, payment: Payment, refund_id: UUID) -> CaseFile:
    """The case of a refund whose answer was lost, and that nobody could tell of for a day."""
    claim = uuid4()
    await tell(process, payment, refund_id, RefundClaimed(claim), RefundAnswerLost(claim))
    process.writers.clock.move(25 * 3600)
    await tell(process, payment, refund_id, RefundDue())
    (case,) = [case for case in await open_cases(process) if case.kind == "REFUND"]
    return await get_case(process.core.reads, case.case_id)


async def part_in_doubt(process: Process, payment: Payment, amount: int, request_id: str) -> tuple[UUID, CaseFile]:
    """The refund of a part, and its case."""
    answer = await process.payments.RefundPayment(part_of(payment, amount, request_id))
    refund_id = UUID(answer.payment.refund.refund_id)
    return refund_id, await in_doubt(process, payment, refund_id)


def part_of(payment: Payment, amount: int, request_id: str) -> pb.RefundPaymentRequest:
    request = asked(payment, request_id)
    request.reason = payment_pb2.REFUND_REASON_OTHER
    request.amount.currency_code, request.amount.units = "KES", amount
    return request


async def uncertain(process: Process) -> tuple[Payment, UUID, CaseFile]:
    payment = await completed(process)
    refund_id = await ask(process, payment)
    return payment, refund_id, await in_doubt(process, payment, refund_id)


async def test_a_refund_that_is_found_done_ends_as_done(process: Process, database: Database) -> None:
    payment, refund_id, file = await uncertain(process)
    assert (file.case.refund_id, file.case.refund_state) == (refund_id, "UNCERTAIN")
    settled = await settle(process, file, REFUNDED, why=WHY, receipt=REVERSAL)
    assert (settled.case.resolution, settled.case.refund_state) == ("REFUNDED", "DONE")
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("REFUNDED", "DONE", 500, "RELEASE")]
    assert await rows_of(database, ACTS) == [("REFUNDED", "amina", WHY, REVERSAL, 2)]
    last = "SELECT fact_kind, fact_id FROM payment_events ORDER BY version DESC LIMIT 1"
    assert await rows_of(database, last) == [("CaseRefundFound", settled.case.settled_by)]
    assert (await settle(process, file, REFUNDED, why=WHY, receipt=REVERSAL)).case == settled.case
    # Its result comes after all: no news.
    done = RefundReported("callback:done", RefundVerdict.DONE, "0", payment.receipt)
    await tell(process, payment, refund_id, done)
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("REFUNDED", "DONE", 500, "RELEASE")]
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_a_refund_that_is_found_not_done_makes_a_new_one_possible(process: Process, database: Database) -> None:
    payment, first, file = await uncertain(process)
    await settle(process, file, NOT_REFUNDED, why=WHY)
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("COMPLETED", "FAILED", 0, "RELEASE")]
    # The money is here, and its seat is gone: it stays on the list until an operator says that it is where it belongs.
    left = await only_case(process)
    assert (left.case.kind, left.case.refund_id, left.case.refund_state) == ("REFUND", first, "FAILED")
    second = await ask(process, payment, "r-2")
    done = RefundReported("callback:done", RefundVerdict.DONE, "0", payment.receipt)
    await tell(process, payment, second, RefundClaimed(uuid4()), done)
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("REFUNDED", "DONE", 500, "RELEASE")]
    assert first != second
    await settle(process, await only_case(process), Resolution.DISMISS, why="the second refund has returned it")
    assert await open_cases(process) == []
    assert await broken(process, database) == []


@pytest.mark.parametrize(("found", "receipt"), [(REFUNDED, REVERSAL), (NOT_REFUNDED, None)])
async def test_the_case_whose_money_the_refund_was_to_return_follows_what_is_found(
    process: Process, database: Database, found: Resolution, receipt: str | None
) -> None:
    payment = await late(process, 1, "RCPT000001")
    returned = await settle(process, await only_case(process), Resolution.RETURN, why=WHY)
    assert returned.case.refund_id is not None
    file = await in_doubt(process, payment, returned.case.refund_id)
    await settle(process, file, found, why=WHY, receipt=receipt)
    left = [(case.kind, case.refund_state) for case in await open_cases(process)]
    assert left == ([] if found is REFUNDED else [("LATE_PAYMENT", "FAILED")])
    assert await broken(process, database) == []


async def test_a_part_that_is_found_done_counts_and_the_rest_can_go_back(process: Process, database: Database) -> None:
    payment = await completed(process)
    _, file = await part_in_doubt(process, payment, 200, "r-1")
    settled = await settle(process, file, REFUNDED, why=WHY, receipt=REVERSAL)
    assert (settled.case.resolution, settled.case.refund_state) == ("REFUNDED", "DONE")
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("COMPLETED", "DONE", 200, "CONFIRM")]
    refusal = await refused(process.payments.RefundPayment(part_of(payment, 301, "r-2")))
    assert refusal.metadata["cause"] == "ABOVE_WHAT_IS_LEFT"
    _, file = await part_in_doubt(process, payment, 300, "r-3")
    await settle(process, file, REFUNDED, why=WHY, receipt="TKR8F9W0F1")
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("REFUNDED", "DONE", 500, "RELEASE")]
    assert await broken(process, database) == []


async def test_what_proves_one_refund_proves_no_other_however_soon_it_is_given(
    process: Process, database: Database
) -> None:
    """Two operators settle the cases of two refunds at once, and both give the same receipt number."""
    payment = await completed(process)
    _, first = await part_in_doubt(process, payment, 200, "r-1")
    refund_id = UUID((await process.payments.RefundPayment(part_of(payment, 300, "r-2"))).payment.refund.refund_id)
    claim = uuid4()
    await tell(process, payment, refund_id, RefundClaimed(claim), RefundAnswerLost(claim))
    process.writers.clock.move(25 * 3600)
    await tell(process, payment, refund_id, RefundDue())
    files = [await get_case(process.core.reads, case.case_id) for case in await open_cases(process)]
    assert len(files) == 2
    settling = [settle(process, file, REFUNDED, why=WHY, receipt=REVERSAL) for file in files]
    told = await asyncio.gather(*settling, return_exceptions=True)
    assert first.case.case_id in {file.case.case_id for file in files}
    assert len([one for one in told if isinstance(one, CaseFile)]) == 1
    # Whoever began when the other had ended is told so first: the payment is another by then.
    assert len([one for one in told if isinstance(one, InvalidRequest | CaseChanged)]) == 1
    assert await rows_of(database, ACTS) == [("REFUNDED", "amina", WHY, REVERSAL, 2)]
    assert await count(database, "refunds WHERE state = 'DONE'") == 1
    (left,) = [file for file in files if file.case.case_id in {case.case_id for case in await open_cases(process)}]
    with pytest.raises(InvalidRequest, match="recorded for a payment or another refund"):
        await settle(
            process, await get_case(process.core.reads, left.case.case_id), REFUNDED, why=WHY, receipt=REVERSAL
        )


async def test_the_database_keeps_a_proof_for_one_refund(database: Database) -> None:
    """Whoever looked before the other had written is refused by the table itself."""
    (index,) = await rows_of(database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'case_acts_one_per_proof'")
    assert "UNIQUE" in index[0]


async def test_the_sum_of_a_part_that_is_found_not_done_is_free_again(process: Process, database: Database) -> None:
    payment = await completed(process)
    first, file = await part_in_doubt(process, payment, 300, "r-1")
    await settle(process, file, NOT_REFUNDED, why=WHY)
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("COMPLETED", "FAILED", 0, "CONFIRM")]
    left = await only_case(process)
    assert (left.case.kind, left.case.refund_id, left.case.refund_state) == ("REFUND", first, "FAILED")
    second = UUID((await process.payments.RefundPayment(part_of(payment, 300, "r-2"))).payment.refund.refund_id)
    # What was found not done is done after all, before the other part is sent: both would be more than came.
    done = RefundReported("callback:done", RefundVerdict.DONE, "0", payment.receipt, 300)
    await tell(process, payment, first, done)
    claimed = await tell(process, payment, second, RefundClaimed(uuid4()))
    assert claimed.refund is not None
    assert claimed.refund.claim_id is None
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("COMPLETED", "DONE", 300, "CONFIRM")]
    assert ("REFUND", True) in [(case.kind, case.is_money) for case in await open_cases(process)]
    # It is given up after a day.
    process.writers.clock.move(25 * 3600)
    await tell(process, payment, second, RefundDue())
    assert await broken(process, database) == []


async def test_that_nothing_went_back_is_not_believed_on_the_day_of_the_send(
    process: Process, database: Database
) -> None:
    """M-Pesa says that it had another request: a case is open at once, and a result may still come."""
    payment = await completed(process)
    refund_id = await ask(process, payment)
    claim = uuid4()
    foreign = RefundReported("callback:foreign", RefundVerdict.DONE, "0", "TKZ9Y8X7W6")
    await tell(process, payment, refund_id, RefundClaimed(claim), RefundAnswerLost(claim), foreign)
    file = await only_case(process)
    with pytest.raises(ResolutionRefused, match="less than a day ago"):
        await settle(process, file, NOT_REFUNDED, why=WHY)
    assert await count(database, "case_acts") == 0
    await settle(process, file, REFUNDED, why=WHY, receipt=REVERSAL)
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("REFUNDED", "DONE", 500, "RELEASE")]


@pytest.mark.parametrize(
    ("found", "receipt", "verdict"), [(REFUNDED, REVERSAL, "FAILED"), (NOT_REFUNDED, None, "DONE")]
)
async def test_a_result_that_contradicts_the_person_opens_a_case_about_money(
    process: Process, database: Database, found: Resolution, receipt: str | None, verdict: str
) -> None:
    payment, refund_id, file = await uncertain(process)
    await settle(process, file, found, why=WHY, receipt=receipt)
    result = RefundReported("callback:late", RefundVerdict(verdict), "0", payment.receipt)
    await tell(process, payment, refund_id, result)
    assert ("REFUND", True) in [(case.kind, case.is_money) for case in await open_cases(process)]
    assert await rows_of(database, STANDS, (payment.payment_id,)) == [("REFUNDED", "DONE", 500, "RELEASE")]
    assert await broken(process, database) == []


async def test_the_receipt_is_asked_for_and_is_nobody_elses(process: Process, database: Database) -> None:
    payment, _, file = await uncertain(process)
    await process.tell(await process.create(booking_id="BK-9"), *sent(9), paid("RCPT000009"))
    for resolution, receipt, expected in (
        (REFUNDED, None, "receipt number under which"),
        (REFUNDED, "RCPT000009", "recorded for a payment or another refund"),
        (REFUNDED, payment.receipt, "recorded for a payment or another refund"),
        (NOT_REFUNDED, REVERSAL, "no money went back"),
    ):
        with pytest.raises(InvalidRequest, match=expected):
            await settle(process, file, resolution, why=WHY, receipt=receipt)
    assert await count(database, "case_acts") == 0


async def test_of_what_two_operators_have_found_one_is_kept(process: Process, database: Database) -> None:
    _, _, file = await uncertain(process)
    told = await asyncio.gather(
        settle(process, file, REFUNDED, operator="amina", receipt=REVERSAL),
        settle(process, file, NOT_REFUNDED, operator="brian"),
        return_exceptions=True,
    )
    (refusal,) = (one for one in told if isinstance(one, Exception))
    assert isinstance(refusal, CaseAlreadySettled | CaseChanged)
    assert await count(database, "case_acts") == 1
    assert await broken(process, database) == []


async def test_a_refund_that_is_known_to_have_failed_is_not_found_done(process: Process) -> None:
    payment = await completed(process)
    refund_id = await ask(process, payment)
    failed = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), failed)
    file = await only_case(process)
    with pytest.raises(ResolutionRefused, match="not UNCERTAIN"):
        await settle(process, file, REFUNDED, why=WHY, receipt=REVERSAL)
