"""Parts of a payment that go back through a simulated M-Pesa: by B2C, to the payer's number, under a name of ours."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import structlog

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.refunding.send_refunds import PROVEN_FOR
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.refund import MONEY_NOT_BACKED, RefundReason
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from payment_service.domain.refunds import DOUBT_MAX, SEND_BACKOFF_MAX, SEND_WITHIN
from payment_service.security.sealing import PHONE_NUMBER
from tests.application.refunding.returning import Returning, returning
from tests.databases import Database
from tests.rows import count, rows_of

PHONE = "254712000001"


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


async def all_is_kept(refunds: Returning) -> bool:
    """Whether nothing that is stored breaks a promise."""
    writers = refunds.enquiring.books.reader.writers
    async with await psycopg.AsyncConnection.connect(refunds.enquiring.books.database.owner_url) as owner:
        tallies = await check_invariants(Instruments(writers.sealer, writers.keys), owner)
    return [tally.shown for tally in tallies.values() if tally.violations] == []


async def test_a_part_goes_back_to_the_payer_and_the_payment_stays_completed(refunds: Returning) -> None:
    payment = await refunds.paid(phone_number=PHONE)
    refund_id = await refunds.ask(payment, 200)
    assert await refunds.payment_of(refund_id) == ("COMPLETED", "CONFIRM", 0)
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert await refunds.payment_of(refund_id) == ("COMPLETED", "CONFIRM", 200)
    assert [(one.kind, one.phone, one.amount) for one in refunds.returns] == [("b2c", PHONE, 200)]
    assert [order.originator_conversation_id for order in refunds.orders] == [str(refund_id)]
    assert await refunds.cases() == []
    assert await all_is_kept(refunds)


async def test_parts_that_add_up_to_all_return_the_payment(refunds: Returning) -> None:
    payment = await refunds.paid(phone_number=PHONE)
    first = await refunds.ask(payment, 200)
    rest = await refunds.ask(payment)
    assert await refunds.payment_of(rest) == ("COMPLETED", "RELEASE", 0)
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await refunds.payment_of(first) == ("COMPLETED", "RELEASE", 200)
    assert await refunds.send() == 1
    await refunds.enquiring.heard(2)
    assert await refunds.payment_of(rest) == ("REFUNDED", "RELEASE", 500)
    assert [(one.kind, one.amount) for one in refunds.returns] == [("b2c", 200), ("b2c", 300)]
    query = "SELECT event_type, refund_status, refunded_amount::int FROM payment_events WHERE refund_id IS NOT NULL"
    assert await rows_of(refunds.enquiring.books.database, query + " ORDER BY version") == [
        ("REFUND_REQUESTED", "PENDING", 0),
        ("REFUND_REQUESTED", "PENDING", 0),
        ("PART_REFUNDED", "DONE", 200),
        ("REFUNDED", "DONE", 500),
    ]
    assert await all_is_kept(refunds)


async def test_a_part_waits_for_a_second_source_and_then_goes_by_itself(refunds: Returning) -> None:
    """Only a callback has told of the money; a part would go out of our own account."""
    payment = await refunds.paid(backed=False)
    refund_id = await refunds.ask(payment, 200)
    await refunds.send()
    assert (await refunds.state(refund_id), refunds.orders) == (("REQUESTED", MONEY_NOT_BACKED), [])
    books = refunds.enquiring.books
    async with await psycopg.AsyncConnection.connect(books.database.owner_url) as owner:
        story = await explain_payment(books.reader.writers.sealer, owner, payment.payment_id)
    told = [detail for moment in story.moments for detail in moment.details]
    assert any(detail.startswith("waits until more than a callback has told") for detail in told)
    assert payment.receipt is not None
    listed = ResultReported("pull:1", Source.PULL, Verdict.PAID, "0", amount=500, receipt=payment.receipt)
    await books.tell(payment, listed)
    books.clock.move(SEND_BACKOFF_MAX.total_seconds())
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert await all_is_kept(refunds)


@pytest.mark.parametrize("answer", ["lost", "reset", "cut_header", "cut_body"])
async def test_a_part_whose_answer_and_result_are_lost_is_asked_about_and_never_sent_again(
    refunds: Returning, answer: str
) -> None:
    refund_id = await refunds.ask(await refunds.paid(phone_number=PHONE), 200)
    await refunds.script(answer=answer, result="never")
    await refunds.send()
    await refunds.ended()
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    assert await refunds.send() == 0
    await refunds.asked()
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert await refunds.payment_of(refund_id) == ("COMPLETED", "CONFIRM", 200)
    assert (len(refunds.orders), len(refunds.returns)) == (1, 1)
    assert await refunds.cases() == []


@pytest.mark.parametrize(
    ("reason", "action"), [(RefundReason.BOOKING_CANCELLED, "RELEASE"), (RefundReason.OTHER, "CONFIRM")]
)
async def test_a_part_that_fails_leaves_the_money_here_with_a_case(
    refunds: Returning, reason: RefundReason, action: str
) -> None:
    """A booking that was cancelled stays so; one that was not keeps its seat."""
    payment = await refunds.paid(phone_number=PHONE)
    await refunds.enquiring.books.tell_simulator("balance", shortcode="174379", kes=100)
    refund_id = await refunds.ask(payment, 200, reason)
    with structlog.testing.capture_logs() as lines:
        await refunds.send()
        await refunds.enquiring.heard(1)
    assert "refund_refused" in [line.get("alarm") for line in lines]
    assert await refunds.state(refund_id) == ("FAILED", "1")
    assert await refunds.payment_of(refund_id) == ("COMPLETED", action, 0)
    assert await refunds.cases() == [("REFUND", False)]
    assert refunds.returns == []
    # What failed is not promised any more: the whole can go back, by its receipt.
    await refunds.enquiring.books.tell_simulator("balance", shortcode="174379", kes=1_000)
    whole = await refunds.ask(payment)
    await refunds.send()
    await refunds.enquiring.heard(2)
    assert await refunds.payment_of(whole) == ("REFUNDED", "RELEASE", 500)
    assert [one.kind for one in refunds.returns] == ["reversal"]
    assert await all_is_kept(refunds)


async def test_a_part_of_a_payer_whose_number_was_erased_fails_at_once_and_the_whole_can_go_back(
    refunds: Returning,
) -> None:
    payment = await refunds.paid(phone_number=PHONE)
    writers = refunds.enquiring.books.reader.writers
    empty = writers.sealer.seal(PHONE_NUMBER, payment.payment_id.bytes, b"")
    async with await psycopg.AsyncConnection.connect(refunds.enquiring.books.database.owner_url) as owner:
        await owner.execute("UPDATE payment_transactions SET phone_number = %s", (empty,))
    refund_id = await refunds.ask(payment, 200)
    await refunds.send()
    assert await refunds.state(refund_id) == ("FAILED", "NUMBER_ERASED")
    assert await refunds.cases() == [("REFUND", False)]
    assert refunds.orders == []
    whole = await refunds.ask(payment)
    await refunds.send()
    await refunds.enquiring.heard(1)
    assert await refunds.payment_of(whole) == ("REFUNDED", "RELEASE", 500)


@pytest.mark.parametrize(("amount", "action"), [(None, "RELEASE"), (400, "CONFIRM")])
async def test_nothing_more_is_sent_than_came_where_a_part_that_had_failed_is_done_after_all(
    refunds: Returning, amount: int | None, action: str
) -> None:
    """What was asked for since is the whole, or another part that is more than what is left now."""
    payment = await refunds.paid(phone_number=PHONE)
    part = await refunds.ask(payment, 200)
    failed = RefundReported("callback:1", RefundVerdict.FAILED, "1")
    done = RefundReported("callback:2", RefundVerdict.DONE, "0", refunds.enquiring.books.paid[-1], 200)
    await refunds.tell(part, RefundClaimed(uuid4(), refunds.tools.operator.key), failed)
    later = await refunds.ask(payment, amount)
    await refunds.tell(part, done)
    await refunds.send()
    assert refunds.orders == []
    assert await refunds.state(later) == ("REQUESTED", None)
    assert ("REFUND", True) in await refunds.cases()
    await refunds.later(SEND_WITHIN.total_seconds())
    assert await refunds.state(later) == ("FAILED", None)
    assert await refunds.payment_of(later) == ("COMPLETED", action, 200)
    assert await all_is_kept(refunds)


async def test_a_part_that_is_not_wanted_any_more_holds_up_no_other_refund(refunds: Returning) -> None:
    """Refunds leave one at a time before the first is done, and it is the one that has waited longest."""
    payment = await refunds.paid(phone_number=PHONE)
    part = await refunds.ask(payment, 200)
    failed = RefundReported("callback:1", RefundVerdict.FAILED, "1")
    done = RefundReported("callback:2", RefundVerdict.DONE, "0", refunds.enquiring.books.paid[-1], 200)
    await refunds.tell(part, RefundClaimed(uuid4(), refunds.tools.operator.key), failed)
    await refunds.ask(payment)
    await refunds.tell(part, done)
    refunds.enquiring.books.clock.move(2 * PROVEN_FOR.total_seconds())
    other = await refunds.ask(await refunds.paid())
    for _ in range(2):
        await refunds.send()
    await refunds.enquiring.heard(1)
    assert await refunds.state(other) == ("DONE", "0")


async def test_the_case_of_a_part_that_nobody_knows_of_ends_when_it_is_known(refunds: Returning) -> None:
    """Also where the payment was told of another part since."""
    payment = await refunds.paid(phone_number=PHONE)
    first = await refunds.ask(payment, 200)
    await refunds.script(result="held")
    await refunds.send()
    await refunds.ended()
    await refunds.later(121)
    await refunds.later(DOUBT_MAX.total_seconds())
    second = await refunds.ask(payment, 100)
    await refunds.tell(second, RefundClaimed(uuid4(), refunds.tools.operator.key))
    receipt = refunds.enquiring.books.paid[-1]
    await refunds.tell(second, RefundReported("callback:1", RefundVerdict.DONE, "0", receipt, 100))
    open_cases = "cases WHERE settled_at IS NULL"
    assert await count(refunds.enquiring.books.database, open_cases) == 1
    await refunds.enquiring.books.tell_simulator("results/release")
    await refunds.enquiring.heard(1)
    assert await refunds.payment_of(first) == ("COMPLETED", "CONFIRM", 300)
    assert await count(refunds.enquiring.books.database, open_cases) == 0


async def test_a_success_without_the_transfers_receipt_is_asked_about(refunds: Returning) -> None:
    refund_id = await refunds.ask(await refunds.paid(phone_number=PHONE), 200)
    await refunds.script(without=["TransactionReceipt"])
    await refunds.send()
    await refunds.enquiring.heard(1)
    told = await refunds.state(refund_id)
    if told != ("DONE", "0"):
        assert told == ("UNCERTAIN", None)
        await refunds.asked()
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert len(refunds.returns) == 1


async def test_the_story_of_a_payment_tells_of_its_parts(refunds: Returning) -> None:
    payment = await refunds.paid(phone_number=PHONE)
    refund_id = await refunds.ask(payment, 200, RefundReason.BOOKING_CANCELLED)
    await refunds.send()
    await refunds.enquiring.heard(1)
    writers = refunds.enquiring.books.reader.writers
    async with await psycopg.AsyncConnection.connect(refunds.enquiring.books.database.owner_url) as owner:
        story = await explain_payment(writers.sealer, owner, payment.payment_id)
    told = [moment.what for moment in story.moments]
    assert f"refund {refund_id} of 200 asked for, a part, by B2C, BOOKING_CANCELLED: DONE now" in told
    assert any(what.startswith("b2c: HTTP 200") for what in told)
