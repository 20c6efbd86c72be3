"""One namespace of request ids for everything a caller asks, and withdrawals that meet sends.

Goal: an id serves one request for ever, whichever method and process it comes through, and a refused one stays free.
Method: the writers of two processes on one database, and a session of the test's own that stops the clock between two
statements of theirs where chance would hardly ever do so.
"""

import asyncio
import random
from collections.abc import Awaitable
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.domain.decisions import Bar
from payment_service.domain.errors import BookingBarred, CancelTooLate, PaymentNotFound, RequestIdReused
from payment_service.domain.facts import CancelRequested, NotSent, PromptAccepted, SendClaimed
from payment_service.domain.payment import LIVE_STATES, CancelRequest, Payment, RetryRequest, State
from payment_service.domain.reasons import Reason
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.writers import Writers, a_request, running_writers, withdraw

CALLER = "development"
LOG_LOCK = 7885070564180913007
LOOK_SECONDS = 0.02
"""A bound, not an expectation."""


async def a_payment(writers: Writers, **changed: object) -> Payment:
    return (await writers.create(CALLER, a_request(**changed), None, None)).payment


async def claimed(writers: Writers, payment: Payment) -> Recorded:
    return await writers.facts.submit(Submission(SendClaimed(uuid4()), payment.payment_id))


async def state_of(database: Database, payment_id: UUID) -> tuple[str, str | None]:
    query = "SELECT state, status_reason FROM payment_transactions WHERE payment_id = %s"
    ((state, reason),) = await rows_of(database, query, (payment_id,))
    return state, reason


async def uses(database: Database, request_id: str) -> int:
    """How many requests an id has served."""
    made = await count(database, f"payment_transactions WHERE request_id = '{request_id}'")
    return made + await count(database, f"caller_requests WHERE request_id = '{request_id}'")


async def waiting_for_locks(database: Database, writers_waiting: int) -> None:
    """Until so many writers wait for an advisory lock."""
    query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database ="
    query += " (SELECT oid FROM pg_database WHERE datname = current_database())"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await rows_of(database, query)) < writers_waiting:
            await asyncio.sleep(LOOK_SECONDS)


async def test_a_withdrawn_payment_is_never_sent(writers: Writers, database: Database) -> None:
    payment = await a_payment(writers)
    assert not await withdraw(writers, CALLER, CancelRequest("c-1", payment.payment_id))
    assert await state_of(database, payment.payment_id) == ("CANCELLED", "WITHDRAWN")
    assert (await claimed(writers, payment)).refused
    again = await a_payment(writers, booking_id=payment.booking_id)
    assert again.attempt == 2, "nothing was sent, so nothing has to be waited for"


async def test_a_claimed_payment_cannot_be_withdrawn_and_the_id_stays_free(
    writers: Writers, database: Database
) -> None:
    payment, claim = await a_payment(writers), uuid4()
    await writers.facts.submit(Submission(SendClaimed(claim), payment.payment_id))
    with pytest.raises(CancelTooLate) as refused:
        await withdraw(writers, CALLER, CancelRequest("c-1", payment.payment_id))
    assert refused.value.payment.state is State.SENDING
    assert await uses(database, "c-1") == 0
    # The push reached nobody, so the payment waits for its next send: the same request may be granted now.
    await writers.facts.submit(Submission(NotSent(claim, "DNS"), payment.payment_id))
    assert not await withdraw(writers, CALLER, CancelRequest("c-1", payment.payment_id))
    assert (await state_of(database, payment.payment_id))[0] == "CANCELLED"


async def test_of_a_withdrawal_and_a_send_that_meet_one_is_refused(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    payments = [await a_payment(writers) for _ in range(60)]
    async with running_writers(database.application_url, tmp_path) as other:

        async def meet(number: int, payment: Payment) -> tuple[bool, bool]:
            cancel = withdraw(other, CALLER, CancelRequest(f"c-{number}", payment.payment_id))
            # In both orders, through one writer or two.
            claim = claimed((writers, other)[number % 2], payment)
            pair = (claim, cancel) if number % 4 < 2 else (cancel, claim)
            done = dict(zip(pair, await asyncio.gather(*pair, return_exceptions=True), strict=True))
            told, withdrawn = done[claim], done[cancel]
            assert isinstance(told, Recorded)
            assert withdrawn is False or isinstance(withdrawn, CancelTooLate)
            return not told.refused, withdrawn is False

        met = await asyncio.gather(*(meet(number, payment) for number, payment in enumerate(payments)))
    assert all(sent is not withdrawn for sent, withdrawn in met)
    for (sent, _), payment in zip(met, payments, strict=True):
        assert (await state_of(database, payment.payment_id))[0] == ("SENDING" if sent else "CANCELLED")
    assert await count(database, "caller_requests") == sum(withdrawn for _, withdrawn in met)


async def test_one_withdrawal_from_many_callers_of_two_processes_is_one(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    payment = await a_payment(writers)
    asked = CancelRequest("c-1", payment.payment_id)
    async with running_writers(database.application_url, tmp_path) as other:
        replayed = await asyncio.gather(
            *(withdraw(process, CALLER, asked) for process in (writers, other) for _ in range(20))
        )
    assert replayed.count(False) == 1
    assert await count(database, "caller_requests") == 1
    assert await count(database, f"payment_events WHERE payment_id = '{payment.payment_id}'") == 2


async def test_a_withdrawal_whose_commit_was_uncertain_finds_itself_done(writers: Writers) -> None:
    payment = await a_payment(writers)
    kept = KeptRequest(uuid4(), CALLER, CancelRequest("c-1", payment.payment_id))
    submission = Submission(CancelRequested("cancel:c-1"), payment.payment_id, request=kept)
    first, again = await writers.facts.submit(submission), await writers.facts.submit(submission)
    assert (first.replayed, again.replayed, again.refused) == (False, False, False)
    assert first.payment == again.payment


async def test_what_is_withdrawn_already_may_be_withdrawn_again(writers: Writers, database: Database) -> None:
    payment = await a_payment(writers)
    for request_id in ("c-1", "c-2"):
        assert not await withdraw(writers, CALLER, CancelRequest(request_id, payment.payment_id))
        assert await withdraw(writers, CALLER, CancelRequest(request_id, payment.payment_id))
    assert await count(database, f"payment_events WHERE payment_id = '{payment.payment_id}'") == 2
    assert await count(database, "caller_requests") == 2


async def test_an_id_serves_one_method(writers: Writers, database: Database) -> None:
    payment, other = await a_payment(writers, request_id="made-it"), await a_payment(writers)
    with pytest.raises(RequestIdReused) as refused:
        await withdraw(writers, CALLER, CancelRequest("made-it", payment.payment_id))
    assert (refused.value.payment_id, refused.value.fields) == (payment.payment_id, ("method",))
    await withdraw(writers, CALLER, CancelRequest("c-1", payment.payment_id))
    # Whether or not the booking takes another attempt: the id has the first word.
    for booking_id in (payment.booking_id, other.booking_id, "BK-NEW"):
        with pytest.raises(RequestIdReused) as refused:
            await a_payment(writers, request_id="c-1", booking_id=booking_id)
        assert (refused.value.payment_id, refused.value.fields) == (payment.payment_id, ("method",))
    with pytest.raises(RequestIdReused) as refused:
        await withdraw(writers, CALLER, CancelRequest("c-1", other.payment_id))
    assert (refused.value.payment_id, refused.value.fields) == (payment.payment_id, ("payment_id",))
    assert (await state_of(database, other.payment_id))[0] == "CREATED"
    assert await uses(database, "c-1") == await uses(database, "made-it") == 1


async def test_a_retry_is_compared_with_what_was_asked_not_with_what_was_copied(writers: Writers) -> None:
    first = await a_payment(writers)
    await withdraw(writers, CALLER, CancelRequest("c-1", first.payment_id))
    retry = RetryRequest("r-1", first.payment_id)
    copied = a_request(request_id="r-1", booking_id=first.booking_id)
    made = await writers.create(CALLER, copied, None, None, retry)
    again = await writers.create(CALLER, a_request(request_id="r-1", booking_id="BK-X"), None, None, retry)
    assert (again.payment.payment_id, again.replayed) == (made.payment.payment_id, True)
    for asked, fields in (
        (RetryRequest("r-1", first.payment_id, "254722000000"), ("phone_number",)),
        (RetryRequest("r-1", uuid4()), ("payment_id",)),
        (None, ("method",)),
    ):
        with pytest.raises(RequestIdReused) as refused:
            await writers.create(CALLER, copied, None, None, asked)
        assert refused.value.fields == fields


async def test_another_callers_payment_cannot_be_withdrawn(writers: Writers, database: Database) -> None:
    theirs = (await writers.create("another-service", a_request(), None, None)).payment
    for payment_id in (theirs.payment_id, uuid4()):
        with pytest.raises(PaymentNotFound):
            await withdraw(writers, CALLER, CancelRequest("c-1", payment_id))
    assert (await state_of(database, theirs.payment_id))[0] == "CREATED"
    assert await uses(database, "c-1") == 0


@pytest.mark.parametrize("first", ["the withdrawal", "the payment"])
async def test_of_two_uses_of_an_id_the_later_waits_for_the_earlier_and_sees_it(
    first: str, writers: Writers, database: Database
) -> None:
    payment = await a_payment(writers)

    def withdrawing() -> Awaitable[object]:
        return withdraw(writers, CALLER, CancelRequest("id-1", payment.payment_id))

    def making() -> Awaitable[object]:
        return a_payment(writers, request_id="id-1")

    earlier, later = (withdrawing, making) if first == "the withdrawal" else (making, withdrawing)
    async with await psycopg.AsyncConnection.connect(database.owner_url) as stopping:
        # The lock of the log is the last thing that both wait for: the earlier use is written, and not committed.
        await stopping.execute(f"SELECT pg_advisory_xact_lock({LOG_LOCK})")
        using = asyncio.ensure_future(earlier())
        await waiting_for_locks(database, 1)
        coming = asyncio.ensure_future(later())
        await waiting_for_locks(database, 2)
        assert not using.done()
        assert not coming.done()
        await stopping.rollback()
        await using
        with pytest.raises(RequestIdReused) as refused:
            await coming
    assert refused.value.fields == ("method",)
    assert await uses(database, "id-1") == 1
    assert (await state_of(database, payment.payment_id))[0] == (
        "CANCELLED" if first == "the withdrawal" else "CREATED"
    )


async def test_ids_that_are_used_for_two_things_at_once_serve_one(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    payments = [await a_payment(writers) for _ in range(60)]
    async with running_writers(database.application_url, tmp_path) as other:
        calls: list[Awaitable[object]] = []
        for number, payment in enumerate(payments):
            process, second = (writers, other) if number % 2 else (other, writers)
            calls.append(withdraw(process, CALLER, CancelRequest(f"id-{number}", payment.payment_id)))
            calls.append(a_payment(second, request_id=f"id-{number}"))
        results = await asyncio.gather(*calls, return_exceptions=True)
    for number, (withdrawn, made) in enumerate(zip(results[::2], results[1::2], strict=True)):
        assert isinstance(withdrawn, RequestIdReused) is not isinstance(made, RequestIdReused)
        assert await uses(database, f"id-{number}") == 1


@pytest.mark.parametrize("seed", range(4))
async def test_a_booking_never_has_two_live_prompts_whatever_its_callers_do_at_once(
    seed: int, writers: Writers, database: Database, tmp_path: Path
) -> None:
    """Two processes start, withdraw, claim and lose attempts of one booking, all at once; the log is the witness."""
    choice = random.Random(seed)
    async with running_writers(database.application_url, tmp_path, clock=writers.clock) as other:

        async def act() -> None:
            process = choice.choice((writers, other))
            known = await rows_of(database, "SELECT payment_id, claim_id FROM payment_transactions")
            payment_id, claim_id = choice.choice(known) if known else (None, None)
            match choice.choice(("start", "retry", "cancel", "claim", "claim", "not sent", "wait")):
                case "start":
                    await process.create(CALLER, a_request(booking_id="BK-1"), None, None)
                case "retry" if payment_id:
                    asked = RetryRequest(str(uuid4()), payment_id)
                    copied = a_request(request_id=asked.request_id, booking_id="BK-1")
                    await process.create(CALLER, copied, None, None, asked)
                case "cancel" if payment_id:
                    await withdraw(process, CALLER, CancelRequest(str(uuid4()), payment_id))
                case "claim" if payment_id:
                    await process.facts.submit(Submission(SendClaimed(uuid4()), payment_id))
                case "not sent" if claim_id:
                    await process.facts.submit(Submission(NotSent(claim_id, "DNS"), payment_id))
                case _:
                    writers.clock.move(choice.choice((0.5, 30)))

        for _ in range(15):
            for outcome in await asyncio.gather(*(act() for _ in range(12)), return_exceptions=True):
                assert outcome is None or isinstance(outcome, BookingBarred | CancelTooLate), repr(outcome)
    live: set[UUID] = set()
    events = "SELECT payment_id, version, state, fact_kind FROM payment_events ORDER BY position"
    for payment_id, version, state, _ in await rows_of(database, events):
        live = live | {payment_id} if State(state) in LIVE_STATES else live - {payment_id}
        assert len(live) <= 1, f"two attempts at once from version {version} of {payment_id}"
    withdrawn = "SELECT payment_id FROM payment_events WHERE fact_kind = 'CancelRequested'"
    sent = "SELECT p.payment_id FROM payment_transactions p WHERE state = 'SENDING'"
    assert not set(await rows_of(database, withdrawn)) & set(await rows_of(database, sent))


async def test_a_retry_is_barred_by_a_live_attempt_and_by_a_prompt_that_may_still_be_open(
    writers: Writers, database: Database
) -> None:
    payment, claim = await a_payment(writers), uuid4()
    retry = RetryRequest("r-1", payment.payment_id)
    copied = a_request(request_id="r-1", booking_id=payment.booking_id)
    with pytest.raises(BookingBarred) as refused:
        await writers.create(CALLER, copied, None, None, retry)
    assert (refused.value.bar, refused.value.payment.payment_id) == (Bar.LIVE_OR_PAID, payment.payment_id)
    await writers.facts.submit(Submission(SendClaimed(claim), payment.payment_id))
    await writers.facts.submit(Submission(PromptAccepted(claim, "m", "ws_CO_1"), payment.payment_id))
    with pytest.raises(CancelTooLate) as late:
        await withdraw(writers, CALLER, CancelRequest("r-1", payment.payment_id))
    assert late.value.payment.reason is Reason.AWAITING_CUSTOMER
    assert await uses(database, "r-1") == 0
