"""One whole installation for all tests of this folder, since its programs take seconds to start.

It ends with the folder: its timers keep it busy also when nobody asks it anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import create_database, drop_database, find_free_port
from development.slowness import slowness
from tests.databases import APPLICATION_ROLE, NEWEST_POSTGRES, TEMPLATE, Database, PostgresServers
from tests.end_to_end.town import PATIENT_TIMES, Grounds, HastyTown, Simulator, Town
from tests.parts import channel, make_site, running_simulator
from tests.patience import PATIENCE_SECONDS
from tests.tracing import TracedPrograms

# Short enough to wait for.
HASTY_SECONDS = 5.0 * slowness()
# Many times what it takes to record the answer to the push, which is to come first.
CALLBACK_DELAY_SECONDS = 0.4 * slowness()
# A test may have to start, and at its end to stop, half a dozen programs on a machine that runs other tests, too.
TEST_SECONDS_MAX = 300


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"town", "hasty", "grounds"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS_MAX))


@pytest.fixture(scope="package")
async def town(
    migrated_servers: PostgresServers,
    application_password: str,
    tmp_path_factory: pytest.TempPathFactory,
    traced_programs: TracedPrograms,
) -> AsyncIterator[Town]:
    """The first one of a run is traced: its tests run most of what the programs do."""
    tracing = traced_programs if is_first(tmp_path_factory) else contextlib.nullcontext
    async with (
        a_database("town", migrated_servers, application_password) as database,
        running_town(tmp_path_factory.mktemp("town"), database, tracing) as running,
    ):
        yield running


@pytest.fixture(scope="package")
async def hasty(
    migrated_servers: PostgresServers, application_password: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[HastyTown]:
    async with (
        a_database("hasty", migrated_servers, application_password) as database,
        running_hasty_town(tmp_path_factory.mktemp("hasty"), database) as running,
    ):
        yield running


def is_first(folders: pytest.TempPathFactory) -> bool:
    """Of the run, in whichever of its workers."""
    mine = folders.getbasetemp()
    everybodys = mine.parent if mine.name.startswith("popen-") else mine
    try:
        (everybodys / "town-is-up").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@contextlib.asynccontextmanager
async def a_database(name: str, servers: PostgresServers, password: str) -> AsyncIterator[Database]:
    server = await servers(NEWEST_POSTGRES)
    owner_url = await create_database(server, name, template=TEMPLATE)
    yield Database(name, server, owner_url, server.dsn(name, APPLICATION_ROLE, password))
    await drop_database(server, name)


@pytest.fixture
async def grounds(database: Database, tmp_path: Path) -> AsyncIterator[Grounds]:
    """An installation of the test's own, of which it starts and ends the programs itself."""
    async with running_grounds(tmp_path, database) as running:
        yield running


@contextlib.asynccontextmanager
async def running_grounds(folder: Path, database: Database) -> AsyncIterator[Grounds]:
    async with contextlib.AsyncExitStack() as stack:
        flags = ("--latency", "none", "--callback-delay", str(CALLBACK_DELAY_SECONDS))
        simulator = await stack.enter_async_context(running_simulator(folder, *flags))
        edge_address = f"127.0.0.1:{find_free_port()}"
        site = make_site(folder, database.application_url, simulator.ready["url"], f"http://{edge_address}")
        control, edge = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False))
            for url in (simulator.ready["url"], f"http://{edge_address}")
        ]
        yield Grounds(site, database, Simulator(control), edge_address, edge)


@contextlib.asynccontextmanager
async def running_town(folder: Path, database: Database, tracing: TracedPrograms) -> AsyncIterator[Town]:
    async with contextlib.AsyncExitStack() as stack:
        grounds = await stack.enter_async_context(running_grounds(folder, database))
        site = grounds.site
        with tracing():
            patient = await stack.enter_async_context(site.running_core(**PATIENT_TIMES))
            other = await stack.enter_async_context(site.running_core(**PATIENT_TIMES))
            gateway = await stack.enter_async_context(site.running_gateway(patient.address, grounds.edge_address))
        clients = [await stack.enter_async_context(channel(core.address)) for core in (patient, other)]
        yield Town(
            site=site,
            database=database,
            simulator=grounds.simulator,
            edge_address=grounds.edge_address,
            edge=grounds.edge,
            patient=PaymentServiceStub(clients[0]),
            other=PaymentServiceStub(clients[1]),
            processes=(patient, other, gateway),
        )


@contextlib.asynccontextmanager
async def running_hasty_town(folder: Path, database: Database) -> AsyncIterator[HastyTown]:
    async with (
        running_grounds(folder, database) as grounds,
        grounds.site.running_core(expire_after_s=HASTY_SECONDS) as core,
        grounds.site.running_gateway(core.address, grounds.edge_address),
        channel(core.address) as client,
    ):
        yield HastyTown(
            site=grounds.site,
            database=database,
            simulator=grounds.simulator,
            edge_address=grounds.edge_address,
            edge=grounds.edge,
            payments=PaymentServiceStub(client),
        )
