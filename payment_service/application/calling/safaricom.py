"""What every conversation with Safaricom is had with, whatever it is about: a prompt, a query, a status, the books.

Each use case takes this whole, and beside it only what is its own.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from payment_service.application.calling.access_token import AccessToken, NoAccessToken, Token, get_token
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.daraja.client import DarajaClient
from payment_service.daraja.shortcodes import Shortcode
from payment_service.security.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Safaricom:
    """Safaricom as this process reaches it: the client, the shortcodes, and the token of each one's app."""

    daraja: DarajaClient
    tokens: Mapping[str, AccessToken]
    """By shortcode; those that are called as one app share its token."""
    shortcodes: Mapping[str, Shortcode]
    """By number; nothing is asked for about any other."""
    sealer: Sealer
    """Seals what goes over the wire, and opens what is sealed of a payment."""
    clock: Callable[[], datetime]

    def only(self, numbers: Collection[str]) -> Self:
        """The same for some of the shortcodes."""
        tokens, shortcodes = self.tokens, self.shortcodes
        return replace(self, tokens={n: tokens[n] for n in numbers}, shortcodes={n: shortcodes[n] for n in numbers})


async def turn_and_token(safaricom: Safaricom, budget: RequestBudget, shortcode: str) -> Token:
    """What a send waits for before it claims anything.

    Raises BudgetExhausted, or NoAccessToken; the turn is given back then.
    """
    await budget.take(shortcode)
    try:
        return await get_token(safaricom.tokens[shortcode])
    except NoAccessToken:
        budget.give_back(shortcode)
        raise
