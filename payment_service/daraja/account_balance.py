"""Account Balance: what our shortcode has to send, before refunds are started.

From "Daraja: Account Balance" and recorded results. How a question is asked stands in `questions`, and how a result is
taken apart, in `results`. The accounts come packed into one text, in any order, each as its name, the currency and four
amounts joined by bars, the accounts joined by ampersands. Of the amounts the first is all of it and the second what may
be spent: in recorded results it is the first without the third, which is reserved. An account that cannot be read, or
that is there twice, is left out, and takes no other with it.

A balance is a look, not a promise: what is there now may be sent by somebody else in a moment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from payment_service.daraja.client import DarajaClient, Exchange
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.order_codes import order_meaning
from payment_service.daraja.questions import Asked, ask
from payment_service.daraja.results import DONE, INITIATOR_REFUSED_CODES, Result, read_result
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind

ACCOUNT_BALANCE_PATH = "/mpesa/accountbalance/v1/query"

TOKEN_ALARM = (
    "Daraja refuses our token for Account Balance: check that the app has that product and that its keys belong to"
    " this environment. Payments are not affected."
)

_PAID_FROM = {ShortcodeKind.PAYBILL: "utility account", ShortcodeKind.TILL: "merchant account"}
"""The account into which payments go, and from which money is sent back."""

_SHILLINGS = re.compile(r"(-?[0-9]{1,15})(?:\.[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class BalanceQuestion:
    """Whose balance is asked for."""

    shortcode: Shortcode
    result_url: str
    timeout_url: str


@dataclass(frozen=True, slots=True)
class Balance:
    """What the accounts had."""

    spendable: Mapping[str, int]
    """Whole shillings that may be spent, by the account's name in lower case; cents are left out."""
    at: datetime | None

    def to_send(self, shortcode: Shortcode) -> int | None:
        """Whole shillings that refunds can be paid from; None where the account is not among those read."""
        return self.spendable.get(_PAID_FROM[shortcode.kind])


@dataclass(frozen=True, slots=True)
class NoBalance:
    """A result that tells of no balance, or the word that there will be none: it may be asked again."""

    why: str
    """For the log; never a text of the other side."""
    alarm: str | None = None
    """A sentence for the log at error level: what to check."""
    initiator_refused: bool = False
    """Every further question is refused in the same way, and some wrong passwords in a row lock it."""


async def ask_account_balance(
    client: DarajaClient, token: str, initiator: Initiator, question: BalanceQuestion
) -> tuple[Asked | NothingLearned, Exchange]:
    """Ask once."""
    fields = {
        "CommandID": "AccountBalance",
        "ResultURL": question.result_url,
        "QueueTimeOutURL": question.timeout_url,
        "Remarks": "Balance",
    }
    return await ask(
        client,
        token,
        "balance",
        ACCOUNT_BALANCE_PATH,
        fields,
        initiator=initiator,
        shortcode=question.shortcode,
        token_alarm=TOKEN_ALARM,
    )


def read_balance_result(body: bytes) -> Balance | NoBalance:
    """What a post to either address of the question says. Never raises."""
    result = read_result(body)
    if result.code is None or not result.came_to_an_end:
        return NoBalance("the result does not say that M-Pesa has answered")
    if result.code != DONE:
        refused = result.code in INITIATOR_REFUSED_CODES
        alarm = order_meaning(result.code).alarm if refused else None
        return NoBalance(f"the question was answered with code {result.code}", alarm, refused)
    spendable = _spendable(result)
    return Balance(spendable, result.time("BOCompletedTime")) if spendable else NoBalance("no account can be read")


def _spendable(result: Result) -> dict[str, int]:
    packed = result.only("AccountBalance")
    accounts = packed.split("&") if isinstance(packed, str) else []
    read = [found for account in accounts if (found := _read_account(account)) is not None]
    names = [name for name, _ in read]
    return {name: shillings for name, shillings in read if names.count(name) == 1}


def _read_account(account: str) -> tuple[str, int] | None:
    """Name, and what may be spent."""
    parts = [part.strip() for part in account.split("|")]
    if len(parts) < 4 or not parts[0] or parts[1] != "KES":
        return None
    spendable = _SHILLINGS.fullmatch(parts[3])
    return (parts[0].lower(), int(spendable[1])) if spendable is not None else None
