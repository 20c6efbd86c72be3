"""A certificate is renewed under a listener to which browsers connect all the time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from development.certificates import AUTHORITY, SERVICE, make_certificates
from runtime import renewed_site
from runtime.alarms import Alarm
from runtime.serving import Address
from runtime.tls import FollowedFiles, TlsContent, TlsFiles, Use, read_tls, server_context, tls_files
from tests.patience import PATIENCE_SECONDS

UNUSABLE = Alarm("tls_files_unusable", "what happened", "what to do")


class RenewedBehindAClient(FollowedFiles):
    """Files that are renewed a turn of the loop after a client has connected.

    So the listener that is about to close accepts it, and has not dealt with it yet.
    """

    def __init__(self, files: TlsFiles, address: tuple[str, int]) -> None:
        super().__init__(files, read_tls(files, datetime.now(UTC)), UNUSABLE)
        self.client = socket.socket()
        self._address, self._looks = address, 0

    def in_force(self) -> TlsContent:
        self._looks += 1
        if self._looks == 2:
            self.client.connect(self._address)
        if self._looks == 3:
            self._in_force = read_tls(self.files, datetime.now(UTC))
        return self._in_force


async def test_a_connection_accepted_while_a_new_certificate_takes_over_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewed_site, "LOOK_SECONDS", 0)
    ours = make_certificates(tmp_path)
    files = tls_files(
        ("certificate", ours.certificate(SERVICE)),
        ("key", ours.key(SERVICE)),
        ("authority", ours.certificate(AUTHORITY)),
        use=Use.SERVER,
    )
    runner = web.AppRunner(web.Application())
    await runner.setup()
    context = ssl.create_default_context(cafile=ours.certificate(AUTHORITY))
    context.load_cert_chain(ours.certificate("gateway"), ours.key("gateway"))
    with contextlib.closing(renewed_site.bound_socket(Address("127.0.0.1", 0), "--listen")) as listening:
        followed = RenewedBehindAClient(files, listening.getsockname())
        async with (
            renewed_site.renewed_site(runner, listening, followed, server_context),
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            while not is_connected(followed.client):
                await asyncio.sleep(0)
            followed.client.setblocking(False)
            reader, writer = await asyncio.open_connection(
                sock=followed.client, ssl=context, server_hostname="127.0.0.1"
            )
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"404"
            writer.close()
    await runner.cleanup()


def is_connected(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True
