"""Transaction Status: acknowledged at once, told later by a Result that M-Pesa posts.

A receipt, or the conversation id of a transaction, is looked up in the books: a payment, or an order to send money that
has ended. Only a party to it may ask. A post to QueueTimeOutURL says nothing about the transaction. The shapes are
those of "Daraja: Transaction Status" and of recorded results, with their variations as quirks. An STK payment's
OriginatorConversationID is taken to be its MerchantRequestID: recorded results show one of the same form. No recording
shows a payment that went back; it is called Reversed here, or as before, as a quirk.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from daraja_simulator.callbacks import masked
from daraja_simulator.errors import invalid
from daraja_simulator.fields import text_of
from daraja_simulator.ledger import Push
from daraja_simulator.push import party_of
from daraja_simulator.quirks import Chosen
from daraja_simulator.results import (
    NO_VALUE,
    PROCESSED,
    REMARKS_CHARACTERS_MAX,
    Asked,
    Outcome,
    Parameter,
    acknowledgement,
    address_checks,
    failure_parameters,
    first_wrong,
    operator_checks,
    read_fields,
    refused_operator,
    result_body,
    scripted_answer,
    tell,
    wait_for_result,
    written_amount,
    written_time,
)
from daraja_simulator.returns import B2C, Order
from daraja_simulator.world import World

GROUP: Final = "status"

_RECEIPT: Final = re.compile(r"[0-9A-Z]{10}")
_PARTY: Final = re.compile(r"[0-9]{5,12}")
# Of a customer, a till, a shortcode.
_IDENTIFIER_TYPES: Final = ("1", "2", "4")

# What the end of a prompt is called here; everything else is Declined.
_UNPAID_STATUS: Final = {1032: "Cancelled", 1019: "Expired", 1031: "Expired", 1036: "Expired", 1037: "Expired"}


@dataclass(frozen=True, slots=True)
class Transaction:
    """One row of the books as a result tells it."""

    phone: str
    party: str
    # Whether the party sent the money, and the phone had it.
    outgoing: bool
    originator_conversation_id: str
    conversation_id: str
    reason_type: str
    status: str
    amount: int
    receipt: str
    at: float


async def answer_status_query(world: World, request: web.Request) -> web.Response:
    """POST /mpesa/transactionstatus/v1/query."""
    fields = await read_fields(world, request, "invalid_access_token_400_003")
    if isinstance(fields, web.Response):
        return fields
    found = _found(world, fields)
    name = _name_of(found)
    world.enquiries.statuses_asked[name] += 1
    asked = _asked(world, fields, found, world.enquiries.statuses_asked[name])
    await world.wait_latency(GROUP, name, world.enquiries.statuses_asked[name])
    wrong = _wrong_field(fields)
    response = scripted_answer(world, GROUP, asked.behaviour)
    if (response is None and wrong is None) or asked.behaviour.result is not None:
        world.spawn(_live_through(world, asked, found))
    if response is not None:
        return response
    return acknowledgement(asked) if wrong is None else world.refuse(invalid(wrong))


def _name_of(found: Push | Order | None) -> str:
    if found is None:
        return ""
    return f"push {found.number}" if isinstance(found, Push) else f"order {found.number}"


def _asked(world: World, fields: dict[str, Any], found: Push | Order | None, nth: int) -> Asked:
    """Decide how this question goes."""
    behaviour = world.enquiries.next_status(found.phone if found is not None else "")
    scripted = behaviour.quirks
    if scripted is None and isinstance(found, Push):
        scripted = world.plans[found.number].behaviour.quirks
    # Drawn for the transaction; what does not exist has neither phone nor number.
    of_whom = (found.phone, found.nth) if found is not None else ("", 0)
    of_what = (found.kind,) if isinstance(found, Order) else ()
    chosen, draws = world.chosen_by(GROUP, scripted, *of_whom, *of_what, GROUP, nth)
    ids = (GROUP, _name_of(found), nth)
    return Asked(
        GROUP,
        fields,
        behaviour,
        chosen,
        draws,
        world.request_id(*ids),
        world.conversation_id(time.time(), *ids),
        ("Occasion", text_of(fields, "Occasion") or NO_VALUE),
    )


def _found(world: World, fields: dict[str, Any]) -> Push | Order | None:
    """The transaction that is named, if it has ended and a party to it asks."""
    receipt, conversation = text_of(fields, "TransactionID"), _conversation(fields)
    if receipt:
        found = world.ledger.by_receipt.get(receipt) or world.returns.by_receipt.get(receipt)
    else:
        found = world.ledger.by_merchant_id.get(conversation) or world.returns.by_conversation.get(conversation)
    if found is None or found.ended_time is None:
        return None
    if isinstance(found, Push) and found.prompted_time is None and not found.by_hand:
        return None
    merchant = party_of(world, found.shortcode)
    if merchant is None:
        return None
    parties = {"1": found.phone, "2": merchant.till, "4": merchant.number}
    return found if parties.get(text_of(fields, "IdentifierType")) == text_of(fields, "PartyA") else None


def _conversation(fields: dict[str, Any]) -> str:
    """The name in the documentation's table, or the one in its sample."""
    return text_of(fields, "OriginalConversationID") or text_of(fields, "OriginatorConversationID")


def _wrong_field(fields: dict[str, Any]) -> str | None:
    receipt = text_of(fields, "TransactionID")
    return first_wrong(
        *operator_checks(fields),
        ("CommandID", fields.get("CommandID") == "TransactionStatusQuery"),
        ("TransactionID", _RECEIPT.fullmatch(receipt) if receipt else _conversation(fields)),
        ("PartyA", _PARTY.fullmatch(text_of(fields, "PartyA"))),
        ("IdentifierType", text_of(fields, "IdentifierType") in _IDENTIFIER_TYPES),
        *address_checks(fields),
        ("Occasion", len(text_of(fields, "Occasion")) <= REMARKS_CHARACTERS_MAX),
    )


async def _live_through(world: World, asked: Asked, found: Push | Order | None) -> None:
    """Look the transaction up, wait, and post what was found as scripted."""
    body = result_body(world, asked, _outcome(world, asked, found))
    await wait_for_result(world, asked)
    await tell(world, asked, body)


def _outcome(world: World, asked: Asked, found: Push | Order | None) -> Outcome:
    """What M-Pesa has to say: about the operator first, then about the transaction."""
    refused = refused_operator(world, asked)
    if refused is not None:
        return refused
    if found is not None:
        seen = _of_push(world, found, asked.chosen) if isinstance(found, Push) else _of_order(found)
        return Outcome(0, PROCESSED, _parameters(asked, seen))
    if text_of(asked.fields, "TransactionID"):
        world.hits["status.receipt_unknown"] += 1
        return Outcome(2032, "The transaction receipt number does not exist.", failure_parameters(asked))
    world.hits["status.conversation_unknown"] += 1
    return Outcome(2033, "The conversation ID does not exist.", failure_parameters(asked))


def _of_push(world: World, push: Push, chosen: Chosen) -> Transaction:
    at = push.debited_time or push.ended_time or push.received_time
    return Transaction(
        phone=push.phone,
        party=push.party_b,
        outgoing=False,
        originator_conversation_id=push.merchant_request_id,
        conversation_id=world.conversation_id(at, push.number),
        reason_type="Pay Bill Online" if push.party_b == push.shortcode else "Merchant Payment Online",
        status=_status(world, push, chosen),
        amount=push.amount,
        receipt=push.receipt,
        at=at,
    )


def _status(world: World, push: Push, chosen: Chosen) -> str:
    if push.debited_kes:
        went_back = push.receipt in world.returns.by_payment
        return "Reversed" if went_back and not chosen.take("status.reversed_unsaid") else "Completed"
    return _UNPAID_STATUS.get(push.result_code, "Declined") if isinstance(push.result_code, int) else "Declined"


def _of_order(order: Order) -> Transaction:
    return Transaction(
        phone=order.phone,
        party=order.shortcode,
        outgoing=True,
        originator_conversation_id=order.originator_conversation_id,
        conversation_id=order.conversation_id,
        reason_type="Business Payment to Customer via API" if order.kind == B2C else "Pay Utility Reversal",
        status="Completed" if order.sent_kes else "Declined",
        amount=order.amount,
        receipt=order.receipt,
        at=order.ended_time or order.received_time,
    )


def _parameters(asked: Asked, seen: Transaction) -> list[Parameter]:
    """The transaction as the books have it, in the order in which such results were recorded."""
    chosen = asked.chosen
    if chosen.take("status.only_receipt"):
        return [("ReceiptNo", seen.receipt)]
    empty: object = NO_VALUE if chosen.take("status.no_value") else ""
    number = masked(seen.phone) if chosen.take("status.party_masked") else f"0{seen.phone[3:]}"
    payer, payee = f"{number} - PASSENGER  {seen.phone[-3:]}", f"{seen.party} - VIRTUAL  COACHES"
    if seen.outgoing:
        payer, payee = payee, payer
    space = " " if chosen.take("status.spaced_keys") else ""
    time_text = written_time(asked, seen.at)
    parameters: list[Parameter] = [
        ("DebitPartyName", payer),
        ("DebitPartyName" if chosen.take("status.repeated_key") else "CreditPartyName", payee),
        (f"Originator{space}Conversation{space}ID", seen.originator_conversation_id),
        ("InitiatedTime", time_text),
        (
            "CreditPartyCharges",
            "{Amount={BasicAmount=0.00, CurrencyCode=KES}}" if chosen.take("status.map_text") else empty,
        ),
        ("DebitAccountType", "Utility Account" if seen.outgoing else "MMF Account For Customer"),
        ("TransactionReason", empty),
        ("ReasonType", seen.reason_type),
        ("TransactionStatus", seen.status),
        ("FinalisedTime", time_text),
        ("Amount", written_amount(asked, seen.amount)),
        (f"Conversation{space}ID", seen.conversation_id),
        ("ReceiptNo", seen.receipt or empty),
    ]
    if chosen.take("status.parameter_order"):
        parameters.reverse()
    return parameters
