"""Certificates as callers and strangers have them, and a door that tells them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from development.certificates import AUTHORITY, SERVICE, Authority, Certificates, make_certificates, signed, spiffe_id
from payment_service.alarms import TLS_FILES_UNUSABLE
from payment_service.rpc.identity import Door, load_callers
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.tls import FollowedFiles, TlsContent

AGENCY = "agency"
"""A second caller that takes payments, beside `booking`."""
LONG_AGO = timedelta(days=800)


def certificates_in(folder: Path) -> Certificates:
    """Those of development, and one more caller on the list."""
    made = make_certificates(folder / "certificates")
    listed = json.loads(made.callers.read_text())
    listed.append({"name": AGENCY, "spiffe_id": spiffe_id(AGENCY), "party": "BOOKING"})
    made.callers.write_text(json.dumps(listed))
    shown = shown_by(authority_of(made), spiffe_id(AGENCY))
    write_over(made.certificate(AGENCY), shown.certificate)
    write_over(made.key(AGENCY), shown.key)
    return made


def door_of(certificates: Certificates) -> Door:
    """The door of a service with these certificates."""
    files, content = certificates.files(SERVICE), certificates.content(SERVICE)
    return Door(FollowedFiles(files, content, TLS_FILES_UNUSABLE), load_callers(certificates.callers))


def authority_of(certificates: Certificates) -> Authority:
    """Who has signed them."""
    key = load_pem_private_key(certificates.key(AUTHORITY).read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(certificates.certificate(AUTHORITY).read_bytes()), key)


def shown_by(authority: Authority, *uris: str, age: timedelta = timedelta(0), server: bool = False) -> TlsContent:
    """What a client shows whose certificate has these URIs and is so old; `server` makes it one for servers."""
    names: Sequence[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return TlsContent(*signed(authority, names, datetime.now(UTC) - age, server=server), authority.pem)


def channel_showing(address: str, shown: TlsContent | None, trusted: bytes) -> grpc.aio.Channel:
    """A channel of a client that shows this certificate, or none, and trusts this authority."""
    pair = {} if shown is None else {"private_key": shown.key, "certificate_chain": shown.certificate}
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(trusted, **pair), options=CLIENT_OPTIONS)


def write_over(path: Path, content: bytes) -> None:
    """Replace a file in one go, as whoever renews certificates does."""
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(path)
