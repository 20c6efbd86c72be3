"""Money that goes back by itself, with the real writers: in the transaction that records it, once, or a case."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from payment_service.application.casework.show_cases import get_case
from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.case_rules import Resolution
from payment_service.domain.errors import (
    BookingLocked,
    CaseAlreadySettled,
    CaseChanged,
    ResolutionRefused,
    StoreUnavailable,
)
from payment_service.domain.facts import DeadlinePassed
from payment_service.domain.payment import BookingAction, LatePaymentPolicy, Payment, State
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from payment_service.store.engines import connect_reader
from tests.application.casework.casefiles import only_case, open_cases, settle
from tests.application.casework.test_uncertain_refunds import in_doubt
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.rpc.processes import Process, paid, running_process, sent

ALLOWED = AutomaticRefunds(500, duplicates=True, shortcodes=["174379"])
REFUND = LatePaymentPolicy.REFUND
RECEIPT = "RCPT000001"
REFUNDS = "SELECT payment_id, receipt, amount, reason, state FROM refunds"
# Whoever writes is cut off; what only waits for something else to write is left alone.
CUT_WRITERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (state <> 'idle' OR random() < 0.2)
AND query !~ 'LISTEN'"""
LAST_EVENTS = """
SELECT event_type, booking_action, status_reason, fact_kind FROM payment_events ORDER BY position DESC LIMIT 2"""


@contextlib.asynccontextmanager
async def returning(database: Database, folder: Path, allowed: AutomaticRefunds = ALLOWED) -> AsyncIterator[Process]:
    """A process that sends money back by itself."""
    folder.mkdir(mode=0o700, exist_ok=True)
    async with running_process(database.application_url, folder, automatic_refunds=allowed) as process:
        yield process


async def expired(process: Process, claim: int = 1) -> Payment:
    """A payment that nobody answered in time, and whose late money is to go back."""
    payment = await process.tell(await process.create(late_payment_policy=REFUND), *sent(claim))
    process.writers.clock.move(121)
    return await process.tell(payment, DeadlinePassed())


async def broken(process: Process, database: Database) -> list[str]:
    tools = Instruments(process.writers.sealer, process.writers.keys)
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(tools, conn)
    return [f"{invariant.value}: {one.what}" for invariant, tally in tallies.items() for one in tally.shown]


async def test_late_money_goes_back_in_the_transaction_that_records_it(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path) as process:
        payment = await process.tell(await expired(process), paid(RECEIPT))
        assert (payment.state, payment.booking_action) == (State.REFUNDING, BookingAction.RELEASE)
        assert await rows_of(database, REFUNDS) == [(payment.payment_id, RECEIPT, 500, "PAID_LATE", "REQUESTED")]
        assert await rows_of(database, LAST_EVENTS) == [
            ("REFUND_REQUESTED", "RELEASE", "PAID_LATE", "RefundRequested"),
            ("COMPLETED_LATE", "REVIEW", "PAID_LATE", "ResultReported"),
        ]
        assert await open_cases(process) == []
        # The same money told again, by the same callback or by another way, sends nothing more back.
        for again in (paid(RECEIPT), replace(paid(RECEIPT), fact_id="pull:1")):
            assert (await process.tell(payment, again)).version == payment.version
        assert await count(database, "refunds") == 1
        refund = payment.refund_id
        for fact in (
            RefundClaimed(payment.payment_id),
            RefundReported("callback:1", RefundVerdict.DONE, "0", RECEIPT),
        ):
            await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund))
        assert await rows_of(database, "SELECT state, status, refunded_amount FROM payment_transactions") == [
            ("REFUNDED", "REFUNDED", 500)
        ]
        assert await broken(process, database) == []


@pytest.mark.parametrize(
    "allowed",
    [AutomaticRefunds(499, shortcodes=["174379"]), AutomaticRefunds(0, shortcodes=["174379"]), AutomaticRefunds(500)],
    ids=["above the amount", "off", "no initiator"],
)
async def test_a_case_waits_for_a_person_where_nothing_goes_back_by_itself(
    database: Database, tmp_path: Path, allowed: AutomaticRefunds
) -> None:
    async with returning(database, tmp_path, allowed) as process:
        payment = await expired(process)
        file = await only_case(process, payment, paid(RECEIPT))
        assert (file.case.kind, file.attempts[0].booking_action) == ("LATE_PAYMENT", BookingAction.REVIEW)
        assert await count(database, "refunds") == 0
        assert await broken(process, database) == []


async def test_money_without_a_receipt_goes_back_when_the_receipt_comes(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path) as process:
        pending = await process.tell(await expired(process), replace(paid(RECEIPT), receipt=None, fact_id="first"))
        assert (pending.state, pending.booking_action) == (State.COMPLETED, BookingAction.REVIEW)
        assert await count(database, "refunds") == 0
        payment = await process.tell(pending, paid(RECEIPT))
        assert (payment.state, payment.booking_action) == (State.REFUNDING, BookingAction.RELEASE)
        assert await rows_of(database, REFUNDS) == [(payment.payment_id, RECEIPT, 500, "PAID_LATE", "REQUESTED")]
        assert await open_cases(process) == []
        assert await broken(process, database) == []


async def test_the_callback_and_the_books_at_once_through_two_processes_send_it_back_once(
    database: Database, tmp_path: Path
) -> None:
    async with returning(database, tmp_path) as one, returning(database, tmp_path) as two:
        payment = await expired(one)
        two.writers.clock.now = one.writers.clock.now
        told = [Submission(replace(paid(RECEIPT), fact_id=f"news:{n}"), payment.payment_id) for n in range(12)]
        answers = await asyncio.gather(
            *((one, two)[n % 2].writers.facts.submit(submission) for n, submission in enumerate(told)),
            return_exceptions=True,
        )
        assert not [answer for answer in answers if isinstance(answer, BaseException)]
        assert await count(database, "refunds") == 1
        assert await broken(one, database) == []


async def test_an_operator_who_accepts_and_the_automatic_refund_exclude_each_other(
    database: Database, tmp_path: Path
) -> None:
    """The receipt and the operator's decision come at the same moment, through two processes."""
    async with returning(database, tmp_path) as one, returning(database, tmp_path) as two:
        payment = await expired(one)
        two.writers.clock.now = one.writers.clock.now
        file = await only_case(one, payment, replace(paid(RECEIPT), receipt=None, fact_id="first"))
        receipt = two.writers.facts.submit(Submission(paid(RECEIPT), payment.payment_id))
        settled, _ = await asyncio.gather(settle(one, file), receipt, return_exceptions=True)
        now = await one.tell(await one.tell(payment), replace(paid(RECEIPT), fact_id="again"))
        refunds = await count(database, "refunds")
        if isinstance(settled, CaseAlreadySettled | CaseChanged | ResolutionRefused):
            assert (now.booking_action, refunds) == (BookingAction.RELEASE, 1)
        else:
            assert not isinstance(settled, BaseException)
            assert (now.booking_action, refunds) == (BookingAction.CONFIRM, 0)
        assert await broken(one, database) == []


async def test_a_decision_on_a_case_that_the_refund_has_ended_is_refused(database: Database, tmp_path: Path) -> None:
    async with returning(database, tmp_path) as process:
        payment = await expired(process)
        file = await only_case(process, payment, replace(paid(RECEIPT), receipt=None, fact_id="first"))
        await process.tell(payment, paid(RECEIPT))
        with pytest.raises((CaseAlreadySettled, CaseChanged)):
            await settle(process, file)
        ended = await get_case(process.core.reads, file.case.case_id)
        assert ended.case.settled_by is not None
        assert ended.case.settled_by.startswith("refund-by-itself:")
        assert await count(database, "refunds") == 1


@pytest.mark.parametrize("allowed", [ALLOWED, replace(ALLOWED, duplicates=False)], ids=["set", "not set"])
async def test_the_second_payment_of_a_confirmed_booking_goes_back_where_it_is_set(
    database: Database, tmp_path: Path, allowed: AutomaticRefunds
) -> None:
    async with returning(database, tmp_path, allowed) as process:
        first = await process.tell(await process.create(booking_id="BK-1"), *sent(1))
        process.writers.clock.move(301)
        await process.tell(first, DeadlinePassed())
        second = await process.tell(
            await process.create(booking_id="BK-1"), *sent(2), replace(paid("RCPT000002"), fact_id="second")
        )
        assert second.booking_action is BookingAction.CONFIRM
        paid_twice = await process.tell(first, paid(RECEIPT))
        if allowed.duplicates:
            assert (paid_twice.state, paid_twice.booking_action) == (State.REFUNDING, BookingAction.FOLLOW_SIBLING)
            assert await rows_of(database, REFUNDS) == [(first.payment_id, RECEIPT, 500, "PAID_TWICE", "REQUESTED")]
            assert await open_cases(process) == []
        else:
            assert (paid_twice.state, paid_twice.booking_action) == (State.COMPLETED, BookingAction.REVIEW)
            assert await count(database, "refunds") == 0
        told = await rows_of(database, "SELECT booking_action FROM payment_transactions WHERE attempt = 2")
        assert told == [("CONFIRM",)]
        assert await broken(process, database) == []


async def test_connections_that_break_at_random_lose_no_refund_and_make_none_twice(
    database: Database, tmp_path: Path
) -> None:
    """Late money is told of by two processes whose connections are cut again and again, before, in and after commits.

    Each tells its news again until it is recorded, as callbacks and books do.
    """
    chance = random.Random(20261128)
    async with returning(database, tmp_path) as one, returning(database, tmp_path) as two:
        late = [await expired(one, claim=number) for number in range(1, 25)]
        two.writers.clock.now = one.writers.clock.now

        async def tell(process: Process, payment: Payment, fact_id: str) -> None:
            fact = replace(paid(f"RCPT{payment.reference.upper()[:6]}"), fact_id=fact_id)
            while True:
                with contextlib.suppress(StoreUnavailable, BookingLocked):
                    await process.writers.facts.submit(Submission(fact, payment.payment_id))
                    return
                await asyncio.sleep(chance.random() / 50)

        telling = asyncio.gather(
            *(tell((one, two)[turn % 2], late[turn // 2], f"news:{turn}") for turn in range(2 * len(late)))
        )
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            for _ in range(40):
                await owner.execute(CUT_WRITERS)
                await asyncio.sleep(chance.random() / 100)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await telling
        told = await rows_of(database, "SELECT payment_id, count(*) FROM refunds GROUP BY payment_id")
        assert sorted(told) == sorted((payment.payment_id, 1) for payment in late)
        assert await rows_of(database, "SELECT DISTINCT state FROM payment_transactions") == [("REFUNDING",)]
        assert await open_cases(one) == []
        assert await broken(one, database) == []


@pytest.mark.parametrize("receipt_at_once", [True, False])
async def test_late_money_for_which_a_retry_was_withdrawn_waits_for_a_person(
    database: Database, tmp_path: Path, *, receipt_at_once: bool
) -> None:
    """The retry waits to be sent when the first attempt's money comes; the booking must not lose both."""
    async with returning(database, tmp_path) as process:
        late = await expired(process)
        process.writers.clock.move(180)
        retry = await process.create(booking_id=late.booking_id, late_payment_policy=REFUND)
        unnamed = replace(paid(RECEIPT), receipt=None, fact_id="first")
        now = await process.tell(late, *([] if receipt_at_once else [unnamed]), paid(RECEIPT))
        withdrawn = await process.tell(retry, DeadlinePassed())
        assert (withdrawn.state, withdrawn.booking_action) == (State.CANCELLED, BookingAction.FOLLOW_SIBLING)
        assert (now.state, now.booking_action) == (State.COMPLETED, BookingAction.REVIEW)
        assert [case.kind for case in await open_cases(process)] == ["LATE_PAYMENT"]
        assert await count(database, "refunds") == 0
        assert await broken(process, database) == []


async def test_money_that_an_operator_accepts_does_not_go_back_by_itself(database: Database, tmp_path: Path) -> None:
    """It came late and too little, beside an attempt that has confirmed: everything that goes back otherwise."""
    async with returning(database, tmp_path) as process:
        late = await expired(process)
        process.writers.clock.move(180)
        second = await process.tell(
            await process.create(booking_id=late.booking_id), *sent(2), replace(paid("RCPT000002"), fact_id="second")
        )
        assert second.booking_action is BookingAction.CONFIRM
        file = await only_case(process, late, paid(RECEIPT, amount=400))
        assert file.case.kind == "WRONG_AMOUNT"
        await settle(process, file, receipt=RECEIPT)
        now = await process.tell(late, paid(RECEIPT, amount=400))
        assert (now.state, now.receipt, now.booking_action) == (State.COMPLETED, RECEIPT, BookingAction.REVIEW)
        assert [case.kind for case in await open_cases(process)] == ["DUPLICATE_PAYMENT"]
        assert await count(database, "refunds") == 0
        assert await broken(process, database) == []


async def test_late_money_that_is_found_not_to_have_gone_back_stays_on_a_list(
    database: Database, tmp_path: Path
) -> None:
    """Its own case has ended when its refund began. The answer is lost, and an operator finds no reversal."""
    async with returning(database, tmp_path) as process:
        payment = await process.tell(await expired(process), paid(RECEIPT))
        assert payment.refund_id is not None
        file = await in_doubt(process, payment, payment.refund_id)
        await settle(process, file, Resolution.NOT_REFUNDED, why="the portal shows no reversal")
        stands = "SELECT state, refund_status, refunded_amount, booking_action FROM payment_transactions"
        assert await rows_of(database, stands) == [("COMPLETED", "FAILED", 0, "RELEASE")]
        left = await only_case(process)
        assert (left.case.kind, left.case.refund_id, left.case.refund_state) == ("REFUND", payment.refund_id, "FAILED")
        assert await broken(process, database) == []
        await settle(process, left, Resolution.DISMISS, why="sent from the portal")
        assert await open_cases(process) == []


async def test_a_policy_of_a_newer_release_leaves_late_money_to_a_person(database: Database, tmp_path: Path) -> None:
    """A newer release has made the payment and was rolled back: its booking must still be answered about."""
    async with returning(database, tmp_path) as process:
        payment = await expired(process)
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await owner.execute("UPDATE payment_transactions SET late_payment_policy = 'SOMETHING_NEWER'")
        now = await process.tell(payment, paid(RECEIPT))
        assert (now.state, now.booking_action) == (State.COMPLETED, BookingAction.REVIEW)
        assert await count(database, "refunds") == 0
        assert await rows_of(database, "SELECT late_payment_policy FROM payment_transactions") == [("SOMETHING_NEWER",)]
