"""What refunds can be paid from: asked of a simulated M-Pesa, told by its result, and never asked past a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from payment_service.application.following.event_feed import EventFeed
from payment_service.application.following.read_payments import PaymentReads, payment_reads
from payment_service.application.refunding.ask_float import Float, ask_float
from payment_service.domain.errors import PaymentNotFound
from payment_service.store import status_questions as questions
from payment_service.store.engines import connect_writer
from tests.application.settling.bookkeeping import PAYBILL
from tests.application.settling.enquiry import Enquiry, enquiry
from tests.databases import Database
from tests.rows import count, rows_of


@pytest.fixture
async def enquiring(database: Database, tmp_path: Path) -> AsyncIterator[Enquiry]:
    async with enquiry(database, tmp_path, PAYBILL) as one:
        yield one


@pytest.fixture
def reads(enquiring: Enquiry, database: Database) -> PaymentReads:
    connect = partial(connect_writer, database.application_url, autocommit=True)
    sealer = enquiring.tools.safaricom.sealer
    return payment_reads(enquiring.tools.engine, connect, sealer, EventFeed(connect, sealer))


async def test_what_the_account_has_is_asked_for_and_the_payment_is_as_it_was(
    enquiring: Enquiry, reads: PaymentReads, database: Database
) -> None:
    payment, _ = await enquiring.books.payment()
    await enquiring.books.tell_simulator("balance", shortcode=PAYBILL.number, kes=12_345)
    for _ in range(2):
        assert await ask_float({PAYBILL.number: enquiring.tools}, reads, payment.payment_id) == Float(
            PAYBILL.number, 12_345
        )
        enquiring.books.clock.move(1)
    assert await count(database, "daraja_exchanges WHERE operation = 'balance'") == 2
    assert (
        await rows_of(database, "SELECT kind, status, payment_id FROM callback_inbox")
        == [("balance", "APPLIED", payment.payment_id)] * 2
    )
    assert await count(database, "payment_events") == 1
    assert await count(database, "cases") == 0


async def test_a_float_that_nobody_tells_is_not_known_and_may_be_asked_for_again(
    enquiring: Enquiry, reads: PaymentReads
) -> None:
    payment, _ = await enquiring.books.payment()
    await enquiring.books.tell_simulator("balances", behaviour={"result": "queue_timeout"})
    found = await ask_float({PAYBILL.number: enquiring.tools}, reads, payment.payment_id)
    assert found == Float(
        PAYBILL.number, None, "M-Pesa does not tell it: the result does not say that M-Pesa has answered."
    )
    enquiring.books.clock.move(1)
    assert (await ask_float({PAYBILL.number: enquiring.tools}, reads, payment.payment_id)).available is not None


async def test_after_a_refusal_of_the_initiator_nothing_is_asked_for_a_day(
    enquiring: Enquiry, reads: PaymentReads, database: Database
) -> None:
    payment, _ = await enquiring.books.payment()
    await enquiring.books.tell_simulator("balances", behaviour={"result_code": 2001})
    found = await ask_float({PAYBILL.number: enquiring.tools}, reads, payment.payment_id)
    assert found.problem == "M-Pesa does not tell it: the question was answered with code 2001."
    enquiring.books.clock.move(23 * 3600)
    found = await ask_float({PAYBILL.number: enquiring.tools}, reads, payment.payment_id)
    assert found.problem == "M-Pesa has refused our initiator: see the alarm initiator_refused."
    assert await count(database, "daraja_exchanges WHERE operation = 'balance'") == 1


async def test_without_an_initiator_or_a_payment_nothing_is_asked(enquiring: Enquiry, reads: PaymentReads) -> None:
    payment, _ = await enquiring.books.payment()
    found = await ask_float({}, reads, payment.payment_id)
    assert found == Float(PAYBILL.number, None, "Refunds are not set up for this shortcode.")
    with pytest.raises(PaymentNotFound):
        await ask_float({PAYBILL.number: enquiring.tools}, reads, uuid4())


async def test_an_answer_that_is_read_late_does_not_end_the_turn_of_the_next_question(enquiring: Enquiry) -> None:
    """Two questions at once would be two wrong passwords, where one is wrong."""
    tools = enquiring.tools
    initiator, first = tools.operator.key, tools.safaricom.clock()
    second = first + timedelta(seconds=1)
    async with tools.engine.begin() as conn:
        await questions.lock_turn(conn, initiator, first)
        await questions.take_turn(conn, initiator, "first", first)
        await questions.take_turn(conn, initiator, "second", second)
        await questions.end_question(conn, initiator, first, second)
        assert (await questions.lock_turn(conn, initiator, second)).asked_reference == "second"
        await questions.end_question(conn, initiator, second, second)
        assert (await questions.lock_turn(conn, initiator, second)).asked_reference is None
