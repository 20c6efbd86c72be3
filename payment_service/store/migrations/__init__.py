"""Making and upgrading the schema, and the role that the service logs in as.

Three roles: the owner runs migrations, the application reads and writes but
cannot alter an event, the reader reads. The gateway has none.

Alembic is imported where it is used: every start of the service asks for the
newest revision, and few run a migration. It takes 0.1 s.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import Connection, create_engine, text

from payment_service.store.engines import engine_url
from payment_service.store.provider_tables import whole_schema

LOCK_WAIT = "5s"
"""A migration that waits for a lock blocks everybody behind it, so it gives up instead and can be run again."""

MIGRATOR_LOCK = 7885070564180913008
"""Advisory lock: one migrator at a time; a second one waits, and then finds nothing to do."""


MIGRATOR_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database holds before it is migrated."""

    revision: str | None
    """None without a schema."""
    server_version: int
    """As PostgreSQL counts it: 160004 is 16.4."""


def schema_found(owner_url: str) -> Schema:
    """The version of the schema and of the server."""
    with psycopg.connect(owner_url) as connection:
        revision = None
        if connection.execute("SELECT to_regclass('alembic_version')").fetchone() != (None,):
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            revision = row[0] if row is not None else None
        return Schema(revision, connection.info.server_version)


def migrate(owner_url: str) -> None:
    """Bring the schema to this release's version. Safe to run at any time, and by several at once."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    engine = create_engine(engine_url(owner_url))
    try:
        with engine.connect() as connection:
            _wait_for_lock(connection)
            connection.execute(text(f"SET lock_timeout = '{LOCK_WAIT}'"))
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()


def _wait_for_lock(connection: Connection) -> None:
    """Wait between statements, not within one: an index that is built concurrently waits for running statements."""
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock({MIGRATOR_LOCK})")):
        connection.commit()
        time.sleep(MIGRATOR_LOOK_SECONDS)
    connection.commit()


def differences(owner_url: str) -> list[object]:
    """How the database differs from `tables`; empty when it does not."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = create_engine(engine_url(owner_url))
    try:
        with engine.connect() as connection:
            return list(compare_metadata(MigrationContext.configure(connection), whole_schema))
    finally:
        engine.dispose()


def newest_revision() -> str:
    """The schema version this release needs. Versions are numbers of four digits; a later one has only added to it."""
    # By the names of the files: to ask Alembic is to import every one of them.
    return max(file.name for file in Path(__file__).with_name("versions").glob("[0-9]*.py"))[:4]


def ensure_application_role(owner_url: str, role: str, password: str) -> None:
    """Let `role` log in with `password` and act as the application. Repeating it sets the password anew."""
    _ensure_login(owner_url, role, password, "mpesa_payments_application")


def ensure_reader_role(owner_url: str, role: str, password: str) -> None:
    """Let `role` log in with `password` and read. Repeating it sets the password anew."""
    _ensure_login(owner_url, role, password, "mpesa_payments_reader")


def _ensure_login(owner_url: str, role: str, password: str, group: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        verb = sql.SQL("ALTER" if exists else "CREATE")
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
        )
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(role)))
