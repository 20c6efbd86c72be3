"""Account Balance: what a shortcode's accounts have, acknowledged at once and told later, packed into one text.

The shapes are those of "Daraja: Account Balance" and of recorded results: for each account its name, the currency, and
four amounts (all of it, what may be spent, what is reserved, what is not cleared) joined by bars, the accounts joined
by ampersands. What may be spent is what the books have in the utility account.
"""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.errors import invalid
from daraja_simulator.fields import text_of
from daraja_simulator.push import party_of
from daraja_simulator.results import (
    PROCESSED,
    Asked,
    Outcome,
    acknowledgement,
    address_checks,
    first_wrong,
    operator_checks,
    read_fields,
    refused_operator,
    result_body,
    scripted_answer,
    tell,
    wait_for_result,
    written_time,
)
from daraja_simulator.settings import Shortcode
from daraja_simulator.world import World

GROUP: Final = "balance"

_RESERVED_KES: Final = 500


async def answer_balance(world: World, request: web.Request) -> web.Response:
    """POST /mpesa/accountbalance/v1/query."""
    fields = await read_fields(world, request, "invalid_access_token_401_002")
    if isinstance(fields, web.Response):
        return fields
    world.enquiries.balances_asked += 1
    asked, merchant = _asked(world, fields, world.enquiries.balances_asked), party_of(world, text_of(fields, "PartyA"))
    await world.wait_latency(GROUP, world.enquiries.balances_asked)
    wrong = first_wrong(
        *operator_checks(fields),
        ("CommandID", fields.get("CommandID") == "AccountBalance"),
        ("PartyA", merchant is not None),
        ("IdentifierType", text_of(fields, "IdentifierType") in ("2", "4")),
        *address_checks(fields),
    )
    response = scripted_answer(world, GROUP, asked.behaviour)
    if merchant is not None and ((response is None and wrong is None) or asked.behaviour.result is not None):
        world.spawn(_live_through(world, asked, merchant))
    if response is not None:
        return response
    return acknowledgement(asked) if wrong is None else world.refuse(invalid(wrong))


def _asked(world: World, fields: dict[str, Any], nth: int) -> Asked:
    behaviour = world.enquiries.next_balance()
    chosen, draws = world.chosen_by(GROUP, behaviour.quirks, GROUP, nth)
    ids = world.request_id(GROUP, nth), world.conversation_id(time.time(), GROUP, nth)
    reference = "QueueTimeoutURL", "https://internal.example/abresults/v1/submit"
    return Asked(GROUP, fields, behaviour, chosen, draws, *ids, reference)


async def _live_through(world: World, asked: Asked, merchant: Shortcode) -> None:
    await wait_for_result(world, asked)
    outcome = refused_operator(world, asked) or _told(world, asked, merchant)
    await tell(world, asked, result_body(world, asked, outcome))


def _told(world: World, asked: Asked, merchant: Shortcode) -> Outcome:
    packed = "&".join(_accounts(world, merchant, asked))
    completed = written_time(asked, time.time())
    return Outcome(0, PROCESSED, [("AccountBalance", packed), ("BOCompletedTime", completed)])


def _accounts(world: World, merchant: Shortcode, asked: Asked) -> list[str]:
    kes = world.returns.balance_kes(world.ledger, merchant.number)
    # As far as is known a till's takings are in another account than a PayBill's.
    paid_from = "Merchant Account" if merchant.till is not None else "Utility Account"
    reserved = _RESERVED_KES if asked.chosen.take("balance.reserved") else 0
    accounts = [
        "Working Account|KES|0.00|0.00|0.00|0.00",
        f"{paid_from}|KES|{kes + reserved}.00|{kes}.00|{reserved}.00|0.00",
        "Charges Paid Account|KES|-1540.00|-1540.00|0.00|0.00",
        "Organization Settlement Account|KES|0.00|0.00|0.00|0.00",
    ]
    if asked.chosen.take("balance.account_order"):
        accounts.reverse()
    return accounts
