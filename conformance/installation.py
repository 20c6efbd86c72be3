"""A whole installation of the shipped programs, each a process of its own: started, killed and started again.

Two payment services share a database; the gateway hands callbacks to `first`. They ask about a prompt, and give a
payment up, so late that whatever is to come in time does. A case about a query or about the end plays where both come
within seconds. Every time is multiplied by how slow the machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from mpesa_payments.v1 import payment_pb2

from conformance.account import Account
from conformance.caller import Caller, Holds, Started, caller_of, ended
from conformance.judgement import PATIENCE_SECONDS, expect
from conformance.simulator import Simulator
from development.parts import Part, PartFailed, Start, run_command, start_part, stop_part
from development.postgres import EmbeddedServer, create_database
from development.slowness import slowness
from development.system import GATEWAY, SERVICE, Plan, System, running_system

QUERIES_PER_MINUTE = 30
# A new attempt no earlier than this after a send, and so no push that takes longer.
RETRY_WAIT_SECONDS = 10 * slowness()
# It answers at once, and its passengers soon decide: what is waited for is our own doing. Its limit on queries is
# off, because it is our own budget that cases try.
SIMULATOR_OPTIONS = ("--latency=none", f"--callback-delay={0.2 * slowness()}", "--queries-per-minute=0")
SETTINGS: Mapping[str, str] = {
    "PAYMENTS_PUSHES_PER_SECOND": "2000",
    "PAYMENTS_RETRY_WAIT_S": str(RETRY_WAIT_SECONDS),
    "PAYMENTS_PUSH_TIMEOUT_S": str(RETRY_WAIT_SECONDS),
    "PAYMENTS_LEASE_S": str(RETRY_WAIT_SECONDS + 3),
    "PAYMENTS_SEND_WITHIN_S": str(60 * slowness()),
    "PAYMENTS_EXPIRE_AFTER_S": str(120 * slowness()),
    # Hundreds of times what a callback takes: one that comes is never overtaken by a query.
    "PAYMENTS_QUERY_AFTER_S": str(60 * slowness()),
    "PAYMENTS_QUERIES_PER_MINUTE": str(QUERIES_PER_MINUTE),
    "PAYMENTS_AUTOMATIC_REFUND_MAX_KES": "500",
}
SOON_ASKED: Mapping[str, str] = {"PAYMENTS_QUERY_AFTER_S": str(slowness())}
SOON_BACKED: Mapping[str, str] = {"PAYMENTS_BACK_AFTER_S": str(slowness())}
# What is to come before the end of the watch, comes long before it.
SOON_GIVEN_UP: Mapping[str, str] = {
    "PAYMENTS_EXPIRE_AFTER_S": str(5 * slowness()),
    "PAYMENTS_WATCH_FOR_S": str(15 * slowness()),
}

# What a process that died had taken on is soon another one's.
LEFT_SECONDS = 4 * slowness()
SOON_LEFT: Mapping[str, str] = {
    "PAYMENTS_PUSH_TIMEOUT_S": str(LEFT_SECONDS),
    "PAYMENTS_LEASE_S": str(LEFT_SECONDS + 3),
}

# The parts that every case finds up.
STANDING = ("gateway", "first", "second")


@dataclass
class Installation:
    """What a case may use."""

    server: EmbeddedServer
    database: str
    system: System
    simulator: Simulator
    edge: httpx.AsyncClient
    callers: dict[str, Caller]
    parts: dict[str, Part]
    stack: contextlib.AsyncExitStack = field(repr=False)

    @property
    def first(self) -> Caller:
        return self.callers["first"]

    @property
    def second(self) -> Caller:
        return self.callers["second"]

    async def account(
        self, started: Started, holds: Holds = ended, what: str = "the end of a payment", by: Caller | None = None
    ) -> Account:
        """Both accounts of a payment that was asked for, once the stream has told that something holds."""
        caller = by or self.first
        events = await caller.followed(started, holds, what)
        return await self.account_of(started.payment, events, by=caller)

    async def account_of(
        self, payment: payment_pb2.Payment, events: list[payment_pb2.PaymentEvent], by: Caller | None = None
    ) -> Account:
        """Both accounts of a payment as they stand now; `events` is what was told of it."""
        found = await (by or self.first).get(payment.payment_id)
        return Account(events, found, await self.simulator.pushes(account_reference=payment.reference))

    async def lived(self, phone: str, by: Caller | None = None, **fields: Any) -> Account:
        """Ask for a payment and follow it to its end."""
        started = await (by or self.first).initiate(phone, **fields)
        return await self.account(started, by=by)

    async def add_service(self, name: str, settings: Mapping[str, str]) -> Caller:
        """Start one more payment service like the first, but for these settings."""
        original = self.parts["first"]
        part = await self._start(original, f"{SERVICE}-{name}", "127.0.0.1:0", {**original.settings, **settings})
        self.parts[name] = part
        self.callers[name] = await self.stack.enter_async_context(
            caller_of(str(part.ready["address"]), self.system.certificates)
        )
        return self.callers[name]

    async def operator(self, name: str) -> Caller:
        """The first service as this operator calls it, by a certificate of their own."""
        address = str(self.parts["first"].ready["address"])
        return await self.stack.enter_async_context(caller_of(address, self.system.certificates, name))

    async def kill(self, name: str) -> None:
        """End a part as a crash would."""
        part = self.parts[name]
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(part.ready["pid"]), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await part.process.wait()

    async def stop(self, name: str) -> None:
        """End a part as an operator would; it must leave cleanly."""
        part = self.parts[name]
        await stop_part(part)
        expect(f"the exit code of {name}", part.process.returncode, 0)

    async def start_again(self, name: str) -> None:
        """Start a part that has ended, at the address that it had."""
        part = self.parts[name]
        self.parts[name] = await self._start(part, part.name, str(part.ready["address"]), part.settings)

    async def mend(self) -> None:
        """Put right what a case that failed has left behind: parts that are down, parts too many, a slow simulator."""
        for name in set(self.parts) - set(STANDING):
            await stop_part(self.parts.pop(name))
        for name in STANDING:
            if self.parts[name].process.returncode is not None:
                await self.start_again(name)
        await self.simulator.control("settings", latency_seconds=0)

    async def what_is_broken(self) -> str:
        """What `payment-service check` finds in everything that is stored; empty when nothing is broken."""
        files = self.system.files
        settings = {
            "PAYMENTS_DATABASE_URL_FILE": str(files["database_url_file"]),
            "PAYMENTS_KEYS_FILE": str(files["keys_file"]),
        }
        try:
            await run_command(self.system.house, "check", ["payment_service", "check"], settings)
        except PartFailed as failure:
            return str(failure)
        return ""

    async def _start(self, like: Part, name: str, address: str, settings: Mapping[str, str]) -> Part:
        words = [f"--listen={address}" if word.startswith("--listen=") else word for word in like.words]
        part = await start_part(self.system.house, name, words, settings)
        self.stack.push_async_callback(stop_part, part)
        return part


@contextlib.asynccontextmanager
async def running_installation(
    folder: Path, server: EmbeddedServer, settings: Mapping[str, str], *, plaintext: bool, start: Start
) -> AsyncIterator[Installation]:
    """Start everything, with its data in a new folder and its tables in a new database of the same name."""
    database_url = await create_database(server, folder.name)
    plan = Plan(
        folder,
        database_url=database_url,
        simulator_options=SIMULATOR_OPTIONS,
        settings={**SETTINGS, **settings},
        plaintext=plaintext,
        inherit_settings=False,
        start=start,
    )
    async with running_system(plan) as system, contextlib.AsyncExitStack() as stack:
        control, edge = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False))
            for url in (system.daraja_url, system.gateway_url)
        ]
        started = {part.name: part for part in system.parts}
        first = await stack.enter_async_context(caller_of(system.grpc_address, system.certificates))
        parts = {"first": started[SERVICE], "gateway": started[GATEWAY]}
        callers = {"first": first}
        installation = Installation(server, folder.name, system, Simulator(control), edge, callers, parts, stack)
        await installation.add_service("second", {})
        yield installation
