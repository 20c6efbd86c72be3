"""B2C v3: money from a shortcode's utility account to any M-Pesa customer, under a name that the merchant gives it.

The shapes are those of "Daraja: B2C" and of recorded results. The merchant's OriginatorConversationID is what keeps an
order from being carried out twice: one that M-Pesa has taken before is refused, whatever became of the answer.
"""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.errors import ERRORS, Refusal, invalid
from daraja_simulator.fields import text_of
from daraja_simulator.nairobi import dotted_timestamp
from daraja_simulator.orders import Kind, answer_order, failure, public_name, too_little
from daraja_simulator.phones import virtual_phone
from daraja_simulator.push import PHONE, amount_of, party_of
from daraja_simulator.results import (
    PROCESSED,
    REMARKS_CHARACTERS_MAX,
    Asked,
    Outcome,
    Parameter,
    address_checks,
    first_wrong,
    operator_checks,
    written_amount,
)
from daraja_simulator.returns import B2C, Order
from daraja_simulator.world import World

AMOUNT_MIN_KES: Final = 10
_ID_CHARACTERS_MAX: Final = 64
_COMMANDS: Final = ("BusinessPayment", "SalaryPayment", "PromotionPayment")
_OPERATOR: Final = "InitiatorName"


async def answer_b2c(world: World, request: web.Request) -> web.StreamResponse:
    """POST /mpesa/b2c/v3/paymentrequest."""
    return await answer_order(world, request, _KIND)


def _note(world: World, order: Order, fields: dict[str, Any]) -> None:
    order.shortcode, order.amount = text_of(fields, "PartyA"), amount_of(fields) or 0
    order.originator_conversation_id = text_of(fields, "OriginatorConversationID")
    world.returns.assign_phone(order, text_of(fields, "PartyB")[:32])


def _objection(world: World, order: Order, fields: dict[str, Any]) -> Refusal | None:
    wrong = first_wrong(
        ("OriginatorConversationID", 0 < len(order.originator_conversation_id) <= _ID_CHARACTERS_MAX),
        *operator_checks(fields, _OPERATOR),
        ("CommandID", fields.get("CommandID") in _COMMANDS),
        ("Amount", order.amount),
        ("PartyA", party_of(world, order.shortcode) is not None),
        ("PartyB", PHONE.fullmatch(order.phone)),
        *address_checks(fields),
        ("Occassion", len(text_of(fields, "Occassion")) <= REMARKS_CHARACTERS_MAX),
    )
    if wrong is not None:
        return invalid(wrong)
    if order.originator_conversation_id in world.returns.by_conversation:
        world.hits["b2c.duplicate"] += 1
        return ERRORS["duplicate_originator"]
    return None


def _carry_out(world: World, order: Order, asked: Asked) -> Outcome:
    merchant = party_of(world, order.shortcode)
    if merchant is None:
        return failure(asked, 2028, "The request is not permitted according to product assignment.")
    if order.amount < AMOUNT_MIN_KES:
        world.hits["b2c.below_minimum"] += 1
        return failure(asked, 2, "Declined due to limit rule: less than the minimum transaction amount.")
    if virtual_phone(order.phone).ending.name == "not_registered":
        world.hits["b2c.not_registered"] += 1
        return failure(asked, 2040, "Credit Party customer type (Unregistered or Registered Customer) error.")
    short = too_little(world, order, asked, merchant.number)
    if short is not None:
        return short
    now = time.time()
    world.returns.pay_out(world.ledger, order, merchant.number, now)
    return Outcome(0, PROCESSED, _parameters(world, order, asked, merchant.number, now), order.receipt)


def _parameters(world: World, order: Order, asked: Asked, shortcode: str, at: float) -> list[Parameter]:
    parameters: list[Parameter] = [
        ("TransactionAmount", written_amount(asked, order.amount)),
        ("TransactionReceipt", order.receipt),
        ("ReceiverPartyPublicName", public_name(order.phone, asked)),
        ("TransactionCompletedDateTime", dotted_timestamp(at)),
        ("B2CUtilityAccountAvailableFunds", float(world.returns.balance_kes(world.ledger, shortcode))),
        ("B2CWorkingAccountAvailableFunds", 0.0),
        ("B2CRecipientIsRegisteredCustomer", "Y"),
        ("B2CChargesPaidAccountAvailableFunds", 0.0),
    ]
    if asked.chosen.take("b2c.no_receipt"):
        parameters = [pair for pair in parameters if pair[0] != "TransactionReceipt"]
    return parameters


_KIND: Final = Kind(B2C, _OPERATOR, _note, _objection, _carry_out)
