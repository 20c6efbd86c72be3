"""Who is logged in: whom the proxy in front names, or whom a certificate names. Nothing is served to anybody else.

What a header says is believed only from the proxy's address and beside the secret that the proxy knows: anybody else
could write the same header.
"""

import hmac
import re
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiohttp import web

from case_desk.config import DeskSettings
from runtime.networks import address_in
from runtime.rarely import Rarely

log = structlog.get_logger()

SECRET_HEADER: Final = "X-Desk-Secret"
_NAME: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")


class NotLoggedIn(Exception):
    """Nobody vouches for whoever asks; the text says what is missing, for whoever sets the desk up."""


class Strangers:
    """Tells of those who ask without a name: one line a minute at most for each thing that is missing."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._by_why: dict[str, Rarely] = {}

    def refused(self, why: NotLoggedIn) -> None:
        """One more was refused. What is missing is one of the few sentences below."""
        if refused := self._by_why.setdefault(str(why), Rarely(self._now)).happened():
            log.warning("nobody is logged in", why=str(why), refused=refused)


def person_of(request: web.Request, settings: DeskSettings) -> str:
    """The name of the person who is logged in, in small letters, or NotLoggedIn."""
    shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
    if settings.tls is not None and not shown:
        raise NotLoggedIn("the connection shows no certificate that the desk's authority has signed")
    told = _named_by_proxy(request, settings) if settings.proxy_addresses else _named_by_certificate(shown)
    name = told.strip(" \t")
    # Judged before it is made small: other letters, such as the sign for kelvin, become one of these by that.
    if not _NAME.fullmatch(name):
        raise NotLoggedIn('the name is not one of 1 to 64 letters, digits or "-_.:@"')
    # A login may be typed in any case, and is one person's.
    return name.lower()


def _named_by_proxy(request: web.Request, settings: DeskSettings) -> str:
    peer = address_in(request.remote or "")
    if peer is None or not settings.proxy_addresses.hold(peer):
        raise NotLoggedIn("the connection does not come from DESK_PROXY_ADDRESSES")
    assert settings.proxy_secret is not None, "the settings have been checked"
    secrets, expected = request.headers.getall(SECRET_HEADER, []), settings.proxy_secret.get_secret_value()
    if len(secrets) != 1 or not hmac.compare_digest(_bytes(secrets[0]), _bytes(expected)):
        raise NotLoggedIn(f"{SECRET_HEADER} does not hold the secret of DESK_PROXY_SECRET_FILE")
    names = request.headers.getall(settings.person_header, [])
    if len(names) != 1:
        raise NotLoggedIn(f"{settings.person_header} does not name one person")
    return names[0]


def _bytes(text: str) -> bytes:
    """Of a header, whatever a stranger wrote there."""
    return text.encode("utf-8", "surrogateescape")


def _named_by_certificate(shown: Any) -> str:
    """The one common name of a person's certificate that has been verified. A program's is no person's."""
    if any(kind == "URI" and uri.lower().startswith("spiffe:") for kind, uri in shown.get("subjectAltName", ())):
        raise NotLoggedIn("the certificate is a program's: it holds a SPIFFE URI")
    names = [value for part in shown["subject"] for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise NotLoggedIn("the certificate does not have one common name")
    return str(names[0])
