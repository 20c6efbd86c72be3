"""The whole path with a proxy on every link, and customers who pay, so that any part can be killed at any point.

The core reaches PostgreSQL and Daraja, the simulator the gateway, and the gateway the core, through a proxy each. The
proxies outlive the parts: a new core or gateway takes the place of the one that was killed. Times are shortened by
settings, never by the code; what would only be waited for, as the end of a dead core's lease, is set to be over in the
database. Customers know nothing of all this: they repeat their request, with its id, until answered.
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import httpx
import psycopg
from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.slowness import slowness
from tests.databases import Database
from tests.kill.wires import COMMIT, TOKEN, Http2Wire, HttpWire, PostgresWire
from tests.parts import Process, Site, channel, make_site, running_simulator, spawn
from tests.patience import PATIENCE_SECONDS
from tests.proxy import Point, Proxy, Strike, Wire, running_proxy

CORE_NAME = "killed-core"
_SHORTENED = {"expire_after_s": 8, "send_within_s": 30, "lease_s": 5, "push_timeout_s": 1.5}
TIMES = {"heartbeat_s": 1, **{name: seconds * slowness() for name, seconds in _SHORTENED.items()}}
"""The lease outlives the longest request and the recording of its outcome, as in the service's own times."""
ANSWER_WAIT_SECONDS = 120.0 * slowness()
CALL_SECONDS = 8.0 * slowness()
RETRY_SECONDS = 0.1
AMOUNT = 500
RANGE_PREFIX = "2547000"
FORWARD_SECONDS = 30
"""The gateway waits for a core that is being started anew; Daraja's patience is longer than its default too."""
NO_ROW = "no row"
WAITING = ("PROMPTED", "UNCERTAIN")
LIVE = ("CREATED", "SENDING", *WAITING)
SILENT = "999"
ENDINGS = ("", "", "032", SILENT)
"""Of the customers of one round: two pay, one cancels, one never answers. The simulator's phones decide by these."""

_NUMBERS = itertools.count(1)


class Link(StrEnum):
    """The ways between the parts."""

    DATABASE = "core and database"
    DARAJA = "core and Daraja"
    CALLBACKS = "Daraja and gateway"
    SUBMISSIONS = "gateway and core"


@dataclass(frozen=True)
class Kill:
    """Who is killed, and when."""

    link: Link
    name: str
    point: Point

    @property
    def victim(self) -> str:
        return "gateway" if self.link is Link.CALLBACKS else "core"

    def __str__(self) -> str:
        return f"{self.victim}: {self.name}, {self.point.value}"


@dataclass
class Order:
    """One customer: a request, and every payment id that was ever answered to it."""

    request: pb.InitiatePaymentRequest
    answered: set[str] = field(default_factory=set)


@dataclass
class Stage:
    """Everything that runs."""

    site: Site
    database: Database
    simulator_url: str
    proxies: dict[Link, Proxy]
    core: Process
    gateway: Process
    core_address: str = ""
    orders: list[Order] = field(default_factory=list)
    customers: list[asyncio.Task[None]] = field(default_factory=list)

    def new_orders(self) -> list[Order]:
        """As many customers as there are endings, asking at once."""
        chance = Random(len(self.orders))
        orders = []
        for ending in ENDINGS:
            number = next(_NUMBERS)
            phone = f"{RANGE_PREFIX}{number % 100:02d}{ending}" if ending else f"25471{chance.randrange(10**7):07d}"
            orders.append(
                Order(
                    pb.InitiatePaymentRequest(
                        request_id=str(uuid4()),
                        booking_id=f"BK-{number}",
                        phone_number=phone,
                        amount=money_pb2.Money(currency_code="KES", units=AMOUNT),
                    )
                )
            )
        self.orders += orders
        self.customers += [asyncio.create_task(self.ask(order)) for order in orders]
        return orders

    async def ask(self, order: Order) -> None:
        """Ask whoever serves now, until somebody answers."""
        async with asyncio.timeout(ANSWER_WAIT_SECONDS):
            while True:
                try:
                    async with channel(self.core_address) as connection:
                        call = PaymentServiceStub(connection).InitiatePayment(order.request, timeout=CALL_SECONDS)
                        order.answered.add((await call).payment.payment_id)
                    return
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(RETRY_SECONDS)

    async def strike(self, kill: Kill) -> list[str]:
        """Kill the victim at the point, while customers ask.

        Returns the states, at that moment, of all payments that were not over when the wait for it began.
        """
        before = await self._states(self.orders)
        unsettled = [order for order, state in zip(self.orders, before, strict=True) if state in (NO_ROW, *LIVE)]
        if kill.name == COMMIT + TOKEN:
            # The token was had at the start, so there is none to commit until that one is of no use.
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as control:
                (await control.post(f"{self.simulator_url}/control/tokens/expire")).raise_for_status()
        if kill.name == COMMIT + "DeadlinePassed":
            await self.end_waits([])
        await self.inherit(leases=kill.name == COMMIT + "LeaseDead")
        strike = Strike(kill.name, kill.point, partial(self._kill, kill.victim))
        self.proxies[kill.link].strike = strike
        # Only now: a new core may do what is to be cut while it starts, as with a lease that ended in the meantime.
        await self.replace_dead(strike)
        unsettled += self.new_orders()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await strike.done.wait()
        except TimeoutError:
            raise AssertionError(f"nothing came by to be cut: {kill}") from None
        if kill.victim == "gateway":
            await self.gateway.process.wait()
        else:
            await self.core.process.wait()
            await self._backends_gone()
        return await self._states(unsettled)

    async def replace_dead(self, strike: Strike | None = None) -> None:
        """Start anew what was killed. The strike may kill it again before it serves."""
        if self.gateway.process.returncode is not None:
            self.gateway = await spawn_gateway(self.site, self.proxies)
        if self.core.process.returncode is not None:
            self.core = await spawn_core(self.site)
        try:
            await self.serve()
        except AssertionError:
            if strike is None or not strike.done.is_set():
                raise

    async def inherit(self, *, leases: bool) -> None:
        """What a dead core had begun is due at once, its pushes where their leases are to end too."""
        if self.core.process.returncode is not None:
            await self._change(_INHERIT)
            if leases:
                await self._change(_END_LEASES)

    async def end_waits(self, references: Sequence[str]) -> None:
        """Let the payments expire of whose customers nothing can come any more: the silent ones, and these."""
        silent = [order.request.request_id for order in self.orders if order.request.phone_number.endswith(SILENT)]
        await self._change(_END_WAITS, silent, list(references))

    async def serve(self) -> None:
        """Wait until both parts serve, and let everybody reach them."""
        await self.gateway.serves()
        self.proxies[Link.CALLBACKS].upstream = _address(self.gateway.address)
        await self.core.serves()
        self.proxies[Link.SUBMISSIONS].upstream = _address(self.core.address)
        self.core_address = self.core.address

    def _kill(self, victim: str) -> None:
        part = self.gateway if victim == "gateway" else self.core
        os.kill(part.process.pid, signal.SIGKILL)

    async def _backends_gone(self) -> None:
        """What the database had received from the dead it may still be doing."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(row[0] for row in await self._rows(_BACKENDS, CORE_NAME)):
                await asyncio.sleep(0.02)

    async def _states(self, orders: list[Order]) -> list[str]:
        rows = await self._rows(_STATES, [order.request.request_id for order in orders])
        states = {request_id: str(state) for request_id, state in rows}
        return [states.get(order.request.request_id, NO_ROW) for order in orders]

    async def _rows(self, statement: str, value: object) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.database.owner_url, autocommit=True) as owner:
            return await (await owner.execute(statement, (value,))).fetchall()

    async def waiting(self) -> list[str]:
        """The references of the payments that wait for a callback, or for their end."""
        return [str(reference) for (reference,) in await self._rows(_WAITING, [*WAITING])]

    async def _change(self, statement: str, *values: object) -> None:
        async with await psycopg.AsyncConnection.connect(self.database.owner_url, autocommit=True) as owner:
            await owner.execute(statement, values)


_BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
_WAITING = "SELECT reference FROM payment_transactions WHERE state = ANY(%s)"
_INHERIT = f"""
UPDATE payment_transactions SET due_at = now()
WHERE due_at IS NOT NULL AND (state = 'CREATED' OR state IN {WAITING} AND expires_at <= now())"""
_END_LEASES = """
UPDATE payment_transactions SET lease_expires_at = now(), due_at = now()
WHERE due_at IS NOT NULL AND lease_expires_at IS NOT NULL AND state = 'SENDING'"""
_END_WAITS = f"""
UPDATE payment_transactions SET expires_at = now(), due_at = now()
WHERE due_at IS NOT NULL AND state IN {WAITING} AND expires_at > now()
    AND (request_id = ANY(%s) OR reference = ANY(%s))"""
_STATES = "SELECT request_id, state FROM payment_transactions WHERE request_id = ANY(%s)"


async def spawn_core(site: Site) -> Process:
    """A new core on the same database, which does not serve yet."""
    arguments = ["payment_service", "serve", "--listen", "127.0.0.1:0"]
    return await spawn("core", site.folder, arguments, site.core_environment(**TIMES))


async def spawn_gateway(site: Site, proxies: dict[Link, Proxy]) -> Process:
    """A new gateway, which does not serve yet."""
    core = f"127.0.0.1:{proxies[Link.SUBMISSIONS].port}"
    arguments = ["callback_gateway", "serve", "--listen", "127.0.0.1:0", "--core", core]
    settings = {
        "GATEWAY_PLAINTEXT": "true",
        "GATEWAY_CALLBACK_KEYS_FILE": str(site.folder / "callback-keys.json"),
        "GATEWAY_FORWARD_TIME_S": str(FORWARD_SECONDS),
    }
    return await spawn("gateway", site.folder, arguments, settings)


@contextlib.asynccontextmanager
async def running_stage(database: Database, folder: Path) -> AsyncIterator[Stage]:
    """Everything up, with nobody asking yet."""
    flags = ("--latency", "0.05", "--callback-delay", "0.3", "--quirks", "off")
    nowhere = ("127.0.0.1", 1)
    async with contextlib.AsyncExitStack() as stack:
        simulator: Process = await stack.enter_async_context(running_simulator(folder, *flags))
        parts = urlsplit(database.application_url)
        upstreams: dict[Link, tuple[Callable[[], Wire], tuple[str, int]]] = {
            Link.DATABASE: (PostgresWire, (str(parts.hostname), int(parts.port or 0))),
            Link.DARAJA: (partial(HttpWire, {b"/stkpush/": "push"}), _address(simulator.address)),
            Link.CALLBACKS: (partial(HttpWire, {b"/callbacks/": "callback"}), nowhere),
            Link.SUBMISSIONS: (partial(Http2Wire, "callback"), nowhere),
        }
        proxies = {
            link: await stack.enter_async_context(running_proxy(wire, upstream))
            for link, (wire, upstream) in upstreams.items()
        }
        through = parts.netloc.rpartition(":")[0] + f":{proxies[Link.DATABASE].port}"
        database_url = parts._replace(netloc=through, query=f"application_name={CORE_NAME}").geturl()
        daraja, callbacks = (f"http://127.0.0.1:{proxies[link].port}" for link in (Link.DARAJA, Link.CALLBACKS))
        site = make_site(folder, database_url, daraja, callbacks)
        stage = Stage(
            site,
            database,
            str(simulator.ready["url"]),
            proxies,
            await spawn_core(site),
            await spawn_gateway(site, proxies),
        )
        try:
            await stage.serve()
            yield stage
        finally:
            for customer in stage.customers:
                customer.cancel()
            await asyncio.gather(*stage.customers, return_exceptions=True)
            await stage.core.kill()
            await stage.gateway.kill()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
