"""The schema: made by hand-written migrations, equal to what the code believes, on every PostgreSQL we support."""

import asyncio
import hashlib
import importlib
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from development.postgres import EmbeddedServer
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.payment import Payment
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from payment_service.store import migrations
from payment_service.store.engines import engine_url, read_engine
from payment_service.store.migrations import differences, ensure_application_role, migrate, newest_revision
from payment_service.store.prompt_switch import turn_switch
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import Process, listed, paid, sent
from tests.stories import Stories, every_kind
from tests.writers import Writers


@pytest.mark.every_postgres
async def test_the_migrated_schema_is_the_one_in_tables(empty_database: tuple[EmbeddedServer, str]) -> None:
    _, owner_url = empty_database
    await asyncio.to_thread(migrate, owner_url)
    assert await asyncio.to_thread(differences, owner_url) == []


async def test_migrating_again_and_at_once_is_harmless(empty_database: tuple[EmbeddedServer, str]) -> None:
    _, owner_url = empty_database
    await asyncio.gather(*(asyncio.to_thread(migrate, owner_url) for _ in range(3)))
    await asyncio.to_thread(migrate, owner_url)
    with psycopg.connect(owner_url) as owner:
        assert owner.execute("SELECT count(*) FROM event_log").fetchone() == (1,)


def test_the_newest_revision_is_the_one_to_which_all_others_lead() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()


MERGED = Path(__file__).with_name("merged_migrations.sha256")
"""The digests of migrations that somebody may have run, as `sha256sum` writes them: of all up to the newest listed one.
A release lists all of its own."""


def test_a_migration_that_was_merged_never_changes() -> None:
    """Whoever has run it will not run it again: what is missing from it is added by a new one."""
    merged = {name: digest for digest, name in map(str.split, MERGED.read_text().splitlines())}
    written = sorted(Path(migrations.__file__).parent.glob("versions/0*.py"))
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in written}
    assert {name: digests.get(name) for name in merged} == merged
    unlisted = [file.name for file in written if file.name < max(merged) and file.name not in merged]
    assert not unlisted, f"in payment_service/store/migrations/versions: sha256sum {' '.join(unlisted)} >> {MERGED}"


async def test_the_switch_turns_in_a_database_whose_turns_had_no_time_of_their_own(
    empty_database: tuple[EmbeddedServer, str],
) -> None:
    _, owner_url = empty_database
    await asyncio.to_thread(_upgrade, owner_url, "0017")
    with psycopg.connect(owner_url) as owner:
        owner.execute("ALTER TABLE prompt_switch ALTER COLUMN turned_at DROP DEFAULT")
    await asyncio.to_thread(migrate, owner_url)
    engine = read_engine(owner_url)
    async with engine.begin() as connection:
        turned = await turn_switch(connection, stop=True, operator="amina", reason="wrong prices")
    await engine.dispose()
    assert turned.stopped


async def test_no_payment_is_read_while_readers_and_writers_are_locked_out(
    empty_database: tuple[EmbeddedServer, str],
) -> None:
    """Columns are added under a lock that stops everybody, so nothing may take long in the same transaction."""
    _, owner_url = empty_database
    await asyncio.to_thread(_upgrade, owner_url, "0017")
    migration = importlib.import_module("payment_service.store.migrations.versions.0018_parts")
    scans = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'payment_transactions'"
    with psycopg.connect(owner_url) as owner:
        owner.execute(migration.METHOD)
        owner.execute(migration.ON_PAYMENTS)
        assert owner.execute(scans).fetchone() == (0, 0)


@pytest.mark.parametrize("revision", ["0004", "0006", "0007", "0011", "0012", "0023"])
async def test_an_upgrade_that_is_broken_off_in_an_index_can_be_run_again(
    empty_database: tuple[EmbeddedServer, str], revision: str
) -> None:
    """A build waits for whoever reads since before, and gives up: what was done before the index is committed then."""
    _, owner_url = empty_database
    await asyncio.to_thread(_upgrade, owner_url, revision)
    with psycopg.connect(owner_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1")
        broken_off = asyncio.create_task(asyncio.to_thread(migrate, owner_url))
        with psycopg.connect(owner_url, autocommit=True) as owner:
            while not broken_off.done():
                owner.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event = 'virtualxid'"
                )
                await asyncio.sleep(0.01)
            with pytest.raises(OperationalError):
                await broken_off
            invalid = owner.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
            assert invalid == (1,), "the build was under way"
    await asyncio.to_thread(migrate, owner_url)
    assert await asyncio.to_thread(differences, owner_url) == []
    with psycopg.connect(owner_url) as owner:
        assert owner.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def _upgrade(owner_url: str, revision: str) -> None:
    """The schema as an earlier release left it."""
    engine = create_engine(engine_url(owner_url))
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


async def test_the_application_logs_in_with_its_latest_password(empty_database: tuple[EmbeddedServer, str]) -> None:
    server, owner_url = empty_database
    await asyncio.to_thread(migrate, owner_url)
    database = owner_url.rsplit("/", 1)[1]
    for password in ("first", "second"):
        await asyncio.to_thread(ensure_application_role, owner_url, "some_application", password)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn(database, "some_application", "first"))
    with psycopg.connect(server.dsn(database, "some_application", "second")) as application:
        assert application.execute("SELECT count(*) FROM payment_transactions").fetchone() == (0,)


async def test_the_table_refuses_what_the_service_must_never_write(empty_database: tuple[EmbeddedServer, str]) -> None:
    _, owner_url = empty_database
    await asyncio.to_thread(migrate, owner_url)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        checks = owner.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'payment_transactions'::regclass AND contype = 'c'"
        ).fetchall()
    assert {name for (name,) in checks} >= {
        "payments_amount_whole",
        "payments_completed_has_time",
        "payments_confirm_is_completed",
        "payments_ended_blocks_nothing",
        "payments_failed_has_reason",
        "payments_sending_is_claimed",
        "payments_state_known",
    }


async def test_the_seats_that_refunds_have_freed_are_noted(process: Process, database: Database) -> None:
    async def asked(claim: int, shillings: int | None) -> tuple[Payment, UUID]:
        receipt = f"RCPT00000{claim}"
        payment = await process.tell(await process.create(), *sent(claim), paid(receipt), listed(receipt))
        reason = payment_pb2.REFUND_REASON_OTHER
        amount = Money(currency_code="KES", units=shillings) if shillings is not None else None
        request = pb.RefundPaymentRequest(
            request_id=f"r-{claim}", payment_id=str(payment.payment_id), reason=reason, amount=amount
        )
        answer = await process.payments.RefundPayment(request)
        return payment, UUID(answer.payment.refund.refund_id)

    await asked(1, None)
    await asked(2, 100)
    failing, refund_id = await asked(3, None)
    for fact in (RefundClaimed(uuid4()), RefundReported("callback:failed", RefundVerdict.FAILED, "1")):
        await process.writers.facts.submit(Submission(fact, failing.payment_id, refund_id=refund_id))
    noted = "SELECT state, booking_action, refund_under_way, seat_freed FROM payment_transactions"
    noted += " ORDER BY mpesa_receipt_number"
    expected = await rows_of(database, noted)
    assert expected == [
        ("REFUNDING", "RELEASE", True, True),
        ("COMPLETED", "CONFIRM", True, False),
        ("COMPLETED", "RELEASE", False, True),
    ]
    migration = importlib.import_module("payment_service.store.migrations.versions.0022_freed_seats")
    with psycopg.connect(database.owner_url) as owner:
        # As a process of an older release writes them, which notes neither and knows no parts.
        owner.execute(
            "UPDATE payment_transactions SET refund_under_way = false, seat_freed = false"
            " WHERE payment_id IN (SELECT payment_id FROM refunds WHERE method = 'REVERSAL')"
        )
        after = owner.execute(migration.FILL, ("00000000-0000-0000-0000-000000000000",)).fetchone()
        assert after is not None
        assert owner.execute(migration.FILL, after).fetchone() == (None,), "all are noted"
    assert await rows_of(database, noted) == expected


async def test_payments_that_wait_when_queries_begin_are_asked_about(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    await every_kind(Stories(writers, tmp_path))
    # Ends that only a query told were no reason to ask again then; nor was money that only a callback told of.
    scheduled = (
        "SELECT payment_id FROM payment_transactions WHERE query_at IS NOT NULL AND state <> 'CANCELLED'"
        " AND mpesa_receipt_number IS NULL ORDER BY payment_id"
    )
    expected = await rows_of(database, scheduled)
    assert len(expected) > 2
    migration = importlib.import_module("payment_service.store.migrations.versions.0002_queries")
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE payment_transactions SET query_at = NULL")
        owner.execute(migration.UNSETTLED)
    assert await rows_of(database, scheduled) == expected


async def test_what_was_certain_before_proofs_were_recorded_stays_certain_by_that(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    await every_kind(Stories(writers, tmp_path))
    ended = "SELECT payment_id, unpaid_proof FROM payment_transactions WHERE outcome_certain AND completed_at IS NULL"
    migration = importlib.import_module("payment_service.store.migrations.versions.0012_doubts")
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("UPDATE payment_transactions SET unpaid_proof = NULL")
        after = owner.execute(migration.EARLIER, ("00000000-0000-0000-0000-000000000000",)).fetchone()
        assert after is not None
        assert owner.execute(migration.EARLIER, after).fetchone() == (None,), "all are done"
    proofs = {proof for _, proof in await rows_of(database, ended)}
    assert proofs == {"EARLIER"}
    uncertain = "SELECT count(*) FROM payment_transactions WHERE NOT outcome_certain AND unpaid_proof IS NOT NULL"
    assert await rows_of(database, uncertain) == [(0,)]
