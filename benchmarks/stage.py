"""The stage of a benchmark: the service with all its parts, the same over mutual TLS, and the floor beside them.

All stay up for the whole benchmark, so that none is measured colder than another, and only one is loaded at a time.
Each has a database of its own on the same PostgreSQL server with the same schema, and a simulator of its own, because a
new Daraja token ends the life of the one before.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from benchmarks.meters import Metered
from development.credentials import SANDBOX_PASSKEY, SIMULATOR_CONSUMER_KEY, SIMULATOR_CONSUMER_SECRET
from development.parts import House, Part, Start, make_house, run_command, start_part, stop_part, take_lock
from development.postgres import find_free_port
from development.system import SERVICE, Plan, System, running_system

PROJECT = Path(__file__).parents[1]
SIMULATOR_OPTIONS = ("--latency=none", "--callback-delay=0.02")
"""The push is answered at once and the passenger pays after 20 ms: what is left is our own time."""
SETTINGS: Mapping[str, str] = {
    # Far beyond what this machine can do, so that the budget for Daraja is not what is measured.
    "PAYMENTS_PUSHES_PER_SECOND": "5000",
    # 10,000 payments wait for their watchers; none may expire before.
    "PAYMENTS_EXPIRE_AFTER_S": "1800",
    # The floor asks nobody and reads no books, and neither does what it is compared with.
    "PAYMENTS_QUERY_AFTER_S": "600",
    "PAYMENTS_PULL_NOMINATED_NUMBER": "",
    "PAYMENTS_LOG_LEVEL": "INFO",
}
FLOOR_DATABASE, SECURED_DATABASE = "floor", "secured"


@dataclass(frozen=True, slots=True)
class Target:
    """Something to load: where it takes payments, its database, and the meters of its parts."""

    name: str
    address: str
    owner_url: str
    metered: tuple[Metered, ...]
    certificates: Path | None = None
    """The folder of what its callers show; None in plaintext."""

    @property
    def reached(self) -> list[str]:
        """How a client of the benchmark is told to call it."""
        shown = [] if self.certificates is None else [f"--certificates={self.certificates}"]
        return [f"--address={self.address}", *shown]


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that serves."""

    service: Target
    secured: Target
    floor: Target
    service_pid: int
    simulator_url: str
    house: House


@contextlib.asynccontextmanager
async def running_stage(folder: Path, start: Start) -> AsyncIterator[Stage]:
    """Start all parts, and stop them at the end."""
    plan = Plan(
        folder / "service",
        simulator_options=SIMULATOR_OPTIONS,
        settings=SETTINGS,
        plaintext=True,
        inherit_settings=False,
        start=start,
    )
    async with running_system(plan) as system, contextlib.AsyncExitStack() as stack:
        assert system.postgres_process_id is not None, "the benchmark runs on the embedded PostgreSQL"
        postgres = Metered("postgresql", system.postgres_process_id, tree=True)
        service = target_of("service", system, postgres)
        owner_url = service.owner_url
        secured_url = await _new_database(owner_url, SECURED_DATABASE)
        secured_plan = replace(plan, data_dir=folder / "secured", plaintext=False, database_url=secured_url)
        secured = target_of("secured", await stack.enter_async_context(running_system(secured_plan)), postgres)
        floor_folder = folder / "floor"
        floor_folder.mkdir(mode=0o700)
        lock = stack.enter_context(await take_lock(floor_folder))
        house = make_house(floor_folder, lock, inherit_settings=False, start=start)
        floor_url = await _floor_database(house, owner_url)
        floor = await _start_floor(house, floor_url, postgres, stack)
        service_pid = next(int(part.ready["pid"]) for part in system.parts if part.name == SERVICE)
        yield Stage(service, secured, floor, service_pid, system.daraja_url, house)


def target_of(name: str, system: System, postgres: Metered) -> Target:
    """What takes payments of a system that serves."""
    metered = (*(Metered(part.name, int(part.ready["pid"])) for part in system.parts), postgres)
    owner_url = system.files["owner_database_url_file"].read_text(encoding="utf-8")
    shown = system.certificates
    return Target(name, system.grpc_address, owner_url, metered, None if shown is None else shown.folder)


async def _new_database(owner_url: str, name: str) -> str:
    """An empty database on the same server, by its URL."""
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    return owner_url.rpartition("/")[0] + f"/{name}"


async def _floor_database(house: House, owner_url: str) -> str:
    """A database of its own, made by the same migrations."""
    url = await _new_database(owner_url, FLOOR_DATABASE)
    url_file = house.data_dir / "database-url"
    url_file.touch(mode=0o600)
    url_file.write_text(url, encoding="utf-8")
    settings = {"PAYMENTS_OWNER_DATABASE_URL_FILE": str(url_file)}
    await run_command(house, "floor-migrate", ["payment_service", "migrate"], settings)
    return url


async def _start_floor(house: House, database_url: str, postgres: Metered, stack: contextlib.AsyncExitStack) -> Target:
    core_address = f"127.0.0.1:{find_free_port()}"
    simulator = await start_bench_part(
        house, stack, "floor-simulator", ["daraja_simulator", "serve", "--port=0", *SIMULATOR_OPTIONS]
    )
    edge = await start_bench_part(house, stack, "floor-edge", ["benchmarks.floor.edge", f"--core={core_address}"])
    words = ["benchmarks.floor.core", f"--listen={core_address}", f"--edge={edge.ready['address']}"]
    words += [f"--database-url-file={house.data_dir / 'database-url'}", f"--daraja-url={simulator.ready['url']}"]
    words += [f"--credentials={SIMULATOR_CONSUMER_KEY}:{SIMULATOR_CONSUMER_SECRET}"]
    words += [f"--shortcode=174379={SANDBOX_PASSKEY}"]
    core = await start_bench_part(house, stack, "floor-core", words)
    metered = tuple(Metered(part.name, int(part.ready["pid"])) for part in (simulator, edge, core))
    return Target("floor", core_address, database_url, (*metered, postgres))


async def start_bench_part(house: House, stack: contextlib.AsyncExitStack, name: str, words: list[str]) -> Part:
    """Start a part that is stopped with the stack. The benchmark itself is not installed, so its folder is named."""
    part = await start_part(house, name, words, {"PYTHONPATH": str(PROJECT)})
    stack.push_async_callback(stop_part, part)
    return part
