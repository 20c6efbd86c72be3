"""The whole system on one machine: PostgreSQL, simulator, service, gateway, desk and examples, in the right order.

Decides which parts there are, with which settings, and in which order they start and stop. Every part is a process of
its own, started by its command line (`parts`). Keys, passwords and addresses are files below the data folder, which
only its owner can read; a second start finds them again, and with them the payments of the first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import grpc.aio
import psycopg

from development.certificates import BOOKING, Certificates, make_certificates
from development.credentials import (
    CERTIFICATE,
    SHORTCODES,
    SIMULATOR_CONSUMER_KEY,
    SIMULATOR_CONSUMER_SECRET,
    SIMULATOR_INITIATOR_NAME,
    SIMULATOR_INITIATOR_PASSWORD,
    prepare,
    simulator_credentials,
)
from development.desk import DESK, DESK_DOOR, CaseDesk, start_desk
from development.examples import BESIDE, ExampleServices, start_examples, start_window
from development.parts import (
    House,
    Part,
    PartFailed,
    Start,
    lives,
    make_house,
    start_part,
    start_watched,
    stop_part,
    take_lock,
)
from development.ports import check_ports
from development.postgres import (
    HOST,
    EmbeddedPostgresError,
    EmbeddedServer,
    create_database,
    embedded_postgres,
    find_free_port,
    hold_ownership,
)
from runtime.serving import StartRefused, parse_address
from runtime.tls import open_channel

DATABASE = "payments"
SAFARICOM = ".safaricom.co.ke"

# Where Safaricom is simulated its books may be read, and often enough to see it happen.
SIMULATED_SETTINGS: Mapping[str, str] = {
    "PAYMENTS_PULL_NOMINATED_NUMBER": "254700000000",
    "PAYMENTS_PULL_INTERVAL_S": "5",
    "PAYMENTS_INITIATOR_NAME": SIMULATOR_INITIATOR_NAME,
    "PAYMENTS_AUTOMATIC_REFUND_MAX_KES": "1000",
}

_PLAINTEXT = ["--plaintext"]

# A port found free can be taken before the service binds it; five clashes in a row are something else.
PORT_ATTEMPTS = 5
# A database server that dies is noticed within this time.
POSTGRES_LOOK_SECONDS = 1.0

SIMULATOR, SERVICE, GATEWAY = "simulator", "payment-service", "callback-gateway"
# The callers go first. Then no new callback is taken, and sends under way get their answers; the simulator goes last.
STOP_ORDER = (*BESIDE, DESK_DOOR, DESK, GATEWAY, SERVICE, SIMULATOR)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where. Port 0 picks a free one."""

    data_dir: Path
    grpc_port: int = 0
    gateway_port: int = 0
    simulator_port: int = 0
    # Of the service's page for Prometheus; None serves none.
    metrics_port: int | None = None
    # Of the example booking service's page; None starts no example.
    booking_port: int | None = None
    # Of the developer's window; None opens none.
    window_port: int | None = None
    # Of the case desk, for browsers; None opens none.
    desk_port: int | None = None
    # Of the database's owner; None runs the embedded PostgreSQL.
    database_url: str | None = None
    # None runs the simulator.
    daraja_url: str | None = None
    # The settings of who issues receipts; none are issued without.
    issuer: Mapping[str, str] = field(default_factory=dict)
    simulator_options: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    # Without it, callers and gateway show certificates that are made for this machine.
    plaintext: bool = False
    # Whether PAYMENTS_*, GATEWAY_* and DESK_* of the caller's environment reach the parts.
    inherit_settings: bool = True
    # How the process of a part is made.
    start: Start = start_watched


@dataclass(frozen=True, slots=True)
class System:
    """A system that serves."""

    grpc_address: str
    gateway_url: str
    daraja_url: str
    metrics_url: str | None
    simulated: bool
    examples: ExampleServices
    window_url: str | None
    desk: CaseDesk | None
    files: Mapping[str, Path]
    certificates: Certificates | None
    """None in plaintext."""
    logs: Path
    notice: str | None
    house: House
    parts: list[Part]
    """Those that run now: one that is started again takes the place of the one that ended."""
    # None where the database is somebody else's.
    postgres_process_id: int | None

    def channel(self, caller: str = BOOKING) -> grpc.aio.Channel:
        """To the service, as one of its callers."""
        return channel_to(self.grpc_address, self.certificates, caller)


def channel_to(address: str, certificates: Certificates | None, caller: str = BOOKING) -> grpc.aio.Channel:
    """To one process of the service, as one of its callers."""
    return open_channel(parse_address(address), None if certificates is None else certificates.content(caller))


@contextlib.asynccontextmanager
async def running_system(plan: Plan) -> AsyncIterator[System]:
    """Start everything, and stop it in order when the block is left, however it is left."""
    data_dir = plan.data_dir.absolute()
    _make_private(data_dir)
    with _owned(data_dir), await take_lock(data_dir) as lock:
        _check_ports(plan)
        house = make_house(data_dir, lock, inherit_settings=plan.inherit_settings, start=plan.start)
        _check_callback_address(house, plan)
        async with contextlib.AsyncExitStack() as stack:
            server = None
            if plan.database_url is None:
                server = await _embedded(stack, data_dir / "postgres")
                owner_url = server.dsn(DATABASE)
            else:
                owner_url = plan.database_url
            files = await prepare(house, owner_url)
            certificates = None if plan.plaintext else make_certificates(data_dir / "certificates")
            parts: list[Part] = []
            stack.push_async_callback(_stop_in_order, parts)
            daraja_url = plan.daraja_url or await _start_simulator(house, plan, parts)
            simulated = plan.daraja_url is None
            if simulated:
                files |= simulator_credentials(data_dir)
            metrics = None if plan.metrics_port is None else f"{HOST}:{plan.metrics_port or find_free_port()}"
            await _start_service_and_gateway(house, plan, files, certificates, daraja_url, metrics, parts)
            addresses = {part.name: str(part.ready["address"]) for part in parts}
            examples = ExampleServices()
            if plan.booking_port is not None:
                examples = await start_examples(
                    house, server, addresses[SERVICE], certificates, plan.booking_port, parts, simulated=simulated
                )
            window_url = None
            if plan.window_port is not None:
                simulator_url = daraja_url if simulated else None
                window_url = await start_window(
                    house, addresses[SERVICE], certificates, simulator_url, plan.window_port, parts
                )
            desk = None
            if plan.desk_port is not None and certificates is not None:
                desk = await start_desk(house, addresses[SERVICE], certificates, plan.desk_port, parts)
            yield System(
                grpc_address=addresses[SERVICE],
                gateway_url=f"http://{addresses[GATEWAY]}",
                daraja_url=daraja_url,
                metrics_url=f"http://{metrics}/metrics" if metrics is not None else None,
                simulated=simulated,
                examples=examples,
                window_url=window_url,
                desk=desk,
                files=files,
                certificates=certificates,
                logs=data_dir / "logs",
                notice=server.notice if server is not None else None,
                house=house,
                parts=parts,
                postgres_process_id=server.process_id if server is not None else None,
            )


async def until_a_part_ends(system: System) -> NoReturn:
    """Wait for ever, or until a part has ended by itself: then PartFailed says which, with its last log lines."""
    part = await ended_part(system)
    raise PartFailed(part.name, f"ended with exit code {part.process.returncode}", part.log)


async def ended_part(system: System) -> Part:
    """Wait until a part has ended by itself. PartFailed where it was PostgreSQL, which is never started again."""
    ends = {asyncio.create_task(part.process.wait()): part for part in system.parts}
    try:
        while True:
            done, _ = await asyncio.wait(ends, timeout=POSTGRES_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                return ends[task]
            if system.postgres_process_id is not None and not lives(system.postgres_process_id):
                raise PartFailed("PostgreSQL", "ended", system.logs.parent / "postgres" / "server.log")
    finally:
        for task in ends:
            task.cancel()


async def start_again(system: System, part: Part) -> Part:
    """Start a part that has ended, at the address that it had, where the others look for it."""
    address = str(part.ready["address"])
    fixed = {"--listen=": f"--listen={address}", "--port=": f"--port={address.rpartition(':')[2]}"}
    words = [next((word for flag, word in fixed.items() if old.startswith(flag)), old) for old in part.words]
    again = await start_part(system.house, part.name, words, part.settings)
    system.parts[system.parts.index(part)] = again
    return again


def _make_private(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data_dir.stat().st_mode & 0o077:
        raise StartRefused(f"{data_dir} is open to others and is to hold keys: chmod 700 it, or name another folder.")


@contextlib.contextmanager
def _owned(data_dir: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_ownership(data_dir))
        except EmbeddedPostgresError as error:
            raise StartRefused(str(error)) from None
        yield


async def _embedded(stack: contextlib.AsyncExitStack, folder: Path) -> EmbeddedServer:
    try:
        server = await stack.enter_async_context(embedded_postgres(folder))
    except EmbeddedPostgresError as error:
        raise StartRefused(str(error)) from None
    with contextlib.suppress(psycopg.errors.DuplicateDatabase):
        await create_database(server, DATABASE)
    return server


async def _start_simulator(house: House, plan: Plan, parts: list[Part]) -> str:
    shortcodes = ",".join(
        f"{code['number']}{':' + code['till_number'] if 'till_number' in code else ''}={code['passkey']}"
        for code in SHORTCODES
    )
    words = ["daraja_simulator", "serve", f"--host={HOST}", f"--port={plan.simulator_port}"]
    words += [f"--shortcodes={shortcodes}", f"--consumer-key={SIMULATOR_CONSUMER_KEY}"]
    words += [f"--consumer-secret={SIMULATOR_CONSUMER_SECRET}", f"--initiator-name={SIMULATOR_INITIATOR_NAME}"]
    words += [f"--initiator-password={SIMULATOR_INITIATOR_PASSWORD}"]
    words += [f"--certificate-file={house.data_dir / CERTIFICATE}", *plan.simulator_options]
    parts.append(await start_part(house, SIMULATOR, words, {}))
    return f"http://{parts[-1].ready['address']}"


async def _start_service_and_gateway(
    house: House,
    plan: Plan,
    files: Mapping[str, Path],
    certificates: Certificates | None,
    daraja_url: str,
    metrics: str | None,
    parts: list[Part],
) -> None:
    """Each needs the other's address, so the service's port is chosen first, and chosen anew if it is gone by then."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        grpc_port = plan.grpc_port or find_free_port()
        words = ["callback_gateway", "serve", f"--listen={HOST}:{plan.gateway_port}", f"--core={HOST}:{grpc_port}"]
        words.append(f"--callback-keys-file={files['callback_keys_file']}")
        words += _PLAINTEXT if certificates is None else []
        edge = _spool_settings(house.data_dir) | ({} if certificates is None else certificates.gateway_settings)
        gateway = await start_part(house, GATEWAY, words, edge)
        parts.append(gateway)
        settings = {f"PAYMENTS_{name.upper()}": str(path) for name, path in files.items() if "owner" not in name}
        settings |= {} if certificates is None else certificates.service_settings
        settings |= {"PAYMENTS_DARAJA_BASE_URL": daraja_url, **plan.settings}
        usual = {"PAYMENTS_CALLBACK_BASE_URL": f"http://{gateway.ready['address']}"}
        if plan.daraja_url is None:
            usual |= SIMULATED_SETTINGS
        if plan.issuer:
            usual |= {**plan.issuer, "PAYMENTS_RECEIPT_BASE_URL": f"http://{gateway.ready['address']}"}
        if metrics is not None:
            usual["PAYMENTS_METRICS_ADDRESS"] = metrics
        for name, value in usual.items():
            settings.setdefault(name, house.environment.get(name) or value)
        words = ["payment_service", "serve", f"--listen={HOST}:{grpc_port}"]
        words += _PLAINTEXT if certificates is None else []
        try:
            parts.append(await start_part(house, SERVICE, words, settings))
        except PartFailed as failure:
            if plan.grpc_port or attempt == PORT_ATTEMPTS or "is taken" not in failure.report:
                raise
            parts.remove(gateway)
            await stop_part(gateway)
        else:
            return


def _spool_settings(folder: Path) -> dict[str, str]:
    return {
        "GATEWAY_SPOOL_FOLDER": str(folder / "callback-spool"),
        "GATEWAY_SPOOL_KEYS_FILE": str(folder / "callback-spool-keys.json"),
    }


async def _stop_in_order(parts: Sequence[Part]) -> None:
    for part in sorted(parts, key=lambda part: STOP_ORDER.index(part.name)):
        await stop_part(part)


def _check_callback_address(house: House, plan: Plan) -> None:
    """Before anything is started: Safaricom cannot call the gateway's own address, the one that is given by default."""
    name = "PAYMENTS_CALLBACK_BASE_URL"
    host = urlsplit(plan.daraja_url or "").hostname or ""
    if host.endswith(SAFARICOM) and not (plan.settings.get(name) or house.environment.get(name)):
        raise StartRefused(
            f"{host} cannot call back to this machine's loopback: set {name} to the https://HOST from which a proxy"
            " leads to the callback gateway."
        )


def _check_ports(plan: Plan) -> None:
    check_ports(
        {
            "--grpc-port": plan.grpc_port,
            "--gateway-port": plan.gateway_port,
            "--simulator-port": plan.simulator_port if plan.daraja_url is None else None,
            "--metrics-port": plan.metrics_port,
            "--booking-port": plan.booking_port,
            "--window-port": plan.window_port,
            "--desk-port": plan.desk_port,
        }
    )
