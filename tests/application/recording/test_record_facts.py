"""Recording facts: every change once, in one transaction with its event, and again harmlessly."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from payment_service.application.recording import group_commit
from payment_service.application.recording.group_commit import TRIES_MAX
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.domain.errors import BookingLocked
from payment_service.domain.facts import (
    AnswerLost,
    DeadlinePassed,
    Fact,
    LeaseDead,
    NotSent,
    PromptAccepted,
    ResultReported,
    SendClaimed,
    Source,
    Verdict,
)
from payment_service.domain.payment import BookingAction, Payment, State
from payment_service.domain.reasons import Reason
from payment_service.security.chain import START, link
from tests.databases import Database
from tests.rows import count, rows_of
from tests.writers import Writers, a_request, running_writers

CALLER = "development"

pytestmark = pytest.mark.every_postgres


async def a_payment(writers: Writers, **changed: object) -> Payment:
    return (await writers.create(CALLER, a_request(**changed), None, None)).payment


async def tell(writers: Writers, payment: Payment, fact: Fact) -> Payment:
    recorded = await writers.facts.submit(Submission(fact, payment.payment_id))
    assert recorded.payment is not None
    return recorded.payment


async def prompted(writers: Writers, payment: Payment, ids: str) -> Payment:
    claim = uuid4()
    await tell(writers, payment, SendClaimed(claim))
    return await tell(writers, payment, PromptAccepted(claim, f"merchant-{ids}", f"ws_CO_{ids}"))


def paid(name: str, receipt: str | None, *, amount: int | None = 500, ids: str | None = None) -> ResultReported:
    return ResultReported(
        fact_id=f"callback:{name}",
        source=Source.CALLBACK,
        verdict=Verdict.PAID,
        code="0",
        checkout_request_id=ids and f"ws_CO_{ids}",
        amount=amount,
        receipt=receipt,
    )


def declined(name: str) -> ResultReported:
    return ResultReported(f"callback:{name}", Source.CALLBACK, Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER)


async def versions(database: Database, payment: Payment) -> list[tuple[int, str]]:
    rows = await rows_of(
        database,
        "SELECT version, state FROM payment_events WHERE payment_id = %s ORDER BY position",
        (payment.payment_id,),
    )
    return [(version, state) for version, state in rows]


async def test_a_payment_goes_through_and_leaves_one_event_a_change(writers: Writers, database: Database) -> None:
    payment = await a_payment(writers)
    await prompted(writers, payment, "1")
    after = await tell(writers, payment, paid("a", "RCPT000001", ids="1"))
    assert (after.state, after.booking_action, after.receipt) == (State.COMPLETED, BookingAction.CONFIRM, "RCPT000001")
    assert await versions(database, payment) == [(1, "CREATED"), (2, "SENDING"), (3, "PROMPTED"), (4, "COMPLETED")]
    assert await rows_of(database, "SELECT receipt, counted FROM mpesa_receipts") == [("RCPT000001", True)]


async def test_a_fact_told_again_changes_nothing(writers: Writers, database: Database, tmp_path: Path) -> None:
    payment = await a_payment(writers)
    await prompted(writers, payment, "1")
    fact = paid("a", "RCPT000001", ids="1")
    async with running_writers(database.application_url, tmp_path) as other:
        await asyncio.gather(*(tell(process, payment, fact) for process in (writers, other) for _ in range(10)))
    assert len(await versions(database, payment)) == 4
    assert await count(database, "cases") == 0


async def test_only_one_of_many_claims_is_granted(writers: Writers, database: Database, tmp_path: Path) -> None:
    payment = await a_payment(writers)
    async with running_writers(database.application_url, tmp_path) as other:
        claims = [(process, uuid4()) for process in (writers, other) for _ in range(20)]
        recorded: list[Recorded] = await asyncio.gather(
            *(process.facts.submit(Submission(SendClaimed(c), payment.payment_id)) for process, c in claims)
        )
    assert sum(not answer.refused for answer in recorded) == 1


async def test_a_claim_whose_commit_was_uncertain_finds_itself_granted(writers: Writers) -> None:
    payment = await a_payment(writers)
    claim = SendClaimed(uuid4())
    first = await tell(writers, payment, claim)
    again = await writers.facts.submit(Submission(claim, payment.payment_id))
    assert not again.refused
    assert again.payment == first


async def test_a_second_receipt_is_money_in_doubt_and_changes_no_confirmation(
    writers: Writers, database: Database
) -> None:
    payment = await a_payment(writers)
    await prompted(writers, payment, "1")
    await tell(writers, payment, paid("a", "RCPT000001"))
    after = await tell(writers, payment, paid("b", "RCPT000002"))
    assert (after.receipt, after.booking_action, after.money_case_open) == ("RCPT000001", BookingAction.CONFIRM, True)
    assert await rows_of(database, "SELECT kind, is_money, mpesa_receipt_number FROM cases") == [
        ("SECOND_RECEIPT", True, "RCPT000002")
    ]
    assert await rows_of(database, "SELECT receipt, counted FROM mpesa_receipts ORDER BY 1") == [
        ("RCPT000001", True),
        ("RCPT000002", False),
    ]


async def test_one_receipt_told_of_two_payments_at_once_counts_once(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    async with running_writers(database.application_url, tmp_path) as other:
        for number in range(10):
            one, two = await a_payment(writers), await a_payment(writers)
            receipt = f"RCPT{number:06d}"
            await asyncio.gather(
                tell(writers, one, paid(f"{number}-1", receipt)), tell(other, two, paid(f"{number}-2", receipt))
            )
    assert await count(database, "payment_transactions WHERE state = 'COMPLETED'") == 10
    assert await count(database, "cases WHERE kind = 'FOREIGN_IDS' AND is_money") == 10


async def test_late_money_of_an_earlier_attempt_withdraws_the_one_not_sent_yet(
    writers: Writers, database: Database
) -> None:
    first = await a_payment(writers, booking_id="BK-1")
    await prompted(writers, first, "1")
    writers.clock.move(121)
    assert (await tell(writers, first, DeadlinePassed())).state is State.EXPIRED
    writers.clock.move(60)
    second = await a_payment(writers, booking_id="BK-1")
    assert (second.attempt, second.retry_of) == (2, first.payment_id)
    after = await tell(writers, first, paid("late", "RCPT000001"))
    assert (after.state, after.paid_late, after.blocks_booking) == (State.COMPLETED, True, True)
    assert (await versions(database, second))[-1] == (2, "CANCELLED")


async def test_two_paid_attempts_are_a_case_and_one_confirmation(writers: Writers, database: Database) -> None:
    first = await a_payment(writers, booking_id="BK-1")
    await prompted(writers, first, "1")
    writers.clock.move(121)
    await tell(writers, first, DeadlinePassed())
    writers.clock.move(60)
    second = await a_payment(writers, booking_id="BK-1", hold_expire_at=None)
    await prompted(writers, second, "2")
    assert (await tell(writers, second, paid("two", "RCPT000002"))).booking_action is BookingAction.CONFIRM
    duplicate = await tell(writers, first, paid("one", "RCPT000001"))
    assert (duplicate.state, duplicate.booking_action) == (State.COMPLETED, BookingAction.REVIEW)
    assert await count(database, "payment_transactions WHERE booking_action = 'CONFIRM'") == 1
    assert await rows_of(database, "SELECT kind FROM cases WHERE is_money") == [("DUPLICATE_PAYMENT",)]


async def test_a_dead_lease_makes_the_payment_uncertain_and_never_sends_again(writers: Writers) -> None:
    payment = await a_payment(writers)
    claim = uuid4()
    await tell(writers, payment, SendClaimed(claim))
    assert (await tell(writers, payment, LeaseDead(claim))).state is State.SENDING, "the lease still lives"
    writers.clock.move(46)
    assert (await tell(writers, payment, LeaseDead(claim))).state is State.UNCERTAIN
    again = await writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id))
    assert again.refused


async def test_nothing_sent_may_be_sent_again_three_times(writers: Writers) -> None:
    payment = await a_payment(writers)
    for _ in range(3):
        claim = uuid4()
        await tell(writers, payment, SendClaimed(claim))
        assert (await tell(writers, payment, NotSent(claim, "DNS"))).state is State.CREATED
    claim = uuid4()
    await tell(writers, payment, SendClaimed(claim))
    after = await tell(writers, payment, NotSent(claim, "DNS"))
    assert (after.state, after.reason) == (State.FAILED, Reason.NOT_SENT)


async def test_a_lost_answer_is_settled_by_its_callback(writers: Writers) -> None:
    payment = await a_payment(writers)
    claim = uuid4()
    await tell(writers, payment, SendClaimed(claim))
    assert (await tell(writers, payment, AnswerLost(claim))).state is State.UNCERTAIN
    after = await tell(writers, payment, paid("a", "RCPT000001", ids="1"))
    assert (after.state, after.checkout_request_id) == (State.COMPLETED, "ws_CO_1")


async def test_success_after_a_decline_is_never_dropped(writers: Writers, database: Database) -> None:
    payment = await a_payment(writers)
    await prompted(writers, payment, "1")
    assert (await tell(writers, payment, declined("no"))).state is State.CANCELLED
    after = await tell(writers, payment, paid("yes", "RCPT000001"))
    assert (after.state, after.paid_late) == (State.COMPLETED, True)
    assert (await tell(writers, payment, declined("again"))).state is State.COMPLETED
    assert await count(database, "cases") == 2


async def test_the_log_of_a_payment_is_a_chain_that_shows_tampering(writers: Writers, database: Database) -> None:
    payment = await a_payment(writers)
    await prompted(writers, payment, "1")
    await tell(writers, payment, paid("a", "RCPT000001"))
    assert await chain_holds(writers, database, payment.payment_id)
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE payment_events SET amount = 600 WHERE version = 3")
    assert not await chain_holds(writers, database, payment.payment_id)


async def chain_holds(writers: Writers, database: Database, payment_id: UUID) -> bool:
    """Verify the chain from the stored columns alone, as an auditor would."""
    rows = await rows_of(
        database,
        """SELECT previous_hash, hash, payment_id, version, caller, event_type, fact_id, fact_kind, previous_state,
        state, status_reason, provider_result_code, booking_action, outcome_certain,
        retry_allowed_at AT TIME ZONE 'UTC', amount::int, mpesa_receipt_number, paid_late,
        completed_at AT TIME ZONE 'UTC', expires_at AT TIME ZONE 'UTC', occurred_at AT TIME ZONE 'UTC',
        encode(tag, 'hex') FROM payment_events WHERE payment_id = %s ORDER BY version""",
        (payment_id,),
    )
    previous = START
    for stored_previous, stored_hash, *fields in rows:
        texts = [f"{field}+00:00" if hasattr(field, "isoformat") else field for field in fields]
        if stored_previous != previous or stored_hash != link(writers.keys.chain, previous, texts):
            return False
        previous = stored_hash
    return True


async def test_the_application_can_neither_change_nor_delete_an_event(writers: Writers, database: Database) -> None:
    await a_payment(writers)
    with psycopg.connect(database.application_url, autocommit=True) as application:
        for statement in (
            "UPDATE payment_events SET amount = 1",
            "DELETE FROM payment_events",
            "TRUNCATE payment_events",
            "DELETE FROM payment_transactions",
            "DROP TABLE cases",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                application.execute(statement)


async def test_killed_connections_lose_nothing(writers: Writers, database: Database) -> None:
    payments = [await a_payment(writers) for _ in range(20)]
    facts = [writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id)) for payment in payments]
    recording = asyncio.gather(*facts)
    # Fewer rounds than a group has tries: how many of the tries they hit is up to the machine.
    for _ in range(TRIES_MAX - 1):
        await rows_of(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()",
        )
        await asyncio.sleep(0.02)
    assert not any(answer.refused for answer in await recording)
    assert await count(database, "payment_events WHERE version = 2") == 20


async def test_one_bad_fact_does_not_fail_its_neighbours(writers: Writers) -> None:
    good, bad = await a_payment(writers), await a_payment(writers)
    broken = dataclasses.replace(paid("bad", "RCPT000009"), code="nul\0")
    results = await asyncio.gather(
        tell(writers, good, paid("good", "RCPT000001")), tell(writers, bad, broken), return_exceptions=True
    )
    assert isinstance(results[0], Payment)
    assert results[0].state is State.COMPLETED
    assert isinstance(results[1], Exception)


async def test_a_receipt_that_came_with_foreign_ids_is_left_to_its_true_owner(
    writers: Writers, database: Database
) -> None:
    wrong, right = await a_payment(writers), await a_payment(writers)
    await prompted(writers, wrong, "1")
    await prompted(writers, right, "2")
    assert (await tell(writers, wrong, paid("astray", "RCPT000001", ids="2"))).state is State.PROMPTED
    after = await tell(writers, right, paid("home", "RCPT000001", ids="2"))
    assert (after.state, after.booking_action) == (State.COMPLETED, BookingAction.CONFIRM)
    assert await rows_of(database, "SELECT kind, is_money FROM cases") == [("FOREIGN_IDS", True)]


def doubted(receipt: str) -> ResultReported:
    """A row of the books that may be a payment's."""
    fact = ResultReported(f"pull-doubt:{receipt}", Source.PULL, Verdict.PAID, "0", amount=500, receipt=receipt)
    return dataclasses.replace(fact, in_doubt=True)


CASES = "SELECT kind, settled_at IS NULL, settled_by FROM cases ORDER BY case_id"


async def test_a_doubt_ends_in_the_transaction_that_records_the_proof(writers: Writers, database: Database) -> None:
    payment = await prompted(writers, await a_payment(writers), "d1")
    reviewed = await tell(writers, payment, doubted("RCPT0000D1"))
    assert (reviewed.booking_action, reviewed.money_case_open) == (BookingAction.REVIEW, True)
    proven = await tell(writers, payment, paid("d1", "RCPT0000D1"))
    assert (proven.booking_action, proven.said_confirm) == (BookingAction.CONFIRM, True)
    assert await rows_of(database, CASES) == [("UNCLAIMED_MONEY", False, "callback:d1")]
    stored = "SELECT booking_action, money_case_open FROM payment_transactions"
    assert await rows_of(database, stored) == [("CONFIRM", False)]


async def test_a_doubt_and_its_proof_in_one_group_leave_nothing_open(writers: Writers, database: Database) -> None:
    payment = await prompted(writers, await a_payment(writers), "d2")
    facts = [doubted("RCPT0000D2"), paid("d2", "RCPT0000D2")]
    await asyncio.gather(*(writers.facts.submit(Submission(fact, payment.payment_id)) for fact in facts))
    assert await rows_of(database, CASES) == [("UNCLAIMED_MONEY", False, "callback:d2")]
    assert await rows_of(database, "SELECT booking_action FROM payment_transactions") == [("CONFIRM",)]


async def test_another_case_about_money_keeps_the_review(writers: Writers, database: Database) -> None:
    payment = await prompted(writers, await a_payment(writers), "d3")
    await tell(writers, payment, doubted("RCPT0000D3"))
    await tell(writers, payment, paid("odd", "RCPT0000D4", amount=1))
    proven = await tell(writers, payment, paid("d3", "RCPT0000D3"))
    assert (proven.state, proven.booking_action) == (State.COMPLETED, BookingAction.REVIEW)
    assert [kind for kind, is_open, _ in await rows_of(database, CASES) if is_open] == ["WRONG_AMOUNT"]


async def test_a_row_locked_from_a_console_holds_up_its_own_booking_only(
    writers: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LOCKED_TRIES_MAX", 1_000)
    locked, *others = [await a_payment(writers) for _ in range(12)]
    async with console_lock(database, locked):
        held = asyncio.create_task(claimed(writers, locked))
        answers = await asyncio.gather(*(claimed(writers, payment) for payment in others for _ in range(2)))
        assert [answer.refused for answer in answers] == [False, True] * len(others)
        assert not held.done()
    assert not (await held).refused
    assert await versions(database, locked) == [(1, "CREATED"), (2, "SENDING")]


async def test_a_locked_attempt_holds_up_the_other_attempts_of_its_booking(
    writers: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LOCKED_TRIES_MAX", 1_000)
    first = await a_payment(writers, booking_id="BK-1")
    await prompted(writers, first, "1")
    writers.clock.move(121)
    await tell(writers, first, DeadlinePassed())
    writers.clock.move(60)
    second = await a_payment(writers, booking_id="BK-1")
    other = await a_payment(writers)
    async with console_lock(database, second):
        late = asyncio.create_task(tell(writers, first, paid("late", "RCPT000001")))
        await asyncio.sleep(0)
        assert not (await claimed(writers, other)).refused
        assert not late.done(), "it withdraws the second attempt, which it cannot see"
    assert (await late).paid_late
    assert (await versions(database, second))[-1] == (2, "CANCELLED")


async def test_a_booking_that_stays_locked_is_said_to_be(
    writers: Writers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LOCKED_TRIES_MAX", 3)
    payment = await a_payment(writers)
    async with console_lock(database, payment):
        with pytest.raises(BookingLocked):
            await claimed(writers, payment)
    assert not (await claimed(writers, payment)).refused


async def test_what_waits_for_a_locked_row_is_written_before_the_stop(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path) as writers:
        payment = await a_payment(writers)
        async with console_lock(database, payment):
            held = asyncio.create_task(claimed(writers, payment))
            # One that comes after it is answered, so it has been tried.
            await claimed(writers, await a_payment(writers))
    assert not (await held).refused


@contextlib.asynccontextmanager
async def console_lock(database: Database, payment: Payment) -> AsyncIterator[None]:
    """Somebody looks at a payment from a console, and means to change it."""
    async with await psycopg.AsyncConnection.connect(database.owner_url) as console:
        await console.execute(
            "SELECT 1 FROM payment_transactions WHERE payment_id = %s FOR UPDATE", (payment.payment_id,)
        )
        yield
        await console.rollback()


async def claimed(writers: Writers, payment: Payment) -> Recorded:
    return await writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id))
