"""The checker: silent over all that the service leaves behind, and not over anything else.

Each breakage is made by hand, as the owner of the database, with the
constraints out of the way where they would forbid it. It must be named by its
own line, and by no line that it leaves true.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from development.postgres import create_database, drop_database
from payment_service.application.inspecting import check as checker
from payment_service.application.inspecting.check import Tallies, check_invariants
from payment_service.application.inspecting.invariants import Instruments, Invariant
from payment_service.domain.payment import Payment
from payment_service.store.engines import connect_reader
from tests.databases import APPLICATION_ROLE, TEMPLATE, Database, PostgresServers
from tests.rows import count
from tests.stories import PHONE, Stories, every_kind
from tests.writers import Writers, running_writers

NEWEST = 18


@dataclass(frozen=True)
class Town:
    """A database with a payment of every kind, and what it takes to verify it."""

    owner_url: str
    told: Mapping[str, Payment]
    tools: Instruments


@pytest.fixture(scope="module")
async def town(
    migrated_servers: PostgresServers, application_password: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """One for all breakages: each is made in a transaction that is taken back."""
    server, folder = await migrated_servers(NEWEST), tmp_path_factory.mktemp("town")
    owner_url = await create_database(server, "checked_town", template=TEMPLATE)
    application_url = server.dsn("checked_town", APPLICATION_ROLE, application_password)
    async with running_writers(application_url, folder) as writers:
        told = await every_kind(Stories(writers, folder))
        yield Town(owner_url, told, Instruments(writers.sealer, writers.keys))
    await drop_database(server, "checked_town")


@pytest.fixture
def stories(writers: Writers, tmp_path: Path) -> Stories:
    return Stories(writers, tmp_path)


async def checked(writers: Writers, database: Database, since: datetime | None = None) -> Tallies:
    async with await connect_reader(database.application_url) as conn:
        return await check_invariants(Instruments(writers.sealer, writers.keys), conn, since)


def violated(tallies: Tallies) -> Mapping[Invariant, list[str]]:
    return {
        invariant: [f"{violation.subject}: {violation.what}" for violation in tally.shown]
        for invariant, tally in tallies.items()
        if tally.violations
    }


@pytest.mark.every_postgres
async def test_what_the_service_leaves_behind_keeps_every_promise(
    writers: Writers, stories: Stories, database: Database
) -> None:
    await every_kind(stories)
    tallies = await checked(writers, database)
    assert violated(tallies) == {}
    assert {invariant for invariant, tally in tallies.items() if not tally.checked} == set(), "none is vacuous"
    assert tallies[Invariant.VERSIONS].checked == await count(database, "payment_transactions")
    assert tallies[Invariant.CHAIN].checked == await count(database, "payment_events")
    assert tallies[Invariant.CALLBACKS].checked == await count(database, "callback_inbox")
    unread = "cases WHERE kind = 'UNREAD_CALLBACK' AND settled_at IS NULL"
    assert tallies[Invariant.UNREAD].waiting == await count(database, unread) == 2


async def test_it_goes_through_more_than_one_batch(
    writers: Writers, stories: Stories, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await every_kind(stories)
    whole = await checked(writers, database)
    monkeypatch.setattr(checker, "BATCH", 3)
    assert {i: t.checked for i, t in (await checked(writers, database)).items()} == {
        i: t.checked for i, t in whole.items()
    }


async def test_payments_on_their_way_are_no_violation(writers: Writers, stories: Stories, database: Database) -> None:
    async def pay(number: int) -> None:
        payment = await stories.prompted()
        await stories.callback(payment.reference, receipt=f"RCPT{number:06d}")

    paying = asyncio.gather(*(pay(number) for number in range(100)))
    found = []
    while not paying.done():
        found.append(violated(await checked(writers, database)))
    await paying
    assert found
    assert [violations for violations in found if violations] == []


async def test_only_what_is_younger_is_checked_when_asked(
    writers: Writers, stories: Stories, database: Database
) -> None:
    await every_kind(stories)
    now = datetime.now(UTC)
    assert (await checked(writers, database, now + timedelta(hours=1)))[Invariant.VERSIONS].checked == 0
    everything = await count(database, "payment_transactions")
    assert (await checked(writers, database, now - timedelta(hours=1)))[Invariant.VERSIONS].checked == everything


OF = "payment_id = %(it)s"
MADE_UP_RECEIPT = f"""
INSERT INTO issued_receipts (payment_id, revision, number, issued_at, standing, amount, mpesa_receipt_number,
    refunded_amount, returned, issuer)
SELECT payment_id, 1, 'N', now(), 'PAID', 500, 'R', 0, '[]',
    '{{"name": "N", "address": "A", "kra_pin": "P", "contact": "C"}}' FROM payment_transactions WHERE {OF}"""

BREAKAGES: list[tuple[str, str, str, set[Invariant]]] = [
    (
        "a receipt is made up",
        "refunded",
        MADE_UP_RECEIPT,
        {Invariant.ISSUED},
    ),
    (
        "a refund that failed is called done",
        "refunded",
        f"UPDATE refunds SET state = 'DONE' WHERE {OF} AND state = 'FAILED'",
        {Invariant.REFUNDS},
    ),
    (
        "less is said to have gone back than did",
        "refunded",
        f"UPDATE payment_transactions SET refunded_amount = 400 WHERE {OF}",
        {Invariant.REFUNDS, Invariant.LAST_EVENT},
    ),
    (
        "an event is removed",
        "completed",
        f"DELETE FROM payment_events WHERE {OF} AND version = 3",
        {Invariant.VERSIONS, Invariant.CHAIN, Invariant.EDGES},
    ),
    (
        "the newest event is removed",
        "created",
        f"DELETE FROM payment_events WHERE {OF}",
        {Invariant.VERSIONS, Invariant.CHAIN},
    ),
    (
        "a row is changed without an event",
        "completed",
        f"UPDATE payment_transactions SET provider_result_code = '1' WHERE {OF}",
        {Invariant.LAST_EVENT},
    ),
    (
        "a failed payment is made a completed one",
        "declined",
        f"UPDATE payment_transactions SET state = 'COMPLETED', completed_at = now(), due_at = now() WHERE {OF}",
        {Invariant.LAST_EVENT, Invariant.BOOKING},
    ),
    (
        "an amount in the log is changed",
        "completed",
        f"UPDATE payment_events SET amount = 600 WHERE {OF} AND version = 2",
        {Invariant.CHAIN},
    ),
    (
        "the row's end of the chain is changed",
        "completed",
        f"UPDATE payment_transactions SET chain_hash = sha256('x') WHERE {OF}",
        {Invariant.CHAIN},
    ),
    (
        "the log is reordered",
        "completed",
        (
            "ALTER TABLE payment_events ALTER position SET GENERATED BY DEFAULT;"
            f"UPDATE payment_events SET position = -1 WHERE {OF} AND version = 3"
        ),
        {Invariant.ORDER},
    ),
    (
        "a change that the table does not know",
        "completed",
        (
            f"UPDATE payment_events SET state = 'REFUNDED' WHERE {OF} AND version = 2;"
            f"UPDATE payment_events SET previous_state = 'REFUNDED' WHERE {OF} AND version = 3"
        ),
        {Invariant.CHAIN, Invariant.EDGES},
    ),
    (
        "a fact told twice",
        "completed",
        (
            "ALTER TABLE payment_events DROP CONSTRAINT events_one_per_fact;"
            f"UPDATE payment_events SET fact_id = 'created' WHERE {OF} AND version = 2"
        ),
        {Invariant.CHAIN, Invariant.FACTS},
    ),
    (
        "a phone number in the log",
        "completed",
        f"UPDATE payment_events SET fact_id = 'callback:0{PHONE[3:]}' WHERE {OF} AND version = 4",
        {Invariant.CHAIN, Invariant.LOG_PRIVACY},
    ),
    (
        "a phone number moved to another payment",
        "completed",
        (
            f"UPDATE payment_transactions SET phone_number = (SELECT phone_number FROM payment_transactions"
            f" WHERE payment_id <> %(it)s LIMIT 1) WHERE {OF}"
        ),
        {Invariant.SEALED},
    ),
    (
        "a CheckoutRequestID altered",
        "created",
        f"UPDATE payment_transactions SET checkout_request_id = '\\x3100', checkout_index_a = '\\x00' WHERE {OF}",
        {Invariant.SEALED, Invariant.LAST_EVENT},
    ),
    (
        "a callback's body altered",
        "declined",
        f"UPDATE callback_inbox SET body = body || '\\x00' WHERE {OF}",
        {Invariant.SEALED},
    ),
    (
        "an answer of Daraja altered",
        "declined",
        f"UPDATE daraja_exchanges SET answer = request WHERE {OF}",
        {Invariant.SEALED},
    ),
    (
        "a fingerprint altered",
        "completed",
        f"UPDATE payment_transactions SET request_fingerprint = sha256('x') WHERE {OF}",
        {Invariant.REQUEST},
    ),
    (
        "an amount altered",
        "prompted",
        f"UPDATE payment_transactions SET amount = 5 WHERE {OF}",
        {Invariant.REQUEST, Invariant.LAST_EVENT},
    ),
    (
        "a request id used twice",
        "completed",
        (
            "ALTER TABLE payment_transactions DROP CONSTRAINT payments_one_per_request_id;"
            f"UPDATE payment_transactions SET request_id = (SELECT request_id FROM payment_transactions"
            f" WHERE payment_id <> %(it)s LIMIT 1) WHERE {OF}"
        ),
        {Invariant.REQUEST_ID, Invariant.REQUEST},
    ),
    (
        "a request id served two methods",
        "completed",
        (
            "UPDATE payment_transactions SET request_id ="
            f" (SELECT request_id FROM caller_requests ORDER BY kept_id LIMIT 1) WHERE {OF}"
        ),
        {Invariant.REQUEST_ID, Invariant.REQUEST},
    ),
    (
        "a withdrawal's fingerprint altered",
        "withdrawn",
        (
            "UPDATE caller_requests SET request_fingerprint = sha256('x')"
            f" WHERE kept_id = (SELECT kept_id FROM caller_requests WHERE {OF} LIMIT 1)"
        ),
        {Invariant.REQUEST},
    ),
    (
        "a withdrawal moved to another payment",
        "completed",
        (
            "UPDATE caller_requests SET payment_id = %(it)s"
            " WHERE kept_id = (SELECT kept_id FROM caller_requests LIMIT 1)"
        ),
        {Invariant.REQUEST},
    ),
    (
        "a withdrawal altered",
        "withdrawn",
        f"UPDATE caller_requests SET request = request || '\\x00' WHERE {OF}",
        {Invariant.SEALED},
    ),
    (
        "a second push",
        "completed",
        (
            "UPDATE daraja_exchanges SET payment_id = %(it)s WHERE exchange_id ="
            " (SELECT exchange_id FROM daraja_exchanges WHERE payment_id <> %(it)s LIMIT 1)"
        ),
        {Invariant.PUSHES},
    ),
    (
        "two payments block a booking",
        "first of two",
        f"DROP INDEX payments_one_live_per_booking;UPDATE payment_transactions SET blocks_booking = true WHERE {OF}",
        {Invariant.BLOCK},
    ),
    (
        "two payments confirm a booking",
        "first of two",
        f"DROP INDEX payments_one_confirm_per_booking;UPDATE payment_transactions SET said_confirm = true WHERE {OF}",
        {Invariant.CONFIRM, Invariant.BOOKING},
    ),
    (
        "a receipt that counts is lost",
        "completed",
        f"DELETE FROM mpesa_receipts WHERE {OF}",
        {Invariant.RECEIPTS, Invariant.SUCCESS},
    ),
    (
        "a receipt stands on two payments",
        "second of two",
        (
            "DROP INDEX payments_one_per_receipt;"
            f"UPDATE payment_transactions SET mpesa_receipt_number = 'RCPT000001' WHERE {OF}"
        ),
        {Invariant.RECEIPTS, Invariant.LAST_EVENT},
    ),
    (
        "money that counts for nothing is in no case",
        "paid twice",
        f"UPDATE cases SET mpesa_receipt_number = NULL WHERE {OF}",
        {Invariant.UNCOUNTED},
    ),
    (
        "a money case is gone",
        "foreign receipt",
        f"DELETE FROM cases WHERE {OF}",
        {Invariant.MONEY_CASES, Invariant.SUCCESS},
    ),
    (
        "a case is settled by nobody",
        "paid after decline",
        f"UPDATE cases SET settled_at = now(), settled_by = 'case:0', resolution = 'DISMISS' WHERE {OF}",
        {Invariant.ACTS},
    ),
    (
        "nothing is left of who asked for a refund",
        "refunded",
        f"DELETE FROM caller_requests WHERE {OF}",
        {Invariant.ACTS},
    ),
    (
        "a payment is released from its review",
        "paid twice",
        f"UPDATE payment_transactions SET money_case_open = false WHERE {OF}",
        {Invariant.MONEY_CASES},
    ),
    (
        "a live payment without a timer",
        "prompted",
        f"UPDATE payment_transactions SET due_at = NULL WHERE {OF}",
        {Invariant.WAY_OUT},
    ),
    (
        "a timer-less payment that may still be paid",
        "created",
        f"UPDATE payment_transactions SET due_at = NULL WHERE {OF}",
        {Invariant.WAY_OUT},
    ),
    (
        "a watch that ended in silence counts as proof",
        "watched in silence",
        f"UPDATE payment_transactions SET outcome_certain = true WHERE {OF}",
        {Invariant.EVIDENCE, Invariant.LAST_EVENT},
    ),
    (
        "a payment forgets that a callback of it is unread",
        "declined, then unread",
        f"UPDATE payment_transactions SET unread_callback = false WHERE {OF}",
        {Invariant.UNREAD},
    ),
    (
        "the case about an unread callback is gone",
        "unanswered",
        f"UPDATE cases SET settled_at = now() WHERE kind = 'UNREAD_CALLBACK' AND {OF}",
        {Invariant.UNREAD},
    ),
    (
        "a payment that has ended is to be asked about",
        "declined",
        f"UPDATE payment_transactions SET query_at = now() WHERE {OF}",
        {Invariant.QUERIES},
    ),
    (
        "a booking is told to wait for what has come",
        "completed",
        f"UPDATE payment_transactions SET booking_action = 'WAIT', said_confirm = false WHERE {OF}",
        {Invariant.BOOKING, Invariant.LAST_EVENT, Invariant.CONFIRM},
    ),
    (
        "an applied callback names no payment",
        "declined",
        f"UPDATE callback_inbox SET payment_id = NULL WHERE {OF}",
        {Invariant.CALLBACKS},
    ),
    (
        "a callback is given up without a case",
        "declined",
        f"UPDATE callback_inbox SET status = 'DEAD' WHERE {OF}",
        {Invariant.INBOX},
    ),
    (
        "a callback is applied, and its case still says that it is not",
        "declined",
        (
            "INSERT INTO cases (case_id, reference, kind, is_money, fact_id, opened_at) SELECT gen_random_uuid(),"
            " reference, 'CALLBACK_GIVEN_UP', false, 'callback:' || encode(body_hash, 'hex'), now()"
            f" FROM callback_inbox WHERE {OF}"
        ),
        {Invariant.INBOX},
    ),
    (
        "a callback names another payment",
        "completed",
        (
            f"UPDATE callback_inbox SET payment_id = (SELECT payment_id FROM payment_transactions"
            f" WHERE payment_id <> %(it)s LIMIT 1) WHERE {OF}"
        ),
        {Invariant.CALLBACKS},
    ),
    (
        "money in the books is forgotten",
        "perhaps in the books",
        f"DELETE FROM cases WHERE {OF}",
        {Invariant.BOOKS, Invariant.MONEY_CASES},
    ),
    (
        "nobody is told that money was taken back",
        "taken back",
        f"DELETE FROM cases WHERE {OF}",
        {Invariant.TAKEN_BACK, Invariant.MONEY_CASES},
    ),
    (
        "a payment stands although the books show that its money went back",
        "taken back",
        (
            f"UPDATE payment_transactions SET state = 'COMPLETED', money_case_open = false WHERE {OF}"
            f";DELETE FROM cases WHERE {OF}"
        ),
        {Invariant.TAKEN_BACK, Invariant.BOOKS, Invariant.BOOKING, Invariant.LAST_EVENT, Invariant.WAY_OUT},
    ),
]


@pytest.mark.parametrize(
    ("victim", "statements", "expected"), [b[1:] for b in BREAKAGES], ids=[b[0] for b in BREAKAGES]
)
async def test_what_is_broken_by_hand_is_named_by_its_own_line(
    victim: str, statements: str, expected: set[Invariant], town: Town
) -> None:
    it = town.told[victim].payment_id
    async with await psycopg.AsyncConnection.connect(town.owner_url) as owner:
        for statement in statements.split(";"):
            broken = await owner.execute(statement, {"it": it} if "%(it)s" in statement else None)
            assert broken.rowcount != 0, f"nothing was broken by {statement}"
        found = violated(await check_invariants(town.tools, owner))
        await owner.rollback()
    assert set(found) == expected, found
    named = "".join(line for lines in found.values() for line in lines)
    assert str(it) in named
    assert PHONE[-9:] not in named


def test_every_invariant_is_broken_by_some_test() -> None:
    assert {invariant for *_, expected in BREAKAGES for invariant in expected} == set(Invariant)


async def test_many_violations_are_counted_and_a_few_shown(
    writers: Writers, stories: Stories, database: Database
) -> None:
    for _ in range(checker.SHOWN_MAX + 2):
        await stories.payment()
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE payment_transactions SET chain_hash = '\\x00'")
    tally = (await checked(writers, database))[Invariant.CHAIN]
    assert (tally.violations, len(tally.shown)) == (checker.SHOWN_MAX + 2, checker.SHOWN_MAX)


async def test_the_checker_cannot_write(database: Database) -> None:
    async with await connect_reader(database.application_url) as conn:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await conn.execute("UPDATE payment_transactions SET version = 2")
        await conn.rollback()
