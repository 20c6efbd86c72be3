"""The control API: scripts phones, makes faults, shows the ledger. JSON over HTTP, for tests, demos and people.

  GET    /control/ledger                 {"pushes": […], "totals": {…}, "phones": {phone: totals}, …}; narrowed by
                                         ?phone= ?account_reference= ?checkout_request_id= ?after=<push number>
  GET    /control/totals                 the totals alone, and how many questions were asked about payments
  GET    /control/requests               {"requests": […]}: the last 500 that came to Daraja's paths, the newest first,
                                         without secrets, and with phone numbers masked
  GET    /control/quirks                 {"quirks": [{"id", "share", "origin", "text", "hits"}]}
  GET    /control/phones                 the virtual phones
  GET    /control/errors                 the refusals a script can name
  POST   /control/phones/{phone}/script  a behaviour, or {"behaviours": […]}: for the phone's next pushes, in order
  DELETE /control/phones/{phone}/script
  POST   /control/faults                 {"behaviour": {…}, "count": 1}: for the next pushes, whatever the phone
  DELETE /control/faults
  POST   /control/tokens/expire          the living token is dead from now on
  POST   /control/tokens/refuse          {"error": "invalid_access_token", "count": 1}: on the next pushes or queries
  POST   /control/tokens/fail            {"error": name | "raw_answer": {…}, "count": 1}: on the next token requests
  POST   /control/callbacks/resend       a push (below): its last callback again, byte for byte
  POST   /control/callbacks/raw          a push, "raw_callback": {…}: any body to the push's CallBackURL
  POST   /control/callbacks/settle       a push, "ending": name, and/or fields of a behaviour: a new result, and its
                                         callback; money moves if the result pays and none has moved yet
  POST   /control/callbacks/release      sends all callbacks that are held or reordered
  POST   /control/settings               {"latency_seconds", "callback_delay_seconds", "quirks",
                                         "queries_per_minute", "pull_page_rows", "prompt_seconds"}; null means as
                                         recorded
  POST   /control/outage                 {"seconds": …}: closes the listening socket and every connection
  POST   /control/reset                  empties ledger, scripts, faults, tokens and prompts; counts of quirks and
                                         registrations for pulls stay

A push is named by {"checkout_request_id"}, {"merchant_request_id"}, {"account_reference"} or {"phone"}; the last two
mean the latest push that reached a phone. Behaviours are described in behaviour.py. What scripts the answers to
queries, status queries and pulls is in enquiry_control.py, and so are the debits; what is about orders to send money
is in order_control.py. Callback calls answer with
{"callbacks": [{"status", "error"}]} once the gateway has answered. What cannot be read is answered 400 {"error"}, and
what a page of another site sends, 403 (visitors.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any, Final

from aiohttp import web

from daraja_simulator.behaviour import Answer, parse_behaviour
from daraja_simulator.callbacks import callback_body, result_of, send, settle
from daraja_simulator.enquiries import Enquiries
from daraja_simulator.errors import ERRORS
from daraja_simulator.hands import Hands
from daraja_simulator.heard import HeardRequests
from daraja_simulator.initiator import Initiator
from daraja_simulator.ledger import CallbackAttempt, Ledger, Push, row, totals
from daraja_simulator.oauth import expire_tokens
from daraja_simulator.order_scripts import OrderScripts
from daraja_simulator.phones import BY_NAME, PHONES, RANGE_PREFIX
from daraja_simulator.quirks import Chosen, listing
from daraja_simulator.reading import (
    SCRIPTED_SECONDS_MAX,
    UnreadableScript,
    error_name,
    json_body,
    listed_behaviours,
    optional,
    parse_raw_answer,
    parse_raw_body,
    whole,
)
from daraja_simulator.returns import Returns
from daraja_simulator.visitors import why_refused
from daraja_simulator.world import Tokens, World, json_answer

_ENDING_NAMES: Final = frozenset(BY_NAME)
Control = Callable[[World, web.Request], Awaitable[dict[str, Any]]]


async def show_ledger(world: World, request: web.Request) -> dict[str, Any]:
    wanted = request.query
    pushes = world.ledger.pushes_by_phone.get(wanted["phone"], []) if "phone" in wanted else world.ledger.pushes
    after = whole(wanted.get("after", "0"), "after")
    reference, checkout_id = wanted.get("account_reference"), wanted.get("checkout_request_id")
    shown = [
        push
        for push in pushes
        if push.number > after
        and (reference is None or push.account_reference == reference)
        and (checkout_id is None or push.checkout_request_id == checkout_id)
    ]
    by_phone: dict[str, list[Push]] = {}
    for push in shown:
        by_phone.setdefault(push.phone, []).append(push)
    return {
        "pushes": [row(push) for push in shown],
        "totals": totals(shown),
        "phones": {phone: totals(rows) for phone, rows in by_phone.items()},
        "open_prompts": sorted(world.open_prompts),
        "connections_closed_unread": world.connections_closed_unread,
        "tokens_issued": world.tokens.issued,
    }


async def show_totals(world: World, _: web.Request) -> dict[str, Any]:
    return {
        "totals": totals(world.ledger.pushes),
        "tokens_issued": world.tokens.issued,
        **world.enquiries.counts(),
    }


async def show_requests(world: World, _: web.Request) -> dict[str, Any]:
    return {"requests": world.heard.listed()}


async def show_quirks(world: World, _: web.Request) -> dict[str, Any]:
    return {"quirks": listing(world.hits)}


async def show_phones(_: World, __: web.Request) -> dict[str, Any]:
    return {
        "phones": [{"number": f"{RANGE_PREFIX}NN{p.digits}", "ending": p.ending.name, "text": p.text} for p in PHONES]
    }


async def show_errors(_: World, __: web.Request) -> dict[str, Any]:
    return {"errors": {name: asdict(refusal) for name, refusal in ERRORS.items()}}


async def script_phone(world: World, request: web.Request) -> dict[str, Any]:
    behaviours = [parse_behaviour(item, _ENDING_NAMES) for item in await listed_behaviours(request)]
    if any(behaviour.answer is Answer.CLOSED_UNREAD for behaviour in behaviours):
        raise UnreadableScript("closed_unread is for /control/faults: an unread push has no phone yet")
    queue = world.scripts[request.match_info["phone"]]
    queue.extend(behaviours)
    return {"queued": len(queue)}


async def clear_script(world: World, request: web.Request) -> dict[str, Any]:
    dropped = world.scripts.pop(request.match_info["phone"], deque())
    return {"dropped": len(dropped)}


async def add_faults(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    behaviour = parse_behaviour(body.get("behaviour"), _ENDING_NAMES)
    world.faults.extend([behaviour] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.faults)}


async def clear_faults(world: World, _: web.Request) -> dict[str, Any]:
    dropped = len(world.faults)
    world.faults.clear()
    return {"dropped": dropped}


async def expire_token(world: World, _: web.Request) -> dict[str, Any]:
    expire_tokens(world)
    return {"expired": True}


async def refuse_token(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    world.tokens.refusals.extend([error_name(body)] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.tokens.refusals)}


async def fail_token_requests(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    raw = optional(body, "raw_answer", parse_raw_answer)
    world.tokens.request_faults.extend([raw or error_name(body)] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.tokens.request_faults)}


async def resend(world: World, request: web.Request) -> dict[str, Any]:
    push = push_named(world.ledger, await json_body(request))
    if push.last_body is None:
        raise UnreadableScript("that push has had no callback yet")
    return _sent([await send(world, push, push.last_body)])


async def send_raw(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    push = push_named(world.ledger, body)
    raw = parse_raw_body(body.get("raw_callback"))
    world.hits["callback.raw"] += 1
    return _sent([await send(world, push, (raw.content_type, raw.body))])


async def settle_again(world: World, request: web.Request) -> dict[str, Any]:
    """A second, different end for a push, as when money moves after M-Pesa has called it off."""
    body = await json_body(request)
    push = push_named(world.ledger, body)
    script = {name: value for name, value in body.items() if name not in PUSH_NAMES}
    behaviour = parse_behaviour(script, _ENDING_NAMES)
    result = result_of(behaviour.ending or "paid")
    if behaviour.result_code is not None:
        result = replace(result, code=behaviour.result_code, pays=behaviour.result_code == 0)
    if behaviour.pays is not None:
        result = replace(result, pays=behaviour.pays)
    settle(world, push, replace(result, desc=behaviour.result_desc or result.desc))
    content = callback_body(world, push, behaviour, Chosen(frozenset(behaviour.quirks or ()), world.hits))
    return _sent([await send(world, push, content)])


async def release(world: World, _: web.Request) -> dict[str, Any]:
    waiting = world.held + world.reordered
    world.held, world.reordered = [], []
    bodies = [(push, push.last_body) for push in waiting if push.last_body is not None]
    return _sent(await asyncio.gather(*(send(world, push, body) for push, body in bodies)))


async def change_settings(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    kinds: dict[str, tuple[type, ...]] = {
        "latency_seconds": (int, float, type(None)),
        "callback_delay_seconds": (int, float, type(None)),
        "quirks": (bool,),
        "queries_per_minute": (int,),
        "pull_page_rows": (int,),
        "prompt_seconds": (int, float),
    }
    for name, value in body.items():
        if name not in kinds:
            raise UnreadableScript(f"no setting {name}; there are {', '.join(kinds)}")
        fits = isinstance(value, kinds[name]) and isinstance(value, bool) == (kinds[name] == (bool,))
        if not fits or (value is not None and not 0 <= value <= SCRIPTED_SECONDS_MAX):
            raise UnreadableScript(f"{name} cannot be {value!r}")
    world.settings = replace(world.settings, **body)
    return {name: getattr(world.settings, name) for name in kinds}


async def make_outage(world: World, request: web.Request) -> dict[str, Any]:
    seconds = (await json_body(request)).get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= SCRIPTED_SECONDS_MAX:
        raise UnreadableScript(f"seconds must be above 0 and at most {SCRIPTED_SECONDS_MAX:.0f}")
    world.start_outage(float(seconds))
    return {"seconds": seconds}


async def reset(world: World, _: web.Request) -> dict[str, Any]:
    for task in world.tasks:
        task.cancel()
    world.ledger, world.tokens = Ledger(last_receipt=world.ledger.last_receipt), Tokens()
    world.held, world.reordered, world.held_results = [], [], []
    world.returns, world.order_scripts = Returns(world.settings.opening_balance_kes), OrderScripts()
    world.enquiries, world.initiator, world.hands = Enquiries(), Initiator(), Hands()
    world.heard = HeardRequests()
    for collection in (world.faults, world.scripts, world.plans, world.open_prompts):
        collection.clear()
    world.connections_closed_unread = 0
    return {"reset": True}


PUSH_NAMES: Final = ("checkout_request_id", "merchant_request_id", "account_reference", "phone")


def push_named(ledger: Ledger, body: dict[str, Any]) -> Push:
    """The push a request names."""
    name = next((name for name in PUSH_NAMES if isinstance(body.get(name), str)), None)
    if name is None:
        raise UnreadableScript(f"name a push by one of {', '.join(PUSH_NAMES)}")
    value = body[name]
    if name == "checkout_request_id":
        found = ledger.by_checkout_id.get(value)
    elif name == "merchant_request_id":
        found = ledger.by_merchant_id.get(value)
    else:
        among = ledger.pushes_by_phone.get(value, []) if name == "phone" else ledger.pushes
        matching = (
            p for p in reversed(among) if p.prompted_time is not None and value in (p.phone, p.account_reference)
        )
        found = next(matching, None)
    if found is None or found.prompted_time is None:
        raise UnreadableScript(f"no push with that {name} has reached a phone")
    return found


def _sent(attempts: list[CallbackAttempt]) -> dict[str, Any]:
    return {"callbacks": [{"status": attempt.status, "error": attempt.error} for attempt in attempts]}


ROUTES: Final[tuple[tuple[str, str, Control], ...]] = (
    ("GET", "/control/ledger", show_ledger),
    ("GET", "/control/totals", show_totals),
    ("GET", "/control/requests", show_requests),
    ("GET", "/control/quirks", show_quirks),
    ("GET", "/control/phones", show_phones),
    ("GET", "/control/errors", show_errors),
    ("POST", "/control/phones/{phone}/script", script_phone),
    ("DELETE", "/control/phones/{phone}/script", clear_script),
    ("POST", "/control/faults", add_faults),
    ("DELETE", "/control/faults", clear_faults),
    ("POST", "/control/tokens/expire", expire_token),
    ("POST", "/control/tokens/refuse", refuse_token),
    ("POST", "/control/tokens/fail", fail_token_requests),
    ("POST", "/control/callbacks/resend", resend),
    ("POST", "/control/callbacks/raw", send_raw),
    ("POST", "/control/callbacks/settle", settle_again),
    ("POST", "/control/callbacks/release", release),
    ("POST", "/control/settings", change_settings),
    ("POST", "/control/outage", make_outage),
    ("POST", "/control/reset", reset),
)


def bind(world: World, control: Control) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A control as an HTTP handler: its value as JSON, an unreadable request as 400, one of another site as 403."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if (why := why_refused(request)) is not None:
            return json_answer({"error": why}, status=403)
        try:
            return json_answer(await control(world, request))
        except UnreadableScript as error:
            return json_answer({"error": str(error)}, status=400)

    return answer
