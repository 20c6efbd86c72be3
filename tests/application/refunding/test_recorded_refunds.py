"""What is recorded of refunds whose facts come late, twice or out of order, with the real writer and database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.apply_kept_callbacks import (
    TRIES_MAX,
    InboxTools,
    apply_pending_callbacks,
    match_parked_callbacks,
    replay_callback,
)
from payment_service.domain.case_rules import Resolution
from payment_service.domain.facts import UNREADABLE
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundState
from payment_service.domain.refund_facts import AboutRefund, RefundClaimed, RefundReported, RefundVerdict
from payment_service.store.engines import connect_reader, connect_writer
from payment_service.store.pipeline import run_together
from payment_service.store.refunds import insert_refunds
from tests.application.casework.casefiles import attempt, expired, only_case, open_cases, settle
from tests.application.refunding.returning import Returning, returning
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, listed, paid, sent
from tests.store.test_refunds import refund_of

RECEIPT = "TKA1B2C3D4"
DONE = RefundReported("callback:done", RefundVerdict.DONE, "0", RECEIPT)


def asked(payment: Payment, request_id: str = "r-1") -> pb.RefundPaymentRequest:
    reason = payment_pb2.REFUND_REASON_CANNOT_DELIVER
    return pb.RefundPaymentRequest(request_id=request_id, payment_id=str(payment.payment_id), reason=reason)


async def completed(process: Process) -> Payment:
    return await process.tell(await process.create(), *sent(1), paid(RECEIPT), listed(RECEIPT))


async def ask(process: Process, payment: Payment, request_id: str = "r-1") -> UUID:
    answer = await process.payments.RefundPayment(asked(payment, request_id))
    return UUID(answer.payment.refund.refund_id)


async def tell(process: Process, payment: Payment, refund_id: UUID, *facts: AboutRefund) -> Recorded:
    """What a refund is told. One that is to be sent is of money that is backed."""
    if any(isinstance(fact, RefundClaimed) for fact in facts):
        await process.back(payment)
    for fact in facts:
        recorded = await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))
    return recorded


async def broken(process: Process, database: Database) -> list[str]:
    """What the check finds in all that is stored."""
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(Instruments(process.writers.sealer, process.writers.keys), conn)
    return [one.what for tally in tallies.values() for one in tally.shown]


async def test_a_refund_that_turns_out_to_be_done_after_all_is_not_sent_a_second_time(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    first = await ask(process, payment)
    failed = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
    await tell(process, payment, first, RefundClaimed(uuid4()), failed)
    second = await ask(process, payment, "r-2")
    told = await tell(process, payment, first, DONE)
    assert told.payment is not None
    assert (told.payment.state, told.payment.refunded_amount, told.payment.refund_id) == ("REFUNDED", 500, first)
    claimed = await tell(process, payment, second, RefundClaimed(uuid4()))
    assert claimed.refused
    assert claimed.refund is not None
    assert claimed.refund.state is RefundState.FAILED
    assert await broken(process, database) == []


async def test_the_passenger_is_told_that_the_money_could_not_be_returned_until_it_is_on_its_way_again(
    process: Process,
) -> None:
    payment = await completed(process)
    wanted = pb.GetPaymentRequest(payment_id=str(payment.payment_id))
    first = await ask(process, payment)
    failed = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
    await tell(process, payment, first, RefundClaimed(uuid4()), failed)
    told = (await process.payments.GetPayment(wanted)).payment
    assert told.customer_message.startswith("Your money could not be returned yet.")
    again = (await process.payments.RefundPayment(asked(payment, "r-2"))).payment
    assert again.customer_message == "Your money is being returned."


async def test_a_refund_that_another_has_made_needless_on_its_way_breaks_no_promise(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    first = await ask(process, payment)
    failed = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
    await tell(process, payment, first, RefundClaimed(uuid4()), failed)
    second = await ask(process, payment, "r-2")
    await tell(process, payment, second, RefundClaimed(uuid4()))
    told = await tell(process, payment, first, DONE)
    assert told.payment is not None
    assert (told.payment.state, told.payment.refunded_amount) == ("REFUNDED", 500)
    assert await broken(process, database) == []


async def test_an_attempt_that_was_refunded_before_another_confirmed_breaks_no_promise(
    process: Process, database: Database
) -> None:
    first = await expired(process, 1)
    process.writers.clock.move(60)
    second = await process.tell(await process.create(request_id="r-2", booking_id=first.booking_id), *sent(2))
    await process.tell(first, paid(RECEIPT))
    refund_id = await ask(process, first, "r-3")
    told = await tell(process, first, refund_id, RefundClaimed(uuid4()), DONE)
    assert told.payment is not None
    assert told.payment.booking_action == "RELEASE"
    process.writers.clock.move(1)
    second = await process.tell(second, paid("TKA9Z8Y7X6"))
    assert (second.state, second.booking_action) == ("COMPLETED", "CONFIRM")
    assert await broken(process, database) == []


async def test_a_receipt_whose_callback_named_no_amount_can_be_refunded(process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1), replace(paid(RECEIPT), amount=None))
    assert payment.booking_action == "CONFIRM"
    answer = await process.payments.RefundPayment(asked(payment))
    assert answer.payment.refund.amount.units == 500


async def test_two_refunds_of_one_receipt_that_are_both_said_to_be_done_count_once_with_a_case_about_money(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    first = await ask(process, payment)
    failed = RefundReported("callback:failed", RefundVerdict.FAILED, "1")
    await tell(process, payment, first, RefundClaimed(uuid4()), failed)
    second = await ask(process, payment, "r-2")
    await tell(process, payment, second, RefundClaimed(uuid4()))
    await tell(process, payment, first, DONE)
    told = await tell(process, payment, second, replace(DONE, fact_id="callback:again"))
    assert told.payment is not None
    assert (told.payment.state, told.payment.refunded_amount) == ("REFUNDED", 500)
    about_money = f"fact_id = 'refund-doubt:{second}:callback:again' AND is_money AND kind = 'REFUND'"
    assert await count(database, f"cases WHERE {about_money}") == 1
    assert await broken(process, database) == []


async def test_money_whose_amount_nobody_could_read_is_not_refunded_as_the_amount_asked_for(
    process: Process, database: Database
) -> None:
    """400.50 came where 500 were asked for: to send 500 back would give money away."""
    payment = await process.tell(await process.create(), *sent(1))
    file = await only_case(process, payment, replace(paid(RECEIPT), amount=UNREADABLE))
    assert attempt(await settle(process, file)) == "CONFIRM"
    refusal = await refused(process.payments.RefundPayment(asked(payment)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REFUND_NOT_POSSIBLE")
    assert refusal.metadata["cause"] == "AMOUNT_UNKNOWN"
    assert "portal" in refusal.message
    assert await count(database, "refunds") == 0


async def test_a_payment_whose_money_is_all_promised_already_is_refused_as_under_way(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    conn = await connect_writer(database.application_url, autocommit=True)
    await run_together(conn, [insert_refunds([refund_of(payment)])])
    await conn.close()
    refusal = await refused(process.payments.RefundPayment(asked(payment)))
    assert (refusal.reason, refusal.metadata["cause"]) == ("REFUND_NOT_POSSIBLE", "REFUND_UNDER_WAY")


async def test_a_post_that_comes_again_after_its_case_was_dismissed_is_no_news(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    refund_id = await ask(process, payment)
    foreign = replace(DONE, receipt="TKZ9Y8X7W6")
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), foreign, DONE)
    await settle(process, await only_case(process), Resolution.DISMISS)
    events = await count(database, "payment_events")
    await tell(process, payment, refund_id, foreign)
    assert (await count(database, "payment_events"), await open_cases(process)) == (events, [])


# Callbacks of refunds that wait in the inbox.


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


def inbox_of(refunds: Returning) -> InboxTools:
    books = refunds.enquiring.books
    return InboxTools(refunds.tools.engine, refunds.tools.facts, books.reader.writers.sealer, books.clock)


def by_hand(database: Database, statement: str, *parameters: object) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(statement, parameters)


async def test_the_result_of_a_refund_that_the_database_had_lost_is_applied_once_it_is_there_again(
    refunds: Returning, database: Database
) -> None:
    refund_id = await refunds.refunded(result="held")
    await refunds.ended()
    ((reference,),) = await rows_of(database, "SELECT reference FROM refunds")
    rename = "UPDATE refunds SET reference = %s WHERE refund_id = %s"
    by_hand(database, rename, "bcdfghjknprt", refund_id)
    await refunds.enquiring.books.tell_simulator("results/release")
    await refunds.enquiring.heard(1)
    assert await rows_of(database, "SELECT status FROM callback_inbox") == [("UNMATCHED",)]
    assert await match_parked_callbacks(inbox_of(refunds)) == 0
    by_hand(database, rename, reference, refund_id)
    assert await match_parked_callbacks(inbox_of(refunds)) == 1
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert await rows_of(database, "SELECT kind FROM cases WHERE settled_at IS NULL") == []


async def test_the_case_of_a_given_up_result_of_a_refund_ends_when_it_is_replayed(
    refunds: Returning, database: Database
) -> None:
    refund_id = await refunds.refunded(result="held")
    await refunds.ended()
    by_hand(database, "ALTER TABLE refunds ADD CONSTRAINT torn CHECK (state <> 'DONE')")
    await refunds.enquiring.books.tell_simulator("results/release")
    await refunds.enquiring.heard(1)
    for _ in range(TRIES_MAX):
        refunds.enquiring.books.clock.move(7_200)
        await apply_pending_callbacks(inbox_of(refunds))
    given_up = "SELECT kind FROM cases WHERE settled_at IS NULL AND kind = 'CALLBACK_GIVEN_UP'"
    assert await rows_of(database, given_up) == [("CALLBACK_GIVEN_UP",)]
    by_hand(database, "ALTER TABLE refunds DROP CONSTRAINT torn")
    ((callback_id,),) = await rows_of(database, "SELECT callback_id FROM callback_inbox")
    await replay_callback(inbox_of(refunds), callback_id, "amina", "mended")
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert await rows_of(database, given_up) == []


async def test_what_an_older_release_leaves_under_way_is_found_and_cleared_as_the_page_says(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    refund_id = await ask(process, payment)
    await tell(process, payment, refund_id, RefundClaimed(uuid4()), DONE)
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("UPDATE payment_transactions SET refund_under_way = true")
        assert [one for one in await broken(process, database) if "refunds under way: 0" in one]
        (clearing,) = re.findall(r"```sql\n(.*?)```", Path("docs/upgrading.md").read_text(encoding="utf-8"), re.DOTALL)
        owner.execute(clearing)
        assert await broken(process, database) == []
        # One that is under way stays so.
        other = await process.tell(await process.create(booking_id="BK-2"), *sent(2), paid("RCPT000002"))
        await ask(process, other, "r-2")
        owner.execute(clearing)
        assert await broken(process, database) == []
