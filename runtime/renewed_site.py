"""An HTTP server whose certificate is renewed without a restart.

A TLS context keeps what it was made with. So the files are looked at now and then, and when they have changed, another
listener at the same socket takes the place of the one before, with a new context. Connections that are open go on.
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
) -> AsyncIterator[None]:
    """Accept connections at the socket; new ones are offered what the certificate's files hold, and plaintext without.

    `expires` is raised while the certificate is about to end, where nobody else looks at it.
    """
    if certificate is None:
        await web.SockSite(runner, listening.dup(), backlog=BACKLOG).start()
        yield
        return
    site = await _site(runner, listening, certificate, context_of)
    following = asyncio.create_task(_follow(runner, listening, certificate, context_of, site, expires))
    try:
        yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def _follow(
    runner: web.AppRunner,
    listening: socket.socket,
    certificate: FollowedFiles,
    context_of: ContextOf,
    site: web.SockSite,
    expires: LastingAlarm | None,
) -> None:
    offered = certificate.in_force()
    while True:
        if expires is not None:
            await watch_expiry(certificate, expires, partial(datetime.now, UTC))
        await asyncio.sleep(LOOK_SECONDS)
        if (content := certificate.in_force()) is offered:
            continue
        try:
            renewed = await _site(runner, listening, certificate, context_of)
        except (ssl.SSLError, OSError) as error:
            _log.warning("certificate not offered yet", cause=repr(error))
            continue
        await site.stop()
        site, offered = renewed, content


async def _site(
    runner: web.AppRunner, listening: socket.socket, certificate: FollowedFiles, context_of: ContextOf
) -> web.SockSite:
    context = context_of(certificate.files)
    site = web.SockSite(runner, listening.dup(), ssl_context=context, backlog=BACKLOG)
    await site.start()
    return site
