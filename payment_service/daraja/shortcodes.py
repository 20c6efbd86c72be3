"""What a push may ask for, checked before anything is sent: the shortcode, the payer, the texts, both URLs.

The rules are those of "Daraja: M-Pesa Express Simulate" and "Daraja: Getting Started". Daraja does not enforce all of
them at once: an account reference that is too long is accepted, and then no prompt appears. So they are enforced here,
by ValueError: values that break them are a defect of the caller or of the configuration, not bad luck.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from runtime.serving import Address

SANDBOX_URL = "https://sandbox.safaricom.co.ke"
PRODUCTION_URL = "https://api.safaricom.co.ke"

AMOUNT_MIN = 1
AMOUNT_MAX = 250_000
"""Whole shillings; M-Pesa's own limit for one transaction."""

ACCOUNT_REFERENCE_MAX = 12
DESCRIPTION_MAX = 13

SHORTCODE_NUMBER = re.compile(r"[0-9]{5,7}")
MOBILE_NUMBER = re.compile(r"254[17][0-9]{8}")
# Symbols have broken prompts without any error.
_PLAIN = re.compile(r"[A-Za-z0-9]+")
_PLAIN_WORDS = re.compile(r"[A-Za-z0-9 ]+")
_REFUSED_WORDS = re.compile(r"m-?pesa|safaricom|exec?|cmd|sql|query")
_REFUSED_HOSTS = re.compile(r"ngrok|mockbin|requestbin")


class ShortcodeKind(StrEnum):
    """How customers pay to a shortcode."""

    PAYBILL = "PAYBILL"
    TILL = "TILL"


@dataclass(frozen=True, slots=True)
class Shortcode:
    """An M-Pesa account of ours, as it was registered."""

    number: str
    """BusinessShortCode: the PayBill number, or for a till its store or head-office number."""
    kind: ShortcodeKind
    passkey: str = field(repr=False)
    till_number: str | None = None
    """PartyB of a till; None for a PayBill, which is paid to itself."""
    amount_min: int = AMOUNT_MIN
    """Whole shillings."""
    amount_max: int = AMOUNT_MAX
    """Whole shillings."""

    def __post_init__(self) -> None:
        if not SHORTCODE_NUMBER.fullmatch(self.number):
            raise ValueError("a shortcode has 5 to 7 digits")
        if not self.passkey.isascii() or not self.passkey.isprintable() or not self.passkey:
            raise ValueError(f"the passkey of shortcode {self.number} is empty or no plain text")
        if (self.kind is ShortcodeKind.TILL) != (self.till_number is not None):
            raise ValueError(f"shortcode {self.number}: a till needs a till number, a PayBill has none")
        if self.till_number is not None and not SHORTCODE_NUMBER.fullmatch(self.till_number):
            raise ValueError(f"shortcode {self.number}: a till number has 5 to 7 digits")
        if not AMOUNT_MIN <= self.amount_min <= self.amount_max <= AMOUNT_MAX:
            raise ValueError(f"shortcode {self.number}: amounts go from {AMOUNT_MIN} to {AMOUNT_MAX} shillings")

    @property
    def party_b(self) -> str:
        """Who is paid."""
        return self.till_number if self.till_number is not None else self.number

    @property
    def transaction_type(self) -> str:
        """Daraja's word for the kind; the wrong one ends in result 2028."""
        return "CustomerPayBillOnline" if self.kind is ShortcodeKind.PAYBILL else "CustomerBuyGoodsOnline"


@dataclass(frozen=True, slots=True)
class PushRequest:
    """One prompt to show. Build it before the send is claimed: it raises ValueError for what must not be sent."""

    shortcode: Shortcode
    phone_number: str = field(repr=False)
    """E.164 without the plus."""
    amount: int
    """Whole shillings."""
    account_reference: str
    """Identifies the attempt; the payer sees it in the prompt and in the SMS."""
    callback_url: str = field(repr=False)
    """Carries the token of the callback. Checked with `check_callback_url` when the service starts."""
    description: str
    """Optional on Daraja's page, and required here: not every server that speaks its API agrees."""

    def __post_init__(self) -> None:
        if not MOBILE_NUMBER.fullmatch(self.phone_number):
            raise ValueError("the phone number is no 2547XXXXXXXX or 2541XXXXXXXX")
        if not self.shortcode.amount_min <= self.amount <= self.shortcode.amount_max:
            raise ValueError(f"the amount is outside the limits of shortcode {self.shortcode.number}")
        if not _PLAIN.fullmatch(self.account_reference) or len(self.account_reference) > ACCOUNT_REFERENCE_MAX:
            raise ValueError(f"an account reference has 1 to {ACCOUNT_REFERENCE_MAX} ASCII letters and digits")
        if not _PLAIN_WORDS.fullmatch(self.description):
            raise ValueError("a description has ASCII letters, digits and spaces only")
        if len(self.description) > DESCRIPTION_MAX:
            raise ValueError(f"a description has at most {DESCRIPTION_MAX} characters")


SANDBOX_PASSKEY = "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"
"""Published by Safaricom for everyone's use of its sandbox; no secret."""


SANDBOX_SHORTCODE = "174379"
SANDBOX_NUMBER = "254708374149"
"""The shortcode and the phone that Safaricom lends to everyone there."""


def is_production(daraja_base_url: str) -> bool:
    """Whether Daraja moves real money there, for whoever has credentials of a shortcode."""
    return urlsplit(daraja_base_url).hostname == urlsplit(PRODUCTION_URL).hostname


def check_daraja_url(url: str) -> None:
    """Raise ValueError, with what was expected, for a base URL of Daraja that may not be called."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in url:
        raise ValueError("expected http://HOST or https://HOST, without credentials or a query")
    if parts.scheme == "http" and not Address(host, parts.port or 80).is_loopback:
        # The consumer secret and the tokens would travel in clear.
        raise ValueError("expected https://HOST: plain http is for this machine only (loopback)")


def check_callback_url(url: str, daraja_base_url: str) -> None:
    """Raise ValueError, with what to change, for a callback URL (or the start of one) that Daraja would refuse."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the callback URL is no http or https address")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the callback URL has a space or a character that is not plain ASCII")
    if url.partition("://")[2].partition("/")[0] != parts.netloc.lower():
        raise ValueError("the callback URL's host has upper-case letters")
    daraja = urlsplit(daraja_base_url).hostname
    if parts.scheme != "https" and not Address(daraja or "", 0).is_loopback:
        raise ValueError("the callback URL has to be https, since Daraja is not on this machine")
    if daraja not in (urlsplit(PRODUCTION_URL).hostname, urlsplit(SANDBOX_URL).hostname):
        # Any other server is for development, and sits on loopback like its callbacks.
        return
    if parts.hostname == "localhost" or parts.hostname.startswith("127."):
        raise ValueError("the callback URL leads to this machine's own loopback")
    word = _REFUSED_WORDS.search(url.lower())
    if word is not None:
        raise ValueError(f"the callback URL contains {word[0]!r}, a word that Safaricom refuses")
    if _REFUSED_HOSTS.search(parts.hostname):
        raise ValueError("the callback URL is a public tunnel or request bin, which Safaricom refuses")
