"""The desk as a program: its command line and its settings, and people who show a certificate of their own."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from case_desk.app import run_desk
from case_desk.config import DeskSettings
from development.certificates import AUTHORITY, SERVICE, VALID_FOR, Certificates, make_certificates, signed
from development.postgres import find_free_port
from runtime import renewed_site
from runtime.serving import AddressTaken
from runtime.settings import SettingsUnusable
from tests.application.approving.twosome import Twosome
from tests.case_desk.desks import SECRET, Served, desk_before, desk_settings
from tests.certificates import authority_of, write_over
from tests.parts import read_page, running
from tests.patience import PATIENCE_SECONDS

NO_FILES = {"core_certificate_file": "", "core_key_file": "", "core_ca_file": ""}


def person_certificate(folder: Path, certificates: Certificates, *names: str, uri: str = "") -> Path:
    """A file with the certificate of somebody with these common names, and its key."""
    key, now, authority = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC), authority_of(certificates)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if uri:
        shown = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(shown, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    file = folder / f"{'-'.join(names) or 'nobody'}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return file


async def test_somebody_with_a_certificate_is_who_it_names(two: Twosome, tmp_path: Path) -> None:
    ours, people = two.certificates, make_certificates(tmp_path / "people")
    tls = {
        "tls_certificate_file": ours.certificate(SERVICE),
        "tls_key_file": ours.key(SERVICE),
        "tls_client_ca_file": people.certificate(AUTHORITY),
        "proxy_addresses": "",
        "proxy_secret": None,
    }
    async with desk_before(two, **tls) as desk, ClientSession() as session:
        for names, status, said in (
            (("Amina",), 200, "You are <strong>amina</strong>"),
            ((), 403, "You are not logged in"),
            (("amina", "brian"), 403, "You are not logged in"),
            (("Amina N.",), 403, "You are not logged in"),
            (None, 403, "You are not logged in"),
        ):
            context = ssl.create_default_context(cafile=ours.certificate(AUTHORITY))
            if names is not None:
                context.load_cert_chain(person_certificate(tmp_path, people, *names))
            url = f"https://{desk.address}/"
            async with session.get(url, ssl=context, headers=desk.headers("brian")) as response:
                assert (response.status, said in await response.text()) == (status, True), names
        context = ssl.create_default_context(cafile=ours.certificate(AUTHORITY))
        context.load_cert_chain(person_certificate(tmp_path, people, "amina", uri="spiffe://example.org/booking"))
        async with session.get(f"https://{desk.address}/", ssl=context) as response:
            assert (response.status, "You are not logged in" in await response.text()) == (403, True)
        stranger = make_certificates(tmp_path / "strangers")
        context = ssl.create_default_context(cafile=ours.certificate(AUTHORITY))
        context.load_cert_chain(person_certificate(tmp_path, stranger, "amina"))
        with pytest.raises(ClientError):
            await session.get(f"https://{desk.address}/", ssl=context)


async def test_browsers_are_shown_a_new_certificate_without_a_restart_and_its_end_is_told_before(
    two: Twosome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewed_site, "LOOK_SECONDS", 0.02)
    authority = authority_of(two.certificates)
    certificate, key = tmp_path / "desk.pem", tmp_path / "desk-key.pem"

    def renew(age: timedelta) -> bytes:
        here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        pem, private = signed(authority, here, datetime.now(UTC) - age, server=True)
        write_over(key, private)
        write_over(certificate, pem)
        return ssl.PEM_cert_to_DER_cert(pem.decode())

    first = renew(VALID_FOR - timedelta(days=3))
    tls = {
        "tls_certificate_file": certificate,
        "tls_key_file": key,
        "tls_client_ca_file": make_certificates(tmp_path / "people").certificate(AUTHORITY),
        "proxy_addresses": "",
        "proxy_secret": None,
    }
    context = ssl.create_default_context(cafile=two.certificates.certificate(AUTHORITY))
    with capture_logs() as logs:
        async with desk_before(two, **tls) as desk, asyncio.timeout(PATIENCE_SECONDS):
            assert await shown_at(desk.address, context) == first
            while not alarms_of(logs, "alarm"):
                await asyncio.sleep(0.02)
            second = renew(timedelta(0))
            while await shown_at(desk.address, context) != second:
                await asyncio.sleep(0.02)
            while not alarms_of(logs, "alarm is over"):
                await asyncio.sleep(0.02)
    assert alarms_of(logs, "alarm") == [str(certificate)]


async def shown_at(address: str, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection is shown."""
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


def alarms_of(logs: Sequence[Mapping[str, object]], event: str) -> list[object]:
    """The files of certificates of which such lines tell that they end soon."""
    return [line["file"] for line in logs if line["event"] == event and line.get("alarm") == "certificate_expires"]


async def test_a_desk_that_is_not_let_in_says_so_and_one_without_a_service_asks_to_look_again(two: Twosome) -> None:
    operator = {
        "core_certificate_file": two.certificates.certificate("gateway"),
        "core_key_file": two.certificates.key("gateway"),
    }
    with capture_logs() as logs:
        async with desk_before(two, **operator) as desk:
            status, text = await desk.get("/")
    assert (status, "does not let this desk do that" in text) == (503, True)
    assert [line["alarm"] for line in logs if line["event"] == "alarm"] == ["service_refuses_desk"]
    async with desk_before(two, core_address="127.0.0.1:1") as desk:
        status, text = await desk.get("/approvals")
    assert (status, "Look again before you repeat anything." in text) == (503, True)


async def test_the_port_of_another_program_is_refused_with_what_to_do(desk: Served) -> None:
    settings = DeskSettings.load(**(desk_settings(desk.two) | {"listen_address": desk.address}))
    with pytest.raises(AddressTaken, match="DESK_LISTEN_ADDRESS"):
        async with run_desk(settings):
            pass


async def test_the_program_serves_and_leaves_and_shows_its_settings(two: Twosome, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    environment = {
        **two.certificates.desk_settings,
        "DESK_LISTEN_ADDRESS": "127.0.0.1:0",
        "DESK_ORIGIN": "https://desk.example.org",
        "DESK_CORE_ADDRESS": str(two.process.server.address),
        "DESK_PROXY_ADDRESSES": "127.0.0.1, ::1",
        "DESK_PROXY_SECRET_FILE": str(secret),
    }
    shown = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "case_desk", "serve", "--check-config", stdout=asyncio.subprocess.PIPE, env=environment
    )
    output = (await shown.communicate())[0].decode()
    assert (shown.returncode, "DESK_PROXY_ADDRESSES=127.0.0.1, ::1\n" in output, SECRET in output) == (0, True, False)
    assert "DESK_PROXY_SECRET=[set, not shown]\n" in output
    refused = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "case_desk", "serve", stderr=asyncio.subprocess.PIPE, env={"DESK_PROXY_SECRET": SECRET}
    )
    errors = (await refused.communicate())[1].decode()
    assert refused.returncode == 1
    assert "DESK_PROXY_SECRET holds a secret in the environment" in errors
    assert SECRET not in errors
    environment["DESK_METRICS_ADDRESS"] = page = f"127.0.0.1:{find_free_port()}"
    async with running("case-desk", tmp_path, ["case_desk", "serve"], environment) as program:
        assert 'service_name="case-desk"' in await read_page(page)
        status, text = await Served(two, program.address).get("/")
        assert (status, "There is none." in text) == (200, True)
    lines = program.log.read_text()
    assert "desk stopped" in lines
    assert SECRET not in lines


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"proxy_addresses": ""}, "nothing says who is logged in: set DESK_PROXY_ADDRESSES"),
        ({"origin": ""}, "DESK_PROXY_ADDRESSES needs DESK_ORIGIN"),
        ({"proxy_secret": None}, "DESK_PROXY_ADDRESSES needs DESK_PROXY_SECRET_FILE"),
        ({"proxy_secret": "s" * 31}, "at least 32 characters"),
        ({"listen_address": "0.0.0.0:0"}, "can be reached from other machines"),
        ({"tls_key_file": "x"}, "set DESK_TLS_CERTIFICATE_FILE, DESK_TLS_CLIENT_CA_FILE"),
        ({"plaintext": True}, "DESK_PLAINTEXT is set beside files for TLS"),
        (NO_FILES | {"plaintext": True, "core_address": "10.0.0.1:1"}, "has to be an address on this machine"),
        ({"core_key_file": ""}, "set DESK_CORE_KEY_FILE. To call a service on this machine in plaintext"),
        ({"origin": "https://desk.example.org/"}, "without a path"),
        ({"origin": "http://desk.example.org"}, "only on this machine's loopback"),
        ({"person_header": ""}, "expected the name of a header"),
        ({"person_header": "Host"}, "expected the name of a header"),
        ({"person_header": "x-desk-secret"}, "expected the name of a header"),
        ({"person_header": "bad header: x"}, "expected the name of a header"),
        ({"proxy_addresses": "10.0.0.5, 0.0.0.0/0"}, "are everybody's"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_what_to_set(
    tmp_path: Path, changed: dict[str, object], sentence: str
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    names = {name.removeprefix("DESK_").lower(): path for name, path in certificates.desk_settings.items()}
    good = names | {"proxy_addresses": "127.0.0.1", "proxy_secret": SECRET, "origin": "https://desk.example.org"}
    with pytest.raises(SettingsUnusable) as refusal:
        DeskSettings.load(**(good | changed))
    assert sentence in str(refusal.value)


def test_an_authority_that_signs_programs_is_not_taken_for_people(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    names = {name.removeprefix("DESK_").lower(): path for name, path in certificates.desk_settings.items()}
    tls = {
        "tls_certificate_file": certificates.certificate(SERVICE),
        "tls_key_file": certificates.key(SERVICE),
        "tls_client_ca_file": certificates.certificate(AUTHORITY),
    }
    with pytest.raises(SettingsUnusable, match="everybody whom that has signed"):
        DeskSettings.load(**(names | tls))
