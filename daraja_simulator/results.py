"""Requests that are acknowledged at once and told later, by a Result that M-Pesa posts, whichever request it was.

What a result says is decided beside its request. The envelope is here, in the shapes of the documentation and of
recorded results, with their variations as quirks of the request's group: "status", "order", "balance". A post to
QueueTimeOutURL says that nobody knows what became of the request. A result is posted once, like a callback, and
nobody is told when it does not arrive.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from daraja_simulator.callbacks import CONTENT_TYPE, headers_of
from daraja_simulator.courier import NotDelivered
from daraja_simulator.draws import Draws
from daraja_simulator.errors import ERRORS
from daraja_simulator.fields import json_object, text_of
from daraja_simulator.initiator import Standing, read_credential
from daraja_simulator.ledger import CallbackAttempt, receipt_day
from daraja_simulator.nairobi import dotted_timestamp, timestamp
from daraja_simulator.oauth import refused_token
from daraja_simulator.push import acceptable_url
from daraja_simulator.quirks import DELAY_SLOT, Chosen
from daraja_simulator.result_scripts import ResultBehaviour, ResultDelivery
from daraja_simulator.world import HeldResult, World, json_answer, raw_answer

# From the acknowledgement to the result. No recording gives both times; the documentation promises "later".
_SECONDS_LOW: Final = 1.0
_SECONDS_HIGH: Final = 5.0
REMARKS_CHARACTERS_MAX: Final = 100

# A parameter that has a key and nothing more.
NO_VALUE: Final = object()

PROCESSED: Final = "The service request is processed successfully."

Parameter = tuple[str, object]
Check = tuple[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that is told later: whose quirks it has, what came with it, and how it is to be lived through."""

    group: str
    fields: dict[str, Any]
    behaviour: ResultBehaviour
    chosen: Chosen
    draws: Draws
    originator_conversation_id: str
    conversation_id: str
    # What comes back as ReferenceData.
    reference: Parameter
    # Where the books keep what became of its results.
    noted: list[CallbackAttempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a result says. Without a transaction of its own the request has a placeholder for one."""

    code: int | str
    desc: str
    parameters: list[Parameter] = field(default_factory=list)
    receipt: str = ""


async def read_fields(world: World, request: web.Request, usual: str) -> dict[str, Any] | web.Response:
    """What was asked for, or why nothing of it is looked at. usual: how this path refuses a token."""
    if request.method != "POST":
        return world.refuse(ERRORS["method_not_allowed"])
    content = await request.read()
    refusal = refused_token(world, request, content, usual=usual)
    if refusal is not None:
        return world.refuse(refusal)
    fields = json_object(content)
    return world.refuse(ERRORS["bad_payload"]) if fields is None else fields


def scripted_answer(world: World, group: str, behaviour: ResultBehaviour) -> web.Response | None:
    """The answer that a script wants instead of the acknowledgement."""
    if behaviour.error is not None:
        world.hits[f"{group}.error"] += 1
        return world.refuse(ERRORS[behaviour.error])
    if behaviour.raw_answer is not None:
        world.hits[f"{group}.raw_answer"] += 1
        return raw_answer(behaviour.raw_answer)
    return None


def acknowledgement(asked: Asked) -> web.Response:
    name = "OriginatorCoversationID" if asked.chosen.take(f"{asked.group}.misspelt_id") else "OriginatorConversationID"
    return json_answer(
        {
            name: asked.originator_conversation_id,
            "ConversationID": asked.conversation_id,
            "ResponseCode": "0",
            "ResponseDescription": "Accept the service request successfully.",
        }
    )


def operator_checks(fields: dict[str, Any], name: str = "Initiator") -> tuple[Check, ...]:
    """What every such request has to say of its operator. name: how the request calls it."""
    return (
        (name, text_of(fields, name)),
        ("SecurityCredential", read_credential(text_of(fields, "SecurityCredential"))),
    )


def address_checks(fields: dict[str, Any]) -> tuple[Check, ...]:
    """Both addresses, and the remarks."""
    return (
        ("ResultURL", acceptable_url(text_of(fields, "ResultURL"))),
        ("QueueTimeOutURL", acceptable_url(text_of(fields, "QueueTimeOutURL"))),
        ("Remarks", 0 < len(text_of(fields, "Remarks")) <= REMARKS_CHARACTERS_MAX),
    )


def first_wrong(*checks: Check) -> str | None:
    """The name of the first field that is not as it should be."""
    return next((name for name, right in checks if not right), None)


def refused_operator(world: World, asked: Asked, name: str = "Initiator") -> Outcome | None:
    """What M-Pesa says to an operator whom it does not accept; a third wrong password in a row locks it."""
    credential = read_credential(text_of(asked.fields, "SecurityCredential")) or b""
    match world.initiator.standing(world.settings, text_of(asked.fields, name), credential):
        case Standing.WRONG:
            world.hits[f"{asked.group}.initiator_wrong"] += 1
            return Outcome(2001, "The initiator information is invalid.", failure_parameters(asked))
        case Standing.LOCKED:
            world.hits[f"{asked.group}.initiator_locked"] += 1
            return Outcome(8006, "The security credential is locked.", failure_parameters(asked))
        case Standing.ACCEPTED:
            return None


def failure_parameters(asked: Asked) -> list[Parameter]:
    """A failure usually says nothing more."""
    if not asked.chosen.take(f"{asked.group}.failure_parameters"):
        return []
    return [("BOCompletedTime", written_time(asked, time.time()))]


def written_time(asked: Asked, at: float) -> int | str:
    if asked.chosen.take(f"{asked.group}.date_dotted"):
        return dotted_timestamp(at)
    return timestamp(at) if asked.chosen.take(f"{asked.group}.date_string") else int(timestamp(at))


def written_amount(asked: Asked, kes: int) -> int | float | str:
    if asked.chosen.take(f"{asked.group}.amount_float"):
        return float(kes)
    return f"{kes}.00" if asked.chosen.take(f"{asked.group}.amount_string") else kes


async def wait_for_result(world: World, asked: Asked) -> None:
    """As long as M-Pesa takes."""
    seconds = asked.behaviour.delay_seconds
    if seconds is not None:
        world.hits[f"{asked.group}.late"] += seconds > 0
    elif world.settings.callback_delay_seconds is not None:
        seconds = world.settings.callback_delay_seconds
    else:
        seconds = asked.draws.between(DELAY_SLOT, _SECONDS_LOW, _SECONDS_HIGH)
    await asyncio.sleep(seconds)


async def tell(world: World, asked: Asked, body: tuple[str, bytes]) -> None:
    """Post a result, as scripted."""
    result_url = text_of(asked.fields, "ResultURL")
    match asked.behaviour.result:
        case ResultDelivery.NEVER:
            world.hits[f"{asked.group}.never"] += 1
        case ResultDelivery.QUEUE_TIMEOUT:
            world.hits[f"{asked.group}.queue_timeout"] += 1
            timeout = CONTENT_TYPE, _timeout_body(asked)
            await post_result(world, HeldResult(text_of(asked.fields, "QueueTimeOutURL"), *timeout, asked.noted))
        case ResultDelivery.HELD:
            world.hits[f"{asked.group}.held"] += 1
            world.held_results.append(HeldResult(result_url, *body, asked.noted))
        case ResultDelivery.TWICE:
            world.hits[f"{asked.group}.twice"] += 1
            await post_result(world, HeldResult(result_url, *body, asked.noted))
            await asyncio.sleep(asked.behaviour.gap_seconds)
            await post_result(world, HeldResult(result_url, *body, asked.noted))
        case ResultDelivery.ONCE | None:
            await post_result(world, HeldResult(result_url, *body, asked.noted))


async def post_result(world: World, result: HeldResult) -> CallbackAttempt:
    """Post it once, and note what became of it."""
    attempt = CallbackAttempt(time.time())
    result.noted.append(attempt)
    try:
        attempt.status = await world.courier.post(result.url, headers_of(result.content_type), result.body)
    except NotDelivered as error:
        attempt.error = str(error)
    return attempt


def result_body(world: World, asked: Asked, outcome: Outcome) -> tuple[str, bytes]:
    """Content type and body of the result, and over it what a script wants."""
    behaviour, chosen, group = asked.behaviour, asked.chosen, asked.group
    if behaviour.raw_result is not None:
        world.hits[f"{group}.raw_result"] += 1
        return behaviour.raw_result.content_type, behaviour.raw_result.body
    code = behaviour.result_code if behaviour.result_code is not None else outcome.code
    values = [(key, value) for key, value in outcome.parameters if key not in behaviour.without]
    if behaviour.parameters:
        values = [pair for pair in values if pair[0] not in behaviour.parameters] + list(behaviour.parameters.items())
    if behaviour.result_code is not None or behaviour.parameters or behaviour.without:
        world.hits[f"{group}.content"] += 1
    nameless = not outcome.receipt or chosen.take(f"{group}.placeholder_id")
    result: dict[str, Any] = {
        "ResultType": "0" if chosen.take(f"{group}.type_string") else 0,
        "ResultCode": str(code) if chosen.take(f"{group}.code_string") else code,
        "ResultDesc": behaviour.result_desc or outcome.desc,
        "OriginatorConversationID": asked.originator_conversation_id,
        "ConversationID": asked.conversation_id,
        "TransactionID": f"{receipt_day(time.time())}0000000" if nameless else outcome.receipt,
    }
    if values:
        result.update(_wrapped([_pair(key, value) for key, value in values], chosen, group))
    item = _pair(*asked.reference)
    result["ReferenceData"] = {"ReferenceItem": [item] if chosen.take(f"{group}.reference_array") else item}
    return CONTENT_TYPE, json.dumps({"Result": result}).encode()


def _wrapped(pairs: list[dict[str, object]], chosen: Chosen, group: str) -> dict[str, Any]:
    if chosen.take(f"{group}.bare_list"):
        return {"ResultParameters": pairs}
    if chosen.take(f"{group}.swapped_names"):
        return {"ResultParameter": {"ResultParameters": pairs}}
    alone = len(pairs) == 1 and chosen.take(f"{group}.single_parameter")
    return {"ResultParameters": {"ResultParameter": pairs[0] if alone else pairs}}


def _pair(key: str, value: object) -> dict[str, object]:
    return {"Key": key} if value is NO_VALUE else {"Key": key, "Value": value}


def _timeout_body(asked: Asked) -> bytes:
    result = {
        "ResultType": 1,
        "ResultCode": 1,
        "ResultDesc": "The service request has timed out.",
        "OriginatorConversationID": asked.originator_conversation_id,
        "ConversationID": asked.conversation_id,
        "TransactionID": "",
    }
    return json.dumps({"Result": result}).encode()
