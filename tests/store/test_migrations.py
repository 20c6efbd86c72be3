"""The schema: made by hand-written migrations, equal to what the code believes, on every PostgreSQL we support."""

import asyncio
import importlib
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from development.postgres import EmbeddedServer
from payment_service.store import migrations
from payment_service.store.engines import engine_url
from payment_service.store.migrations import differences, ensure_application_role, migrate
from tests.databases import Database
from tests.rows import rows_of
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


@pytest.mark.parametrize("revision", ["0004", "0006", "0007", "0011", "0012"])
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


async def test_payments_that_wait_when_queries_begin_are_asked_about(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    await every_kind(Stories(writers, tmp_path))
    # Ends that only a query told were no reason to ask again then.
    scheduled = (
        "SELECT payment_id FROM payment_transactions WHERE query_at IS NOT NULL AND state <> 'CANCELLED'"
        " ORDER BY payment_id"
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
