"""Which refusals of a push are proof that no prompt was shown: a closed list, as data.

From "Daraja: M-Pesa Express Simulate", its error table and recorded answers. The code alone is not enough
(500.001.1001 has at least seven meanings), so a row is found by code and normalised text; a text that is not listed
proves nothing, and neither does a row that is missing here on purpose: 500.003.02 "System is busy" and 500.003.1001
"Internal Server Error" may follow a prompt that was shown, and some texts belong to the query or to other products.
How an answer is taken apart before it is looked up is decided in `envelopes`.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from payment_service.domain.reasons import Reason


class Kind(StrEnum):
    """What a listed refusal allows us to do."""

    REFUSED = "REFUSED"
    """The same push would be refused again: the payment fails."""
    NOT_SENT = "NOT_SENT"
    """M-Pesa never saw the push: it may be sent again."""
    TOKEN_REFUSED = "TOKEN_REFUSED"
    """As NOT_SENT, and the token has to be renewed first."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row: where its code and text match, this is what happened."""

    code: str
    text: re.Pattern[str]
    """Has to match the whole normalised text."""
    kind: Kind
    reason: Reason = Reason.NOT_SENT
    alarm: str | None = None
    """A sentence for the log at error level: what to check."""
    slow_down: bool = False
    """We send too fast."""


RATE_LIMIT_WAIT = timedelta(seconds=2)
"""The pause after a rate limit that names none. Production limits are unpublished, but count per second or minute."""

RATE_LIMITED_CODE = "429"
"""What stands for a rate limit whose body names no code."""

EDGE_REFUSED_CODE = "EDGE_REFUSED"
"""What stands for the page of the Imperva edge, which stands before M-Pesa and has no codes."""

EDGE_STATUSES = frozenset({403, 503})
EDGE_PAGE = re.compile(r"incapsula|imperva", re.IGNORECASE)
EDGE_ALARM = (
    "Safaricom's edge (Imperva) blocks our requests before they reach M-Pesa: check that the address we send from "
    "is the one that was registered, and that nothing else at it misbehaves."
)

TOKEN_CODES = frozenset({"401.001", "400.003.01", "401.002.01", "401.003.01", "404.001.03"})
"""Every code under which Daraja refuses a token, whichever product is asked."""

_ADDRESS_ALARM = "Daraja knows no such address or method: check the configured base URL."
_FIELD_ALARM = "Daraja refused a field of our push: check the shortcode, its kind, the callback URL and the amount."
_CREDENTIALS_ALARM = (
    "Daraja refused the password of our push: check the passkey of the shortcode, and this machine's clock."
)


_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))


def normalise(text: str) -> str:
    """The text as the rows spell it: one line, lower case, plain dashes, without the full stop that comes and goes."""
    return " ".join(text.translate(_DASHES).split()).lower().rstrip(". ")


def find_refusal(code: str, text: str) -> Refusal | None:
    """The row for a code and a text as received; None where the list does not say what happened."""
    normalised = normalise(text)
    return next((row for row in REFUSALS if row.code == code and row.text.fullmatch(normalised)), None)


def _refused(code: str, text: str, reason: Reason, alarm: str | None = None) -> Refusal:
    return Refusal(code, re.compile(text), Kind.REFUSED, reason, alarm)


def _token(code: str, text: str) -> Refusal:
    return Refusal(code, re.compile(text), Kind.TOKEN_REFUSED)


def _rate(code: str, text: str) -> Refusal:
    return Refusal(code, re.compile(text), Kind.NOT_SENT, slow_down=True)


_FIELD = r"(bad request ?- ?)?invalid "
# Written with one r as well as with two.
_PREFIX = r"(error occurr?ed ?[:-] ?)?"
# After a dash comes the token, or that no product of the app fits.
_TOKEN_TEXT = _PREFIX + r"invalid access token( ?- ?.*)?"
_OURS = Reason.SERVICE_MISCONFIGURED

REFUSALS: tuple[Refusal, ...] = (
    # The misspelling is Safaricom's, from 2019.
    _refused("400.002.02", _FIELD + r"(phone ?numb?er|phonenumer|partya)", Reason.PHONE_NUMBER_REFUSED),
    _refused("400.002.02", _FIELD + r"amount", Reason.AMOUNT_NOT_ALLOWED, _FIELD_ALARM),
    _refused("400.002.02", _FIELD + r"[a-z]+", _OURS, _FIELD_ALARM),
    _refused("400.002.05", r"(bad request ?- ?)?invalid request payload|bad request", _OURS, _FIELD_ALARM),
    _refused("400.003.02", r"(bad request ?- ?)?invalid request payload|bad request", _OURS, _FIELD_ALARM),
    *(_token(code, _TOKEN_TEXT) for code in sorted(TOKEN_CODES)),
    _refused("404.001.01", r"resource not found", _OURS, _ADDRESS_ALARM),
    _refused("404.002.01", r"resource not found", _OURS, _ADDRESS_ALARM),
    _refused("404.003.01", r"resource not found", _OURS, _ADDRESS_ALARM),
    _refused("404.001.04", r"invalid authentication header", _OURS, _ADDRESS_ALARM),
    _refused("405.001", r"(.* )?method( is)? not allowed( .*)?", _OURS, _ADDRESS_ALARM),
    _refused(
        "500.001.1001",
        r"(\[[a-z]+ ?-? ?\] ?-? ?)?merchant does not exist",
        _OURS,
        "Daraja does not know our shortcode: check its number, and that the app was approved for it.",
    ),
    _refused("500.001.1001", r"wrong credentials", _OURS, _CREDENTIALS_ALARM),
    _refused("500.001.1001", r"\[merchantvalidate\] ?- ?.*", _OURS, _CREDENTIALS_ALARM),
    _refused("500.001.1001", r"unable to lock subscriber.*", Reason.PHONE_BUSY),
    _refused("500.001.1001", r"\[cbs ?- ?\] ?no iccid found.*", Reason.NOT_AN_MPESA_NUMBER),
    Refusal("500.002.1001", re.compile(r"service is currently under maintenance.*"), Kind.NOT_SENT),
    _rate("500.003.02", _PREFIX + r"spike arrest violation.*"),
    _rate("500.003.03", _PREFIX + r"quota violation.*"),
    _rate("policies.ratelimit.SpikeArrestViolation", r"spike arrest violation.*"),
    _rate("policies.ratelimit.QuotaViolation", r".*quota.*"),
)
