"""Money that a simulated Safaricom sends back at the payer's request, as reading its books finds it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import structlog

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.inspecting.invariants import Instruments
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.store.engines import connect_reader
from tests.application.refunding.returning import returning
from tests.application.settling.bookkeeping import TILL, Bookkeeping, bookkeeping
from tests.databases import Database
from tests.rows import count, rows_of

PHONE = "254712345678"
TAKEN_BACK = ("REFUNDED", "RELEASE", "TAKEN_BACK")


@pytest.fixture
async def books(database: Database, tmp_path: Path) -> AsyncIterator[Bookkeeping]:
    async with bookkeeping(database, tmp_path) as running:
        yield running


async def paid(books: Bookkeeping) -> Payment:
    """A payment that the books have shown to be paid."""
    payment, _ = await books.lost(phone_number=PHONE)
    await books.reader.read()
    assert (await books.row(payment))[0] == "COMPLETED"
    return payment


async def take_back(books: Bookkeeping) -> str:
    """Safaricom sends the phone's last money back; the receipt of the reversal."""
    await books.tell_simulator("takebacks", phone=PHONE)
    # Books are read by the second; what moved in this one is listed from the next one on.
    books.clock.move(2)
    return books.world.returns.returns[-1].receipt


async def told(books: Bookkeeping, payment: Payment) -> tuple[Any, ...]:
    """State, what the booking is told, and why."""
    columns = "state, booking_action, status_reason"
    (row,) = await rows_of(
        books.database, f"SELECT {columns} FROM payment_transactions WHERE payment_id = %s", (payment.payment_id,)
    )
    return row


async def violations(books: Bookkeeping) -> list[str]:
    writers = books.reader.writers
    async with await connect_reader(books.database.application_url) as conn:
        tallies = await check_invariants(Instruments(writers.sealer, writers.keys), conn, None)
    return [f"{one.subject}: {one.what}" for tally in tallies.values() for one in tally.shown]


async def test_money_that_the_payer_has_back_releases_its_booking_and_calls_a_person(books: Bookkeeping) -> None:
    payment = await paid(books)
    reversal = await take_back(books)
    with structlog.testing.capture_logs() as lines:
        await books.reader.read_anew()
    assert await told(books, payment) == TAKEN_BACK
    assert await books.cases() == [(payment.reference, "TAKEN_BACK", True, reversal)]
    assert [line["reference"] for line in lines if line.get("alarm") == "taken_back"] == [payment.reference]
    assert await books.exchanges("pulled") == ["OURS", "TAKEN_BACK"]
    assert await count(books.database, "mpesa_receipts") == 1, "what went back is no new money"
    assert await violations(books) == []


async def test_the_same_books_read_again_tell_it_once(books: Bookkeeping) -> None:
    payment = await paid(books)
    await take_back(books)
    for _ in range(3):
        await books.reader.read_anew()
    assert await count(books.database, "cases") == 1
    assert await told(books, payment) == TAKEN_BACK
    assert await count(books.database, "payment_events WHERE status_reason = 'TAKEN_BACK'") == 1


async def test_money_and_its_reversal_on_one_page_are_told_in_their_order(books: Bookkeeping) -> None:
    payment, _ = await books.lost(phone_number=PHONE)
    await take_back(books)
    await books.reader.read()
    assert await told(books, payment) == TAKEN_BACK
    assert [kind for _, kind, _, _ in await books.cases()] == ["TAKEN_BACK"]


async def test_a_reversal_that_is_listed_under_the_payments_own_receipt_is_one(books: Bookkeeping) -> None:
    await books.script(PHONE, quirks=["pull.reversal_by_original"])
    payment = await paid(books)
    await take_back(books)
    await books.reader.read_anew()
    assert await told(books, payment) == TAKEN_BACK
    assert await books.cases() == [(payment.reference, "TAKEN_BACK", True, books.paid[0])]


async def test_at_a_till_the_payments_own_receipt_names_it(database: Database, tmp_path: Path) -> None:
    async with bookkeeping(database, tmp_path, TILL) as books:
        await books.script(PHONE, quirks=["pull.reversal_by_original"])
        payment, _ = await books.lost(phone_number=PHONE)
        receipt = books.paid[0]
        await books.tell(
            payment, ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)
        )
        await take_back(books)
        await books.reader.read_anew()
        assert await told(books, payment) == TAKEN_BACK


@pytest.mark.parametrize(("behaviour", "state"), [({}, "REFUNDED"), ({"result": "never"}, "REFUNDING")])
async def test_a_reversal_that_a_refund_of_ours_has_led_to_opens_no_case(
    database: Database, tmp_path: Path, behaviour: dict[str, str], state: str
) -> None:
    async with returning(database, tmp_path) as refunds:
        books = refunds.enquiring.books
        refund_id = await refunds.refunded(**behaviour)
        await refunds.ended()
        if not behaviour:
            await refunds.enquiring.heard(1)
        books.clock.move(2)
        await books.reader.read_anew()
        assert await told(books, refunds.payments[refund_id]) == (state, "RELEASE", None)
        assert await books.cases() == []
        assert await books.exchanges("pulled") == []
        assert len(refunds.returns) == 1, "the books have had it"
        assert await violations(books) == []


async def test_a_payment_whose_refund_had_failed_is_taken_back_as_any_other(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path) as refunds:
        books = refunds.enquiring.books
        payment = await refunds.paid(phone_number=PHONE)
        await books.tell_simulator("balance", shortcode="174379", kes=100)
        await refunds.ask(payment)
        await refunds.send()
        await refunds.enquiring.heard(1)
        await take_back(books)
        await books.reader.read_anew()
        assert await told(books, payment) == TAKEN_BACK
        assert [kind for _, kind, _, _ in await books.cases()] == ["REFUND", "TAKEN_BACK"]
        assert await violations(books) == []


async def test_money_that_went_back_before_it_was_known_confirms_nothing_and_can_be_closed_by_a_refund(
    database: Database, tmp_path: Path
) -> None:
    async with returning(database, tmp_path) as refunds:
        books = refunds.enquiring.books
        await books.script(PHONE, pull="never")
        payment, _ = await books.lost(phone_number=PHONE)
        await take_back(books)
        await books.reader.read()
        assert await told(books, payment) == ("UNCERTAIN", "REVIEW", "CONFIRMING")
        receipt = books.paid[0]
        paid = ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)
        await books.tell(payment, paid, replace(paid, fact_id="pull:1", source=Source.PULL))
        assert (await told(books, payment))[:2] == ("COMPLETED", "REVIEW")
        refund_id = await refunds.ask(payment)
        await refunds.send()
        await refunds.enquiring.heard(1)
        assert await refunds.state(refund_id) == ("DONE", "R000001")
        assert (await told(books, payment))[:2] == ("REFUNDED", "RELEASE")
        assert len(refunds.returns) == 1, "the money went back once"
        assert await violations(books) == []


async def test_of_two_receipts_of_one_payment_none_is_guessed(books: Bookkeeping) -> None:
    payment, prompt = await books.lost(phone_number=PHONE)
    await books.push(prompt)
    await books.reader.read()
    reversal = await take_back(books)
    await books.reader.read_anew()
    assert (await told(books, payment))[:2] == ("COMPLETED", "CONFIRM")
    assert [(kind, receipt) for _, kind, _, receipt in await books.cases()] == [
        ("SECOND_RECEIPT", books.paid[1]),
        ("TAKEN_BACK", reversal),
    ]


async def test_its_story_says_that_the_books_show_it(books: Bookkeeping) -> None:
    payment = await paid(books)
    await take_back(books)
    await books.reader.read_anew()
    async with await connect_reader(books.database.application_url) as conn:
        story = await explain_payment(books.reader.writers.sealer, conn, UUID(str(payment.payment_id)))
    steps = [(moment.what, moment.by) for moment in story.moments if "REFUNDED" in moment.what]
    assert steps == [("version 5: COMPLETED → REFUNDED", "Safaricom's books: the payer has the money back")]
    assert "money case TAKEN_BACK opened" in [moment.what for moment in story.moments]


async def test_the_check_names_a_reversal_that_nobody_was_told_of(books: Bookkeeping) -> None:
    payment = await paid(books)
    await take_back(books)
    await books.reader.read_anew()
    with psycopg.connect(books.database.owner_url, autocommit=True) as owner:
        owner.execute("DELETE FROM cases")
    named = await violations(books)
    assert [one for one in named if str(payment.payment_id) in one and "no case tells a person of it" in one]
