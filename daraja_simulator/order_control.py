"""The control API's third part: orders to send money, what they are paid from, and money that Safaricom takes back.

  GET    /control/orders                  {"orders": […], "totals": {…}}: every order that was read; narrowed by ?kind=
                                          ?phone= ?original_receipt= ?originator_conversation_id= ?after=<its number>
  POST   /control/orders                  {"behaviour": {…}, "count": 1}: for the next orders, whatever the phone
  DELETE /control/orders
  POST   /control/phones/{phone}/orders   a behaviour, or {"behaviours": […]}: for the next orders to send to that phone
  POST   /control/results/release         posts all results that are held, however old: {"results": [{"status", …}]}
  POST   /control/takebacks               a push (control.py): Safaricom sends its money back at the payer's request
  GET    /control/balance                 {"shortcodes": {number: kes}}: what each has to send
  POST   /control/balance                 {"shortcode", "kes"}: from now on, as when money is moved in or out

Behaviours are described in order_scripts.py. Money that went back is in /control/debits, phone by phone.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from aiohttp import web

from daraja_simulator.control import Control, push_named
from daraja_simulator.enquiry_control import cleared
from daraja_simulator.order_scripts import parse_order_behaviour
from daraja_simulator.reading import UnreadableScript, json_body, listed_behaviours, typed, whole
from daraja_simulator.results import post_result
from daraja_simulator.returns import order_row, order_totals, return_row
from daraja_simulator.world import World

_NARROWED_BY: Final = ("kind", "phone", "original_receipt", "originator_conversation_id")


async def show_orders(world: World, request: web.Request) -> dict[str, Any]:
    after = whole(request.query.get("after", "0"), "after")
    wanted = {name: request.query[name] for name in _NARROWED_BY if name in request.query}
    shown = [
        order
        for order in world.returns.orders
        if order.number > after and all(getattr(order, name) == value for name, value in wanted.items())
    ]
    return {"orders": [order_row(order) for order in shown], "totals": order_totals(shown)}


async def add_order_faults(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    behaviour = parse_order_behaviour(body.get("behaviour"))
    world.order_scripts.faults.extend([behaviour] * whole(body.get("count", 1), "count"))
    return {"queued": len(world.order_scripts.faults)}


async def clear_order_faults(world: World, _: web.Request) -> dict[str, Any]:
    return cleared(world.order_scripts.faults)


async def script_orders(world: World, request: web.Request) -> dict[str, Any]:
    scripts = world.order_scripts.by_phone[request.match_info["phone"]]
    scripts.extend([parse_order_behaviour(item) for item in await listed_behaviours(request)])
    return {"queued": len(scripts)}


async def release_results(world: World, _: web.Request) -> dict[str, Any]:
    waiting, world.held_results = world.held_results, []
    attempts = await asyncio.gather(*(post_result(world, result) for result in waiting))
    return {"results": [{"status": attempt.status, "error": attempt.error} for attempt in attempts]}


async def take_back(world: World, request: web.Request) -> dict[str, Any]:
    push = push_named(world.ledger, await json_body(request))
    if not push.debited_kes or push.receipt in world.returns.by_payment:
        raise UnreadableScript("that push was not paid, or its money has gone back already")
    world.hits["reversal.taken_back"] += 1
    world.returns.send_back(world.ledger, push, time.time(), None)
    return return_row(world.returns.by_payment[push.receipt])


async def show_balances(world: World, _: web.Request) -> dict[str, Any]:
    numbers = [shortcode.number for shortcode in world.settings.shortcodes]
    return {"shortcodes": {number: world.returns.balance_kes(world.ledger, number) for number in numbers}}


async def set_balance(world: World, request: web.Request) -> dict[str, Any]:
    body = await json_body(request)
    number, kes = typed(body, "shortcode", str), typed(body, "kes", int)
    known = [shortcode.number for shortcode in world.settings.shortcodes]
    if number not in known or kes is None:
        raise UnreadableScript(f"shortcode must be one of {', '.join(known)}, and kes a whole number")
    world.returns.set_balance(world.ledger, number, kes)
    return await show_balances(world, request)


ROUTES: Final[tuple[tuple[str, str, Control], ...]] = (
    ("GET", "/control/orders", show_orders),
    ("POST", "/control/orders", add_order_faults),
    ("DELETE", "/control/orders", clear_order_faults),
    ("POST", "/control/phones/{phone}/orders", script_orders),
    ("POST", "/control/results/release", release_results),
    ("POST", "/control/takebacks", take_back),
    ("GET", "/control/balance", show_balances),
    ("POST", "/control/balance", set_balance),
)
