"""STK query: the five ways Daraja says "not yet", and the one in which it tells the result.

A query names no amount and no receipt, whatever the result ("Daraja: M-Pesa Express Query").
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.errors import ERRORS, invalid
from daraja_simulator.ledger import Push
from daraja_simulator.oauth import refused_token
from daraja_simulator.push import credentials_match, merchant_of
from daraja_simulator.quirks import Chosen
from daraja_simulator.world import World, json_answer

_PENDING: Final = ("being_processed", "4999", "empty_error", "invalid_checkout", "does_not_exist")
_MINUTE_SECONDS: Final = 60.0


async def answer_query(world: World, request: web.Request) -> web.Response:
    """POST /mpesa/stkpushquery/v1/query."""
    if request.method != "POST":
        return world.refuse(ERRORS["method_not_allowed"])
    content = await request.read()
    refusal = refused_token(world, request)
    if refusal is not None:
        return world.refuse(refusal)
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return world.refuse(ERRORS["bad_payload"])
    checkout_id = str(fields.get("CheckoutRequestID", ""))
    world.queries_asked[checkout_id] += 1
    nth = world.queries_asked[checkout_id]
    push = world.ledger.by_checkout_id.get(checkout_id)
    phone, nth_push = (push.phone, push.nth) if push is not None else ("", 0)
    await world.wait_latency("query", phone, nth_push, nth)
    if _over_limit(world):
        return _rate_limited(world)
    merchant = merchant_of(world, str(fields.get("BusinessShortCode", "")))
    if merchant is None:
        return world.refuse(ERRORS["merchant_does_not_exist"])
    if not credentials_match(world, merchant, fields):
        return world.refuse(ERRORS["wrong_credentials"])
    if not checkout_id:
        return world.refuse(invalid("CheckoutRequestID"))
    if push is None or push.prompted_time is None:
        return world.refuse(ERRORS["does_not_exist"])
    return _tell(world, push, nth)


def _tell(world: World, push: Push, nth: int) -> web.Response:
    """Answer as scripted, else as the phone stands, with the quirks drawn for this very query."""
    plan = world.plans[push.number]
    chosen, _ = world.chosen("query", push, plan.behaviour, nth)
    scripted = world.scripted_queries.get(push.phone)
    if scripted:
        name = scripted.popleft()
    elif nth <= len(plan.behaviour.queries):
        name = plan.behaviour.queries[nth - 1]
    elif push.ended_time is None:
        name = next((name for name in _PENDING if f"query.{name}" in chosen.ids), "being_processed")
    else:
        name = "error_after_end" if "query.error_after_end" in chosen.ids else "result"
    if name == "rate_limited":
        return _rate_limited(world)
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
    times = world.query_times
    while times and times[0] <= now - _MINUTE_SECONDS:
        times.popleft()
    if limit and len(times) >= limit:
        return True
    times.append(now)
    return False


def _rate_limited(world: World) -> web.Response:
    world.hits["query.rate_limited"] += 1
    return world.refuse(ERRORS["apigee_429"])
