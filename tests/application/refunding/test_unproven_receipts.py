"""A receipt that only a callback has told of may be somebody else's: it is not reversed before it is proven to be the
payment's, whoever asks. What waits for that is asked about, moves by itself, and ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.ask_status import TRIES_MAX
from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.case_rules import Resolution
from payment_service.domain.facts import DeadlinePassed, ResultReported, Source, Verdict
from payment_service.domain.payment import LatePaymentPolicy, Payment
from payment_service.domain.refund_facts import RefundClaimed
from tests.application.casework.casefiles import only_case, settle
from tests.application.refunding.returning import Returning, returning
from tests.application.refunding.test_recorded_refunds import ask
from tests.application.refunding.test_refund_booking import asked as of_booking
from tests.application.settling.test_ask_unbacked import told
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import Process, listed, paid, running_process, sent

RECEIPT, SECOND = "RCPT000001", "RCPT000002"
A_DAY = 24 * 3600
WAITS = ("REQUESTED", "MONEY_NOT_BACKED")


async def payment_of_callback(process: Process) -> Payment:
    return await process.tell(await process.create(), *sent(1), paid(RECEIPT))


async def by_its_caller(process: Process) -> Payment:
    """Who cannot deliver."""
    payment = await payment_of_callback(process)
    await ask(process, payment)
    return payment


async def with_its_trip(process: Process) -> Payment:
    payment = await payment_of_callback(process)
    await process.operations.RefundBooking(of_booking(payment.booking_id))
    return payment


async def by_itself(process: Process) -> Payment:
    """Which came late, and goes back by its caller's words."""
    payment = await process.tell(await process.create(late_payment_policy=LatePaymentPolicy.REFUND), *sent(1))
    process.writers.clock.move(301)
    return await process.tell(payment, DeadlinePassed(), paid(RECEIPT))


async def of_a_second_receipt(process: Process) -> Payment:
    """Which an operator returns: what backs the payment says nothing of it."""
    payment = await process.tell(await payment_of_callback(process), listed(RECEIPT), paid(SECOND))
    await settle(process, await only_case(process), Resolution.RETURN, why="paid twice")
    return payment


async def of_a_wrong_amount(process: Process) -> Payment:
    """Which is under review, and which an operator returns."""
    payment = await process.tell(await process.create(), *sent(1), paid(RECEIPT, 400))
    await settle(process, await only_case(process), Resolution.RETURN, why="too little")
    return payment


@pytest.fixture
async def process(database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    allowed = AutomaticRefunds(amount_max=1000, shortcodes=("174379",))
    async with running_process(database.application_url, tmp_path, automatic_refunds=allowed) as running:
        yield running


@pytest.mark.parametrize(
    "asks",
    [by_its_caller, with_its_trip, by_itself, of_a_second_receipt, of_a_wrong_amount],
    ids=lambda one: one.__name__,
)
async def test_whoever_asks_a_receipt_is_reversed_once_the_books_name_the_payment(
    process: Process, database: Database, asks: Callable[[Process], Awaitable[Payment]]
) -> None:
    payment = await asks(process)
    ((refund_id, method),) = await rows_of(database, "SELECT refund_id, method FROM refunds")
    assert method == "REVERSAL"
    assert await _claimed(process, database, payment, refund_id) == WAITS
    assert await rows_of(database, "SELECT count(*) FROM cases WHERE settled_at IS NULL AND kind = 'REFUND'") == [(0,)]
    await process.back(payment)
    assert await _claimed(process, database, payment, refund_id) == ("SENDING", None)


async def _claimed(process: Process, database: Database, payment: Payment, refund_id: UUID) -> tuple[str, str | None]:
    """The refund once a process wants to send it."""
    claim = Submission(RefundClaimed(uuid4()), payment.payment_id, refund_id=refund_id)
    await process.writers.facts.submit(claim)
    ((state, code),) = await rows_of(database, "SELECT state, result_code FROM refunds")
    return state, code


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


async def waiting(refunds: Returning, payment: Payment) -> UUID:
    """The refund of all of its money, which a process has looked at and not sent."""
    refund_id = await refunds.ask(payment)
    assert await refunds.send() == 1
    assert (await refunds.state(refund_id), refunds.orders) == (WAITS, [])
    return refund_id


async def test_mpesa_is_asked_about_a_receipt_that_is_to_go_back_and_then_it_goes(refunds: Returning) -> None:
    await waiting(refunds, await told(refunds.enquiring))
    await refunds.enquiring.ask_and_hear()
    assert await refunds.send() == 1, "at once: it was only waiting for that"
    await refunds.ended()
    assert [(order.original_receipt, order.sent_kes) for order in refunds.orders] == [
        (refunds.enquiring.books.paid[0], 500)
    ]


async def test_the_receipt_of_somebody_else_is_never_reversed_and_its_refund_ends_with_a_case(
    refunds: Returning,
) -> None:
    books = refunds.enquiring.books
    _, prompt = await books.payment(phone_number="254722000126")
    await books.push(prompt)
    strangers = books.paid[0]
    refund_id = await waiting(refunds, await told(refunds.enquiring, strangers))
    for _ in range(TRIES_MAX + 1):
        await refunds.enquiring.ask_and_hear()
        assert not await refunds.enquiring.ask(), "not before its time"
        books.clock.move(3840)
    await books.reader.read_anew()
    assert await refunds.send() == 1
    assert await refunds.state(refund_id) == WAITS
    await refunds.later(A_DAY)
    assert await refunds.state(refund_id) == ("FAILED", "MONEY_NOT_BACKED")
    assert not await refunds.enquiring.ask(), "nothing waits for it any more"
    assert (refunds.orders, ("REFUND", False) in await refunds.cases()) == ([], True)


async def test_a_refund_outlasts_an_hour_in_which_mpesa_answers_no_question(refunds: Returning) -> None:
    """Nothing but the status proves a receipt where the books are not read, so questions in vain must not use it up."""
    await waiting(refunds, await told(refunds.enquiring))
    for _ in range(TRIES_MAX):
        await refunds.enquiring.script(result="never")
        assert await refunds.enquiring.ask()
        refunds.enquiring.books.clock.move(3840)
    await refunds.enquiring.ask_and_hear()
    assert await refunds.send() == 1
    await refunds.ended()
    assert [order.sent_kes for order in refunds.orders] == [500]


async def test_the_books_prove_a_receipt_whose_payment_a_query_has_backed(refunds: Returning) -> None:
    """A query says of the prompt that it was paid, and names no receipt."""
    books = refunds.enquiring.books
    payment = await told(refunds.enquiring)
    await books.tell(payment, ResultReported("query:1", Source.QUERY, Verdict.PAID, "0"))
    refund_id = await waiting(refunds, payment)
    await books.reader.read_anew()
    assert await refunds.send() == 1
    assert [order.original_receipt for order in refunds.orders] == [books.paid[0]]
    assert await refunds.state(refund_id) != WAITS


async def test_the_books_prove_no_receipt_that_is_known_with_another_amount(
    process: Process, database: Database
) -> None:
    """The reversal would name an amount that never came."""
    payment = await process.tell(await process.create(), *sent(1), paid(RECEIPT, 5000), listed(RECEIPT, 400))
    proven = "SELECT amount, proven_by FROM mpesa_receipts"
    assert await rows_of(database, proven) == [(5000, None)]
    await process.tell(payment, ResultReported("pull:2", Source.PULL, Verdict.PAID, "0", amount=5000, receipt=RECEIPT))
    assert await rows_of(database, proven) == [(5000, "BOOKS")]
