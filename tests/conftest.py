"""What every test may ask for: a real PostgreSQL and, in it, a fresh migrated database of its own.

Each pytest-xdist worker runs its own servers. A database is a copy of a template that is migrated once per server, so
it costs some tens of milliseconds. Parts of the system that tests start are in `tests/parts.py`, not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser

from development.postgres import EmbeddedServer, create_database, drop_database, embedded_postgres
from development.slowness import slowness
from payment_service.store.migrations import ensure_application_role, migrate
from tests.browsing import Picture, running_browser
from tests.databases import APPLICATION_ROLE, NEWEST_POSTGRES, TEMPLATE, Database, PostgresServers, servers_folder
from tests.plain_logs import log_plainly
from tests.rpc.processes import Process, running_process
from tests.tracing import (
    SWITCH,
    TracedPrograms,
    import_measured,
    in_untraced_folder,
    tracing_nothing,
    tracing_programs,
    untrace_programs,
)
from tests.writers import Writers, running_writers

# What tests write are keys and passwords, and those that others may read are refused.
os.umask(0o077)

# How long an example takes is the machine's matter, which other tests keep busy.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

log_plainly()

# These servers end with the tests, so nothing of theirs has to outlive the machine; all else is as it is for money.
UNSYNCED = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    # A connection that was given up while it logged in holds up DROP DATABASE until this time is over, usually 60 s.
    "authentication_timeout": f"{round(10 * slowness())}s",
}

EVERY_POSTGRES = (18, 16)

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="let the tests of pages save their pictures in this folder")
    parser.addoption("--at-length", action="store_true", help="run what has a size at its full size")


@pytest.fixture(scope="session")
def at_length(request: pytest.FixtureRequest) -> bool:
    """Whether to count as far as the campaigns and `make security` do, or only as far as shows the same in seconds."""
    return bool(request.config.getoption("--at-length"))


def pytest_configure() -> None:
    """Time this machine once, before there are workers: each is told what came out."""
    slowness()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("every_postgres")
    if marker is not None and "postgres_version" in metafunc.fixturenames:
        metafunc.parametrize("postgres_version", EVERY_POSTGRES, ids=lambda version: f"postgres{version}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that hangs is ended after its time on a quiet machine, or as much later as this one is slower."""
    usual = float(config.getoption("timeout") or config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = marker.args[0] if marker is not None else usual
        item.add_marker(pytest.mark.timeout(seconds * slowness()), append=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """The programs that tests start run untraced, at their own speed, but for those of `traced_programs`."""
    session.config.stash[SWITCH] = untrace_programs()
    if sys.gettrace() is not None:
        import_measured()
    with tracing_nothing():
        return (yield)


@pytest.fixture(scope="session")
def traced_programs(pytestconfig: pytest.Config) -> TracedPrograms:
    """The lines of the programs that are started within this count for the coverage, where there is one."""
    return partial(tracing_programs, pytestconfig.stash[SWITCH])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with tracing_nothing() if in_untraced_folder(item) else contextlib.nullcontext():
        return (yield)


# By class, which for a test without one is the test alone: Hypothesis refuses what is made for each function.
@pytest.fixture(scope="class")
def untraced() -> Iterator[None]:
    """The lines that the test runs do not count for the coverage."""
    with tracing_nothing():
        yield


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests of a module: its start takes as long as what a test then does in it."""
    async with running_browser() as started:
        yield started


@pytest.fixture
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """The browser, in which no other test has left anybody."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Picture:
    """Keeps a picture of a page under a name, where `--screenshots` says where to."""
    folder = request.config.getoption("--screenshots")
    return Picture(None if folder is None else Path(folder))


@pytest.fixture
def postgres_version() -> int:
    """Parametrized for tests marked `every_postgres`."""
    return NEWEST_POSTGRES


@pytest.fixture(scope="session")
async def postgres_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresServers]:
    """Servers by major version, started when first asked for."""
    running: dict[int, EmbeddedServer] = {}
    starting = asyncio.Lock()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(servers_folder(tmp_path_factory.getbasetemp()))

        async def server(version: int) -> EmbeddedServer:
            async with starting:
                if version not in running:
                    started = embedded_postgres(folder / f"postgres{version}", version=version, settings=UNSYNCED)
                    running[version] = await stack.enter_async_context(started)
                return running[version]

        yield server


@pytest.fixture(scope="session")
async def application_password() -> str:
    return secrets.token_urlsafe(16)


@pytest.fixture(scope="session")
async def migrated_servers(postgres_servers: PostgresServers, application_password: str) -> PostgresServers:
    """The same servers, each with its migrated template and the application's role."""
    migrated: set[int] = set()
    migrating = asyncio.Lock()

    async def server(version: int) -> EmbeddedServer:
        found = await postgres_servers(version)
        async with migrating:
            if version not in migrated:
                url = await create_database(found, TEMPLATE)
                await asyncio.to_thread(migrate, url)
                await asyncio.to_thread(ensure_application_role, url, APPLICATION_ROLE, application_password)
                migrated.add(version)
        return found

    return server


DATABASE_NUMBERS = itertools.count(1)


@pytest.fixture
async def database(
    migrated_servers: PostgresServers, postgres_version: int, application_password: str
) -> AsyncIterator[Database]:
    server = await migrated_servers(postgres_version)
    name = f"test_{next(DATABASE_NUMBERS)}"
    owner_url = await create_database(server, name, template=TEMPLATE)
    yield Database(name, server, owner_url, server.dsn(name, APPLICATION_ROLE, application_password))
    await drop_database(server, name)


@pytest.fixture
async def empty_database(
    postgres_servers: PostgresServers, postgres_version: int
) -> AsyncIterator[tuple[EmbeddedServer, str]]:
    """A server and the owner's URL of a database with nothing in it, for tests of the migrations themselves."""
    server = await postgres_servers(postgres_version)
    name = f"empty_{next(DATABASE_NUMBERS)}"
    yield server, await create_database(server, name)
    await drop_database(server, name)


@pytest.fixture
async def writers(database: Database, tmp_path: Path) -> AsyncIterator[Writers]:
    """A process's writers on a database of the test's own."""
    async with running_writers(database.application_url, tmp_path) as running:
        yield running


@pytest.fixture
async def process(database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    """A process of the service on a database of the test's own."""
    async with running_process(database.application_url, tmp_path) as running:
        yield running


def skips_are_failures() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")  # noqa: TID251 -- CI's own switch, not a setting


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI nothing may hide behind a skip."""
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return fail_if_skipped((yield))


def fail_if_skipped(report: Report) -> Report:
    if report.skipped and not hasattr(report, "wasxfail") and skips_are_failures():
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"
    return report
