"""As whom each shortcode is called: its Daraja app, its operator of M-Pesa, the number its books are registered with.

The settings describe the default app. An entry of the shortcodes file that names a consumer key describes an app of its
own, and then takes nothing from the default one: an operator or a number of another organisation would be refused, and
a password that is wrong three times is locked. Entries with the same consumer key share one app, and so its one token.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from payment_service.config import PaymentSettings
from payment_service.daraja.initiator import CertificateUnusable, Initiator, load_initiator
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.daraja.token import DarajaApp
from payment_service.domain.pay_bill import LISTED_AFTER
from payment_service.shortcodes_file import ListedShortcode
from runtime.serving import StartRefused

_OF_SETTINGS = "PAYMENTS_DARAJA_CONSUMER_KEY and PAYMENTS_DARAJA_CONSUMER_SECRET"


@dataclass(frozen=True, slots=True)
class Account:
    """As whom a shortcode is called."""

    app: DarajaApp
    is_default: bool = True
    """Described by the settings, not by an entry of the file."""
    initiator: Initiator | None = None
    """None where no transaction's status is asked for, and no money is sent back."""
    initiator_password_set_on: date | None = None
    nominated_number: str = field(default="", repr=False)
    """Empty where the books are not read."""
    b2c_shortcode: str = ""
    b2c_command: str = "BusinessPayment"


def accounts_of(listed: Mapping[str, ListedShortcode], settings: PaymentSettings) -> Mapping[str, Account]:
    """The account of each shortcode by number, or StartRefused with a sentence about what cannot be used."""
    by_default = [number for number, one in listed.items() if one.own is None]
    key = settings.daraja_consumer_key.get_secret_value()
    if by_default and not key:
        raise StartRefused(
            f"Shortcode {by_default[0]} in {settings.shortcodes_file} has no consumer_key_file, and"
            " PAYMENTS_DARAJA_CONSUMER_KEY_FILE is not set: set one of them, with the secret beside it."
        )
    found: dict[str, Account] = {}
    default = _default_account(settings) if by_default else None
    for number, one in listed.items():
        account = default if one.own is None else _own_account(number, one, settings)
        assert account is not None, "an entry without an app of its own has the default one"
        found[number] = account
    if settings.automatic_refund_max_kes and all(account.initiator is None for account in found.values()):
        raise StartRefused(
            "PAYMENTS_AUTOMATIC_REFUND_MAX_KES needs PAYMENTS_INITIATOR_NAME, or an initiator_name in"
            f" {settings.shortcodes_file}, and what belongs to it: money goes back only as an operator of M-Pesa."
        )
    return _sharing_apps(found)


def together(accounts: Mapping[str, Account]) -> Sequence[tuple[Account, Sequence[str]]]:
    """The accounts that differ, each with the shortcodes that are called as it."""
    alike: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for number, one in accounts.items():
        operator = (one.initiator.name, one.initiator.password) if one.initiator else None
        alike[one.app.key, operator, one.nominated_number, one.b2c_shortcode, one.b2c_command].append(number)
    return [(accounts[numbers[0]], numbers) for numbers in alike.values()]


def switched_off(accounts: Mapping[str, Account]) -> list[str]:
    """A sentence for each part that the accounts leave out."""
    sentences = []
    for account, numbers in together(accounts):
        where = _where(accounts, numbers)
        if not account.nominated_number:
            sentences.append(
                f"Pull Transactions is off{where}: {_setting(account, 'pull_nominated_number')} is not set."
            )
        if account.initiator is None:
            sentences.append(
                f"Transaction Status and refunds are off{where}: {_setting(account, 'initiator_name')} is not set."
            )
        elif account.initiator_password_set_on is None:
            sentences.append(
                f"Nobody is warned before the initiator's password expires{where}:"
                f" {_setting(account, 'initiator_password_set_on')} is not set."
            )
    return sentences


def found_by_hand_within(
    shortcodes: Mapping[str, Shortcode], accounts: Mapping[str, Account], interval: timedelta
) -> Mapping[str, timedelta]:
    """How soon the books show money that a passenger has paid by hand to each shortcode. A till's rows name no payment,
    and books that are not read show nothing."""
    return {
        number: interval + LISTED_AFTER
        for number, account in accounts.items()
        if account.nominated_number and shortcodes[number].kind is ShortcodeKind.PAYBILL
    }


def refunds_go(accounts: Mapping[str, Account]) -> list[str]:
    """A sentence that says by which ways money goes back, for each account from which it does."""
    sentences = []
    for account, numbers in together(accounts):
        if account.initiator is not None:
            paid = f"shortcode {account.b2c_shortcode}" if account.b2c_shortcode else "the shortcode that was paid"
            sentences.append(
                f"Whole payments go back by Reversal, parts by B2C ({account.b2c_command}) from {paid}"
                f"{_where(accounts, numbers)}."
            )
    return sentences


def _where(accounts: Mapping[str, Account], numbers: Sequence[str]) -> str:
    return "" if len(numbers) == len(accounts) else f" for {', '.join(numbers)}"


def _setting(account: Account, name: str) -> str:
    return f"PAYMENTS_{name.upper()}" if account.is_default else name


def _default_account(settings: PaymentSettings) -> Account:
    app = DarajaApp(
        _key(settings, settings.daraja_consumer_key.get_secret_value()),
        settings.daraja_consumer_key.get_secret_value(),
        settings.daraja_consumer_secret.get_secret_value(),
        set_by=_OF_SETTINGS,
    )
    name, certificate_file = settings.initiator_name, settings.initiator_certificate_file
    initiator = None
    if name and certificate_file is not None:
        password = settings.initiator_password.get_secret_value()
        initiator = _initiator(name, password, certificate_file, "PAYMENTS_INITIATOR_CERTIFICATE_FILE")
    return Account(
        app,
        True,
        initiator,
        settings.initiator_password_set_on,
        settings.pull_nominated_number,
        settings.b2c_shortcode,
        settings.b2c_command,
    )


def _own_account(number: str, listed: ListedShortcode, settings: PaymentSettings) -> Account:
    own, where = listed.own, f"shortcode {number} in {settings.shortcodes_file}"
    assert own is not None, "asked for entries with an app of their own"
    app = DarajaApp(
        _key(settings, own.consumer_key),
        own.consumer_key,
        own.consumer_secret,
        set_by=f"consumer_key_file and consumer_secret_file of {where}",
    )
    name, certificate_file = own.initiator_name, own.initiator_certificate_file
    initiator = None
    if name and certificate_file is not None:
        setting = f"initiator_certificate_file of {where}"
        initiator = _initiator(name, own.initiator_password, certificate_file, setting)
    return Account(
        app,
        False,
        initiator,
        own.initiator_password_set_on,
        own.pull_nominated_number,
        own.b2c_shortcode,
        own.b2c_command,
    )


def _initiator(name: str, password: str, certificate_file: Path, setting: str) -> Initiator:
    try:
        return load_initiator(name, password, certificate_file)
    except CertificateUnusable as error:
        raise StartRefused(f"{setting} cannot be used: {error}.") from None


def _sharing_apps(accounts: Mapping[str, Account]) -> Mapping[str, Account]:
    """The same, where all accounts of one consumer key have one app, which knows its shortcodes."""
    shortcodes: defaultdict[str, list[str]] = defaultdict(list)
    first: dict[str, DarajaApp] = {}
    for number, account in accounts.items():
        app = first.setdefault(account.app.key, account.app)
        if app.consumer_secret != account.app.consumer_secret:
            raise StartRefused(
                f"{app.set_by}, and {account.app.set_by}, name one consumer key with two secrets: name the same files."
            )
        shortcodes[app.key].append(number)
    whole = {key: replace(app, shortcodes=tuple(shortcodes[key])) for key, app in first.items()}
    return {number: replace(account, app=whole[account.app.key]) for number, account in accounts.items()}


def _key(settings: PaymentSettings, consumer_key: str) -> str:
    """Names the app without giving its consumer key away, and apart from the same key at another Daraja."""
    return hashlib.sha256(f"{settings.daraja_base_url} {consumer_key}".encode()).hexdigest()[:16]
