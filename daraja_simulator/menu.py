"""The M-PESA menu of a phone in hand, Pay Bill: its person types the account, and no system has asked for the money.

Decides what M-Pesa takes there. The money has a receipt, a message and a row in Pull Transactions, as a prompt's has.
It has no callback, because nobody gave an address for one; what a registered C2B address is told is not simulated.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

from daraja_simulator.behaviour import Behaviour
from daraja_simulator.hands import THE_WRONG_PIN
from daraja_simulator.phones import virtual_phone
from daraja_simulator.push import AMOUNT_MAX_KES, merchant_of
from daraja_simulator.texts import account_of, written_kes
from daraja_simulator.world import Plan, World

ACCOUNT_CHARACTERS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Typed:
    """What the person has typed."""

    business: str = ""
    account: str = ""
    amount: str = ""
    pin: str = ""


NOTHING: Final = Typed()


def pay_bill(world: World, phone: str, typed: Typed) -> str:
    """Move the money; why not, in a sentence, where M-Pesa takes it not."""
    why_not = _why_not(world, phone, typed)
    if not why_not:
        paid = world.ledger.record_by_hand(phone, typed.business, typed.account, int(typed.amount), time.time())
        # Its row in Pull Transactions has the quirks of chance, and no script.
        world.plans[paid.number] = Plan(virtual_phone(phone), Behaviour())
    return why_not


def _why_not(world: World, phone: str, typed: Typed) -> str:
    merchant = merchant_of(world, typed.business)
    if merchant is None or merchant.till is not None:
        return "There is no PayBill with this business number."
    if not typed.account.isprintable() or not 0 < len(typed.account) <= ACCOUNT_CHARACTERS_MAX:
        return f"An account number has 1 to {ACCOUNT_CHARACTERS_MAX} characters."
    if re.fullmatch(r"[0-9]{1,6}", typed.amount, re.ASCII) is None or not 0 < int(typed.amount) <= AMOUNT_MAX_KES:
        return f"An amount is a whole number of shillings from 1 to {AMOUNT_MAX_KES:,}."
    if re.fullmatch(r"[0-9]{4}", typed.pin, re.ASCII) is None:
        return "A PIN has four digits."
    if phone in world.open_prompts:
        return "Another M-PESA transaction is under way on this phone. End it first."
    if typed.pin == THE_WRONG_PIN:
        return "You have entered the wrong PIN. Please try again."
    balance = account_of(world, phone).balance_kes
    if balance < int(typed.amount):
        return f"Failed. You do not have enough money. Your M-PESA balance is Ksh{written_kes(balance)}."
    return ""
