"""What the result codes of a prompt mean: a closed list, as data.

From "Daraja: M-Pesa Express Simulate", "Daraja: M-Pesa Express Query" and recorded results. A code ends a payment only
if it is listed here as doing so. Everything else is unknown and proves nothing: codes of other products that share the
number range (1050, 2032, 4001, C2B00011, R000001 …), codes whose meaning the sources disagree on (15, 18, 20, 21, 24,
25, 29), and codes that nobody has seen yet. The text beside a code is never read: 1037 alone comes with three.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from payment_service.domain.facts import Verdict
from payment_service.domain.reasons import Reason

UNLISTED_SHAPE = "UNLISTED"
"""What stands for a code of no known shape: it may be somebody's phone number, and a code is stored and logged."""


class Meaning(NamedTuple):
    """What a code says about the money, why, and what an operator has to look at."""

    verdict: Verdict
    reason: Reason | None = None
    alarm: str | None = None
    """A sentence for the log at error level: what to check. None where nothing is wrong on our side."""


def _failed(reason: Reason, alarm: str | None = None) -> Meaning:
    return Meaning(Verdict.FAILED, reason, alarm)


_UNKNOWN = Meaning(Verdict.UNKNOWN)
# The prompt timed out, could not be delivered or was not answered, as far as one system knows. Payers have been
# debited all the same, so none of these is proof.
_UNCERTAIN = Meaning(Verdict.UNCERTAIN)
_NOT_ALLOWED = _failed(Reason.PAYMENT_NOT_ALLOWED)
_PROMPT_TOO_LONG = _failed(
    Reason.SERVICE_MISCONFIGURED,
    "M-Pesa refused the prompt's text: check the length of the business name, account references and descriptions.",
)

MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        "0": Meaning(Verdict.PAID),
        "1": _failed(Reason.INSUFFICIENT_FUNDS),
        "2": _failed(Reason.AMOUNT_NOT_ALLOWED),
        "3": _failed(Reason.AMOUNT_NOT_ALLOWED),
        "4": _failed(Reason.DAILY_LIMIT_REACHED),
        "8": _failed(
            Reason.RECEIVER_LIMIT_REACHED,
            "Our M-Pesa account is at its balance limit and receives nothing more: move money out of it.",
        ),
        "17": _failed(Reason.REPEATED_TOO_SOON),
        "26": _failed(Reason.PROVIDER_BUSY),
        "1001": _failed(Reason.PHONE_BUSY),
        "1019": _UNCERTAIN,
        "1025": _failed(Reason.PROMPT_FAILED),
        "1031": _UNCERTAIN,
        "1032": Meaning(Verdict.CANCELLED, Reason.DECLINED_BY_CUSTOMER),
        "1036": _UNCERTAIN,
        "1037": _UNCERTAIN,
        "1101": _PROMPT_TOO_LONG,
        "1102": _PROMPT_TOO_LONG,
        "2001": _failed(Reason.WRONG_PIN),
        "2006": _NOT_ALLOWED,
        "2007": _NOT_ALLOWED,
        "2008": _NOT_ALLOWED,
        "2026": _NOT_ALLOWED,
        "2028": _failed(
            Reason.SERVICE_MISCONFIGURED,
            "M-Pesa does not allow this kind of payment to our shortcode: check that its kind (PayBill or Till) and "
            "its till number are configured as they were registered.",
        ),
        "2029": _NOT_ALLOWED,
        "2040": _failed(Reason.NOT_AN_MPESA_NUMBER),
        "2043": _NOT_ALLOWED,
        "2202": _NOT_ALLOWED,
        "4999": Meaning(Verdict.STILL_PROCESSING),
        "8006": _failed(Reason.PIN_LOCKED),
        "9999": _UNCERTAIN,
        "SFC_IC0003": _failed(
            Reason.SERVICE_MISCONFIGURED,
            "M-Pesa knows no such operator for our shortcode: check the till's set-up on the M-Pesa portal.",
        ),
    }
)


_KNOWN_SHAPE = re.compile(r"-?[0-9]{1,5}")
_DIGITS = re.compile(r"-?[0-9]+")


def read_code(value: object) -> str | None:
    """The code as the list spells it, from a number or a text; None for what can be no code."""
    # The type is compared, not isinstance: False is an int that equals 0, and would read as "paid".
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not text.isascii():
        return None
    if text in MEANINGS or _KNOWN_SHAPE.fullmatch(text):
        return None if text == "-0" else text
    return UNLISTED_SHAPE if _DIGITS.fullmatch(text) else None


def meaning_of(code: str) -> Meaning:
    """What the code says. A code that is not listed says nothing."""
    return MEANINGS.get(code, _UNKNOWN)
