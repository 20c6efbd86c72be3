"""What the result codes of an order to send money mean, a reversal or a B2C payment: a closed list, as data.

From "Daraja: Reversals", "Daraja: B2C" and recorded results. They are not those of a prompt (`result_codes`), although
the numbers are shared: 2001 is a passenger's wrong PIN there, and our own initiator here. A code proves that no money
moved only if it is listed here as doing so. Everything else is unknown: the order may have been carried out all the
same. The text beside a code is never read.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Ending(StrEnum):
    """How an order ended, as its code says."""

    DONE = "DONE"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    """The transaction was reversed before, by this order or another, or by Safaricom itself."""
    FAILED = "FAILED"
    """No money moved."""
    UNKNOWN = "UNKNOWN"


class OrderMeaning(NamedTuple):
    """What a code says, and what an operator has to look at."""

    ending: Ending
    alarm: str | None = None
    """A sentence for the log at error level: what to check. None where nothing is wrong on our side."""


def _failed(alarm: str | None = None) -> OrderMeaning:
    return OrderMeaning(Ending.FAILED, alarm)


_UNKNOWN = OrderMeaning(Ending.UNKNOWN)
_FLOAT_ALARM = "The M-Pesa account that refunds are paid from has too little money: move money into it."
_ACCOUNT_ALARM = "M-Pesa does not let our shortcode send money: check with Safaricom that its account is active."
_ROLE_ALARM = (
    "M-Pesa does not let our initiator send money: give it the role Org Reversals Initiator for refunds of the whole"
    " amount, and ORG B2C API initiator for a part, on the M-Pesa portal."
)
_INITIATOR_ALARM = (
    "M-Pesa refuses our initiator: check its name and password (it expires after 90 days and locks after three wrong"
    " tries), and that the certificate is this environment's."
)

MEANINGS: Mapping[str, OrderMeaning] = MappingProxyType(
    {
        "0": OrderMeaning(Ending.DONE),
        "1": _failed(_FLOAT_ALARM),
        "2": _failed(),
        "3": _failed(),
        "4": _failed(),
        "8": _failed(),
        "11": _failed(_ACCOUNT_ALARM),
        "21": _failed(_ROLE_ALARM),
        "2001": _failed(_INITIATOR_ALARM),
        "2006": _failed(_ACCOUNT_ALARM),
        "2028": _failed(_ACCOUNT_ALARM),
        "2040": _failed(),
        "8006": _failed(_INITIATOR_ALARM),
        "R000001": OrderMeaning(Ending.ALREADY_REVERSED),
        "R000002": _failed(),
        "SFC_IC0003": _failed(),
    }
)


def order_meaning(code: str) -> OrderMeaning:
    """What the code says. A code that is not listed says nothing."""
    return MEANINGS.get(code, _UNKNOWN)
