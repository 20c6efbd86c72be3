"""Callbacks that cannot be applied: tried again within bounds, parked, matched, replayed, given up; never lost."""

import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import structlog
from structlog.testing import capture_logs

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.recording.record_facts import PENDING_RETRY_AFTER, Recorded
from payment_service.application.settling.accept_callbacks import body_row_id
from payment_service.application.settling.apply_kept_callbacks import (
    JITTER,
    RETRY_WAIT_MAX,
    TRIES_MAX,
    CallbackNotFound,
    InboxTools,
    apply_pending_callbacks,
    match_parked_callbacks,
    replay_callback,
)
from payment_service.domain.facts import DeadlinePassed, ResultReported, Source, Verdict, WatchEnded
from payment_service.domain.payment import LatePaymentPolicy, Payment
from payment_service.domain.reasons import Reason
from payment_service.security.sealing import CALLBACK_BODY, SealBroken
from payment_service.store.engines import connect_reader, read_engine
from tests.databases import Database
from tests.plain_logs import log_plainly
from tests.rows import rows_of
from tests.stories import Stories
from tests.writers import Writers

OUTSIDE = "zzzzzzzzzzzz"
"""A reference that no callback is for."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of failures with their tracebacks, drawn for a terminal, would take longer than all the rest."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    log_plainly()


@pytest.fixture
async def tools(writers: Writers, database: Database) -> AsyncIterator[InboxTools]:
    engine = read_engine(database.application_url)
    yield InboxTools(engine, writers.facts, writers.sealer, writers.clock)
    await engine.dispose()


@pytest.fixture
def stories(writers: Writers, tmp_path: Path) -> Stories:
    return Stories(writers, tmp_path)


def by_hand(database: Database, statement: str, *parameters: object) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(statement, parameters)


def torn(database: Database, payment: Payment) -> None:
    """The payment's row cannot be read, so nothing can be applied to it."""
    spoil = "UPDATE payment_transactions SET language_code = encode(checkout_request_id, 'hex')"
    by_hand(database, f"{spoil}, checkout_request_id = 'torn' WHERE payment_id = %s", payment.payment_id)


def mended(database: Database, payment: Payment) -> None:
    mend = "UPDATE payment_transactions SET checkout_request_id = decode(language_code, 'hex'), language_code = 'en'"
    by_hand(database, f"{mend} WHERE payment_id = %s", payment.payment_id)


def hidden(database: Database, payment: Payment) -> None:
    """The database has lost the payment, as after a restore to an earlier point."""
    by_hand(
        database, "UPDATE payment_transactions SET reference = %s WHERE payment_id = %s", OUTSIDE, payment.payment_id
    )


def found_again(database: Database, payment: Payment) -> None:
    restore = "UPDATE payment_transactions SET reference = %s WHERE payment_id = %s"
    by_hand(database, restore, payment.reference, payment.payment_id)


async def inbox(database: Database) -> list[tuple[str, int]]:
    rows = await rows_of(database, "SELECT status, tries FROM callback_inbox ORDER BY received_at, callback_id")
    return [(status, tries) for status, tries in rows]


async def cases(database: Database) -> list[tuple[str, bool, bool]]:
    """Kind, whether it is about money, whether it is settled."""
    rows = await rows_of(database, "SELECT kind, is_money, settled_at IS NOT NULL FROM cases ORDER BY opened_at")
    return [(kind, is_money, settled) for kind, is_money, settled in rows]


async def state_of(database: Database, payment: Payment) -> str:
    query = "SELECT state FROM payment_transactions WHERE payment_id = %s"
    return str((await rows_of(database, query, (payment.payment_id,)))[0][0])


async def only_callback(database: Database) -> UUID:
    ((callback_id,),) = await rows_of(database, "SELECT callback_id FROM callback_inbox")
    assert isinstance(callback_id, UUID)
    return callback_id


async def nothing_is_violated(writers: Writers, database: Database) -> None:
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(Instruments(writers.sealer, writers.keys), conn)
    assert {invariant: tally.shown for invariant, tally in tallies.items() if tally.violations} == {}


async def given_up(tools: InboxTools, stories: Stories, database: Database) -> Payment:
    """A payment with a callback that is dead; its row can be read again."""
    payment = await stories.prompted(late_payment_policy=LatePaymentPolicy.CONFIRM)
    torn(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    for _ in range(TRIES_MAX):
        stories.writers.clock.move(2 * RETRY_WAIT_MAX.total_seconds())
        await apply_pending_callbacks(tools)
    mended(database, payment)
    return payment


async def test_tries_are_further_and_further_apart_and_at_last_given_up(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await stories.prompted()
    torn(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())
    for number in range(TRIES_MAX - 1):
        assert await apply_pending_callbacks(tools) == 1
        ((status, tries, next_try_at, error),) = await rows_of(
            database, "SELECT status, tries, next_try_at, last_error FROM callback_inbox"
        )
        assert (status, tries, error) == ("PENDING", number + 1, "SealBroken")
        meant = min(PENDING_RETRY_AFTER * 2 ** min(number, 10), RETRY_WAIT_MAX)
        wait: timedelta = next_try_at - writers.clock()
        assert meant * (1 - JITTER) <= wait <= meant * (1 + JITTER)
        assert await apply_pending_callbacks(tools) == 0, "not due yet"
        writers.clock.move(wait.total_seconds())
    await apply_pending_callbacks(tools)
    writers.clock.move(30 * 24 * 3600)
    assert await apply_pending_callbacks(tools) == 0
    assert await inbox(database) == [("DEAD", TRIES_MAX)]
    assert await rows_of(database, "SELECT kind, reference, mpesa_receipt_number, amount::int FROM cases") == [
        ("CALLBACK_GIVEN_UP", payment.reference, "RCPT000001", 500)
    ]
    mended(database, payment)
    await nothing_is_violated(writers, database)


async def test_a_callback_whose_body_was_removed_is_given_up_with_its_case(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    log_plainly()
    payment = await stories.prompted()
    torn(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    mended(database, payment)
    ((callback_id, body_hash),) = await rows_of(database, "SELECT callback_id, body_hash FROM callback_inbox")
    empty = writers.sealer.seal(CALLBACK_BODY, body_row_id(payment.reference, body_hash), b"")
    removed = "UPDATE callback_inbox SET body = %s, body_removed = true, tries = %s WHERE callback_id = %s"
    by_hand(database, removed, empty, TRIES_MAX - 1, callback_id)
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())
    with capture_logs() as logs:
        await apply_pending_callbacks(tools)
    assert await inbox(database) == [("DEAD", TRIES_MAX)]
    assert await cases(database) == [("CALLBACK_GIVEN_UP", False, False)]
    assert [line["alarm"] for line in logs if line["event"] == "alarm"] == ["callback_given_up"]


async def test_a_dead_callback_counts_once_it_comes_again_or_is_replayed(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await given_up(tools, stories, database)
    callback_id = await only_callback(database)
    recorded = await replay_callback(tools, callback_id, "amina", "mended in 1.2")
    assert recorded.payment is not None
    assert (recorded.payment.state.value, recorded.payment.receipt) == ("COMPLETED", "RCPT000001")
    assert [status for status, _ in await inbox(database)] == ["APPLIED"]
    assert ("CALLBACK_GIVEN_UP", False, True) in await cases(database)
    before = await rows_of(database, "SELECT payment_id, version FROM payment_transactions")
    again = await replay_callback(tools, callback_id, "amina", "to be sure")
    assert again.payment == recorded.payment
    await stories.callback(payment.reference, receipt="RCPT000001")
    assert await rows_of(database, "SELECT payment_id, version FROM payment_transactions") == before
    told = "SELECT operator, reason, outcome FROM callback_replays ORDER BY replayed_at"
    assert await rows_of(database, told) == [
        ("amina", "mended in 1.2", "APPLIED"),
        ("amina", "to be sure", "APPLIED"),
    ]
    await nothing_is_violated(writers, database)


UNKNOWN_CODE = 4711


async def certain(database: Database, payment: Payment) -> bool:
    query = "SELECT outcome_certain FROM payment_transactions WHERE payment_id = %s"
    return bool((await rows_of(database, query, (payment.payment_id,)))[0][0])


async def denied(stories: Stories, payment: Payment) -> Payment:
    """A query, asked when the prompt was surely gone, has found nothing paid: proof, if nothing bars it."""
    answer = ResultReported(f"query:{uuid4()}", Source.QUERY, Verdict.FAILED, "2001", Reason.WRONG_PIN)
    return await stories.tell(payment, dataclasses.replace(answer, asked_at=stories.writers.clock()))


async def expired_with(stories: Stories, database: Database, *codes: int) -> Payment:
    """An expired payment, with callbacks that are kept because its row could not be read when they came."""
    payment = await stories.prompted()
    stories.writers.clock.move(stories.writers.times.retry_wait.total_seconds() + 1)
    await stories.tell(payment, DeadlinePassed())
    torn(database, payment)
    for code in codes:
        await stories.callback(payment.reference, code=code)
    mended(database, payment)
    return payment


async def test_no_end_becomes_certain_until_the_last_kept_callback_is_applied(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await expired_with(stories, database, UNKNOWN_CODE, UNKNOWN_CODE + 1)
    neighbour = await expired_with(stories, database)
    for one in (payment, neighbour):
        await denied(stories, one)
    assert (await certain(database, payment), await certain(database, neighbour)) == (False, True)
    await stories.callback(payment.reference, code=UNKNOWN_CODE)
    assert [status for status, _ in await inbox(database)] == ["APPLIED", "PENDING"]
    assert not await certain(database, payment), "the other one may tell of money"
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())
    assert await apply_pending_callbacks(tools) == 1
    assert await certain(database, payment)
    await nothing_is_violated(writers, database)


async def test_a_callback_that_was_given_up_bars_certainty_until_it_is_replayed(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await expired_with(stories, database, UNKNOWN_CODE)
    by_hand(database, "UPDATE callback_inbox SET tries = %s", TRIES_MAX - 1)
    torn(database, payment)
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())
    await apply_pending_callbacks(tools)
    mended(database, payment)
    assert await inbox(database) == [("DEAD", TRIES_MAX)]
    await denied(stories, payment)
    assert not await certain(database, payment)
    await replay_callback(tools, await only_callback(database), "amina", "mended in 1.2")
    assert await certain(database, payment)
    await nothing_is_violated(writers, database)


async def test_a_watch_does_not_end_as_covered_by_the_books_while_a_callback_is_kept(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await expired_with(stories, database, UNKNOWN_CODE)
    writers.clock.move(writers.times.watch_for.total_seconds())
    await stories.tell(payment, WatchEnded(books_cover=True))
    assert not await certain(database, payment)
    assert await cases(database) == [("OUTCOME_UNKNOWN", False, False)]
    await nothing_is_violated(writers, database)


async def test_a_replay_that_fails_is_noted_and_changes_nothing(
    tools: InboxTools, stories: Stories, database: Database
) -> None:
    payment = await given_up(tools, stories, database)
    torn(database, payment)
    with pytest.raises(SealBroken):
        await replay_callback(tools, await only_callback(database), "amina", "now?")
    assert await inbox(database) == [("DEAD", TRIES_MAX)]
    assert await rows_of(database, "SELECT operator, outcome FROM callback_replays") == [("amina", "FAILED")]
    with pytest.raises(CallbackNotFound):
        await replay_callback(tools, uuid4(), "amina", "now?")


async def test_callbacks_that_always_fail_hold_up_no_other(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payments = [await stories.prompted() for _ in range(12)]
    for payment in payments:
        torn(database, payment)
    for number, payment in enumerate(payments):
        await stories.callback(payment.reference, receipt=f"RCPT{number:06d}")
    sound = payments[1::2]
    for payment in sound:
        mended(database, payment)
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())
    assert await apply_pending_callbacks(tools) == 12
    assert {await state_of(database, payment) for payment in sound} == {"COMPLETED"}
    assert sorted(await inbox(database)) == [("APPLIED", 0)] * 6 + [("PENDING", 1)] * 6


async def test_two_processes_that_fail_with_one_callback_count_one_try(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await stories.prompted()
    torn(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())

    class Late:
        """A second process: it has read the callback when the first one has failed with it already."""

        async def submit(self, _submission: object) -> Recorded:
            await apply_pending_callbacks(tools)
            raise RuntimeError("the other process has failed with it, too")

    await apply_pending_callbacks(dataclasses.replace(tools, facts=Late()))  # type: ignore[arg-type]  # what is called of it is there
    assert await inbox(database) == [("PENDING", 1)]


async def test_a_parked_callback_is_matched_when_its_payment_appears(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment, other = await stories.prompted(), await stories.prompted()
    hidden(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    writers.clock.move(1)
    await stories.callback("bcdfghjknprt", receipt="RCPT000002")
    assert await match_parked_callbacks(tools) == 0
    found_again(database, payment)
    assert await match_parked_callbacks(tools) == 1
    assert await match_parked_callbacks(tools) == 0
    assert await state_of(database, payment) == "COMPLETED"
    assert await state_of(database, other) == "PROMPTED"
    assert await inbox(database) == [("APPLIED", 0), ("UNMATCHED", 0)]
    assert await cases(database) == [("UNKNOWN_PAYMENT", False, True), ("UNKNOWN_PAYMENT", False, False)]
    await nothing_is_violated(writers, database)


async def test_what_a_matched_callback_leads_to_takes_the_place_of_its_case(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await stories.prompted()
    hidden(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001", amount=499)
    found_again(database, payment)
    # It comes again before anybody looks for it.
    await stories.callback(payment.reference, receipt="RCPT000001", amount=499)
    assert await match_parked_callbacks(tools) == 0
    assert await cases(database) == [("WRONG_AMOUNT", True, False)]
    assert await rows_of(database, "SELECT payment_id, money_case_open FROM payment_transactions") == [
        (payment.payment_id, True)
    ]
    await nothing_is_violated(writers, database)


async def test_a_matched_callback_that_cannot_be_applied_is_tried_within_bounds(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await stories.prompted()
    hidden(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    torn(database, payment)
    found_again(database, payment)
    assert await match_parked_callbacks(tools) == 1
    assert await inbox(database) == [("PENDING", 1)]
    for _ in range(TRIES_MAX):
        writers.clock.move(2 * RETRY_WAIT_MAX.total_seconds())
        await apply_pending_callbacks(tools)
    assert await inbox(database) == [("DEAD", TRIES_MAX)]
    mended(database, payment)
    await nothing_is_violated(writers, database)


async def test_a_pending_callback_without_a_payment_is_parked_not_tried_for_ever(
    tools: InboxTools, stories: Stories, writers: Writers, database: Database
) -> None:
    payment = await stories.prompted()
    torn(database, payment)
    await stories.callback(payment.reference, receipt="RCPT000001")
    mended(database, payment)
    hidden(database, payment)
    writers.clock.move(PENDING_RETRY_AFTER.total_seconds())
    assert await apply_pending_callbacks(tools) == 1
    assert await inbox(database) == [("UNMATCHED", 0)]
    assert await cases(database) == [("UNKNOWN_PAYMENT", False, False)]
