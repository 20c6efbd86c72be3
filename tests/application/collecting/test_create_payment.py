"""Recording payments: idempotent by request id, one live attempt for a booking, nothing left by a refusal."""

import asyncio
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from payment_service.application.recording.record_facts import Submission
from payment_service.domain.decisions import Bar
from payment_service.domain.errors import BookingBarred, RequestIdReused
from payment_service.domain.facts import NotSent, PromptRefused
from payment_service.domain.payment import State
from payment_service.domain.reasons import Reason
from tests.databases import Database
from tests.rows import count, rows_of
from tests.writers import Writers, a_request, running_writers

CALLER = "development"

pytestmark = pytest.mark.every_postgres


async def test_the_same_request_gives_the_same_payment(writers: Writers) -> None:
    request = a_request()
    first = await writers.create(CALLER, request, None, None)
    again = await writers.create(CALLER, request, None, None)
    assert first.payment.payment_id == again.payment.payment_id
    assert (first.replayed, again.replayed) == (False, True)
    assert again.prompt is None, "a replay must not lead to a second send"


async def test_amounts_above_the_one_that_is_set_are_to_be_backed_before_their_booking_is_confirmed(
    database: Database, tmp_path: Path
) -> None:
    for above, waits in ((None, False), (500, False), (499, True), (0, True)):
        async with running_writers(database.application_url, tmp_path, back_before_confirm_above=above) as writers:
            created = await writers.create(CALLER, a_request(amount=500), None, None)
        assert created.payment.back_first is waits
        row = "SELECT back_first FROM payment_transactions WHERE payment_id = %s"
        assert await rows_of(database, row, (created.payment.payment_id,)) == [(waits,)]


async def test_one_request_from_many_callers_of_two_processes_makes_one_payment(
    database: Database, writers: Writers, tmp_path: Path
) -> None:
    rounds = 40
    async with running_writers(database.application_url, tmp_path) as other:
        # The processes have to meet between two statements of a transaction, which they do not do every time.
        for _ in range(rounds):
            request = a_request()
            created = await asyncio.gather(
                *(process.create(CALLER, request, None, None) for process in (writers, other) for _ in range(5))
            )
            assert len({c.payment.payment_id for c in created}) == 1
            assert sum(not c.replayed for c in created) == 1
    assert await count(database, "payment_transactions") == rounds
    assert await count(database, "payment_events") == rounds


async def test_other_content_is_a_conflict_that_names_the_fields(writers: Writers, database: Database) -> None:
    request = a_request(metadata={"trip": "7"})
    created = await writers.create(CALLER, request, None, None)
    changed = a_request(request_id=request.request_id, booking_id=request.booking_id, amount=501)
    with pytest.raises(RequestIdReused) as refused:
        await writers.create(CALLER, changed, None, None)
    assert refused.value.payment_id == created.payment.payment_id
    assert refused.value.fields == ("amount", "metadata")
    assert await count(database, "payment_transactions") == 1


async def test_request_ids_belong_to_their_caller(writers: Writers) -> None:
    request = a_request()
    mine = await writers.create(CALLER, request, None, None)
    theirs = await writers.create("another-service", request, None, None)
    assert mine.payment.payment_id != theirs.payment.payment_id
    assert not theirs.replayed


async def test_a_booking_has_one_live_payment_and_the_refused_id_stays_free(
    writers: Writers, database: Database
) -> None:
    live = await writers.create(CALLER, a_request(booking_id="BK-1"), None, None)
    second = a_request(booking_id="BK-1")
    with pytest.raises(BookingBarred) as refused:
        await writers.create(CALLER, second, None, None)
    assert refused.value.bar is Bar.LIVE_OR_PAID
    assert refused.value.payment.payment_id == live.payment.payment_id
    assert await count(database, "payment_transactions") == 1
    elsewhere = a_request(request_id=second.request_id, booking_id="BK-2")
    assert not (await writers.create(CALLER, elsewhere, None, None)).replayed


async def test_two_requests_for_one_booking_at_once_make_one_payment(
    database: Database, writers: Writers, tmp_path: Path
) -> None:
    async with running_writers(database.application_url, tmp_path) as other:
        results = await asyncio.gather(
            *(
                process.create(CALLER, a_request(booking_id="BK-1"), None, None)
                for process in (writers, other)
                for _ in range(10)
            ),
            return_exceptions=True,
        )
    assert sum(isinstance(result, BookingBarred) for result in results) == 19
    assert await count(database, "payment_transactions") == 1
    assert await count(database, "payment_events") == 1


async def test_a_new_payment_is_due_before_its_process_could_have_forgotten_it(writers: Writers) -> None:
    payment = (await writers.create(CALLER, a_request(), None, None)).payment
    assert payment.state is State.CREATED
    assert payment.due_at == payment.created_at + writers.times.orphaned_after


async def test_the_payer_sees_the_callers_text_with_a_code_or_our_reference(
    writers: Writers, database: Database
) -> None:
    for booking in ("BK-1", "BK-2"):
        await writers.create(CALLER, a_request(booking_id=booking, account_reference="NAIROBI77"), None, None)
    plain = (await writers.create(CALLER, a_request(), None, None)).payment
    rows = await rows_of(database, "SELECT booking_id, account_reference FROM payment_transactions")
    shown = dict(rows)
    assert shown["BK-1"] != shown["BK-2"]
    assert all(len(shown[booking]) == 12 and shown[booking].startswith("NAIROBI77") for booking in ("BK-1", "BK-2"))
    assert shown[plain.booking_id] == plain.reference


async def test_a_repeat_is_the_same_request_even_after_the_default_shortcode_has_changed(
    database: Database, tmp_path: Path
) -> None:
    request = a_request(shortcode="", description="")
    async with running_writers(database.application_url, tmp_path, shortcode="111111") as before:
        first = await before.create(CALLER, request, None, None)
    async with running_writers(database.application_url, tmp_path, shortcode="222222") as after:
        again = await after.create(CALLER, request, None, None)
    assert (again.payment.payment_id, again.replayed) == (first.payment.payment_id, True)
    stored = await rows_of(database, "SELECT shortcode, transaction_desc FROM payment_transactions")
    assert stored == [("111111", "Booking")]


async def test_text_of_every_kind_comes_back_as_it_was(writers: Writers, database: Database) -> None:
    metadata = {"quote": 'a "quoted" \\ back{slash}', "line": "one\ntwo", "null": "NULL", "": "", "ß": "ñ, 字"}
    await writers.create(CALLER, a_request(metadata=metadata), None, None)
    assert await rows_of(database, "SELECT metadata FROM payment_transactions") == [(metadata,)]


async def test_no_personal_data_is_in_clear(writers: Writers, database: Database) -> None:
    await writers.create(CALLER, a_request(phone_number="254711222333"), None, None)
    with psycopg.connect(database.owner_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall():
                assert "711222333" not in row[0]
                assert b"711222333".hex() not in row[0]


async def test_a_first_attempt_is_claimed_as_it_is_made(writers: Writers, database: Database) -> None:
    claims = [uuid4() for _ in range(20)]
    created = await asyncio.gather(
        *(writers.create(CALLER, a_request(), None, None, claim_id=claim_id) for claim_id in claims)
    )
    assert [c.payment.claim_id for c in created] == claims
    assert all((c.payment.state, c.payment.version) == (State.SENDING, 2) for c in created)
    # Both versions are in the log, the first before the second.
    told = await rows_of(database, "SELECT payment_id, version, event_type FROM payment_events ORDER BY position")
    for c in created:
        assert [row[1:] for row in told if row[0] == c.payment.payment_id] == [(1, "CREATED"), (2, "SENDING")]


async def test_a_repeat_holds_no_claim(writers: Writers) -> None:
    request, mine, late = a_request(), uuid4(), uuid4()
    await writers.create(CALLER, request, None, None, claim_id=mine)
    repeated = await writers.create(CALLER, request, None, None, claim_id=late)
    assert repeated.replayed
    assert repeated.payment.claim_id == mine


async def test_another_attempt_is_claimed_apart_under_the_lock_of_its_booking(writers: Writers) -> None:
    first, claim_id = a_request(), uuid4()
    payment = (await writers.create(CALLER, first, None, None, claim_id=claim_id)).payment
    await writers.facts.submit(Submission(PromptRefused(claim_id, "1", Reason.NOT_SENT), payment.payment_id))
    again = a_request(booking_id=first.booking_id)
    second = (await writers.create(CALLER, again, None, None, claim_id=uuid4())).payment
    assert (second.attempt, second.state, second.claim_id) == (2, State.CREATED, None)


async def test_a_claim_that_comes_to_nothing_leaves_the_payment_to_others(writers: Writers) -> None:
    claim_id = uuid4()
    payment = (await writers.create(CALLER, a_request(), None, None, claim_id=claim_id)).payment
    dropped = await writers.facts.submit(Submission(NotSent(claim_id, "CLAIM_DROPPED"), payment.payment_id))
    assert dropped.payment is not None
    assert dropped.payment.state is State.CREATED
    assert dropped.payment.due_at is not None
