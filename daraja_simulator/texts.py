"""What M-Pesa writes on a phone: the prompt, and the messages about money, with the balance after each.

The wordings are M-Pesa's own, cut down to what these books know: a merchant has a number and no name here. A phone's
account is not kept anywhere; it follows from the ledger, from the returns, and from what its person put on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from daraja_simulator.hands import NO_FUNDS, WRONG_PIN, Hand
from daraja_simulator.ledger import Push
from daraja_simulator.nairobi import NAIROBI
from daraja_simulator.phones import BY_NAME
from daraja_simulator.returns import B2C, Return
from daraja_simulator.world import World

# On every phone, before anything happens to it.
OPENING_KES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Message:
    """One SMS from MPESA."""

    time: float
    text: str

    @property
    def clock(self) -> str:
        return written_time(self.time)


@dataclass(frozen=True, slots=True)
class Account:
    """What a phone has, and what it was told, the newest first."""

    balance_kes: int
    messages: list[Message]


def prompt_text(world: World, push: Push) -> str:
    """As the phone shows it, above the line for the PIN."""
    return f"Do you want to pay Ksh {push.amount}.00 to {payee(world, push)}? Enter M-PESA PIN:"


def payee(world: World, push: Push) -> str:
    """Whom the money is for, in one line: with an account where the merchant is a PayBill."""
    till = next((one.till for one in world.settings.shortcodes if one.number == push.shortcode), None)
    return f"TILL {till}" if till is not None else f"PAYBILL {push.shortcode} Account no. {push.account_reference}"


def account_of(world: World, phone: str) -> Account:
    """The phone's account from its first day to now."""
    balance, messages = OPENING_KES, []
    for at, kes, text in sorted(_movements(world, phone), key=lambda movement: movement[0]):
        balance += kes
        if text:
            messages.append(Message(at, text.format(balance=written_kes(balance))))
    return Account(balance, messages[::-1])


def set_balance(world: World, phone: str, kes: int) -> None:
    """As when its person deposits money at an agent, or takes it out."""
    hand = world.hands.by_phone.setdefault(phone, Hand())
    hand.added_kes.append((time.time(), kes - account_of(world, phone).balance_kes))


def _movements(world: World, phone: str) -> Iterator[tuple[float, int, str]]:
    """When, what it does to the balance, and the message, if one was sent; {balance} is to be filled in."""
    hand = world.hands.by_phone.get(phone)
    yield from ((at, kes, "") for at, kes in (hand.added_kes if hand is not None else ()))
    for push in world.ledger.pushes_by_phone.get(phone, ()):
        if push.debited_kes:
            yield push.debited_time, -push.debited_kes, _confirmed(world, push)
        elif push.ended_time is not None and (failed := _failed(world, push)):
            yield push.ended_time, 0, failed
    yield from ((sent.time, sent.amount, _returned(sent)) for sent in world.returns.returns if sent.phone == phone)


def _confirmed(world: World, push: Push) -> str:
    to = payee(world, push).replace(" Account no. ", " for account ")
    verb = "sent" if " for account " in to else "paid"
    return (
        f"{push.receipt} Confirmed. Ksh{written_kes(push.debited_kes)} {verb} to {_escaped(to)} on"
        f" {written_time(push.debited_time)}. New M-PESA balance is Ksh{{balance}}. Transaction cost, Ksh0.00."
    )


def _failed(world: World, push: Push) -> str:
    """M-Pesa writes nothing when a prompt is cancelled or left alone."""
    if push.result_code == BY_NAME[NO_FUNDS].result_code:
        return (
            f"Failed. You do not have enough money in your M-PESA account to pay Ksh{written_kes(push.amount)} to"
            f" {_escaped(payee(world, push))}. Your M-PESA balance is Ksh{{balance}}."
        )
    if push.result_code == BY_NAME[WRONG_PIN].result_code:
        return "You have entered the wrong PIN. Please try again."
    return ""


def _returned(sent: Return) -> str:
    when, kes = written_time(sent.time), written_kes(sent.amount)
    if sent.kind == B2C or sent.payment is None:
        return (
            f"{sent.receipt} Confirmed. You have received Ksh{kes} from {sent.shortcode} on {when}."
            f" New M-PESA balance is Ksh{{balance}}."
        )
    return (
        f"{sent.receipt} Confirmed. Transaction {sent.payment.receipt} has been reversed on {when}, and Ksh{kes} is"
        f" credited to your M-PESA account. New M-PESA balance is Ksh{{balance}}."
    )


def _escaped(text: str) -> str:
    """A merchant's own words may have braces, which are no place for the balance."""
    return text.replace("{", "{{").replace("}", "}}")


def written_kes(kes: int) -> str:
    return f"{kes:,}.00"


def written_time(at: float) -> str:
    """29/11/26 at 2:15 AM, in Nairobi."""
    moment = datetime.fromtimestamp(int(at), NAIROBI)
    return f"{moment.day}/{moment.month}/{moment:%y} at {moment.hour % 12 or 12}:{moment:%M %p}"
