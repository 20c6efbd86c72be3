"""When there is no connection, the error says why in a sentence; when certificates are renewed, nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from payment_client.testing import FakePayments

from development.certificates import AUTHORITY, BOOKING, Certificates, new_authority, spiffe_id
from development.postgres import create_database, drop_database
from payment_client import CannotConnect, PaymentsClient, SyncPaymentsClient, TlsFiles, TlsFilesUnusable, diagnosis
from payment_service.rpc.server import serving
from runtime.serving import Address
from tests.certificates import AGENCY, LONG_AGO, authority_of, certificates_in, door_of, shown_by, write_over
from tests.databases import APPLICATION_ROLE, NEWEST_POSTGRES, TEMPLATE, PostgresServers
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import a_purchase, next_of
from tests.rpc.processes import Process, running_process


@dataclass(frozen=True)
class Secured:
    """A service with TLS, and the files of its callers."""

    address: str
    certificates: Certificates

    def tls(self, caller: str = BOOKING) -> TlsFiles:
        files = self.certificates
        return TlsFiles(files.certificate(AUTHORITY), files.certificate(caller), files.key(caller))


@pytest.fixture(scope="module")
async def secured(
    migrated_servers: PostgresServers, application_password: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Secured]:
    folder, server = tmp_path_factory.mktemp("secured"), await migrated_servers(NEWEST_POSTGRES)
    name = f"client_{uuid4().hex}"
    await create_database(server, name, template=TEMPLATE)
    url, certificates = server.dsn(name, APPLICATION_ROLE, application_password), certificates_in(folder)
    async with running_process(url, folder, door=door_of(certificates)) as process:
        yield Secured(str(process.server.address), certificates)
    await drop_database(server, name)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cause is looked for as long as a busy machine takes, not for some seconds."""
    monkeypatch.setattr(diagnosis, "STEP_TIMEOUT_SECONDS", PATIENCE_SECONDS)


async def why(address: str, tls: TlsFiles | None, *, proxy: bool = False) -> CannotConnect:
    """Why a client cannot connect: both of them say the same, in a call and in a stream."""
    async with PaymentsClient(address, tls=tls, proxy=proxy, timeout=PATIENCE_SECONDS) as client:
        with pytest.raises(CannotConnect) as caught:
            await client.list_page()
        if caught.value.lasting:
            with pytest.raises(CannotConnect) as in_a_stream:
                await next_of(client.watch_payments())
            assert str(in_a_stream.value) == str(caught.value)
    with (
        SyncPaymentsClient(address, tls=tls, proxy=proxy, timeout=PATIENCE_SECONDS) as threaded,
        pytest.raises(CannotConnect) as in_a_thread,
    ):
        await asyncio.to_thread(threaded.list_page)
    assert str(in_a_thread.value) == str(caught.value)
    return caught.value


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


async def test_a_caller_with_its_files_is_served(secured: Secured) -> None:
    async with PaymentsClient(secured.address, tls=secured.tls(), timeout=PATIENCE_SECONDS) as client:
        assert (await client.initiate(a_purchase())).payment.caller == BOOKING


async def test_plaintext_where_tls_is_wanted(secured: Secured) -> None:
    error = await why(secured.address, None)
    assert f"The service at {secured.address} speaks TLS, and this client was made without it" in str(error)
    assert error.lasting


async def test_tls_where_plaintext_is_spoken(secured: Secured) -> None:
    with FakePayments() as fake:
        error = await why(fake.address, secured.tls())
    assert "does not speak TLS" in str(error)


async def test_the_wrong_authority(secured: Secured, tmp_path: Path) -> None:
    other = written(tmp_path, "other.pem", new_authority(datetime.now(UTC)).pem)
    error = await why(secured.address, replace(secured.tls(), authority=other))
    assert f"is not signed by the authority in tls.authority ({other})" in str(error)


@pytest.mark.parametrize("kind", ["another authority", "expired"])
async def test_a_certificate_that_the_service_does_not_take(secured: Secured, tmp_path: Path, kind: str) -> None:
    authority = authority_of(secured.certificates)
    if kind == "expired":
        shown = shown_by(authority, spiffe_id(BOOKING), age=LONG_AGO)
    else:
        shown = shown_by(new_authority(datetime.now(UTC)), spiffe_id(BOOKING))
    certificate = written(tmp_path, "certificate.pem", shown.certificate)
    files = replace(secured.tls(), certificate=certificate, key=written(tmp_path, "key.pem", shown.key))
    error = await why(secured.address, files)
    assert "does not accept" in str(error) or "closes the connection when it sees" in str(error)
    assert f"the certificate in tls.certificate ({certificate})" in str(error)


async def test_a_key_of_another_certificate(secured: Secured) -> None:
    error = await why(secured.address, replace(secured.tls(), key=secured.certificates.key(AGENCY)))
    assert "does not belong to the certificate in tls.certificate" in str(error)


async def test_a_name_that_the_certificate_does_not_have(secured: Secured) -> None:
    port = secured.address.rpartition(":")[2]
    error = await why(f"127.0.0.2:{port}", secured.tls())
    assert "is not for the address 127.0.0.2" in str(error) or "Nothing serves at 127.0.0.2" in str(error)


async def test_nobody_at_the_address() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    error = await why(address, None)
    assert f"Nothing serves at {address}" in str(error)
    assert not error.lasting, "it may be about to start"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_an_address_of_ipv6_is_served_and_named_as_it_is_written(process: Process, secured: Secured) -> None:
    address = Address("::1", 0)
    async with serving(process.core, address, process.server.gate, setting="--listen", drain_seconds=0) as server:
        assert str(server.address).startswith("[::1]:")
        async with PaymentsClient(str(server.address), timeout=PATIENCE_SECONDS) as client:
            assert (await client.initiate(a_purchase())).payment.attempt == 1
        error = await why(str(server.address), secured.tls())
    assert f"at {server.address} does not speak TLS" in str(error)


async def test_a_proxy_variable_does_not_carry_off_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(variable, "http://somebody:secret@127.0.0.1:1")
    with FakePayments() as fake:
        async with fake.client() as client:
            assert (await client.initiate(a_purchase())).payment.attempt == 1
        error = await why(fake.address, None, proxy=True)
    assert "The variable grpc_proxy sends the connection" in str(error)
    assert "through the proxy 127.0.0.1:1" in str(error)
    assert "secret" not in str(error)


async def test_files_that_cannot_be_used_are_named(secured: Secured, tmp_path: Path) -> None:
    missing = replace(secured.tls(), authority=tmp_path / "none.pem")
    with pytest.raises(TlsFilesUnusable, match=r"tls\.authority: .*none\.pem cannot be read"):
        missing.credentials()
    swapped = replace(secured.tls(), key=secured.tls().certificate)
    with pytest.raises(TlsFilesUnusable, match=r"tls\.key: .* expected a private key"):
        swapped.credentials()


async def test_renewed_certificates_are_shown_by_the_next_call(secured: Secured, tmp_path: Path) -> None:
    files = secured.tls(AGENCY)
    certificate = written(tmp_path, "certificate.pem", Path(files.certificate).read_bytes())
    key = written(tmp_path, "key.pem", Path(files.key).read_bytes())
    tls = replace(files, certificate=certificate, key=key)
    async with PaymentsClient(secured.address, tls=tls, timeout=PATIENCE_SECONDS) as client:
        assert (await client.initiate(a_purchase())).payment.caller == AGENCY
        write_over(certificate, Path(secured.tls().certificate).read_bytes())
        write_over(key, Path(secured.tls().key).read_bytes())
        assert (await client.initiate(a_purchase())).payment.caller == BOOKING
