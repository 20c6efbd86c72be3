"""The API operator as whom a transaction's status is asked for, and the credential that proves it.

A SecurityCredential is the operator's password, encrypted with RSA (PKCS#1 v1.5) for the certificate that Safaricom
publishes for the environment, in base64. The certificate is a box for a key and nothing more: the one published for the
sandbox ran out in 2016 and is still the right one, so its dates are not looked at.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


class CertificateUnusable(ValueError):
    """The file is no certificate with an RSA key; the message says which file."""


@dataclass(frozen=True, slots=True)
class Initiator:
    """Who asks."""

    name: str
    password: str = field(repr=False)
    key: RSAPublicKey = field(repr=False)

    def credential(self) -> str:
        """A new credential; each is padded with chance, so no two are alike."""
        return base64.b64encode(self.key.encrypt(self.password.encode(), PKCS1v15())).decode()


def load_initiator(name: str, password: str, certificate_file: Path) -> Initiator:
    """The operator with the key of a certificate, in PEM or DER. Raises CertificateUnusable."""
    try:
        content = certificate_file.read_bytes()
        pem = b"-----BEGIN" in content
        certificate = x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
        key = certificate.public_key()
    except (OSError, ValueError) as error:
        raise CertificateUnusable(f"{certificate_file} cannot be read as a certificate: {error}") from error
    if not isinstance(key, RSAPublicKey):
        raise CertificateUnusable(f"{certificate_file} is a certificate without an RSA key")
    if len(password.encode()) > key.key_size // 8 - 11:
        raise CertificateUnusable(f"the initiator's password is too long for the key in {certificate_file}")
    return Initiator(name, password, key)
