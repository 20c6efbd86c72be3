"""Which files of certificates can be used, and what is said of those that cannot."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from development.certificates import (
    AUTHORITY,
    BOOKING,
    CLOCK_MARGIN,
    OPERATOR,
    SERVICE,
    Certificates,
    make_certificates,
    new_authority,
    signed,
)
from payment_service.alarms import CERTIFICATE_EXPIRES, TLS_FILES_UNUSABLE
from payment_service.commands.asking import Reached
from runtime.alarms import LastingAlarm
from runtime.serving import Address
from runtime.tls import (
    ChannelRefused,
    FollowedFiles,
    TlsSettingsMissing,
    TlsUnusable,
    Use,
    open_channel,
    read_tls,
    tls_files,
    watch_expiry,
)
from tests.certificates import authority_of, write_over
from tests.patience import PATIENCE_SECONDS

NOW = datetime.now(UTC)
AGES_LATER = NOW + timedelta(days=800)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


def test_files_that_fit_together_are_read(certificates: Certificates) -> None:
    content = certificates.content(SERVICE)
    assert content.certificate == certificates.certificate(SERVICE).read_bytes()
    assert content.authority == certificates.certificate(AUTHORITY).read_bytes()


def test_a_key_stands_in_no_repr(certificates: Certificates) -> None:
    content = certificates.content(OPERATOR)
    shown = repr((content, Reached(Address("127.0.0.1", 50051), content)))
    assert "PRIVATE KEY" not in shown


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "payments.example"])
def test_nothing_is_said_to_another_machine_in_plaintext(host: str) -> None:
    with pytest.raises(ChannelRefused, match=f"{host}:50051 is not on this machine"):
        open_channel(Address(host, 50051), None)


def test_every_setting_that_is_not_set_is_named() -> None:
    with pytest.raises(TlsSettingsMissing, match=r"set A_KEY_FILE, A_CA_FILE$"):
        tls_files(("A_CERTIFICATE_FILE", Path("a.pem")), ("A_KEY_FILE", None), ("A_CA_FILE", None), use=Use.CLIENT)


def missing(folder: Path, _certificates: Certificates) -> None:
    (folder / "service.pem").unlink()


def another_key(folder: Path, certificates: Certificates) -> None:
    (folder / "key.pem").write_bytes(certificates.key(BOOKING).read_bytes())


def open_key(folder: Path, _certificates: Certificates) -> None:
    (folder / "key.pem").chmod(0o644)


def no_key(folder: Path, _certificates: Certificates) -> None:
    (folder / "key.pem").write_text("hush")


def no_certificate(folder: Path, _certificates: Certificates) -> None:
    (folder / "service.pem").write_text("hush")


def no_authority(folder: Path, certificates: Certificates) -> None:
    (folder / "authority.pem").write_bytes(certificates.key(SERVICE).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "setting", "said"),
    [
        (missing, "A_CERTIFICATE_FILE", "No such file or directory; name a PEM file"),
        (another_key, "A_KEY_FILE", "it does not fit the certificate in"),
        (open_key, "A_KEY_FILE", "chmod 600 it"),
        (no_key, "A_KEY_FILE", "it holds no private key"),
        (no_certificate, "A_CERTIFICATE_FILE", "it holds no certificate"),
        (no_authority, "A_CA_FILE", "it holds no certificate"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(
    tmp_path: Path, certificates: Certificates, spoil: Callable[[Path, Certificates], None], setting: str, said: str
) -> None:
    files = tls_files(
        ("A_CERTIFICATE_FILE", tmp_path / "service.pem"),
        ("A_KEY_FILE", tmp_path / "key.pem"),
        ("A_CA_FILE", tmp_path / "authority.pem"),
        use=Use.SERVER,
    )
    originals = certificates.files(SERVICE)
    for copy, original in (
        (files.certificate, originals.certificate),
        (files.key, originals.key),
        (files.authority, originals.authority),
    ):
        copy.path.write_bytes(original.path.read_bytes())
    read_tls(files, datetime.now(UTC))
    spoil(tmp_path, certificates)
    with pytest.raises(TlsUnusable, match=f"^{setting} names {tmp_path}") as refusal:
        read_tls(files, datetime.now(UTC))
    assert said in str(refusal.value)
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize(("name", "use"), [(BOOKING, Use.SERVER), (SERVICE, Use.CLIENT)])
def test_a_certificate_for_the_other_end_is_refused_with_what_to_have_made(
    certificates: Certificates, name: str, use: Use
) -> None:
    files = dataclasses.replace(certificates.files(name), use=use)
    with pytest.raises(TlsUnusable, match=f"usage leaves out {use.value}") as refusal:
        read_tls(files, datetime.now(UTC))
    assert f"have one made with {use.value}" in str(refusal.value)


def test_a_certificate_that_says_nothing_of_its_use_is_taken(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    authority = authority_of(made)
    key = ec.generate_private_key(ec.SECP256R1())
    unspecific = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=90))
        .sign(authority.key, hashes.SHA256())
    )
    write_over(made.certificate(SERVICE), unspecific.public_bytes(Encoding.PEM))
    write_over(made.key(SERVICE), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for use in Use:
        read_tls(dataclasses.replace(made.files(SERVICE), use=use), datetime.now(UTC))


def test_a_certificate_is_used_from_its_first_day_to_its_last(certificates: Certificates) -> None:
    for moment, said in ((AGES_LATER, "it expired on"), (NOW - timedelta(days=1), "see that this clock is right")):
        with pytest.raises(TlsUnusable, match=said):
            read_tls(certificates.files(SERVICE), moment)


async def test_a_certificate_that_begins_in_a_moment_is_taken_then(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    followed = FollowedFiles(made.files(SERVICE), made.content(SERVICE), TLS_FILES_UNUSABLE)
    first, begins = followed.in_force(), datetime.now(UTC) + timedelta(seconds=2)
    renewed = signed(authority_of(made), [x509.DNSName("localhost")], begins + CLOCK_MARGIN, server=True)
    for path, content in zip((made.certificate(SERVICE), made.key(SERVICE)), renewed, strict=True):
        write_over(path, content)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (taken := followed.in_force()) is first:
            await asyncio.sleep(0.05)
    assert (taken.certificate, taken.key) == renewed
    assert followed.in_force() is taken


async def test_a_person_is_called_before_a_certificate_expires_and_not_after_it_was_renewed(
    certificates: Certificates,
) -> None:
    alarm, begun = LastingAlarm(CERTIFICATE_EXPIRES), datetime.now(UTC)
    followed = FollowedFiles(certificates.files(SERVICE), certificates.content(SERVICE), TLS_FILES_UNUSABLE)
    for days, raised in ((334, False), (336, True), (400, True), (0, False)):
        await watch_expiry(followed, alarm, partial(begun.__add__, timedelta(days=days)))
        assert alarm.raised is raised, days


async def test_a_person_is_called_about_the_certificate_that_is_in_force(
    tmp_path: Path,
) -> None:
    made, alarm, begun = (
        make_certificates(tmp_path / "certificates"),
        LastingAlarm(CERTIFICATE_EXPIRES),
        datetime.now(UTC),
    )
    followed = FollowedFiles(made.files(SERVICE), made.content(SERVICE), TLS_FILES_UNUSABLE)
    later = signed(authority_of(made), [x509.DNSName("localhost")], begun + timedelta(days=900), server=True)
    # Without its key, so it does not come into force.
    write_over(made.certificate(SERVICE), later[0])
    await watch_expiry(followed, alarm, partial(begun.__add__, timedelta(days=336)))
    assert alarm.raised


async def test_a_certificate_for_an_hour_is_an_alarm_in_its_last_fifth_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("development.certificates.VALID_FOR", timedelta(minutes=40))
    monkeypatch.setattr("development.certificates.CLOCK_MARGIN", timedelta(minutes=20))
    made, begun = make_certificates(tmp_path / "certificates"), datetime.now(UTC)
    alarm = LastingAlarm(CERTIFICATE_EXPIRES)
    followed = FollowedFiles(made.files(SERVICE), made.content(SERVICE), TLS_FILES_UNUSABLE)
    for minutes, raised in ((27, False), (29, True)):
        await watch_expiry(followed, alarm, partial(begun.__add__, timedelta(minutes=minutes)))
        assert alarm.raised is raised, minutes


def test_development_certificates_are_private_stay_and_are_made_anew_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path / "certificates")
    first = made.certificate(OPERATOR).read_bytes()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made.folder, *made.folder.iterdir()))
    assert make_certificates(made.folder).certificate(OPERATOR).read_bytes() == first
    monkeypatch.setattr("development.certificates.RENEWED_BEFORE", timedelta(days=400))
    assert make_certificates(made.folder).certificate(OPERATOR).read_bytes() != first
    assert new_authority(NOW).pem != new_authority(NOW).pem
