"""Money that only a callback has told of, as Transaction Status is asked about it before a person has to look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from payment_service.application.casework.show_cases import CaseFile
from payment_service.application.settling.ask_status import TRIES_MAX
from payment_service.domain.facts import PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.domain.query_schedule import next_back_at
from payment_service.domain.reasons import Reason
from payment_service.store.push_queries import claim_unbacked
from tests.application.casework.casefiles import only_case
from tests.application.refunding.returning import Returning, returning
from tests.application.settling.bookkeeping import PAYBILL
from tests.application.settling.enquiry import PHONE, Enquiry, enquiry
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import paid, running_process, sent

FORGED = "TKFORGED01"


@pytest.fixture
async def enquiring(database: Database, tmp_path: Path) -> AsyncIterator[Enquiry]:
    async with enquiry(database, tmp_path, PAYBILL) as running:
        yield running


async def told(enquiring: Enquiry, receipt: str | None = None, *, ids_by_callback: bool = False) -> Payment:
    """A payment that a callback alone has told of, with the true receipt or a forged one."""
    books = enquiring.books
    payment, prompt = await books.payment(phone_number=PHONE)
    claim, answer = uuid4(), await books.push(prompt)
    ids = (answer.merchant_request_id, answer.checkout_request_id)
    name = receipt or books.paid[-1]
    news = ResultReported(f"callback:{claim}", Source.CALLBACK, Verdict.PAID, "0", None, *ids, amount=500, receipt=name)
    accepted = [] if ids_by_callback else [PromptAccepted(claim, *ids)]
    return await books.tell(payment, SendClaimed(claim), *accepted, news)


async def queried_in_vain(enquiring: Enquiry, minutes: int = 30) -> None:
    """So long after the callback, when nothing that was asked about the push has said anything of its money."""
    books = enquiring.books
    books.clock.move(minutes * 60)
    now, times = books.clock(), books.reader.writers.times
    async with enquiring.tools.engine.begin() as conn:
        since = now - timedelta(minutes=minutes)
        await claim_unbacked(conn, PAYBILL.number, now, 9, lambda one: next_back_at(now, since, 0.0, times))


async def denied(enquiring: Enquiry, payment: Payment) -> None:
    """A query denies the money, and a person has a case about it."""
    enquiring.books.clock.move(900)
    told = ResultReported("query:1", Source.QUERY, Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER)
    await enquiring.books.tell(payment, told)


async def backing(enquiring: Enquiry) -> list[tuple[str, str]]:
    query = "SELECT backing, booking_action FROM payment_transactions ORDER BY created_at"
    return await rows_of(enquiring.books.database, query)


async def the_case(database: Database, folder: Path) -> CaseFile:
    async with running_process(database.application_url, folder) as process:
        return await only_case(process)


async def test_money_that_neither_books_nor_queries_have_shown_is_backed_by_its_receipt(enquiring: Enquiry) -> None:
    await told(enquiring)
    assert not await enquiring.ask(), "the books have their time first"
    await queried_in_vain(enquiring)
    await enquiring.ask_and_hear()
    assert await backing(enquiring) == [("STATUS", "CONFIRM")]
    assert await enquiring.books.cases() == []
    assert not await enquiring.ask(), "there is nothing more to ask for"


async def test_a_case_about_money_ends_when_m_pesa_has_the_receipt(enquiring: Enquiry) -> None:
    payment = await told(enquiring)
    await denied(enquiring, payment)
    await enquiring.ask_and_hear()
    assert await backing(enquiring) == [("STATUS", "CONFIRM")]
    settled = "SELECT kind, settled_at IS NOT NULL FROM cases"
    assert await rows_of(enquiring.books.database, settled) == [("UNBACKED_MONEY", True)]


async def test_a_receipt_that_does_not_exist_stays_in_doubt_and_its_case_says_so(
    enquiring: Enquiry, database: Database, tmp_path: Path
) -> None:
    payment = await told(enquiring, FORGED)
    await denied(enquiring, payment)
    await enquiring.ask_and_hear()
    assert await backing(enquiring) == [("DOUBTED", "CONFIRM")]
    file = await the_case(database, tmp_path)
    (answer,) = [one.body for one in file.evidence if one.what == "M-Pesa's answer about the transaction"]
    assert json.loads(answer)["Result"]["ResultCode"] == 2032
    for _ in range(TRIES_MAX + 3):
        enquiring.books.clock.move(3600)
        if await enquiring.ask():
            await enquiring.heard(await enquiring.asked())
    assert await enquiring.asked() == TRIES_MAX


async def test_ids_that_only_a_callback_has_brought_are_not_asked_about(enquiring: Enquiry) -> None:
    payment = await told(enquiring, ids_by_callback=True)
    await denied(enquiring, payment)
    assert not await enquiring.ask(), "an answer about a push of the forger's own would back nothing"


async def test_who_waits_for_a_receipt_is_asked_for_first(enquiring: Enquiry) -> None:
    await told(enquiring)
    await queried_in_vain(enquiring)
    pending, receipt = await enquiring.pending()
    await enquiring.ask_and_hear()
    assert await enquiring.books.row(pending) == ("COMPLETED", receipt, "CONFIRM")
    assert await backing(enquiring) == [("AWAITED", "CONFIRM"), ("STATUS", "CONFIRM")]


UNDER_DOUBT = """
INSERT INTO cases (case_id, payment_id, reference, kind, is_money, fact_id, opened_at, deadline_at)
SELECT gen_random_uuid(), payment_id, reference, 'UNBACKED_MONEY', true, 'denied', completed_at, completed_at
FROM payment_transactions"""
QUERIED_IN_VAIN = "UPDATE payment_transactions SET back_at = completed_at + interval '2 hours'"
ASKED_IN_VAIN = """
INSERT INTO daraja_questions (payment_id, receipt, tries, next_ask_at)
SELECT payment_id, mpesa_receipt_number, %(tries)s, completed_at FROM payment_transactions
WHERE payment_id <> %(first)s"""


@pytest.mark.parametrize("waiting", [UNDER_DOUBT, QUERIED_IN_VAIN], ids=["cases", "queried in vain"])
async def test_what_has_been_asked_about_in_vain_stands_before_nobody(enquiring: Enquiry, waiting: str) -> None:
    """As many as are looked at together have had all their questions; the one that came before them has had none."""
    books = enquiring.books
    first = await told(enquiring)
    books.clock.move(1)
    payments = [(await books.payment(phone_number=PHONE))[0] for _ in range(100)]
    await asyncio.gather(
        *(books.tell(one, *sent(number), paid(f"TK{number:08}")) for number, one in enumerate(payments))
    )
    books.clock.move(900)
    with psycopg.connect(books.database.owner_url) as owner:
        owner.execute(waiting)
        owner.execute(ASKED_IN_VAIN, {"tries": TRIES_MAX, "first": first.payment_id})
    assert await enquiring.ask()
    once = "SELECT payment_id FROM daraja_questions WHERE tries = 1"
    assert await rows_of(books.database, once) == [(first.payment_id,)]


async def test_a_part_that_waits_for_its_money_is_sent_once_m_pesa_has_the_receipt(
    database: Database, tmp_path: Path
) -> None:
    async with returning(database, tmp_path) as refunds:
        await part_waits(refunds)
        assert await refunds.enquiring.ask()
        await refunds.enquiring.heard(1)
        refunds.enquiring.books.clock.move(600)
        assert await refunds.send() == 1
        assert [order.amount for order in refunds.orders] == [200]


async def part_waits(refunds: Returning) -> None:
    """A part is asked for of money that only a callback has told of, and is not sent yet."""
    refund_id = await refunds.ask(await told(refunds.enquiring), 200)
    refunds.enquiring.books.clock.move(20)
    assert await refunds.send() == 1
    assert await refunds.state(refund_id) == ("REQUESTED", "MONEY_NOT_BACKED")
    assert refunds.orders == []
