"""What a caller shows, and whom it trusts: three files, read when a channel is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc


class TlsFilesUnusable(ValueError):
    """A file of certificates or keys cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: who has signed the service's certificate, and this caller's own certificate with its key."""

    authority: Path | str
    certificate: Path | str
    key: Path | str

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC takes, or TlsFilesUnusable."""
        authority = _pem(self.authority, "authority", "CERTIFICATE")
        key = _pem(self.key, "key", "PRIVATE KEY")
        certificate = _pem(self.certificate, "certificate", "CERTIFICATE")
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever one of the files is written or replaced."""
        stamps = []
        for path in (self.authority, self.certificate, self.key):
            try:
                found = Path(path).stat()
            except OSError:
                stamps.append((0, 0))
            else:
                stamps.append((found.st_mtime_ns, found.st_ino))
        return tuple(stamps)


def _pem(path: Path | str, name: str, kind: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise TlsFilesUnusable(f"tls.{name}: {path} cannot be read: {error.strerror}.") from error
    if f"{kind}-----".encode() not in content:
        expected = "a private key" if name == "key" else "a certificate"
        raise TlsFilesUnusable(f"tls.{name}: {path} holds no PEM block; expected {expected} (-----BEGIN …).")
    return content
