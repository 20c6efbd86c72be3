"""What a simulator is started with: credentials, shortcodes, times. Decides the defaults; reads nothing by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Safaricom publishes this pair for everyone's sandbox use; it is no secret and opens nothing but the sandbox.
SANDBOX_SHORTCODE: Final = "174379"
SANDBOX_PASSKEY: Final = "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"

# These exist in this simulator only.
DEVELOPMENT_CONSUMER_KEY: Final = "development-consumer-key"
DEVELOPMENT_CONSUMER_SECRET: Final = "development-consumer-secret"
DEVELOPMENT_PASSKEY: Final = "development-passkey"
DEVELOPMENT_INITIATOR_NAME: Final = "development-initiator"
DEVELOPMENT_INITIATOR_PASSWORD: Final = "development-initiator-password"

# A PayBill from the sandbox, a second PayBill, and a Till: store number 600584, till number 300584.
DEFAULT_SHORTCODES: Final = f"{SANDBOX_SHORTCODE},600998,600584:300584"

_APP = re.compile(r"(?P<shortcodes>[0-9]{5,7}(?:\+[0-9]{5,7})*)=(?P<key>[^:\s]+):(?P<secret>\S+)")
_SHORTCODE = re.compile(r"(?P<number>[0-9]{5,7})(?::(?P<till>[0-9]{5,8}))?(?:=(?P<passkey>[^,=\s]+))?")


@dataclass(frozen=True, slots=True)
class Shortcode:
    """A merchant: a PayBill, or (with a till) the store number whose payments go to that till."""

    number: str
    passkey: str
    till: str | None = None


@dataclass(frozen=True, slots=True)
class App:
    """Who gets access tokens, and which shortcodes they are good for."""

    consumer_key: str
    consumer_secret: str
    # None: all that no other app has.
    shortcodes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """One simulator's settings. Seconds everywhere; None means "as recorded"."""

    seed: int = 1
    latency_seconds: float | None = None
    callback_delay_seconds: float | None = None
    quirks: bool = True
    consumer_key: str = DEVELOPMENT_CONSUMER_KEY
    consumer_secret: str = DEVELOPMENT_CONSUMER_SECRET
    # Beside the app with that key.
    more_apps: tuple[App, ...] = ()
    shortcodes: tuple[Shortcode, ...] = ()
    # The operator who may ask for a transaction's status and order money to be sent.
    initiator_name: str = DEVELOPMENT_INITIATOR_NAME
    initiator_password: str = DEVELOPMENT_INITIATOR_PASSWORD
    # What each shortcode's account has to send, before the first payment arrives.
    opening_balance_kes: int = 1_000_000
    # The sandbox allows five queries a minute for an app; 0 takes the limit away.
    queries_per_minute: int = 5
    # How long a prompt waits for a person who has the phone in hand; recorded prompts live about a minute.
    prompt_seconds: float = 60.0
    # Rows in one answer to a pull; the documentation counts in hundreds.
    pull_page_rows: int = 100
    # How far a Timestamp may be from Nairobi's clock: catches UTC (three hours) and leaves room for a bad clock.
    clock_tolerance_seconds: float = 900.0
    # Some libraries write Timestamp in UTC. Daraja wants Nairobi's time, so this is for trying such a library out only.
    takes_utc: bool = False

    @property
    def apps(self) -> tuple[App, ...]:
        return App(self.consumer_key, self.consumer_secret), *self.more_apps

    def app_of(self, party: str) -> App:
        """Whose tokens are good for a shortcode, or for the shortcode of a till."""
        number = next((one.number for one in self.shortcodes if party in (one.number, one.till)), party)
        return next((app for app in self.more_apps if number in (app.shortcodes or ())), self.apps[0])


def parse_app(text: str) -> App:
    """Read `NUMBER[+NUMBER…]=KEY:SECRET`: an app beside the first, and the shortcodes that are called as it."""
    match = _APP.fullmatch(text)
    if match is None:
        raise ValueError(f"app {text!r} is not NUMBER[+NUMBER…]=KEY:SECRET, such as 600998=another-key:another-secret")
    return App(match["key"], match["secret"], tuple(match["shortcodes"].split("+")))


def parse_shortcodes(text: str) -> tuple[Shortcode, ...]:
    """Read `NUMBER[:TILL][=PASSKEY],…`; a number without a passkey gets the public or the development one."""
    shortcodes = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _SHORTCODE.fullmatch(part)
        if match is None:
            raise ValueError(
                f"shortcode {part!r} is not NUMBER[:TILL][=PASSKEY], such as 174379 or 600584:300584=secret"
            )
        default = SANDBOX_PASSKEY if match["number"] == SANDBOX_SHORTCODE else DEVELOPMENT_PASSKEY
        shortcodes.append(Shortcode(match["number"], match["passkey"] or default, match["till"]))
    if not shortcodes:
        raise ValueError("at least one shortcode is needed")
    return tuple(shortcodes)


def parse_seconds(text: str, *, recorded: str, none_word: str | None = None) -> float | None:
    """Read a duration: the word for "as recorded" gives None, the word for "none" gives 0, else seconds."""
    if text == recorded:
        return None
    if none_word is not None and text == none_word:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        words = " or ".join(filter(None, (recorded, none_word)))
        raise ValueError(f"{text!r} is not {words}, nor a number of seconds from 0 to 3600")
    return seconds
