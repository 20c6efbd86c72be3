"""Whoever connects to the desk and sends slowly, or nothing, is let go, and keeps nobody out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from case_desk import desk as desk_module
from case_desk.alarms import PROGRAM_FAULT
from development.certificates import AUTHORITY, SERVICE, make_certificates
from development.slowness import slowness
from runtime.connections import Connections
from tests.application.approving.twosome import Twosome
from tests.callback_gateway.edges import closed_by_gateway, connection, read_reply
from tests.case_desk.desks import Served, bounded_desk

SHORT = 0.5 * slowness()
HALF_A_HEADER = b"GET / HTTP/1.1\r\nHost: de"
PLACES = 5


def bounds(header_time_s: float) -> Connections:
    return Connections(header_time_s, 600.0, PLACES, "case-desk", PROGRAM_FAULT)


@pytest.fixture
async def short(two: Twosome) -> AsyncIterator[Served]:
    async with bounded_desk(two, bounds(SHORT), {}) as served:
        yield served


@pytest.mark.parametrize("sent", [b"", HALF_A_HEADER], ids=["nothing", "half a header"])
async def test_a_connection_without_a_whole_header_is_closed(short: Served, sent: bytes) -> None:
    async with connection(short.address) as (reader, writer):
        writer.write(sent)
        assert await closed_by_gateway(reader) == b""


async def test_a_handshake_that_never_ends_is_closed(two: Twosome, tmp_path: Path) -> None:
    people = make_certificates(tmp_path / "people")
    tls = {
        "tls_certificate_file": two.certificates.certificate(SERVICE),
        "tls_key_file": two.certificates.key(SERVICE),
        "tls_client_ca_file": people.certificate(AUTHORITY),
    }
    async with (
        bounded_desk(two, bounds(SHORT), tls) as served,
        connection(served.address) as (reader, _),
    ):
        assert await closed_by_gateway(reader) == b""


async def test_stalled_connections_in_every_place_keep_nobody_out(two: Twosome) -> None:
    # So long that none of them is let go by its time.
    async with bounded_desk(two, bounds(600.0), {}) as served, contextlib.AsyncExitStack() as stack:
        for _ in range(2 * PLACES):
            _, writer = await stack.enter_async_context(connection(served.address))
            with contextlib.suppress(ConnectionError):
                writer.write(HALF_A_HEADER)
                await writer.drain()
        for _ in range(2 * PLACES):
            assert (await served.get("/"))[0] == 200


async def test_a_form_that_stalls_is_given_up_with_a_sentence(two: Twosome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "FORM_TIME_S", SHORT)
    async with (
        bounded_desk(two, bounds(600.0), {}) as served,
        connection(served.address) as (reader, writer),
    ):
        said = {"Host": served.address, "Origin": served.url, "Content-Length": "100"} | served.headers("amina")
        said["Content-Type"] = "application/x-www-form-urlencoded"
        header = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        writer.write(f"POST /search HTTP/1.1\r\n{header}\r\nvalue=".encode())
        assert (await read_reply(reader)).status == 408
        await closed_by_gateway(reader)
