"""STK query: the five ways Daraja says "not yet", and the one in which it tells the result.

What is scripted (enquiries.py) comes before what is true. A query names no amount and no receipt, whatever the result
("Daraja: M-Pesa Express Query").
"""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.enquiries import QueryAnswer, StatedResult
from daraja_simulator.errors import ERRORS, invalid
from daraja_simulator.fields import json_object
from daraja_simulator.ledger import Push
from daraja_simulator.oauth import refused_token
from daraja_simulator.phones import BY_NAME, PAID
from daraja_simulator.push import merchant_of, wrong_with_credentials
from daraja_simulator.quirks import Chosen
from daraja_simulator.reading import RawAnswer
from daraja_simulator.world import World, json_answer, raw_answer

_PENDING: Final = ("being_processed", "4999", "empty_error", "invalid_checkout", "does_not_exist")
_MINUTE_SECONDS: Final = 60.0


async def answer_query(world: World, request: web.Request) -> web.Response:
    """POST /mpesa/stkpushquery/v1/query."""
    if request.method != "POST":
        return world.refuse(ERRORS["method_not_allowed"])
    content = await request.read()
    refusal = refused_token(world, request, content)
    if refusal is not None:
        return world.refuse(refusal)
    fields = json_object(content)
    if fields is None:
        return world.refuse(ERRORS["bad_payload"])
    checkout_id = str(fields.get("CheckoutRequestID", ""))
    world.enquiries.queries_asked[checkout_id] += 1
    nth = world.enquiries.queries_asked[checkout_id]
    push = world.ledger.by_checkout_id.get(checkout_id)
    phone, nth_push = (push.phone, push.nth) if push is not None else ("", 0)
    await world.wait_latency("query", phone, nth_push, nth)
    await world.enquiries.until_let_go(phone)
    if _over_limit(world):
        return _rate_limited(world)
    merchant = merchant_of(world, str(fields.get("BusinessShortCode", "")))
    if merchant is None:
        return world.refuse(ERRORS["merchant_does_not_exist"])
    if (why := wrong_with_credentials(world, merchant, fields)) is not None:
        return world.refuse(ERRORS["wrong_credentials"], why)
    if not checkout_id:
        return world.refuse(invalid("CheckoutRequestID"))
    scripted = _scripted(world, push, nth)
    nonsense = _nonsense(world, scripted)
    if nonsense is not None:
        return nonsense
    if push is None or push.prompted_time is None:
        return world.refuse(ERRORS["does_not_exist"])
    return _tell(world, push, nth, scripted)


def _scripted(world: World, push: Push | None, nth: int) -> QueryAnswer | None:
    """The answer a script wants: for all queries, for the phone, or for the push, in this order."""
    if world.enquiries.query_faults:
        return world.enquiries.query_faults.popleft()
    if push is None or push.prompted_time is None:
        return None
    for_phone = world.enquiries.query_scripts.get(push.phone)
    if for_phone:
        return for_phone.popleft()
    for_push = world.plans[push.number].behaviour.queries
    return for_push[nth - 1] if nth <= len(for_push) else None


def _nonsense(world: World, scripted: QueryAnswer | None) -> web.Response | None:
    """A scripted answer that needs no push, because it says nothing of one."""
    if isinstance(scripted, RawAnswer):
        world.hits["query.raw_answer"] += 1
        return raw_answer(scripted)
    match scripted:
        case "rate_limited":
            return _rate_limited(world)
        case "html" | "empty":
            world.hits[f"query.{scripted}"] += 1
            return world.refuse(ERRORS["unreadable_200" if scripted == "html" else "empty_200"])
        case "wrong_types":
            world.hits["query.wrong_types"] += 1
            return json_answer({"ResponseCode": False, "CheckoutRequestID": {}, "ResultCode": None, "ResultDesc": []})
        case _:
            return None


def _tell(world: World, push: Push, nth: int, scripted: QueryAnswer | None) -> web.Response:
    """Answer as scripted, else as the phone stands, with the quirks drawn for this very query."""
    chosen, _ = world.chosen("query", push, world.plans[push.number].behaviour.quirks, nth)
    if scripted == "contradiction":
        opposite = BY_NAME["cancelled"] if push.debited_kes else PAID
        scripted = StatedResult(opposite.result_code, opposite.wordings[0])
    if isinstance(scripted, StatedResult):
        if (scripted.code == PAID.result_code) != (push.debited_kes > 0):
            world.hits["query.says_failed" if push.debited_kes else "query.says_paid"] += 1
        return _result(push, scripted.code, scripted.desc, chosen)
    if isinstance(scripted, str):
        name = scripted
    elif push.ended_time is None:
        name = next((name for name in _PENDING if f"query.{name}" in chosen.ids), "being_processed")
    else:
        name = "error_after_end" if "query.error_after_end" in chosen.ids else "result"
    if name == "result" and push.ended_time is not None:
        return _result(push, push.result_code, push.result_desc, chosen)
    world.hits[f"query.{'being_processed' if name == 'result' else name}"] += 1
    if name == "4999":
        return _result(push, 4999, "The transaction is still under processing", chosen)
    if name == "invalid_checkout":
        return world.refuse(invalid("CheckoutRequestID"))
    if name == "empty_error":
        return world.refuse(ERRORS["empty_envelope_200"])
    return world.refuse(ERRORS["does_not_exist" if name == "does_not_exist" else "being_processed"])


def _result(push: Push, code: int | str | None, desc: str, chosen: Chosen) -> web.Response:
    word = "successsfully" if chosen.take("query.typo") else "successfully"
    body: dict[str, Any] = {
        "ResponseCode": "0",
        "ResponseDescription": f"The service request has been accepted {word}",
        "MerchantRequestID": push.merchant_request_id,
        "CheckoutRequestID": push.checkout_request_id,
        "ResultCode": str(code),
        "ResultDesc": desc,
    }
    if chosen.take("query.customer_message"):
        body["CustomerMessage"] = ""
    if chosen.take("query.int_codes"):
        body["ResponseCode"] = 0
        body["ResultCode"] = code
    return json_answer(body)


def _over_limit(world: World) -> bool:
    """Five queries in any sixty seconds, as recorded in the sandbox; refused ones do not count."""
    limit = world.settings.queries_per_minute
    now = time.monotonic()
    times = world.enquiries.query_times
    while times and times[0] <= now - _MINUTE_SECONDS:
        times.popleft()
    if limit and len(times) >= limit:
        return True
    times.append(now)
    return False


def _rate_limited(world: World) -> web.Response:
    world.hits["query.rate_limited"] += 1
    return world.refuse(ERRORS["apigee_429"])
