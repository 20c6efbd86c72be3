"""Serves one simulator: Daraja's paths, the control API, the pages of the phones, and what starting and stopping takes.

Decides which path leads where, and how the process begins and ends. It writes no access log: the paths of callbacks,
the phone numbers and the tokens that pass through here are nobody's reading.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from daraja_simulator import control, enquiry_control, order_control, phone_page
from daraja_simulator.account_balance import answer_balance
from daraja_simulator.b2c import answer_b2c
from daraja_simulator.control import bind
from daraja_simulator.errors import ERRORS
from daraja_simulator.initiator import certificate
from daraja_simulator.oauth import issue_token
from daraja_simulator.phone_page import bind_page
from daraja_simulator.pull import answer_pull, register_pull
from daraja_simulator.push import answer_push
from daraja_simulator.query import answer_query
from daraja_simulator.quirks import listing
from daraja_simulator.reversal import answer_reversal
from daraja_simulator.settings import Settings
from daraja_simulator.transaction_status import answer_status_query
from daraja_simulator.world import World

# Pushes and callbacks are under 2 KiB; a script with a raw body may be larger.
_BODY_BYTES_MAX: Final = 1_048_576
# Longer than the service keeps idle connections (2 s), so that it is never this side that closes first.
_KEEPALIVE_SECONDS: Final = 75.0
# What is being answered when the signal comes gets this long to finish.
_DRAIN_SECONDS: Final = 3.0
_BACKLOG: Final = 4_096


class PortTaken(Exception):
    """Another program listens there; the message names the port and the flag."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a simulator is to listen; port 0 takes a free one."""

    host: str
    port: int


def application(world: World) -> web.Application:
    """All paths of one simulator."""
    app = web.Application(client_max_size=_BODY_BYTES_MAX)

    def daraja(path: str, answer: Callable[[World, web.Request], Awaitable[web.StreamResponse]]) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await world.heard.answered(request, lambda: answer(world, request))

        app.router.add_route("*", path, handle)

    daraja("/mpesa/stkpush/v1/processrequest", answer_push)
    daraja("/mpesa/stkpushquery/v1/query", answer_query)
    daraja("/mpesa/transactionstatus/v1/query", answer_status_query)
    daraja("/mpesa/reversal/v1/request", answer_reversal)
    daraja("/mpesa/b2c/v3/paymentrequest", answer_b2c)
    daraja("/mpesa/accountbalance/v1/query", answer_balance)
    daraja("/pulltransactions/v1/register", register_pull)
    daraja("/pulltransactions/v1/query", answer_pull)
    daraja("/oauth/v1/generate", issue_token)
    for method, path, controlled in (*control.ROUTES, *enquiry_control.ROUTES, *order_control.ROUTES):
        app.router.add_route(method, path, bind(world, controlled))
    for method, path, page in phone_page.ROUTES:
        app.router.add_route(method, path, bind_page(world, page))
    daraja("/{unknown:.*}", _unknown_path)
    return app


async def _unknown_path(world: World, _: web.Request) -> web.StreamResponse:
    return world.refuse(ERRORS["resource_not_found"])


@asynccontextmanager
async def serving(settings: Settings, listener: Listener) -> AsyncIterator[tuple[World, str]]:
    """A simulator that answers from here to the end of the block; yields its world and its HOST:PORT."""
    world = World(settings)
    runner = web.AppRunner(
        application(world),
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_DRAIN_SECONDS,
    )
    await runner.setup()
    try:
        bound = _bind(listener)
        host, port = bound.getsockname()[:2]
        await _listen(runner, bound)

        def start_outage(seconds: float) -> None:
            world.spawn(_outage(runner, Listener(host, port), seconds))

        world.start_outage = start_outage
        yield world, f"{host}:{port}"
    finally:
        await runner.cleanup()
        # Prompts still open end with the process, as phones do not survive the network they are on.
        for task in world.tasks:
            task.cancel()
        world.courier.close()


@dataclass(frozen=True, slots=True)
class Files:
    """What a simulator writes, where it is wanted; all of it but the report before it says that it serves."""

    ready: Path | None = None
    report: Path | None = None
    certificate: Path | None = None


async def serve(settings: Settings, listener: Listener, files: Files) -> None:
    """Serve until SIGTERM or SIGINT, then report the quirks that were shown."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    # The ledger only grows, so walking all of it again and again for garbage finds none and stops the world.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    async with serving(settings, listener) as (world, address):
        if files.certificate is not None:
            files.certificate.write_text(certificate())
        if files.ready is not None:
            write_whole(files.ready, {"pid": os.getpid(), "address": address, "url": f"http://{address}"})
        await stop.wait()
    if files.report is not None:
        write_whole(files.report, {"quirks": {entry["id"]: entry["hits"] for entry in listing(world.hits)}})


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that no reader ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(path)


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # Lets a restarted simulator have its port back at once; it does not share the port with a living one.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((listener.host, listener.port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"Port {listener.port} on {listener.host} is taken; choose another with --port (0 takes a free one)."
            ) from None
        raise
    bound.setblocking(False)
    return bound


async def _listen(runner: web.AppRunner, bound: socket.socket) -> None:
    try:
        await web.SockSite(runner, bound, backlog=_BACKLOG).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"Port {bound.getsockname()[1]} is taken; choose another with --port.") from None
        raise


async def _outage(runner: web.AppRunner, listener: Listener, seconds: float) -> None:
    """Close the listening socket and every connection, and come back on the same port."""
    # The answer to the request that asked for this goes out first.
    await asyncio.sleep(0.01)
    for site in list(runner.sites):
        await site.stop()
    server = runner.server
    assert server is not None
    for connection in server.connections:
        connection.force_close()
    await asyncio.sleep(seconds)
    await _listen(runner, _bind(listener))
