"""What happens on the phone after the prompt, and the callback that tells of it.

The money moves when the passenger pays, before any callback is sent and whether or not one is. A callback is sent at
most once ("twice" is a script's doing) and nothing is retried, which is what recorded traffic shows. The shapes of
the body are those of "Daraja: M-Pesa Express Simulate", with the recorded variations as quirks.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from daraja_simulator.behaviour import Behaviour, Delivery
from daraja_simulator.courier import NotDelivered
from daraja_simulator.draws import Draws
from daraja_simulator.ledger import CallbackAttempt, Push
from daraja_simulator.nairobi import timestamp
from daraja_simulator.phones import BY_NAME, PAID, Ending
from daraja_simulator.quirks import DELAY_SLOT, VARIANT_SLOT, Chosen
from daraja_simulator.world import Plan, World

CONTENT_TYPE: Final = "application/json;charset=UTF-8"
# As recorded on a sandbox callback.
_USER_AGENT: Final = "ReactorNetty/1.2.9"

# How far ahead of the clock a callback from the future is dated.
_FUTURE_SECONDS: Final = 86_400.0

# An item that has a name and no value at all.
_NO_VALUE: Final = object()

# Longer prompts do not reach the phone and end with 1025; the rest of the text is about this long.
_PROMPT_CHARACTERS_MAX: Final = 182
_PROMPT_FRAME_CHARACTERS: Final = len("Do you want to pay Ksh 250000.00 to MERCHANT Account no. ? Enter M-PESA PIN:")


@dataclass(frozen=True, slots=True)
class Result:
    """How a prompt ended, in the words of the callback."""

    code: int | str
    desc: str
    pays: bool


def open_prompt(world: World, push: Push) -> None:
    """The phone shows the prompt from now on; a second one is refused until this one has ended."""
    push.prompted_time = time.time()
    world.open_prompts[push.phone] = push


async def live_through(world: World, push: Push, plan: Plan) -> None:
    """Wait as long as the passenger takes, settle, and send the callback as scripted."""
    behaviour = plan.behaviour
    chosen, draws = world.chosen("callback", push, behaviour.quirks)
    ending = await _lived(world, push, plan, draws)
    settle(world, push, _result(ending, behaviour, chosen, draws))
    body = callback_body(world, push, behaviour, chosen)
    match behaviour.callback:
        case Delivery.NEVER:
            world.hits["callback.never"] += 1
        case Delivery.HELD:
            world.hits["callback.held"] += 1
            push.last_body = body
            world.held.append(push)
        case Delivery.REORDERED:
            world.hits["callback.reordered"] += 1
            push.last_body = body
            world.reordered.append(push)
        case Delivery.TWICE:
            world.hits["callback.twice"] += 1
            await _send_twice(world, push, body, behaviour.callback_gap_seconds)
        case Delivery.ONCE | Delivery.BEFORE_ANSWER:
            await send(world, push, body)


def settle(world: World, push: Push, result: Result) -> None:
    """End the prompt: close it on the phone, move the money, remember the result."""
    now = time.time()
    if world.open_prompts.get(push.phone) is push:
        del world.open_prompts[push.phone]
    push.ended_time = now
    push.result_code = result.code
    push.result_desc = result.desc
    if result.pays:
        world.ledger.debit(push, now)


async def send(world: World, push: Push, body: tuple[str, bytes]) -> CallbackAttempt:
    """Post one callback and enter the outcome into the ledger; then let those go that waited for it."""
    content_type, content = body
    push.last_body = body
    attempt = CallbackAttempt(time.time())
    push.callbacks.append(attempt)
    headers = f"{headers_of(content_type)}Businessshortcode: {push.shortcode}\r\n"
    try:
        attempt.status = await world.courier.post(push.callback_url, headers, content)
    except NotDelivered as error:
        attempt.error = str(error)
    if world.reordered:
        waiting, world.reordered = world.reordered, []
        for earlier in waiting:
            assert earlier.last_body is not None
            world.spawn(_send_quietly(world, earlier, earlier.last_body))
    return attempt


def headers_of(content_type: str) -> str:
    """The headers of everything M-Pesa posts, each line ending in CRLF."""
    return f"User-Agent: {_USER_AGENT}\r\nContent-Type: {content_type}\r\nAccept: */*\r\n"


async def _send_quietly(world: World, push: Push, body: tuple[str, bytes]) -> None:
    await send(world, push, body)


async def _send_twice(world: World, push: Push, body: tuple[str, bytes], gap_seconds: float) -> None:
    if gap_seconds == 0:
        await asyncio.gather(send(world, push, body), send(world, push, body))
        return
    await send(world, push, body)
    await asyncio.sleep(gap_seconds)
    await send(world, push, body)


async def _lived(world: World, push: Push, plan: Plan, draws: Draws) -> Ending:
    """How the prompt ended, when it has: by the script, or by the person who has the phone in hand."""
    inevitable = _inevitable(world, push, plan)
    ending = inevitable or plan.phone.ending
    delay = _delay_seconds(world, ending, plan.behaviour, draws)
    # An answer that waits for the callback cannot wait for a person too.
    scripted = plan.behaviour is not plan.phone.behaviour or plan.behaviour.callback is Delivery.BEFORE_ANSWER
    if inevitable is None and not scripted:
        name = await world.hands.ending_of(push, delay, world.settings.prompt_seconds)
        return ending if name is None else BY_NAME[name]
    if delay > 0:
        await asyncio.sleep(delay)
    return ending


def _inevitable(world: World, push: Push, plan: Plan) -> Ending | None:
    """What the script says, or what the set-up leads to; None leaves it to the phone."""
    if plan.behaviour.ending is not None:
        return BY_NAME[plan.behaviour.ending]
    till = next((s.till for s in world.settings.shortcodes if s.number == push.shortcode), None)
    if push.party_b != (till or push.shortcode):
        return BY_NAME["wrong_type"]
    if len(push.account_reference) + _PROMPT_FRAME_CHARACTERS > _PROMPT_CHARACTERS_MAX:
        return BY_NAME["prompt_failed"]
    # A script that says nothing about the ending leaves it to the number, with all of its usual delay.
    return None


def _delay_seconds(world: World, ending: Ending, behaviour: Behaviour, draws: Draws) -> float:
    if behaviour.callback_delay_seconds is not None:
        return behaviour.callback_delay_seconds
    if behaviour.callback is Delivery.BEFORE_ANSWER:
        return 0.0
    if world.settings.callback_delay_seconds is not None:
        return world.settings.callback_delay_seconds
    return draws.between(DELAY_SLOT, ending.seconds_low, ending.seconds_high)


def _result(ending: Ending, behaviour: Behaviour, chosen: Chosen, draws: Draws) -> Result:
    if behaviour.result_code is not None:
        code: int | str = behaviour.result_code
        known = next((e for e in BY_NAME.values() if e.result_code == code), None)
        desc = behaviour.result_desc or (known.wordings[0] if known else "A result that is on no list.")
    else:
        code, desc = ending.result_code, behaviour.result_desc or ending.wordings[0]
        if len(ending.wordings) > 1 and behaviour.result_desc is None and chosen.take("callback.other_wording"):
            others = ending.wordings[1:]
            desc = others[int(draws.fraction(VARIANT_SLOT) * len(others))]
    if code != 0 and chosen.take("callback.old_prefix"):
        desc = f"[STK_CB - ]{desc}"
    return Result(code, desc, behaviour.pays if behaviour.pays is not None else code == 0)


def result_of(name: str) -> Result:
    """A plain result for an ending, without chance."""
    ending = BY_NAME[name]
    return Result(ending.result_code, ending.wordings[0], ending.result_code == 0)


def callback_body(world: World, push: Push, behaviour: Behaviour, chosen: Chosen) -> tuple[str, bytes]:
    """Content type and body of the callback for a push that has ended."""
    if behaviour.raw_callback is not None:
        world.hits["callback.raw"] += 1
        return behaviour.raw_callback.content_type, behaviour.raw_callback.body
    ids: dict[str, str | None] = {
        "MerchantRequestID": push.merchant_request_id,
        "CheckoutRequestID": push.checkout_request_id,
    }
    if behaviour.callback_ids_of is not None:
        ids.update(_ids_of(world, behaviour.callback_ids_of))
    if behaviour.callback_ids:
        world.hits["callback.foreign_ids"] += 1
        ids.update(behaviour.callback_ids)
    inner: dict[str, Any] = {name: value for name, value in ids.items() if value is not None}
    inner["ResultCode"] = str(push.result_code) if chosen.take("callback.code_string") else push.result_code
    inner["ResultDesc"] = push.result_desc
    without_all = "CallbackMetadata" in behaviour.callback_without or chosen.take("callback.no_metadata")
    if push.result_code == PAID.result_code and not without_all:
        inner["CallbackMetadata"] = {"Item": _items(world, push, behaviour, chosen)}
    elif without_all and "callback.no_metadata" not in chosen.ids:
        world.hits["callback.no_metadata"] += 1
    return CONTENT_TYPE, json.dumps({"Body": {"stkCallback": inner}}).encode()


def _items(world: World, push: Push, behaviour: Behaviour, chosen: Chosen) -> list[dict[str, Any]]:
    """The metadata as it happened, with its quirks, and over it what a script wants."""
    values: dict[str, Any] = {"Amount": float(push.amount) if chosen.take("callback.amount_float") else push.amount}
    if chosen.take("callback.amount_string"):
        values["Amount"] = str(push.amount)
    values["MpesaReceiptNumber"] = push.receipt
    if not chosen.take("callback.balance_missing"):
        values["Balance"] = _balance(chosen)
    ahead_seconds = _FUTURE_SECONDS if chosen.take("callback.date_future") else 0.0
    paid_at = timestamp((push.ended_time or push.received_time) + ahead_seconds)
    values["TransactionDate"] = paid_at if chosen.take("callback.date_string") else int(paid_at)
    if chosen.take("callback.phone_masked"):
        values["PhoneNumber"] = f"{push.phone[:6]}***{push.phone[-3:]}"
    elif chosen.take("callback.phone_masked_c2b"):
        values["PhoneNumber"] = masked(push.phone)
    elif chosen.take("callback.phone_masked_sms"):
        values["PhoneNumber"] = f"0{push.phone[3:9]}***"
    elif not chosen.take("callback.phone_missing"):
        values["PhoneNumber"] = int(push.phone) if push.phone.isdecimal() else push.phone
    if chosen.take("callback.extra_item"):
        values["AccountReference"] = push.account_reference
    _apply_script(world, push, behaviour, chosen, values)
    items = [{"Name": name} if value is _NO_VALUE else {"Name": name, "Value": value} for name, value in values.items()]
    if chosen.take("callback.item_order"):
        items.reverse()
    return items


def masked(phone: str) -> str:
    """A phone number as C2B v2 shows it."""
    return f"{phone[:4]} ***** {phone[-3:]}"


def _ids_of(world: World, phone: str) -> dict[str, str | None]:
    """The ids of the latest push that reached another phone; none of them when no push has."""
    reached = (push for push in reversed(world.ledger.pushes_by_phone.get(phone, [])) if push.prompted_time is not None)
    other = next(reached, None)
    if other is None:
        return {}
    world.hits["callback.other_payments_ids"] += 1
    return {"MerchantRequestID": other.merchant_request_id, "CheckoutRequestID": other.checkout_request_id}


def _balance(chosen: Chosen) -> object:
    """Balance usually comes without a value; the odd ones out are quirks."""
    if chosen.take("callback.balance_string"):
        return "1250.00"
    if chosen.take("callback.balance_struct"):
        return "{Amount={BasicAmount=1250.00, CurrencyCode=KES}}"
    return _NO_VALUE


def _apply_script(world: World, push: Push, behaviour: Behaviour, chosen: Chosen, values: dict[str, Any]) -> None:
    if behaviour.callback_items:
        values.update(behaviour.callback_items)
    if chosen.take("callback.wrong_amount"):
        values["Amount"] = push.amount + 1
    elif behaviour.callback_items and "Amount" in behaviour.callback_items:
        world.hits["callback.wrong_amount"] += 1
    if chosen.take("callback.no_receipt"):
        del values["MpesaReceiptNumber"]
    elif "MpesaReceiptNumber" in behaviour.callback_without:
        world.hits["callback.no_receipt"] += 1
    for name in behaviour.callback_without:
        values.pop(name, None)
