"""What the settings name and do not hold: keys, shortcodes, the operator who asks; and whether all of it can be used.

Loaded once, before anything is started. `serve --check-config` loads the same, so that what it passes is not refused by
`serve` afterwards; only whether Daraja takes the consumer key and secret is for Daraja to say, at the start.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from payment_service.application.calling.access_token import CredentialsRefused
from payment_service.application.calling.first_token import FirstToken
from payment_service.config import PaymentSettings
from payment_service.daraja.initiator import CertificateUnusable, Initiator, load_initiator
from payment_service.daraja.shortcodes import Shortcode, check_callback_url
from payment_service.production import check_credentials_for_production
from payment_service.security.keys import Keys, KeysUnusable, load_keys
from payment_service.shortcodes_file import load_shortcodes
from runtime.callback_tokens import CallbackKeys, load_callback_keys
from runtime.serving import StartRefused


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the service proves itself with, to itself and to Safaricom."""

    keys: Keys = field(repr=False)
    callback_keys: CallbackKeys = field(repr=False)
    shortcodes: Mapping[str, Shortcode]
    """By number."""
    initiator: Initiator | None
    """None where no transaction's status is asked for."""

    @property
    def default_shortcode(self) -> str:
        """The first of the file; receives the money of requests that name none."""
        return next(iter(self.shortcodes))


def load_credentials(settings: PaymentSettings) -> Credentials:
    """Everything that the settings name, or StartRefused with a sentence about the first that cannot be used."""
    try:
        check_callback_url(settings.callback_base_url, settings.daraja_base_url)
    except ValueError as error:
        raise StartRefused(f"PAYMENTS_CALLBACK_BASE_URL cannot be used: {error}.") from None
    shortcodes = load_shortcodes(settings.shortcodes_file)
    credentials = Credentials(
        keys=open_keys(settings.keys_file),
        callback_keys=load_callback_keys(settings.callback_keys_file),
        shortcodes=shortcodes,
        initiator=_initiator(settings),
    )
    check_credentials_for_production(settings, shortcodes.values())
    return credentials


async def prove_credentials(first_token: FirstToken, daraja_base_url: str) -> None:
    """Have a first token, if Daraja can be reached; StartRefused where it does not take our consumer key and secret."""
    try:
        await first_token.ask()
    except CredentialsRefused as refusal:
        raise StartRefused(
            f"Daraja at {urlsplit(daraja_base_url).netloc} refuses PAYMENTS_DARAJA_CONSUMER_KEY and"
            f" PAYMENTS_DARAJA_CONSUMER_SECRET ({refusal}): check both, and that they belong to the environment of"
            " PAYMENTS_DARAJA_BASE_URL."
        ) from None


def open_keys(path: Path) -> Keys:
    """The service's keys, or StartRefused."""
    try:
        return load_keys(path)
    except KeysUnusable as error:
        raise StartRefused(str(error)) from None


def _initiator(settings: PaymentSettings) -> Initiator | None:
    name, certificate_file = settings.initiator_name, settings.initiator_certificate_file
    if not name or certificate_file is None:
        return None
    try:
        return load_initiator(name, settings.initiator_password.get_secret_value(), certificate_file)
    except CertificateUnusable as error:
        raise StartRefused(f"PAYMENTS_INITIATOR_CERTIFICATE_FILE cannot be used: {error}.") from None
