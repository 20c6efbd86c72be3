"""What each role of the database cannot do, tried."""

import psycopg
import pytest

from payment_service.store.migrations import ensure_reader_role
from tests.databases import Database

PASSWORD = "of a test"
READER, STRANGER = "payments_reader", "payments_stranger"
DENIED = psycopg.errors.InsufficientPrivilege
KEPT = (
    "payment_events",
    "caller_requests",
    "callback_replays",
    "daraja_exchanges",
    "case_acts",
    "prompt_switch",
    "key_checks",
    "risk_decisions",
    "risk_list",
    "consumer_acts",
    "privacy_acts",
    "issued_receipts",
    "event_log",
    "alembic_version",
)
"""What the service only adds to, or only reads."""
FORGETTING = (
    "SELECT forget_exchanges(gen_random_uuid(), 1)",
    "SELECT forget_exchanges_of(gen_random_uuid())",
    "SELECT forget_risk_decisions(now(), 1)",
    "SELECT forget_phone(NULL, NULL)",
    "SELECT forget_body(gen_random_uuid(), NULL)",
)
"""How the service takes away what is old, or erased."""
OF_THE_SERVER = (
    "CREATE TABLE mine (one int)",
    "DROP TABLE payment_events",
    "ALTER TABLE payment_events DISABLE TRIGGER ALL",
    "TRUNCATE payment_events",
    "CREATE ROLE another",
    "COPY payment_events TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "SET session_replication_role = replica",
)


def refused(url: str, statement: str) -> bool:
    """Whether the role may not do this; what it may do is undone."""
    with psycopg.connect(url) as connection:
        try:
            connection.execute(statement)
        except DENIED:
            return True
        finally:
            connection.rollback()
    return False


def tables_of(database: Database) -> list[str]:
    with psycopg.connect(database.owner_url) as owner:
        rows = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return sorted(name for (name,) in rows)


def a_column(database: Database, table: str) -> str:
    """A column that may be written at all."""
    with psycopg.connect(database.owner_url) as owner:
        row = owner.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attidentity = ''"
            " ORDER BY attnum",
            (table,),
        ).fetchone()
    assert row is not None
    return str(row[0])


@pytest.fixture
def reader_url(database: Database) -> str:
    ensure_reader_role(database.owner_url, READER, PASSWORD)
    return database.server.dsn(database.name, READER, PASSWORD)


@pytest.fixture
def stranger_url(database: Database) -> str:
    """A role of the same server that was given nothing, as a gateway could make of a leaked password at most."""
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        if not owner.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (STRANGER,)).fetchone():
            owner.execute(f"CREATE ROLE {STRANGER} LOGIN PASSWORD '{PASSWORD}'")
    return database.server.dsn(database.name, STRANGER, PASSWORD)


def test_the_service_cannot_alter_what_it_keeps(database: Database) -> None:
    url = database.application_url
    for table in KEPT:
        column = a_column(database, table)
        assert refused(url, f"UPDATE {table} SET {column} = {column}"), f"UPDATE {table}"
    for column in ("body", "body_removed", "body_hash", "reference", "received_at", "stored_at"):
        assert refused(url, f"UPDATE callback_inbox SET {column} = {column}"), column
    # Books that are read hold no money, processes that have ended no keys, consumers that are gone no place; and a
    # receipt that is issued is due no more.
    for table in {*tables_of(database)} - {"daraja_pull_spans", "key_holders", "consumer_cursors", "receipts_due"}:
        assert refused(url, f"DELETE FROM {table}"), f"DELETE FROM {table}"
    for statement in (*OF_THE_SERVER, "SET ROLE mpesa_payments_reader"):
        assert refused(url, statement), statement


def test_the_reader_reads_all_but_the_access_token_and_writes_nothing(database: Database, reader_url: str) -> None:
    for table in tables_of(database):
        column = a_column(database, table)
        assert refused(reader_url, f"SELECT * FROM {table}") is (table == "daraja_access_token"), table
        assert refused(reader_url, f"INSERT INTO {table} DEFAULT VALUES"), f"INSERT INTO {table}"
        assert refused(reader_url, f"UPDATE {table} SET {column} = {column}"), f"UPDATE {table}"
        assert refused(reader_url, f"DELETE FROM {table}"), f"DELETE FROM {table}"
    for statement in (*OF_THE_SERVER, *FORGETTING, "SET ROLE mpesa_payments_application"):
        assert refused(reader_url, statement), statement


def test_whoever_was_given_no_role_reads_nothing(database: Database, stranger_url: str) -> None:
    for table in tables_of(database):
        for statement in (f"SELECT * FROM {table}", f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}"):
            assert refused(stranger_url, statement), statement
    for statement in (
        *OF_THE_SERVER,
        *FORGETTING,
        "SET ROLE mpesa_payments_reader",
        "SET ROLE mpesa_payments_application",
    ):
        assert refused(stranger_url, statement), statement
