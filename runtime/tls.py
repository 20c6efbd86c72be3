"""TLS between our programs: each side shows a certificate, and takes only one that its own authority has signed.

Decides which files can be used, and that a server takes new ones as soon as they are there: every new connection is
offered what the files hold at that moment. Who may do what is for the server's own table to say.
"""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import grpc.aio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from runtime.alarms import Alarm, LastingAlarm
from runtime.grpc_options import CLIENT_OPTIONS
from runtime.private_files import stamp_of, why_not_private
from runtime.serving import Address, StartRefused

EXPIRES_SOON = timedelta(days=30)
"""So long before its end a certificate is an alarm; a short-lived one only in the last fifth of its life."""


class Use(Enum):
    """Which end of a connection a certificate is shown at, as its extended key usage has to say if it says anything."""

    SERVER = "serverAuth"
    CLIENT = "clientAuth"


_USAGES: Final = {Use.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Use.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


class NamedFile(NamedTuple):
    """A file, and the setting that names it."""

    setting: str
    path: Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What one side of a connection takes, all in PEM."""

    certificate: NamedFile
    """The side's own, followed by those between it and the authority."""
    key: NamedFile
    authority: NamedFile
    """Who must have signed the certificate of the other side."""
    use: Use


@dataclass(frozen=True, slots=True)
class TlsContent:
    """The content of the files, which fits together."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes


class TlsUnusable(StartRefused):
    """A file cannot be used; the text says which, why, and what to do."""

    def __init__(self, file: NamedFile, why: str) -> None:
        super().__init__(f"{file.setting} names {file.path}, which cannot be used: {why}.")


class TlsSettingsMissing(StartRefused):
    """Settings without which there is no TLS."""

    def __init__(self, settings: Sequence[str]) -> None:
        super().__init__(f"Calls are encrypted, and each side shows a certificate: set {', '.join(settings)}")


class ChannelRefused(StartRefused):
    """What is said through the channel would leave this machine in plaintext."""

    def __init__(self, address: Address) -> None:
        super().__init__(
            f"{address} is not on this machine, and calls to it would be in plaintext: choose an address of the"
            " loopback, such as 127.0.0.1:50051, or name the files for TLS."
        )


def tls_files(*named: tuple[str, Path | None], use: Use) -> TlsFiles:
    """The certificate, its key and the authority, each with its setting; TlsSettingsMissing names what is not set."""
    files = [NamedFile(setting, path) for setting, path in named if path is not None]
    if len(files) < len(named):
        raise TlsSettingsMissing([setting for setting, path in named if path is None])
    certificate, key, authority = files
    return TlsFiles(certificate, key, authority, use)


def read_tls(files: TlsFiles, now: datetime) -> TlsContent:
    """What the files hold, or TlsUnusable about the first that cannot be used."""
    if (why := why_not_private(files.key.path)) is not None:
        raise TlsUnusable(files.key, why)
    content = TlsContent(_bytes_of(files.certificate), _bytes_of(files.key), _bytes_of(files.authority))
    own, authorities = (
        _certificates(files.certificate, content.certificate),
        _certificates(files.authority, content.authority),
    )
    for certificate in own:
        _check_dates(files.certificate, certificate, now)
    if all(certificate.not_valid_after_utc < now for certificate in authorities):
        _check_dates(files.authority, authorities[0], now)
    _check_key(files, content.key, own[0])
    _check_use(files, own[0])
    return content


class FollowedFiles:
    """Files that are read again once they have changed. What cannot be used raises the alarm, and changes nothing."""

    def __init__(self, files: TlsFiles, content: TlsContent, unusable: Alarm) -> None:
        """`content` is what they held at the start."""
        self.files, self._in_force = files, content
        self._looked_at = _stamp(files)
        self._unusable = LastingAlarm(unusable)

    def in_force(self) -> TlsContent:
        """What they hold now, or what they held when they could last be used. The same object while nothing is new."""
        stamp = _stamp(self.files)
        if stamp == self._looked_at:
            return self._in_force
        try:
            content = read_tls(self.files, datetime.now(UTC))
        except TlsUnusable as error:
            # What is wrong may pass by itself, such as a certificate that begins in a moment: looked at again.
            self._unusable.set(True, why=str(error))
            return self._in_force
        self._looked_at = stamp
        self._unusable.set(False)
        if content != self._in_force:
            self._in_force = content
        return self._in_force


async def watch_expiry(followed: FollowedFiles, alarm: LastingAlarm, now: Callable[[], datetime]) -> None:
    """Call for a person while the certificate that is in force is about to expire."""
    files = followed.files
    certificate = _certificates(files.certificate, followed.in_force().certificate)[0]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    soon = ends - now() < min(EXPIRES_SOON, (ends - begins) / 5)
    alarm.set(soon, file=str(files.certificate.path), expires=f"{ends:%Y-%m-%d %H:%M} UTC")


def server_credentials(followed: FollowedFiles) -> grpc.ServerCredentials:
    """For a server that takes no client without a certificate, and offers each new connection what the files hold."""
    offered = followed.in_force()

    def before_each_handshake() -> grpc.ServerCertificateConfiguration | None:
        nonlocal offered
        if (content := followed.in_force()) is offered:
            return None
        offered = content
        return _configuration(content)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(offered),
        before_each_handshake,  # type: ignore[arg-type]  # None means "no change"
        require_client_authentication=True,
    )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For an HTTP server that takes no client without a certificate; it offers what the files hold now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would not be looked at again.
    context.num_tickets = 0
    context.load_cert_chain(files.certificate.path, files.key.path)
    context.load_verify_locations(cafile=files.authority.path)
    return context


def open_channel(
    address: Address, content: TlsContent | None, options: Sequence[tuple[str, object]] = CLIENT_OPTIONS
) -> grpc.aio.Channel:
    """A channel to another program of ours. Without TLS only to this machine, else ChannelRefused."""
    target = str(address)
    if content is None:
        if not address.is_loopback:
            raise ChannelRefused(address)
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(content.authority, content.key, content.certificate)
    return grpc.aio.secure_channel(target, credentials, options=options)


def _stamp(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes whenever a file is written or replaced."""
    return tuple(stamp_of(file.path) for file in (files.certificate, files.key, files.authority))


def _configuration(content: TlsContent) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(content.key, content.certificate)], content.authority)


def _bytes_of(file: NamedFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise TlsUnusable(file, f"{error.strerror}; name a PEM file that this user may read") from None


def _certificates(file: NamedFile, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise TlsUnusable(file, "it holds no certificate; expected PEM, from BEGIN CERTIFICATE on") from None


def _check_dates(file: NamedFile, certificate: x509.Certificate, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends < now:
        raise TlsUnusable(file, f"it expired on {ends:%Y-%m-%d %H:%M} UTC; have a new one made")
    if begins > now:
        raise TlsUnusable(file, f"it is valid from {begins:%Y-%m-%d %H:%M} UTC on; see that this clock is right")


def _check_key(files: TlsFiles, pem: bytes, certificate: x509.Certificate) -> None:
    try:
        key = load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise TlsUnusable(files.key, "it holds no private key; expected PEM, without a password") from None
    halves = [
        half.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for half in (key.public_key(), certificate.public_key())
    ]
    if halves[0] != halves[1]:
        raise TlsUnusable(
            files.key,
            f"it does not fit the certificate in {files.certificate.path}; name two that were made together",
        )


def _check_use(files: TlsFiles, certificate: x509.Certificate) -> None:
    """The other side would refuse the handshake, call by call, and name no cause that anybody finds."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {_USAGES[files.use], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages):
        raise TlsUnusable(
            files.certificate,
            f"its extended key usage leaves out {files.use.value}, so the other side would refuse it; have one made"
            f" with {files.use.value}",
        )
