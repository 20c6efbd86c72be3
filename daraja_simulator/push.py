"""STK push: what Daraja accepts, what it refuses and in which words, and what becomes of the answer.

Order of checks, as observed: token, body, fields one by one, merchant, credentials, then the phone itself. Lengths
of AccountReference and TransactionDesc are not checked here: Daraja accepts over-long ones and fails later.
What happens on the phone is in callbacks.py.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import struct
import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.behaviour import Answer, Delivery
from daraja_simulator.callbacks import live_through, open_prompt
from daraja_simulator.courier import split_url
from daraja_simulator.draws import Draws
from daraja_simulator.errors import ERRORS, Refusal, invalid
from daraja_simulator.fields import json_object, text_of
from daraja_simulator.ledger import PUSHES_MAX, Push
from daraja_simulator.nairobi import NAIROBI_AHEAD_SECONDS, day_first_timestamp, unix_time
from daraja_simulator.oauth import refused_token
from daraja_simulator.quirks import VARIANT_SLOT, Chosen
from daraja_simulator.settings import Shortcode
from daraja_simulator.world import Plan, World, json_answer, raw_answer

AMOUNT_MAX_KES: Final = 250_000
PHONE: Final = re.compile(r"254[17][0-9]{8}")
_SHORTCODE: Final = re.compile(r"[0-9]{5,7}")
# Words that Safaricom refuses anywhere in a CallBackURL; it refuses spaces too, and takes %20.
_REFUSED_IN_URL: Final = re.compile(r"\s|mpesa|m-pesa|safaricom|exe|cmd|sql|query")

_ACCEPTED: Final = "Success. Request accepted for processing"


async def answer_push(world: World, request: web.Request) -> web.StreamResponse:
    """POST /mpesa/stkpush/v1/processrequest."""
    if request.method != "POST":
        return world.refuse(ERRORS["method_not_allowed"])
    if len(world.ledger.pushes) >= PUSHES_MAX:
        return world.refuse(ERRORS["unreachable_503"])
    if world.takes_unread_fault():
        return _hang_up(request, reset=False)
    content = await request.read()
    push = world.ledger.record(time.time())
    refusal = refused_token(world, request, content)
    if refusal is not None:
        push.outcome = outcome_of(refusal)
        return world.refuse(refusal)
    fields = _fields(request, content)
    world.ledger.assign_phone(push, text_of(fields, "PhoneNumber")[:32])
    _note(push, fields)
    plan = world.plan(push)
    await world.wait_latency(push.phone, push.nth)
    return await _decide(world, request, push, plan, fields)


async def _decide(
    world: World, request: web.Request, push: Push, plan: Plan, fields: dict[str, Any]
) -> web.StreamResponse:
    """Refuse, fail as scripted, or prompt the phone and answer."""
    behaviour = plan.behaviour
    chosen, draws = world.chosen("push", push, behaviour.quirks)
    scripted = behaviour.error is not None or behaviour.raw_answer is not None
    refusal = ERRORS[behaviour.error] if behaviour.error is not None else None
    if not scripted:
        refusal = _refusal(world, push, fields, chosen)
    elif behaviour.error is not None:
        world.hits["push.subscriber_locked" if behaviour.error == "subscriber_locked" else "push.error"] += 1
    _assign_ids(world, push, chosen, draws)
    accepted = refusal is None and not scripted
    push.outcome = "accepted" if accepted else outcome_of(refusal)
    # A script may prompt behind a refusal, or accept without prompting; a push refused on its merits never prompts.
    wants_prompt = accepted if behaviour.prompts is None else behaviour.prompts
    if accepted and not wants_prompt:
        world.hits["push.says_accepted"] += 1
    if wants_prompt and (accepted or scripted):
        if refusal is not None:
            world.hits["push.says_refused"] += 1
        open_prompt(world, push)
        playing = live_through(world, push, plan)
        if behaviour.callback is Delivery.BEFORE_ANSWER:
            world.hits["callback.before_answer"] += 1
            await playing
        else:
            world.spawn(playing)
    if behaviour.answer_delay_seconds > 0:
        world.hits["push.answer_late"] += 1
        await asyncio.sleep(behaviour.answer_delay_seconds)
    if refusal is not None:
        response = world.refuse(refusal, push.why_refused)
    elif behaviour.raw_answer is not None:
        world.hits["push.raw_answer"] += 1
        response = raw_answer(behaviour.raw_answer)
    else:
        response = json_answer(_accepted_body(push, chosen))
    return deliver(world, request, response, behaviour.answer)


def outcome_of(refusal: Refusal | None) -> str:
    return "raw answer" if refusal is None else f"refused {refusal.code} {refusal.text}"


def _fields(request: web.Request, content: bytes) -> dict[str, Any]:
    """The JSON object sent; a form or anything else reads as an object without fields."""
    if "form" in request.content_type:
        return {}
    fields = json_object(content)
    return {"unreadable": True} if fields is None else fields


def amount_of(fields: dict[str, Any]) -> int | None:
    """Whole shillings within Daraja's limits, or None."""
    value = fields.get("Amount")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value) if 1 <= value <= AMOUNT_MAX_KES else None


def _note(push: Push, fields: dict[str, Any]) -> None:
    """Enter into the ledger what was asked for, before anything is checked."""
    push.amount = amount_of(fields) or 0
    push.shortcode = text_of(fields, "BusinessShortCode")
    push.party_b = text_of(fields, "PartyB")
    push.account_reference = text_of(fields, "AccountReference")
    push.transaction_desc = text_of(fields, "TransactionDesc")
    push.callback_url = text_of(fields, "CallBackURL")


def _refusal(world: World, push: Push, fields: dict[str, Any], chosen: Chosen) -> Refusal | None:
    """The first thing Daraja would object to; None when the phone may be prompted."""
    if "unreadable" in fields:
        return ERRORS["bad_payload"]
    wrong = _wrong_field(push, fields)
    if wrong == "PhoneNumber" and chosen.take("push.phone_typo"):
        wrong = "PhoneNumer"
    if wrong is not None:
        return invalid(wrong)
    merchant = merchant_of(world, push.shortcode)
    if merchant is None:
        return ERRORS["merchant_does_not_exist"]
    push.why_refused = wrong_with_credentials(world, merchant, fields)
    if push.why_refused is not None:
        prefixed = chosen.take("push.merchant_validate")
        return ERRORS["wrong_credentials_merchant_validate" if prefixed else "wrong_credentials"]
    buys_goods = fields.get("TransactionType") == "CustomerBuyGoodsOnline"
    if buys_goods != (merchant.till is not None):
        return invalid("TransactionType")
    if push.phone in world.open_prompts:
        world.hits["push.subscriber_locked"] += 1
        return ERRORS["subscriber_locked"]
    return None


def _wrong_field(push: Push, fields: dict[str, Any]) -> str | None:
    checks = (
        ("BusinessShortCode", _SHORTCODE.fullmatch(push.shortcode)),
        ("Timestamp", unix_time(text_of(fields, "Timestamp")) is not None),
        ("Password", text_of(fields, "Password")),
        ("TransactionType", fields.get("TransactionType") in ("CustomerPayBillOnline", "CustomerBuyGoodsOnline")),
        ("Amount", push.amount),
        ("PartyA", PHONE.fullmatch(text_of(fields, "PartyA"))),
        ("PhoneNumber", PHONE.fullmatch(push.phone)),
        ("PartyB", _SHORTCODE.fullmatch(push.party_b) or (push.party_b.isdigit() and len(push.party_b) == 8)),
        ("CallBackURL", acceptable_url(push.callback_url)),
        ("AccountReference", push.account_reference),
    )
    return next((name for name, right in checks if not right), None)


def acceptable_url(url: str) -> bool:
    """http or https to a named host; no localhost, no spaces, none of the words Safaricom refuses."""
    if _REFUSED_IN_URL.search(url.lower()):
        return False
    parts = split_url(url)
    return parts is not None and parts[0][1] != "localhost"


def merchant_of(world: World, number: str) -> Shortcode | None:
    """The merchant by its shortcode."""
    return next((shortcode for shortcode in world.settings.shortcodes if shortcode.number == number), None)


def party_of(world: World, number: str) -> Shortcode | None:
    """The merchant by its shortcode or its till, as money is sent and asked about."""
    return next((one for one in world.settings.shortcodes if number in (one.number, one.till)), None)


def wrong_with_credentials(world: World, merchant: Shortcode, fields: dict[str, Any]) -> str | None:
    """What Daraja would not say: whether Timestamp or Password is wrong, and how; None where both are right.

    Password is base64(shortcode + passkey + Timestamp), and Timestamp is near Nairobi's clock.
    """
    stamp = text_of(fields, "Timestamp")
    at = unix_time(stamp)
    if at is None:
        return "Timestamp: expected YYYYMMDDHHMMSS."
    behind, tolerance = time.time() - at, world.settings.clock_tolerance_seconds
    if abs(behind) > tolerance:
        if abs(behind - NAIROBI_AHEAD_SECONDS) > tolerance:
            return f"Timestamp: it is {abs(behind):.0f} s off Nairobi's clock; {tolerance:.0f} are allowed."
        if not world.settings.takes_utc:
            return "Timestamp: it is in UTC; expected Nairobi's time, three hours ahead (--utc-timestamps, here only)."
    if text_of(fields, "Password") != base64.b64encode(f"{merchant.number}{merchant.passkey}{stamp}".encode()).decode():
        return "Password: expected base64 of the shortcode, its passkey and this Timestamp."
    return None


def _assign_ids(world: World, push: Push, chosen: Chosen, draws: Draws) -> None:
    """Both ids, in one of their recorded forms; also for refused pushes, which show them to nobody."""
    if chosen.take("push.merchant_id_old"):
        merchant_id = (
            f"{draws.between(VARIANT_SLOT, 10_000, 99_999):.0f}-{time.time_ns() // 10_000 % 10**9}-{push.number}"
        )
    else:
        merchant_id = world.request_id(push.number)
    at = time.time()
    if chosen.take("push.checkout_id_old"):
        checkout_id = f"ws_CO_DMZ_{push.number}{int(world.run_id[:4], 16)}_{day_first_timestamp(at)}"
    else:
        checkout_id = f"ws_CO_{day_first_timestamp(at)}{push.phone[-9:]}"
        while checkout_id in world.ledger.by_checkout_id:
            at += 0.001
            checkout_id = f"ws_CO_{day_first_timestamp(at)}{push.phone[-9:]}"
    world.ledger.assign_ids(push, merchant_id, checkout_id)


def _accepted_body(push: Push, chosen: Chosen) -> dict[str, Any]:
    body: dict[str, Any] = {
        "MerchantRequestID": push.merchant_request_id,
        "CheckoutRequestID": push.checkout_request_id,
        "ResponseCode": 0 if chosen.take("push.int_response_code") else "0",
        "ResponseDescription": "Accept the service request successfully."
        if chosen.take("push.other_wording")
        else _ACCEPTED,
        "CustomerMessage": _ACCEPTED,
    }
    if chosen.take("push.no_customer_message"):
        del body["CustomerMessage"]
    if chosen.take("push.key_order"):
        return dict(reversed(body.items()))
    return body


def deliver(
    world: World, request: web.Request, response: web.Response, answer: Answer, group: str = "push"
) -> web.StreamResponse:
    """Send the answer, or as much of it as the script lets through. group: whose quirk it is."""
    match answer:
        case Answer.NORMAL | Answer.CLOSED_UNREAD:
            # Closed unread cannot be asked of one phone: its request has been read by the time it is known.
            return response
        case Answer.LOST | Answer.RESET:
            world.hits[f"{group}.answer_lost"] += 1
            return _hang_up(request, reset=answer is Answer.RESET)
        case Answer.CUT_HEADER | Answer.CUT_BODY:
            world.hits[f"{group}.answer_cut"] += 1
            return _break_off(request, response, in_body=answer is Answer.CUT_BODY)


def _hang_up(request: web.Request, *, reset: bool) -> web.Response:
    """Close the connection without an answer."""
    transport = request.transport
    if transport is not None:
        if reset:
            # A linger of zero seconds makes close send RST instead of FIN.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.close()
    return web.Response()


def _break_off(request: web.Request, response: web.Response, *, in_body: bool) -> web.Response:
    """Send the first part of the answer, then close the connection in order."""
    body = response.body
    assert isinstance(body, bytes)
    head = f"HTTP/1.1 {response.status} {response.reason}\r\nContent-Type: {response.content_type}\r\n"
    partial = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2]
    transport = request.transport
    if transport is not None:
        transport.write(partial if in_body else head[: len(head) // 2].encode())
        transport.close()
    return web.Response()
