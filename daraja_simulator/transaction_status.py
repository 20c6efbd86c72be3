"""Transaction Status: acknowledged at once, told later by a Result that M-Pesa posts.

A receipt, or the conversation id of a payment, is looked up in the ledger; only the party that took the money (or
paid it) may ask. A post to QueueTimeOutURL says nothing about the payment. The shapes are those of "Daraja: Transaction
Status" and of recorded results, with their variations as quirks. An STK payment's OriginatorConversationID is taken
to be its MerchantRequestID: recorded results show one of the same form.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from daraja_simulator.callbacks import CONTENT_TYPE, headers_of, masked
from daraja_simulator.courier import NotDelivered
from daraja_simulator.draws import Draws
from daraja_simulator.enquiries import ResultDelivery, StatusBehaviour
from daraja_simulator.errors import ERRORS, invalid
from daraja_simulator.initiator import Standing, read_credential
from daraja_simulator.ledger import Push, receipt_day
from daraja_simulator.nairobi import dotted_timestamp, timestamp
from daraja_simulator.oauth import refused_token
from daraja_simulator.push import acceptable_url, json_object, merchant_of, text_of
from daraja_simulator.quirks import DELAY_SLOT, Chosen
from daraja_simulator.world import World, json_answer, raw_answer

# From the acknowledgement to the result. No recording gives both times; the documentation promises "later".
_SECONDS_LOW: Final = 1.0
_SECONDS_HIGH: Final = 5.0
_REMARKS_CHARACTERS_MAX: Final = 100

_RECEIPT: Final = re.compile(r"[0-9A-Z]{10}")
_PARTY: Final = re.compile(r"[0-9]{5,12}")
# Of a customer, a till, a shortcode.
_IDENTIFIER_TYPES: Final = ("1", "2", "4")

# What the end of a prompt is called here; everything else is Declined.
_UNPAID_STATUS: Final = {1032: "Cancelled", 1019: "Expired", 1031: "Expired", 1036: "Expired", 1037: "Expired"}

# A parameter that has a key and nothing more.
_NO_VALUE: Final = object()

Parameters = list[tuple[str, object]]


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """One acknowledged query: what it asked for, whom it found, and how it is to be lived through."""

    fields: dict[str, Any]
    push: Push | None
    behaviour: StatusBehaviour
    chosen: Chosen
    draws: Draws
    originator_conversation_id: str
    conversation_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a result says."""

    code: int | str
    desc: str
    parameters: Parameters


async def answer_status_query(world: World, request: web.Request) -> web.Response:
    """POST /mpesa/transactionstatus/v1/query."""
    if request.method != "POST":
        return world.refuse(ERRORS["method_not_allowed"])
    content = await request.read()
    refusal = refused_token(world, request, usual="invalid_access_token_400_003")
    if refusal is not None:
        return world.refuse(refusal)
    fields = json_object(content)
    if fields is None:
        return world.refuse(ERRORS["bad_payload"])
    query = _query(world, fields)
    number = query.push.number if query.push is not None else 0
    await world.wait_latency("status", number, world.enquiries.statuses_asked[number])
    behaviour = query.behaviour
    wrong = _wrong_field(fields)
    scripted = behaviour.error is not None or behaviour.raw_answer is not None
    if (not scripted and wrong is None) or behaviour.result is not None:
        world.spawn(_live_through(world, query))
    if behaviour.error is not None:
        world.hits["status.error"] += 1
        return world.refuse(ERRORS[behaviour.error])
    if behaviour.raw_answer is not None:
        world.hits["status.raw_answer"] += 1
        return raw_answer(behaviour.raw_answer)
    if wrong is not None:
        return world.refuse(invalid(wrong))
    return json_answer(
        {
            "OriginatorConversationID": query.originator_conversation_id,
            "ConversationID": query.conversation_id,
            "ResponseCode": "0",
            "ResponseDescription": "Accept the service request successfully.",
        }
    )


def _query(world: World, fields: dict[str, Any]) -> StatusQuery:
    """Find the payment, and decide how this query of it goes."""
    push = _payment(world, fields)
    asked = world.enquiries.statuses_asked
    number = push.number if push is not None else 0
    asked[number] += 1
    behaviour = world.enquiries.next_status(push.phone if push is not None else "")
    scripted = behaviour.quirks
    if scripted is None and push is not None:
        scripted = world.plans[push.number].behaviour.quirks
    # Draws are keyed by a payment; one that does not exist has neither phone nor number.
    about = push if push is not None else Push(number=0, received_time=0.0)
    chosen, draws = world.chosen("status", about, scripted, asked[number])
    ids = ("status", number, asked[number])
    return StatusQuery(
        fields, push, behaviour, chosen, draws, world.request_id(*ids), world.conversation_id(time.time(), *ids)
    )


def _payment(world: World, fields: dict[str, Any]) -> Push | None:
    """The ended prompt that is named, by a party to it."""
    receipt = text_of(fields, "TransactionID")
    if receipt:
        push = world.ledger.by_receipt.get(receipt)
    else:
        push = world.ledger.by_merchant_id.get(_conversation(fields))
    if push is None or push.prompted_time is None or push.ended_time is None:
        return None
    merchant = merchant_of(world, push.shortcode)
    parties = {"1": push.phone, "2": merchant.till if merchant is not None else None, "4": push.shortcode}
    return push if parties.get(text_of(fields, "IdentifierType")) == text_of(fields, "PartyA") else None


def _conversation(fields: dict[str, Any]) -> str:
    """The name in the documentation's table, or the one in its sample."""
    return text_of(fields, "OriginalConversationID") or text_of(fields, "OriginatorConversationID")


def _wrong_field(fields: dict[str, Any]) -> str | None:
    receipt = text_of(fields, "TransactionID")
    remarks = text_of(fields, "Remarks")
    checks = (
        ("Initiator", text_of(fields, "Initiator")),
        ("SecurityCredential", read_credential(text_of(fields, "SecurityCredential"))),
        ("CommandID", fields.get("CommandID") == "TransactionStatusQuery"),
        ("TransactionID", _RECEIPT.fullmatch(receipt) if receipt else _conversation(fields)),
        ("PartyA", _PARTY.fullmatch(text_of(fields, "PartyA"))),
        ("IdentifierType", text_of(fields, "IdentifierType") in _IDENTIFIER_TYPES),
        ("ResultURL", acceptable_url(text_of(fields, "ResultURL"))),
        ("QueueTimeOutURL", acceptable_url(text_of(fields, "QueueTimeOutURL"))),
        ("Remarks", 0 < len(remarks) <= _REMARKS_CHARACTERS_MAX),
        ("Occasion", len(text_of(fields, "Occasion")) <= _REMARKS_CHARACTERS_MAX),
    )
    return next((name for name, right in checks if not right), None)


async def _live_through(world: World, query: StatusQuery) -> None:
    """Look the payment up, wait, and post what is found as scripted."""
    behaviour = query.behaviour
    body = _result_body(world, query, _outcome(world, query))
    seconds = behaviour.delay_seconds
    if seconds is not None:
        world.hits["status.late"] += seconds > 0
    elif world.settings.callback_delay_seconds is not None:
        seconds = world.settings.callback_delay_seconds
    else:
        seconds = query.draws.between(DELAY_SLOT, _SECONDS_LOW, _SECONDS_HIGH)
    await asyncio.sleep(seconds)
    match behaviour.result:
        case ResultDelivery.NEVER:
            world.hits["status.never"] += 1
        case ResultDelivery.QUEUE_TIMEOUT:
            world.hits["status.queue_timeout"] += 1
            await _post(world, text_of(query.fields, "QueueTimeOutURL"), (CONTENT_TYPE, _timeout_body(query)))
        case ResultDelivery.TWICE:
            world.hits["status.twice"] += 1
            await _post(world, text_of(query.fields, "ResultURL"), body)
            await asyncio.sleep(behaviour.gap_seconds)
            await _post(world, text_of(query.fields, "ResultURL"), body)
        case ResultDelivery.ONCE | None:
            await _post(world, text_of(query.fields, "ResultURL"), body)


async def _post(world: World, url: str, body: tuple[str, bytes]) -> None:
    content_type, content = body
    # Tried once, like a callback; nobody is told when it does not arrive.
    with contextlib.suppress(NotDelivered):
        await world.courier.post(url, headers_of(content_type), content)


def _outcome(world: World, query: StatusQuery) -> Outcome:
    """What M-Pesa has to say: about the operator first, then about the payment."""
    credential = read_credential(text_of(query.fields, "SecurityCredential")) or b""
    match world.initiator.standing(world.settings, text_of(query.fields, "Initiator"), credential):
        case Standing.WRONG:
            world.hits["status.initiator_wrong"] += 1
            return Outcome(2001, "The initiator information is invalid.", _failure_parameters(query))
        case Standing.LOCKED:
            world.hits["status.initiator_locked"] += 1
            return Outcome(8006, "The security credential is locked.", _failure_parameters(query))
        case Standing.ACCEPTED:
            pass
    if query.push is not None:
        return Outcome(0, "The service request is processed successfully.", _parameters(world, query, query.push))
    if text_of(query.fields, "TransactionID"):
        world.hits["status.receipt_unknown"] += 1
        return Outcome(2032, "The transaction receipt number does not exist.", _failure_parameters(query))
    world.hits["status.conversation_unknown"] += 1
    return Outcome(2033, "The conversation ID does not exist.", _failure_parameters(query))


def _failure_parameters(query: StatusQuery) -> Parameters:
    if not query.chosen.take("status.failure_parameters"):
        return []
    return [("BOCompletedTime", _written_time(time.time(), query.chosen))]


def _parameters(world: World, query: StatusQuery, push: Push) -> Parameters:
    """The payment as the ledger has it, in the order in which it was recorded."""
    chosen = query.chosen
    if chosen.take("status.only_receipt"):
        return [("ReceiptNo", push.receipt)]
    empty: object = _NO_VALUE if chosen.take("status.no_value") else ""
    payer = masked(push.phone) if chosen.take("status.party_masked") else f"0{push.phone[3:]}"
    payee = (
        "DebitPartyName" if chosen.take("status.repeated_key") else "CreditPartyName",
        f"{push.party_b} - VIRTUAL  COACHES",
    )
    space = " " if chosen.take("status.spaced_keys") else ""
    charges = "{Amount={BasicAmount=0.00, CurrencyCode=KES}}" if chosen.take("status.map_text") else empty
    at = push.debited_time or push.ended_time or push.received_time
    written_time = _written_time(at, chosen)
    parameters: Parameters = [
        ("DebitPartyName", f"{payer} - PASSENGER  {push.phone[-3:]}"),
        payee,
        (f"Originator{space}Conversation{space}ID", push.merchant_request_id),
        ("InitiatedTime", written_time),
        ("CreditPartyCharges", charges),
        ("DebitAccountType", "MMF Account For Customer"),
        ("TransactionReason", empty),
        ("ReasonType", "Pay Bill Online" if push.party_b == push.shortcode else "Merchant Payment Online"),
        ("TransactionStatus", _status(push)),
        ("FinalisedTime", written_time),
        ("Amount", _amount(push, chosen)),
        (f"Conversation{space}ID", world.conversation_id(at, push.number)),
        ("ReceiptNo", push.receipt or empty),
    ]
    if chosen.take("status.parameter_order"):
        parameters.reverse()
    return parameters


def _status(push: Push) -> str:
    if push.debited_kes:
        return "Completed"
    return _UNPAID_STATUS.get(push.result_code, "Declined") if isinstance(push.result_code, int) else "Declined"


def _amount(push: Push, chosen: Chosen) -> int | float | str:
    if chosen.take("status.amount_float"):
        return float(push.amount)
    return f"{push.amount}.00" if chosen.take("status.amount_string") else push.amount


def _written_time(at: float, chosen: Chosen) -> int | str:
    if chosen.take("status.date_dotted"):
        return dotted_timestamp(at)
    return timestamp(at) if chosen.take("status.date_string") else int(timestamp(at))


def _result_body(world: World, query: StatusQuery, outcome: Outcome) -> tuple[str, bytes]:
    """Content type and body of the result, and over it what a script wants."""
    behaviour, chosen = query.behaviour, query.chosen
    if behaviour.raw_result is not None:
        world.hits["status.raw_result"] += 1
        return behaviour.raw_result.content_type, behaviour.raw_result.body
    code = behaviour.result_code if behaviour.result_code is not None else outcome.code
    values = [(key, value) for key, value in outcome.parameters if key not in behaviour.without]
    if behaviour.parameters:
        values = [pair for pair in values if pair[0] not in behaviour.parameters] + list(behaviour.parameters.items())
    if behaviour.result_code is not None or behaviour.parameters or behaviour.without:
        world.hits["status.content"] += 1
    result: dict[str, Any] = {
        "ResultType": "0" if chosen.take("status.type_string") else 0,
        "ResultCode": str(code) if chosen.take("status.code_string") else code,
        "ResultDesc": behaviour.result_desc or outcome.desc,
        "OriginatorConversationID": query.originator_conversation_id,
        "ConversationID": query.conversation_id,
        # Of the query itself: the payment's receipt is a parameter.
        "TransactionID": f"{receipt_day(time.time())}0000000",
    }
    if values:
        result.update(_wrapped([_pair(key, value) for key, value in values], chosen))
    occasion = _pair("Occasion", text_of(query.fields, "Occasion") or _NO_VALUE)
    item = [occasion] if chosen.take("status.reference_array") else occasion
    result["ReferenceData"] = {"ReferenceItem": item}
    return CONTENT_TYPE, json.dumps({"Result": result}).encode()


def _wrapped(pairs: list[dict[str, object]], chosen: Chosen) -> dict[str, Any]:
    if chosen.take("status.bare_list"):
        return {"ResultParameters": pairs}
    if chosen.take("status.swapped_names"):
        return {"ResultParameter": {"ResultParameters": pairs}}
    alone = len(pairs) == 1 and chosen.take("status.single_parameter")
    return {"ResultParameters": {"ResultParameter": pairs[0] if alone else pairs}}


def _pair(key: str, value: object) -> dict[str, object]:
    return {"Key": key} if value is _NO_VALUE else {"Key": key, "Value": value}


def _timeout_body(query: StatusQuery) -> bytes:
    result = {
        "ResultType": 1,
        "ResultCode": 1,
        "ResultDesc": "The service request has timed out.",
        "OriginatorConversationID": query.originator_conversation_id,
        "ConversationID": query.conversation_id,
        "TransactionID": "",
    }
    return json.dumps({"Result": result}).encode()
