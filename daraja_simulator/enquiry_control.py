"""The control API's other half: questions about payments, the operator who may ask them, and the money itself.

  GET    /control/debits                  {"phones": {phone: {"prompts", "debited_kes", "debits": [{"receipt", "amount",
                                          "account_reference", "shortcode", "time", …}], "returned_kes", "returns":
                                          [{"kind", "receipt", "amount", "original_receipt", …}]}}}; ?phone=
                                          ?account_reference=
  POST   /control/queries                 {"answers": […], "count": 1}: for the next STK queries, whatever the phone,
                                          all of them in order, count times over
  DELETE /control/queries
  POST   /control/phones/{phone}/queries  {"answers": […]}: for the next STK queries about that phone's pushes
  POST   /control/phones/{phone}/held     {"held": true | false}: STK queries about that phone's pushes wait for their
                                          answers until they are let go, or for a minute
  GET    /control/phones/{phone}/held     {"waiting"}: how many do
  POST   /control/statuses                {"behaviour": {…}, "count": 1}: for the next status queries
  DELETE /control/statuses
  POST   /control/phones/{phone}/statuses a behaviour, or {"behaviours": […]}: for the next about that phone's payments
  POST   /control/pulls                   {"behaviour": {…}, "count": 1}: for the next pulls
  DELETE /control/pulls
  POST   /control/balances                {"behaviour": {…}, "count": 1}: for the next questions for the balance
  DELETE /control/balances
  GET    /control/certificate             {"certificate"}: PEM; a SecurityCredential is encrypted for it
  POST   /control/initiator               {"locked": true | false, "may_order": true | false}: what is left out is
                                          false for the one, true for the other

Answers and behaviours are described in enquiries.py and result_scripts.py. What scripts orders to send money is in
order_control.py.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from aiohttp import web

from daraja_simulator.control import Control
from daraja_simulator.enquiries import Held, parse_pull_behaviour, parse_query_answers
from daraja_simulator.initiator import Initiator, certificate
from daraja_simulator.ledger import debit_row, totals
from daraja_simulator.reading import COUNT_MAX, UnreadableScript, json_body, listed_behaviours, typed, whole
from daraja_simulator.result_scripts import parse_result_behaviour
from daraja_simulator.returns import Return, return_row
from daraja_simulator.world import World


async def show_debits(world: World, request: web.Request) -> dict[str, Any]:
    """What each phone was shown, what it paid and what it had back, one by one as the money moved."""
    wanted, reference = request.query.get("phone"), request.query.get("account_reference")
    returned: dict[str, list[Return]] = {}
    for sent in world.returns.returns:
        if reference is None or (sent.payment is not None and sent.payment.account_reference == reference):
            returned.setdefault(sent.phone, []).append(sent)
    phones: dict[str, dict[str, Any]] = {}
    for phone, pushes in world.ledger.pushes_by_phone.items():
        shown = [push for push in pushes if reference is None or push.account_reference == reference]
        if shown and wanted in (None, phone):
            sums = totals(shown)
            debits = sorted((push for push in shown if push.debited_kes), key=lambda push: push.debited_time)
            phones[phone] = {
                "prompts": sums["prompted"],
                "debited_kes": sums["debited_kes"],
                "debits": [debit_row(push) for push in debits],
            }
    for phone in (phones.keys() | returned.keys()) if wanted is None else {wanted} & (phones.keys() | returned.keys()):
        row = phones.setdefault(phone, {"prompts": 0, "debited_kes": 0, "debits": []})
        row["returned_kes"] = sum(sent.amount for sent in returned.get(phone, []))
        row["returns"] = [return_row(sent) for sent in returned.get(phone, [])]
    return {"phones": phones}


async def add_query_faults(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    answers = list(parse_query_answers(body.get("answers")))
    count = whole(body.get("count", 1), "count")
    if len(answers) * count > COUNT_MAX:
        raise UnreadableScript(f"that is more than {COUNT_MAX} answers")
    faults = world.enquiries.query_faults
    faults.extend(answers * count)
    return {"queued": len(faults)}


async def clear_query_faults(world: World, _: web.Request) -> dict[str, Any]:
    return cleared(world.enquiries.query_faults)


async def script_queries(world: World, request: web.Request) -> dict[str, Any]:
    scripts = world.enquiries.query_scripts[request.match_info["phone"]]
    scripts.extend(parse_query_answers((await json_body(request)).get("answers")))
    return {"queued": len(scripts)}


async def hold_queries(world: World, request: web.Request) -> dict[str, Any]:
    held = typed(await json_body(request), "held", bool)
    if held is None:
        raise UnreadableScript("held must be true or false")
    phone = request.match_info["phone"]
    if held:
        world.enquiries.held.setdefault(phone, Held())
    elif phone in world.enquiries.held:
        world.enquiries.held.pop(phone).let_go.set()
    return {"held": held}


async def show_held(world: World, request: web.Request) -> dict[str, Any]:
    held = world.enquiries.held.get(request.match_info["phone"])
    return {"waiting": held.waiting if held is not None else 0}


async def add_status_faults(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    behaviour = parse_result_behaviour(body.get("behaviour"))
    world.enquiries.status_faults.extend([behaviour] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.enquiries.status_faults)}


async def clear_status_faults(world: World, _: web.Request) -> dict[str, Any]:
    return cleared(world.enquiries.status_faults)


async def script_statuses(world: World, request: web.Request) -> dict[str, Any]:
    scripts = world.enquiries.status_scripts[request.match_info["phone"]]
    scripts.extend([parse_result_behaviour(item) for item in await listed_behaviours(request)])
    return {"queued": len(scripts)}


async def add_pull_faults(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    behaviour = parse_pull_behaviour(body.get("behaviour"))
    world.enquiries.pull_faults.extend([behaviour] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.enquiries.pull_faults)}


async def clear_pull_faults(world: World, _: web.Request) -> dict[str, Any]:
    return cleared(world.enquiries.pull_faults)


async def add_balance_faults(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    behaviour = parse_result_behaviour(body.get("behaviour"))
    world.enquiries.balance_faults.extend([behaviour] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.enquiries.balance_faults)}


async def clear_balance_faults(world: World, _: web.Request) -> dict[str, Any]:
    return cleared(world.enquiries.balance_faults)


async def show_certificate(_: World, __: web.Request) -> dict[str, Any]:
    return {"certificate": certificate()}


async def set_initiator(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    locked, may_order = typed(body, "locked", bool), typed(body, "may_order", bool)
    if locked is None and may_order is None:
        raise UnreadableScript("one of locked and may_order must be true or false")
    world.initiator = Initiator(locked=locked or False, may_order=may_order is not False)
    return {"locked": world.initiator.locked, "may_order": world.initiator.may_order}


def cleared(faults: deque[Any]) -> dict[str, Any]:
    dropped = len(faults)
    faults.clear()
    return {"dropped": dropped}


ROUTES: Final[tuple[tuple[str, str, Control], ...]] = (
    ("GET", "/control/debits", show_debits),
    ("POST", "/control/queries", add_query_faults),
    ("DELETE", "/control/queries", clear_query_faults),
    ("POST", "/control/phones/{phone}/queries", script_queries),
    ("POST", "/control/phones/{phone}/held", hold_queries),
    ("GET", "/control/phones/{phone}/held", show_held),
    ("POST", "/control/statuses", add_status_faults),
    ("DELETE", "/control/statuses", clear_status_faults),
    ("POST", "/control/phones/{phone}/statuses", script_statuses),
    ("POST", "/control/pulls", add_pull_faults),
    ("DELETE", "/control/pulls", clear_pull_faults),
    ("POST", "/control/balances", add_balance_faults),
    ("DELETE", "/control/balances", clear_balance_faults),
    ("GET", "/control/certificate", show_certificate),
    ("POST", "/control/initiator", set_initiator),
)
