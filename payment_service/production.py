"""What a start against Safaricom's production refuses: values that everybody knows, and what was made for development.

Safaricom publishes a shortcode and its passkey for everyone's use of its sandbox, and `payment-service dev` makes keys
and certificates for one machine. With any of these, real money would be guarded by what others have. Secrets in the
environment are refused where settings are read.
"""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from payment_service.config import PaymentSettings
from payment_service.daraja.shortcodes import (
    SANDBOX_NUMBER,
    SANDBOX_PASSKEY,
    SANDBOX_SHORTCODE,
    is_production,
)
from payment_service.shortcodes_file import ListedShortcode
from runtime.development_values import AUTHORITY_NAME, SECRET_PREFIX, TRUST_DOMAIN, is_marked
from runtime.serving import StartRefused


class NotForProduction(StartRefused):
    """A setting, or the file that it names, holds what must not stand between others and real money."""

    def __init__(self, setting: str, what: str, instead: str) -> None:
        super().__init__(f"{setting} {what}, and PAYMENTS_DARAJA_BASE_URL is production's: {instead}.")


def check_credentials_for_production(settings: PaymentSettings, shortcodes: Iterable[ListedShortcode]) -> None:
    """Raise NotForProduction for the first value that a start against production must not use."""
    if not is_production(settings.daraja_base_url):
        return
    _check_shortcodes(settings.shortcodes_file, shortcodes)
    _check_daraja_account(settings)
    if settings.pull_nominated_number == SANDBOX_NUMBER:
        raise NotForProduction(
            "PAYMENTS_PULL_NOMINATED_NUMBER",
            "is the phone that Safaricom lends to everyone in its sandbox",
            "set the number that your shortcodes are registered with",
        )
    for setting, path in (
        ("PAYMENTS_KEYS_FILE", settings.keys_file),
        ("PAYMENTS_CALLBACK_KEYS_FILE", settings.callback_keys_file),
    ):
        if is_marked(path):
            raise NotForProduction(
                setting,
                f"names {path}, whose keys were made for development",
                "make keys for this installation with payment-service create-keys",
            )


def check_door_for_production(settings: PaymentSettings, authority: bytes, callers: Iterable[str]) -> None:
    """The same for who may call: the authority's certificates, in PEM, and the SPIFFE URIs of the list."""
    if not is_production(settings.daraja_base_url):
        return
    if any(_common_name(one) == AUTHORITY_NAME for one in x509.load_pem_x509_certificates(authority)):
        raise NotForProduction(
            "PAYMENTS_TLS_CLIENT_CA_FILE",
            f"names {settings.tls_client_ca_file}, an authority that was made for development",
            "name the authority that signs the certificates of your callers",
        )
    if listed := next((caller for caller in callers if caller.startswith(f"{TRUST_DOMAIN}/")), None):
        raise NotForProduction(
            "PAYMENTS_CALLERS_FILE",
            f"names {settings.callers_file}, which lists {listed}, a caller for development",
            "list your callers by their own SPIFFE URIs",
        )


def _check_shortcodes(file: Path, shortcodes: Iterable[ListedShortcode]) -> None:
    for listed in shortcodes:
        shortcode, own = listed.shortcode, listed.own
        entry = f"names {file}, where shortcode {shortcode.number}"
        if shortcode.passkey == SANDBOX_PASSKEY:
            what, instead = "has the passkey that Safaricom publishes for its sandbox", "put in the passkey"
        elif shortcode.passkey.startswith(SECRET_PREFIX):
            what, instead = "has the passkey of a simulated shortcode", "put in the passkey"
        elif shortcode.number == SANDBOX_SHORTCODE:
            what, instead = (
                "is the one that Safaricom lends to everyone in its sandbox",
                "put in the number and passkey",
            )
        elif own is not None and any(
            secret.startswith(SECRET_PREFIX)
            for secret in (own.consumer_key, own.consumer_secret, own.initiator_password)
        ):
            what, instead = "names a file with a value that exists in the simulator only", "name files with those"
        elif own is not None and own.pull_nominated_number == SANDBOX_NUMBER:
            what, instead = (
                "has the phone that Safaricom lends to everyone in its sandbox for pull_nominated_number",
                "put in the number",
            )
        else:
            continue
        raise NotForProduction(
            "PAYMENTS_SHORTCODES_FILE", f"{entry} {what}", f"{instead} that Safaricom has given to you"
        )


def _check_daraja_account(settings: PaymentSettings) -> None:
    for setting, secret in (
        ("PAYMENTS_DARAJA_CONSUMER_KEY", settings.daraja_consumer_key),
        ("PAYMENTS_DARAJA_CONSUMER_SECRET", settings.daraja_consumer_secret),
        ("PAYMENTS_INITIATOR_PASSWORD", settings.initiator_password),
    ):
        if secret.get_secret_value().startswith(SECRET_PREFIX):
            raise NotForProduction(
                f"{setting}_FILE",
                "gives a value that exists in the simulator only",
                "name a file with the one that Safaricom has given to you",
            )


def _common_name(certificate: x509.Certificate) -> str | None:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else None
