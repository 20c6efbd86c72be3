"""An HTTP server whose certificate is renewed without a restart.

A TLS context keeps what it was made with. So the files are looked at now and then, and when they have changed, another
listener at the same socket takes the place of the one before, with a new context. Connections that are open go on.
Where bounds are given, each connection has them (`connections`).
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from runtime.alarms import LastingAlarm
from runtime.connections import BoundedConnection, Connections
from runtime.serving import Address, AddressTaken, is_address_taken
from runtime.tls import FollowedFiles, TlsFiles, watch_expiry

LOOK_SECONDS: Final = 5.0
"""So soon, new connections are offered a new certificate."""
BACKLOG: Final = 1_024

ContextOf = Callable[[TlsFiles], ssl.SSLContext]

_log = structlog.get_logger(__name__)


def bound_socket(address: Address, setting: str) -> socket.socket:
    """A listening socket at the address; AddressTaken names the setting."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if is_address_taken(error):
            raise AddressTaken(address, setting) from error
        raise
    return listening


@contextlib.asynccontextmanager
async def renewed_site(
    runner: web.AppRunner,
    listening: socket.socket,
    certificate: FollowedFiles | None,
    context_of: ContextOf,
    expires: LastingAlarm | None = None,
    bounds: Connections | None = None,
) -> AsyncIterator[None]:
    """Accept connections at the socket; new ones are offered what the certificate's files hold, and plaintext without.

    `expires` is raised while the certificate is about to end, where nobody else looks at it.
    """
    listeners = _Listeners(runner, listening, bounds)
    try:
        if certificate is None:
            await listeners.open(None)
            yield
            return
        await listeners.open(context_of(certificate.files))
        following = asyncio.create_task(_follow(listeners, certificate, context_of, expires))
        try:
            yield
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
    finally:
        await listeners.close()


class _Listeners:
    """The one that accepts now. Another one takes its place before it closes."""

    def __init__(self, runner: web.AppRunner, listening: socket.socket, bounds: Connections | None) -> None:
        self._runner, self._listening, self._bounds = runner, listening, bounds
        self._open: tuple[asyncio.Server, socket.socket] | None = None

    async def open(self, context: ssl.SSLContext | None) -> None:
        server, bounds = self._runner.server, self._bounds
        assert server is not None, "the runner has been set up"
        accepting = self._listening.dup()
        new = await asyncio.get_running_loop().create_server(
            server if bounds is None else lambda: BoundedConnection(server, bounds),
            sock=accepting,
            ssl=context,
            ssl_handshake_timeout=bounds.header_time_s if bounds is not None and context is not None else None,
            backlog=BACKLOG,
        )
        await self.close()
        self._open = new, accepting

    async def close(self) -> None:
        if self._open is not None:
            server, accepting = self._open
            # asyncio hands an accepted connection to its server a turn later, and a closed server loses it without a
            # word. So accepting ends a turn before.
            asyncio.get_running_loop().remove_reader(accepting)
            await asyncio.sleep(0)
            server.close()


async def _follow(
    listeners: _Listeners, certificate: FollowedFiles, context_of: ContextOf, expires: LastingAlarm | None
) -> None:
    offered = certificate.in_force()
    while True:
        if expires is not None:
            await watch_expiry(certificate, expires, partial(datetime.now, UTC))
        await asyncio.sleep(LOOK_SECONDS)
        if (content := certificate.in_force()) is offered:
            continue
        try:
            await listeners.open(context_of(certificate.files))
        except (ssl.SSLError, OSError) as error:
            _log.warning("certificate not offered yet", cause=repr(error))
            continue
        offered = content
