"""A certificate authority for one machine, and the certificates of everybody who calls there.

Made at the first start in a folder that only its owner can read, found again by the next, and made anew when they are
about to expire. A real installation has an authority of its own; nothing here is for it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from development.parts import write_secret
from runtime.development_values import AUTHORITY_NAME, TRUST_DOMAIN
from runtime.tls import NamedFile, TlsContent, TlsFiles, Use, read_tls

AUTHORITY, SERVICE = "authority", "service"
BOOKING, NOTIFICATION, GATEWAY, OPERATOR, DESK = CALLERS = ("booking", "notification", "gateway", "operator", "desk")
APPROVER: Final = "approver"
"""A second operator: who asks for much money to go back cannot agree to it as well."""

MEASURED: Final = {"payments_per_second": 10_000, "payments_burst": 10_000, "open_calls": 10_000, "streams": 12_000}
"""What a booking service may do here: a benchmark measures the service, not the limits of its caller."""

VALID_FOR = timedelta(days=365)
RENEWED_BEFORE = timedelta(days=30)
"""What has less left than this at a start is made anew."""
CLOCK_MARGIN = timedelta(hours=1)

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """What others need to know of it."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The folder, and what is in it."""

    folder: Path

    def files(self, name: str) -> TlsFiles:
        """What the service, or a caller, shows and trusts."""
        paths = (self.certificate(name), self.key(name), self.certificate(AUTHORITY))
        certificate, key, authority = (NamedFile("the folder of development certificates", path) for path in paths)
        return TlsFiles(certificate, key, authority, Use.SERVER if name == SERVICE else Use.CLIENT)

    def content(self, name: str) -> TlsContent:
        """The same, read."""
        return read_tls(self.files(name), datetime.now(UTC))

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}-key.pem"

    @property
    def callers(self) -> Path:
        return self.folder / "callers.json"

    @property
    def service_settings(self) -> dict[str, str]:
        """Of the service."""
        return {
            "PAYMENTS_TLS_CERTIFICATE_FILE": str(self.certificate(SERVICE)),
            "PAYMENTS_TLS_KEY_FILE": str(self.key(SERVICE)),
            "PAYMENTS_TLS_CLIENT_CA_FILE": str(self.certificate(AUTHORITY)),
            "PAYMENTS_CALLERS_FILE": str(self.callers),
        }

    @property
    def gateway_settings(self) -> dict[str, str]:
        """Of the gateway."""
        return {
            "GATEWAY_CORE_CERTIFICATE_FILE": str(self.certificate(GATEWAY)),
            "GATEWAY_CORE_KEY_FILE": str(self.key(GATEWAY)),
            "GATEWAY_CORE_CA_FILE": str(self.certificate(AUTHORITY)),
        }

    @property
    def desk_settings(self) -> dict[str, str]:
        """Of the case desk."""
        return {
            "DESK_CORE_CERTIFICATE_FILE": str(self.certificate(DESK)),
            "DESK_CORE_KEY_FILE": str(self.key(DESK)),
            "DESK_CORE_CA_FILE": str(self.certificate(AUTHORITY)),
        }

    @property
    def operator_settings(self) -> dict[str, str]:
        """Of the operators' commands that ask the service."""
        return self.operator_settings_of(OPERATOR)

    def operator_settings_of(self, name: str) -> dict[str, str]:
        """The same, of one of several operators."""
        return {
            "PAYMENTS_CLIENT_CERTIFICATE_FILE": str(self.certificate(name)),
            "PAYMENTS_CLIENT_KEY_FILE": str(self.key(name)),
            "PAYMENTS_SERVICE_CA_FILE": str(self.certificate(AUTHORITY)),
        }


def make_certificates(folder: Path) -> Certificates:
    """The certificates in this folder; what is missing or about to expire is made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    made, now = Certificates(folder), datetime.now(UTC)
    if (
        all(_lasts(made.certificate(name), now) for name in (AUTHORITY, SERVICE, *CALLERS, APPROVER))
        and made.callers.exists()
    ):
        return made
    authority = new_authority(now)
    write_secret(made.key(AUTHORITY), _key_pem(authority.key))
    write_secret(made.certificate(AUTHORITY), authority.pem.decode())
    here = [
        x509.DNSName("localhost"),
        *map(x509.IPAddress, (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))),
    ]
    names: dict[str, Sequence[x509.GeneralName]] = {SERVICE: here}
    names |= {caller: [x509.UniformResourceIdentifier(spiffe_id(caller))] for caller in (*CALLERS, APPROVER)}
    for name, shown in names.items():
        certificate, key = signed(authority, shown, now, server=name == SERVICE)
        write_secret(made.key(name), key.decode())
        write_secret(made.certificate(name), certificate.decode())
    listed: list[dict[str, object]] = [
        {"name": name, "spiffe_id": spiffe_id(name), "party": name.upper()} for name in CALLERS
    ]
    listed[0]["limits"] = MEASURED
    listed.append({"name": APPROVER, "spiffe_id": spiffe_id(APPROVER), "party": OPERATOR.upper()})
    # Whoever called here in plaintext, on another day: no certificate has this name, but its payments are found again.
    listed.append({"name": "development", "spiffe_id": spiffe_id("development"), "party": "BOOKING"})
    write_secret(made.callers, json.dumps(listed, indent=2))
    return made


def spiffe_id(caller: str) -> str:
    """By which URI a certificate names a caller."""
    return f"{TRUST_DOMAIN}/{caller}"


def new_authority(now: datetime) -> Authority:
    """An authority that nobody knows yet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME)])
    certificate = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def signed(
    authority: Authority, shown: Sequence[x509.GeneralName], now: datetime, *, server: bool = False
) -> tuple[bytes, bytes]:
    """A certificate for these names, and its key, both in PEM. It is for one end of a connection only."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        _builder(x509.Name([]), authority.certificate.subject, key, now)
        .add_extension(x509.SubjectAlternativeName(shown), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), _key_pem(key).encode()


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_MARGIN)
        .not_valid_after(now + VALID_FOR)
    )


def _key_pem(key: Key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _lasts(path: Path, now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    return certificate.not_valid_after_utc - now > RENEWED_BEFORE
