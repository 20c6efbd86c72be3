"""Orders to send money to a phone, a reversal or a B2C payment: read, acknowledged, carried out, and told of later.

M-Pesa carries an order out some time after it has taken it, and before any result is posted, whether or not one is.
Who may order is checked then, not before. What each kind of order asks for, and what stands against it, is decided in
its own file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from daraja_simulator.errors import Refusal
from daraja_simulator.order_scripts import OrderBehaviour
from daraja_simulator.push import deliver, outcome_of
from daraja_simulator.results import (
    PROCESSED,
    Asked,
    Outcome,
    acknowledgement,
    failure_parameters,
    read_fields,
    refused_operator,
    result_body,
    scripted_answer,
    tell,
    wait_for_result,
)
from daraja_simulator.returns import Order
from daraja_simulator.world import World

GROUP: Final = "order"


@dataclass(frozen=True, slots=True)
class Kind:
    """What sets a reversal and a B2C payment apart."""

    name: str
    # How the request calls the operator.
    operator: str
    # Enters into the books what is asked for, before anything is checked: the phone that is to have the money too, and
    # the name of the order.
    note: Callable[[World, Order, dict[str, Any]], None]
    # What the gateway objects to at once.
    objection: Callable[[World, Order, dict[str, Any]], Refusal | None]
    # Moves the money, or says what stands against that.
    carry_out: Callable[[World, Order, Asked], Outcome]


async def answer_order(world: World, request: web.Request, kind: Kind) -> web.StreamResponse:
    """Take an order, or refuse it, and let it be lived through."""
    fields = await read_fields(world, request, "invalid_access_token")
    if isinstance(fields, web.Response):
        return fields
    order = world.returns.record(kind.name, time.time())
    kind.note(world, order, fields)
    behaviour = world.order_scripts.next(order.phone)
    asked = _asked(world, order, kind, fields, behaviour)
    await world.wait_latency(GROUP, order.phone, order.nth)
    response = scripted_answer(world, GROUP, behaviour.told)
    scripted = response is not None
    refusal = None if scripted else kind.objection(world, order, fields)
    taken = not scripted and refusal is None
    order.outcome = "accepted" if taken else outcome_of(refusal) if refusal is not None else "scripted answer"
    if scripted and behaviour.carries_out:
        world.hits["order.says_refused"] += 1
    if taken or (scripted and (behaviour.carries_out or behaviour.told.result is not None)):
        world.returns.take(order)
        carries_out = taken if behaviour.carries_out is None else behaviour.carries_out
        world.spawn(_live_through(world, order, kind, asked, carries_out=carries_out, told=taken))
    if behaviour.answer_delay_seconds > 0:
        world.hits["order.answer_late"] += 1
        await asyncio.sleep(behaviour.answer_delay_seconds)
    if response is None:
        response = acknowledgement(asked) if refusal is None else world.refuse(refusal)
    return deliver(world, request, response, behaviour.answer, GROUP)


def _asked(world: World, order: Order, kind: Kind, fields: dict[str, Any], behaviour: OrderBehaviour) -> Asked:
    """Name the order, and decide how it goes."""
    key = order.phone, order.nth, kind.name
    chosen, draws = world.chosen_by(GROUP, behaviour.told.quirks, *key, GROUP)
    order.conversation_id = world.conversation_id(order.received_time, GROUP, order.number)
    reference = "QueueTimeoutURL", f"https://internal.example/{kind.name}results/v1/submit"
    ids = order.originator_conversation_id, order.conversation_id
    return Asked(GROUP, fields, behaviour.told, chosen, draws, *ids, reference, order.results)


async def _live_through(world: World, order: Order, kind: Kind, asked: Asked, *, carries_out: bool, told: bool) -> None:
    """Wait, move the money unless something stands against it, and post what became of it as scripted."""
    await wait_for_result(world, asked)
    outcome = _ended(world, order, kind, asked) if carries_out else _forgotten(world)
    order.result_code, order.ended_time = outcome.code, time.time()
    body = result_body(world, asked, outcome)
    if told or asked.behaviour.result is not None:
        await tell(world, asked, body)


def _ended(world: World, order: Order, kind: Kind, asked: Asked) -> Outcome:
    """What M-Pesa has to say: about the operator first, then about the order."""
    refused = refused_operator(world, asked, kind.operator)
    if refused is not None:
        return refused
    if not world.initiator.may_order:
        world.hits["order.initiator_not_allowed"] += 1
        return failure(asked, 21, "The initiator is not allowed to initiate this request.")
    outcome = kind.carry_out(world, order, asked)
    if outcome.code == 0 and asked.chosen.take("order.parameter_order"):
        outcome.parameters.reverse()
    return outcome


def _forgotten(world: World) -> Outcome:
    """As an old sandbox answered: done, and nothing more, while no money moved."""
    world.hits["order.says_done"] += 1
    return Outcome(0, PROCESSED)


def failure(asked: Asked, code: int | str, desc: str) -> Outcome:
    return Outcome(code, desc, failure_parameters(asked))


def too_little(world: World, order: Order, asked: Asked, shortcode: str) -> Outcome | None:
    """What stands against an order that the shortcode's account cannot pay."""
    if world.returns.balance_kes(world.ledger, shortcode) >= order.amount:
        return None
    world.hits["order.float_short"] += 1
    return failure(asked, 1, "The balance is insufficient for the transaction.")


def public_name(phone: str, asked: Asked) -> str:
    """How a result names the customer who had the money."""
    number = f"0{phone[3:]}" if asked.chosen.take("order.local_number") else phone
    return f"{number} - PASSENGER"
