"""The virtual phones: a number decides what its owner does with a prompt, and how long that takes.

Numbers of the form 2547000NNCCC are special when CCC is in the table below; NN is free, so every ending has a hundred
phones. Every other number, also in that range, pays. Safaricom's public test number 254708374149 never answers, as in
the sandbox. Times run from the prompt to the result; the recorded ones are: success 10-18 s, cancelled 14 s,
unreachable 26 s, a prompt left alone about 60 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from daraja_simulator.behaviour import Answer, Behaviour, Delivery

RANGE_PREFIX: Final = "2547000"
SANDBOX_TEST_PHONE: Final = "254708374149"

UNSCRIPTED: Final = Behaviour()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a prompt ends: the result code, its known wordings (the usual one first), and the time it takes."""

    name: str
    result_code: int | str
    wordings: tuple[str, ...]
    seconds_low: float
    seconds_high: float


@dataclass(frozen=True, slots=True)
class VirtualPhone:
    """One row of the table: three digits, and what a phone with them does."""

    digits: str
    ending: Ending
    text: str
    behaviour: Behaviour = UNSCRIPTED


_SUCCESS_TEXT: Final = "The service request is processed successfully."

PAID: Final = Ending("paid", 0, (_SUCCESS_TEXT,), 10, 18)

ENDINGS: Final = (
    PAID,
    Ending("paid_late", 0, (_SUCCESS_TEXT,), 150, 160),
    Ending(
        "no_funds",
        1,
        ("The balance is insufficient for the transaction.", "The balance is insufficient for the transaction"),
        6,
        9,
    ),
    Ending("below_minimum", 2, ("Less than minimum transaction value.",), 6, 9),
    Ending("above_maximum", 3, ("More than maximum transaction value.",), 6, 9),
    Ending("daily_limit", 4, ("Would exceed daily transfer limit.",), 6, 9),
    Ending("merchant_limit", 8, ("Would exceed maximum balance.",), 6, 9),
    Ending("rule_limited", 17, ("Rule limited.",), 3, 5),
    Ending("mpesa_busy", 26, ("System busy. The service request is rejected.", "Traffic blocking condition."), 4, 8),
    Ending("locked", 1001, ("Unable to lock subscriber, a transaction is already in process.",), 2, 4),
    Ending("expired", 1019, ("Transaction has expired.", "Transaction expired. No MO has been received"), 60, 65),
    Ending("prompt_failed", 1025, ("An error occurred while sending a push request",), 2, 4),
    Ending("timed_out", 1031, ("Request timed out.",), 40, 50),
    Ending("cancelled", 1032, ("Request cancelled by user", "Request Cancelled by user."), 12, 15),
    Ending("sms_timeout", 1036, ("SMSC ACK timeout.",), 20, 30),
    Ending(
        "unreachable",
        1037,
        ("DS timeout user cannot be reached.", "DS timeout user cannot be reached", "No response from user."),
        25,
        27,
    ),
    Ending("wrong_pin", 2001, ("The initiator information is invalid.",), 14, 18),
    Ending("wrong_type", 2028, ("The request is not permitted according to product assignment.",), 2, 4),
    Ending("not_registered", 2040, ("Credit Party customer type (Unregistered or Registered Customer) error.",), 2, 4),
    Ending("pin_locked", 8006, ("The security credential is locked.",), 10, 14),
    Ending("push_not_sent", 9999, ("Error occurred while sending push request",), 2, 4),
    Ending("unlisted_code", 7777, ("A result that is on no list.",), 6, 9),
    Ending("silent", 1037, ("No response from user.",), 60, 62),
)

BY_NAME: Final = {ending.name: ending for ending in ENDINGS}


def _row(digits: str, name: str, text: str, behaviour: Behaviour = UNSCRIPTED) -> VirtualPhone:
    return VirtualPhone(digits, BY_NAME[name], text, behaviour)


PHONES: Final = (
    _row("001", "no_funds", "has not enough money"),
    _row("002", "below_minimum", "is told the amount is too small"),
    _row("003", "above_maximum", "is told the amount is too large"),
    _row("004", "daily_limit", "has reached the daily limit"),
    _row("008", "merchant_limit", "cannot pay: the merchant's balance is full"),
    _row("017", "rule_limited", "paid the same amount a moment ago"),
    _row("019", "expired", "lets the prompt expire"),
    _row("025", "prompt_failed", "cannot be shown the prompt (1025)"),
    _row("026", "mpesa_busy", "meets a busy M-Pesa"),
    _row("028", "wrong_type", "may not pay to this kind of shortcode"),
    _row("031", "timed_out", "runs into the old time-out (1031)"),
    _row("032", "cancelled", "cancels"),
    _row("036", "sms_timeout", "is not reached by SMS (1036)"),
    _row("037", "unreachable", "is off or out of reach"),
    _row("040", "not_registered", "has no M-Pesa account"),
    _row("086", "pin_locked", "has a locked PIN"),
    _row("099", "push_not_sent", "cannot be shown the prompt (9999)"),
    _row("101", "locked", "has another M-Pesa session open (by callback)"),
    _row("201", "wrong_pin", "types a wrong PIN"),
    _row("777", "unlisted_code", "ends with a result code nobody knows"),
    _row("901", "paid", "pays; the answer to the push is lost", Behaviour(answer=Answer.LOST)),
    _row("902", "paid", "pays; the callback overtakes the answer", Behaviour(callback=Delivery.BEFORE_ANSWER)),
    _row("903", "paid", "pays; the callback comes twice", Behaviour(callback=Delivery.TWICE)),
    _row("904", "paid_late", "pays after 150 s, when everyone has given up"),
    _row("905", "paid", "pays; the callback has no receipt", Behaviour(callback_without=("MpesaReceiptNumber",))),
    _row("911", "paid", "is busy: the push is refused", Behaviour(error="subscriber_locked")),
    _row("912", "paid", "has no Safaricom SIM: the push is refused", Behaviour(error="no_iccid")),
    _row("913", "paid", "meets a busy system: the push is refused", Behaviour(error="system_busy")),
    _row("998", "paid", "pays; the callback never comes", Behaviour(callback=Delivery.NEVER)),
    _row("999", "silent", "does not answer; no callback ever comes", Behaviour(callback=Delivery.NEVER)),
)

_BY_DIGITS: Final = {phone.digits: phone for phone in PHONES}
_PAYS: Final = VirtualPhone("", PAID, "pays")
_SANDBOX: Final = _row("", "unreachable", "Safaricom's public test number: never answers")


def virtual_phone(number: str) -> VirtualPhone:
    """The phone behind a number; any number has one."""
    if number.startswith(RANGE_PREFIX) and len(number) == 12:
        return _BY_DIGITS.get(number[-3:], _PAYS)
    return _SANDBOX if number == SANDBOX_TEST_PHONE else _PAYS
