"""Reversal: a payment goes back to its payer, whole and once, by the receipt it came with.

The shapes are those of "Daraja: Reversals" and of recorded results. The amount has to be that of the payment: whether a
part can be reversed is not known. Safaricom also takes payments back itself, at the payer's request; a reversal is then
told that it comes too late.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.errors import Refusal, invalid
from daraja_simulator.fields import text_of
from daraja_simulator.ledger import Push
from daraja_simulator.orders import Kind, answer_order, failure, public_name, too_little
from daraja_simulator.push import amount_of, party_of
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
    written_time,
)
from daraja_simulator.returns import REVERSAL, Order
from daraja_simulator.world import World

_RECEIPT: Final = re.compile(r"[0-9A-Z]{10}")
_PARTY: Final = re.compile(r"[0-9]{5,8}")
# The only identifier type there is: an organisation.
_ORGANISATION: Final = "11"


async def answer_reversal(world: World, request: web.Request) -> web.StreamResponse:
    """POST /mpesa/reversal/v1/request."""
    return await answer_order(world, request, _KIND)


def _note(world: World, order: Order, fields: dict[str, Any]) -> None:
    order.shortcode, order.amount = text_of(fields, "ReceiverParty"), amount_of(fields) or 0
    order.original_receipt = text_of(fields, "TransactionID")
    order.originator_conversation_id = world.request_id(REVERSAL, order.number)
    payment = world.ledger.by_receipt.get(order.original_receipt)
    world.returns.assign_phone(order, payment.phone if payment is not None else "")


def _objection(world: World, order: Order, fields: dict[str, Any]) -> Refusal | None:
    if "RecieverIdentifierType" not in fields and "ReceiverIdentifierType" in fields:
        world.hits["reversal.right_spelling"] += 1
    wrong = first_wrong(
        *operator_checks(fields),
        ("CommandID", fields.get("CommandID") == "TransactionReversal"),
        ("TransactionID", _RECEIPT.fullmatch(order.original_receipt)),
        ("Amount", order.amount),
        ("ReceiverParty", _PARTY.fullmatch(order.shortcode)),
        ("RecieverIdentifierType", text_of(fields, "RecieverIdentifierType") == _ORGANISATION),
        *address_checks(fields),
        ("Occasion", len(text_of(fields, "Occasion")) <= REMARKS_CHARACTERS_MAX),
    )
    if wrong is not None:
        return invalid(wrong)
    payment = _payment(world, order)
    if payment is not None and payment.debited_kes != order.amount:
        world.hits["reversal.amount_differs"] += 1
        return invalid("Amount")
    return None


def _payment(world: World, order: Order) -> Push | None:
    """The payment that is named, if it was paid to the party that wants to send it back."""
    payment = world.ledger.by_receipt.get(order.original_receipt)
    merchant = party_of(world, order.shortcode)
    return payment if payment is not None and merchant is not None and payment.shortcode == merchant.number else None


def _carry_out(world: World, order: Order, asked: Asked) -> Outcome:
    payment = _payment(world, order)
    if payment is None:
        world.hits["reversal.receipt_unknown"] += 1
        return failure(asked, "R000002", "The OriginalTransactionID is invalid.")
    if payment.receipt in world.returns.by_payment:
        world.hits["reversal.already_reversed"] += 1
        return failure(asked, "R000001", "The transaction has already been reversed.")
    short = too_little(world, order, asked, payment.shortcode)
    if short is not None:
        return short
    now = time.time()
    world.returns.send_back(world.ledger, payment, now, order)
    return Outcome(0, PROCESSED, _parameters(world, payment, asked, now), order.receipt)


def _parameters(world: World, payment: Push, asked: Asked, at: float) -> list[Parameter]:
    balance = f"{world.returns.balance_kes(world.ledger, payment.shortcode)}.00"
    parameters: list[Parameter] = [
        ("DebitAccountBalance", f"Utility Account|KES|{balance}|{balance}|0.00|0.00"),
        ("Amount", written_amount(asked, payment.debited_kes)),
        ("TransCompletedTime", written_time(asked, at)),
        ("OriginalTransactionID", payment.receipt),
        ("Charge", 0.0),
        ("CreditPartyPublicName", public_name(payment.phone, asked)),
        ("DebitPartyPublicName", f"{payment.party_b} - VIRTUAL COACHES"),
    ]
    if asked.chosen.take("reversal.no_original"):
        parameters = [pair for pair in parameters if pair[0] != "OriginalTransactionID"]
    return parameters


_KIND: Final = Kind(REVERSAL, "Initiator", _note, _objection, _carry_out)
