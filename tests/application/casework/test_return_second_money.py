"""Money that came a second time for one prompt: an operator sends it back, and the payment keeps what it stands on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.casework.show_cases import CaseFile
from payment_service.domain.approvals import ApprovalState
from payment_service.domain.case_rules import Resolution
from payment_service.domain.errors import CaseAlreadySettled, CaseChanged, RefundBarred, ResolutionRefused
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundBar
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundTimedOut, RefundVerdict
from tests.application.approving.moving import agree, ask_to_move, ask_to_return
from tests.application.casework.casefiles import attempt, expired, only_case, open_cases, settle
from tests.application.casework.test_resolve_case import broken
from tests.application.refunding.returning import Returning, returning
from tests.application.refunding.test_recorded_refunds import ask, tell
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.processes import Process, listed, paid, refused, running_process, sent

PHONE = "254712345678"
FIRST, SECOND = "RCPT000001", "RCPT000002"
WHY = "paid twice, ticket 17"
FAILED = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
STANDS = "SELECT state, booking_action, mpesa_receipt_number, refunded_amount FROM payment_transactions"
REFUNDS = "SELECT receipt, amount, reason, method, state FROM refunds ORDER BY requested_at, receipt"
KEPT = ("COMPLETED", "CONFIRM", FIRST, 0)


def done(receipt: str = SECOND, amount: int = 500) -> RefundReported:
    return RefundReported(f"callback:done:{receipt}", RefundVerdict.DONE, "0", receipt, amount)


async def paid_once(process: Process) -> Payment:
    return await process.tell(await process.create(), *sent(1), paid(FIRST), listed(FIRST))


async def paid_twice(process: Process, amount: int = 500) -> Payment:
    return await process.tell(await paid_once(process), paid(SECOND, amount))


async def returned(process: Process, file: CaseFile | None = None) -> UUID:
    """The refund of the one case that is open."""
    now = await settle(process, file or await only_case(process), Resolution.RETURN, why=WHY)
    assert now.case.refund_id is not None
    return now.case.refund_id


async def seen(process: Process, payment: Payment) -> payment_pb2.Payment:
    """The payment as its caller reads it."""
    await process.caught_up()
    return (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment


async def test_a_case_whose_return_has_failed_can_be_dismissed(process: Process, database: Database) -> None:
    payment = await paid_twice(process)
    refund_id = await returned(process)
    with pytest.raises(ResolutionRefused):
        await settle(process, await only_case(process), Resolution.DISMISS, why=WHY)
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), FAILED)
    await settle(process, await only_case(process), Resolution.DISMISS, why="handed back at the counter, ticket 18")
    assert await open_cases(process) == []
    assert await rows_of(database, STANDS) == [KEPT]
    assert await broken(process, database) == []


async def test_the_second_money_goes_back_and_the_payment_stays_as_it_is(process: Process, database: Database) -> None:
    payment = await paid_twice(process)
    file = await only_case(process)
    assert (file.case.kind, attempt(file)) == ("SECOND_RECEIPT", "CONFIRM")
    refund_id = await returned(process, file)
    assert await rows_of(database, REFUNDS) == [(SECOND, 500, "PAID_TWICE", "REVERSAL", "REQUESTED")]
    assert await rows_of(database, STANDS) == [KEPT]
    asked = await seen(process, payment)
    assert [(one.refund_id, one.status) for one in asked.refunds] == [
        (str(refund_id), payment_pb2.REFUND_STATUS_PENDING)
    ]
    assert await broken(process, database) == []
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), done())
    assert await open_cases(process) == []
    ended = "SELECT kind, resolution, settled_by FROM cases"
    assert await rows_of(database, ended) == [("SECOND_RECEIPT", "RETURN", f"refund-done:{refund_id}")]
    assert await rows_of(database, STANDS) == [KEPT]
    told = await seen(process, payment)
    (refund,) = told.refunds
    assert (refund.status, refund.amount.units, refund.reason) == (
        payment_pb2.REFUND_STATUS_DONE,
        500,
        payment_pb2.REFUND_REASON_PAID_TWICE,
    )
    assert (refund.mpesa_receipt_number, told.mpesa_receipt_number) == (SECOND, FIRST)
    assert not told.HasField("refunded_amount"), "none of the money that the payment stands on"
    last = "SELECT event_type FROM payment_events ORDER BY version DESC LIMIT 2"
    assert await rows_of(database, last) == [("PART_REFUNDED",), ("REFUND_REQUESTED",)]
    assert await broken(process, database) == []


async def test_another_amount_that_came_beside_goes_back_as_it_came(process: Process, database: Database) -> None:
    payment = await paid_twice(process, 400)
    file = await only_case(process)
    assert file.case.kind == "WRONG_AMOUNT"
    refund_id = await returned(process, file)
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), done(amount=400))
    assert [row[:2] for row in await rows_of(database, REFUNDS)] == [(SECOND, 400)]
    assert await rows_of(database, STANDS) == [KEPT]
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_the_case_comes_back_when_the_refund_fails(process: Process, database: Database) -> None:
    payment = await paid_twice(process)
    first = await returned(process)
    await tell(process, payment, first, RefundClaimed(uuid4()), FAILED)
    again = await only_case(process)
    assert (again.case.kind, again.case.refund_state, attempt(again)) == ("SECOND_RECEIPT", "FAILED", "CONFIRM")
    assert await rows_of(database, STANDS) == [KEPT]
    second = await returned(process, again)
    await tell(process, payment, second, RefundClaimed(uuid4()), done())
    assert await open_cases(process) == []
    assert await rows_of(database, STANDS) == [KEPT]
    # The first was carried out after all: it is one return of one receipt, whichever request has made it.
    await tell(process, payment, first, done())
    assert [case.kind for case in await open_cases(process)] == ["REFUND"], "a person compares it with the portal"
    assert await rows_of(database, STANDS) == [KEPT]
    assert await broken(process, database) == []


async def test_a_refund_whose_fate_is_unknown_keeps_its_case_and_is_not_asked_for_again(
    process: Process, database: Database
) -> None:
    payment = await paid_twice(process)
    refund_id = await returned(process)
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), RefundTimedOut("callback:timeout"))
    file = await only_case(process)
    with pytest.raises(ResolutionRefused):
        await settle(process, file, Resolution.DISMISS, operator="brian", why="it takes too long")
    with pytest.raises(RefundBarred) as refusal:
        await settle(process, file, Resolution.RETURN, operator="brian", why="it takes too long")
    assert refusal.value.bar is RefundBar.REFUND_UNDER_WAY
    assert await count(database, "refunds") == 1
    assert await broken(process, database) == []


async def test_of_two_operators_at_once_one_sends_it_back(process: Process, database: Database) -> None:
    await paid_twice(process)
    file = await only_case(process)
    told = await asyncio.gather(
        settle(process, file, Resolution.RETURN, operator="amina"),
        settle(process, file, Resolution.RETURN, operator="brian"),
        settle(process, file, Resolution.DISMISS, operator="chege"),
        return_exceptions=True,
    )
    assert sum(isinstance(one, CaseFile) for one in told) == 1
    assert {type(one) for one in told if isinstance(one, Exception)} <= {CaseChanged, CaseAlreadySettled}
    assert (await count(database, "case_acts"), await count(database, "refunds") <= 1) == (1, True)
    assert await broken(process, database) == []


async def test_above_the_amount_a_second_person_agrees_first(database: Database, tmp_path: Path) -> None:
    async with running_process(database.application_url, tmp_path, approval_above=400) as process:
        payment = await paid_twice(process)
        waits = await ask_to_return(process)
        assert waits.amount == 500
        assert await count(database, "refunds") == 0
        assert await agree(process, waits) == ApprovalState.APPROVED
        ((refund_id,),) = await rows_of(database, "SELECT refund_id FROM refunds")
        await tell(process, payment, refund_id, RefundClaimed(uuid4()), done())
        assert await rows_of(database, STANDS) == [KEPT]
        assert await open_cases(process) == []
        assert await broken(process, database) == []


@pytest.mark.parametrize("own_first", [True, False], ids=["its own first", "the second first"])
async def test_both_receipts_may_go_back_each_once(process: Process, database: Database, own_first: bool) -> None:
    """The trip is cancelled: the caller has the payment refunded, while the second money is on its way back."""
    payment = await paid_twice(process)
    beside = await returned(process)
    own = await ask(process, payment)
    ends = [(own, done(FIRST)), (beside, done(SECOND))]
    for refund_id, result in ends if own_first else ends[::-1]:
        await tell(process, payment, refund_id, RefundClaimed(uuid4()), result)
        assert await broken(process, database) == []
    assert [(receipt, amount, state) for receipt, amount, *_, state in await rows_of(database, REFUNDS)] == [
        (FIRST, 500, "DONE"),
        (SECOND, 500, "DONE"),
    ]
    assert await rows_of(database, STANDS) == [("REFUNDED", "RELEASE", FIRST, 500)]
    assert await open_cases(process) == []


async def test_the_payments_own_refund_is_sent_though_it_was_told_last_of_the_other(
    process: Process, database: Database
) -> None:
    payment = await paid_twice(process)
    own = await ask(process, payment)
    beside = await returned(process)
    assert await rows_of(database, "SELECT refund_id FROM payment_transactions") == [(beside,)]
    claimed = await tell(process, payment, own, RefundClaimed(uuid4()))
    assert not claimed.refused
    assert await rows_of(database, "SELECT state FROM refunds WHERE refund_id = %s", (own,)) == [("SENDING",)]


async def test_the_second_money_of_a_refunded_payment_goes_back_as_well(process: Process, database: Database) -> None:
    payment = await paid_once(process)
    own = await ask(process, payment)
    await tell(process, payment, own, RefundClaimed(uuid4()), done(FIRST))
    await process.tell(payment, paid(SECOND))
    refund_id = await returned(process)
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), done())
    assert await rows_of(database, STANDS) == [("REFUNDED", "RELEASE", FIRST, 500)]
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_money_that_is_on_its_way_back_is_not_moved(process: Process, database: Database) -> None:
    payment = await paid_twice(process)
    other = await process.create(booking_id="BK-OTHER")
    refund_id = await returned(process)
    with pytest.raises(ResolutionRefused, match="goes back"):
        await ask_to_move(process, other)
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), done())
    assert await rows_of(database, "SELECT resolution FROM cases") == [("RETURN",)]


async def never_paid_and_told_again(process: Process) -> tuple[Payment, Payment]:
    """An attempt whose first receipt never came, and with a second one now; and the attempt before it, unpaid."""
    before = await expired(process, 9, "BK-1")
    process.writers.clock.move(180)
    payment = await process.tell(await process.create(booking_id="BK-1"), *sent(1), paid(FIRST))
    denial = replace(refused("1032"), fact_id="query:1", source=Source.QUERY, checkout_request_id="ws_CO_1")
    await process.tell(payment, denial)
    await settle(process, await only_case(process), Resolution.DISMISS, why="not in the portal")
    return before, await process.tell(payment, paid(SECOND))


async def test_the_second_money_confirms_another_attempt_where_the_first_never_came(
    process: Process, database: Database
) -> None:
    target, _ = await never_paid_and_told_again(process)
    process.writers.clock.move(1)
    assert await agree(process, await ask_to_move(process, target)) == ApprovalState.APPROVED
    told = "SELECT attempt, booking_action FROM payment_transactions ORDER BY attempt"
    assert await rows_of(database, told) == [(1, "CONFIRM"), (2, "RELEASE")]
    assert await broken(process, database) == []


async def test_money_that_another_attempt_was_given_is_not_returned(process: Process, database: Database) -> None:
    """Callback and books tell of other amounts, so two cases name the second receipt, and one of them is moved."""
    target, payment = await never_paid_and_told_again(process)
    await process.tell(payment, listed(SECOND, 450))
    by_kind = {one.kind: one.case_id for one in await open_cases(process)}
    assert sorted(by_kind) == ["SECOND_RECEIPT", "WRONG_AMOUNT"]
    moved = await ask_to_move(process, target, by_kind["SECOND_RECEIPT"])
    assert await agree(process, moved) == ApprovalState.APPROVED
    with pytest.raises(ResolutionRefused, match="not this one's"):
        await returned(process)
    assert await rows_of(database, REFUNDS) == []
    assert await broken(process, database) == []


async def told_twice(refunds: Returning) -> tuple[Payment, str, str]:
    """A payment that was paid twice at the simulated M-Pesa, which lists what went back under its two receipts."""
    books = refunds.enquiring.books
    payment, prompt = await books.payment(phone_number=PHONE)
    for number in range(2):
        await books.script(PHONE, quirks=["pull.reversal_by_original"])
        await books.push(prompt)
        receipt = books.paid[number]
        told = ResultReported(f"callback:{number}", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)
        await books.tell(payment, told)
        await books.tell(payment, replace(told, fact_id=f"pull:{number}", source=Source.PULL))
    return payment, books.paid[0], books.paid[1]


@pytest.mark.parametrize("result", ["in time", "never"])
async def test_m_pesa_returns_the_second_receipt_alone_and_its_books_say_nothing_new(
    database: Database, tmp_path: Path, result: str
) -> None:
    async with returning(database, tmp_path) as refunds:
        books = refunds.enquiring.books
        _, first, second = await told_twice(refunds)
        async with running_process(database.application_url, tmp_path) as process:
            refund_id = await returned(process)
        if result == "never":
            await refunds.script(result="never")
        assert await refunds.send() == 1
        await refunds.ended()
        if result == "in time":
            await refunds.enquiring.heard(1)
            assert await refunds.state(refund_id) == ("DONE", "0")
        assert [(one.original_receipt, one.sent_kes) for one in refunds.orders] == [(second, 500)]
        books.clock.move(2)
        await books.reader.read_anew()
        kinds = "SELECT kind FROM cases WHERE kind <> 'SECOND_RECEIPT'"
        assert await rows_of(database, kinds) == [], "we have sent it back ourselves"
        assert await rows_of(database, STANDS) == [("COMPLETED", "CONFIRM", first, 0)]


async def test_the_books_end_no_refund_of_the_other_receipt(database: Database, tmp_path: Path) -> None:
    """Nobody can tell of the payment's own refund, and the books list the reversal of the second receipt."""
    async with returning(database, tmp_path) as refunds:
        books = refunds.enquiring.books
        payment, _, second = await told_twice(refunds)
        async with running_process(database.application_url, tmp_path) as process:
            await returned(process)
        assert await refunds.send() == 1
        await refunds.enquiring.heard(1)
        own = await refunds.ask(payment)
        await refunds.tell(own, RefundClaimed(uuid4()), RefundTimedOut("callback:timeout"))
        books.clock.move(2)
        await books.reader.read_anew()
        assert await refunds.state(own) == ("UNCERTAIN", None)
        assert [one.original_receipt for one in refunds.orders] == [second]
