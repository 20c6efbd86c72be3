"""What the settings name and do not hold: keys, shortcodes, the operator who asks; and whether all of it can be used.

Loaded once, before anything is started. `serve --check-config` loads the same, so that what it passes is not refused by
`serve` afterwards; only whether Daraja takes a consumer key and secret is for Daraja to say, at the start.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from payment_service.accounts import Account, accounts_of
from payment_service.application.calling.access_token import CredentialsRefused
from payment_service.application.calling.first_token import FirstTokens
from payment_service.config import PaymentSettings
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
    accounts: Mapping[str, Account]
    """As whom each of them is called."""

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
    listed = load_shortcodes(settings.shortcodes_file)
    credentials = Credentials(
        keys=open_keys(settings.keys_file),
        callback_keys=load_callback_keys(settings.callback_keys_file),
        shortcodes={number: one.shortcode for number, one in listed.items()},
        accounts=accounts_of(listed, settings),
    )
    check_credentials_for_production(settings, listed.values())
    return credentials


async def prove_credentials(first_tokens: FirstTokens, daraja_base_url: str) -> None:
    """Have a first token of each app, if Daraja can be reached; StartRefused names each app that it does not take."""
    asked = await asyncio.gather(*(first.ask() for first in first_tokens.of_apps), return_exceptions=True)
    refused = []
    for first, answer in zip(first_tokens.of_apps, asked, strict=True):
        if isinstance(answer, CredentialsRefused):
            refused.append(
                f"Daraja at {urlsplit(daraja_base_url).netloc} refuses {first.tokens.app.set_by} ({answer}): check"
                " both, and that they belong to the environment of PAYMENTS_DARAJA_BASE_URL."
            )
        elif answer is not None:
            raise answer
    if refused:
        raise StartRefused("\n".join(refused))


def open_keys(path: Path) -> Keys:
    """The service's keys, or StartRefused."""
    try:
        return load_keys(path)
    except KeysUnusable as error:
        raise StartRefused(str(error)) from None
