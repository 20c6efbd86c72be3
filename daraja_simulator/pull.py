"""Pull Transactions: what really arrived at a shortcode in the last 48 hours, from the simulator's own ledger.

Every debit has a row, also one whose callback never came; a push's behaviour may keep the row back or double it. A
payment that went back, by a reversal or at the payer's request, has another; no recording shows what that is called.
The names are those of "Daraja: Pull Transactions". The page there has GET for the query; the live service wants POST.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any, Final

from aiohttp import web

from daraja_simulator.behaviour import PullRows
from daraja_simulator.callbacks import masked
from daraja_simulator.enquiries import PullBehaviour
from daraja_simulator.errors import ERRORS, Refusal, invalid
from daraja_simulator.fields import json_object, text_of
from daraja_simulator.ledger import Push
from daraja_simulator.nairobi import (
    NAIROBI_AHEAD_SECONDS,
    fraction_timestamp,
    offset_timestamp,
    spaced_timestamp,
    spaced_unix_time,
    timestamp,
    zulu_timestamp,
)
from daraja_simulator.oauth import refused_token
from daraja_simulator.push import acceptable_url
from daraja_simulator.quirks import Chosen
from daraja_simulator.returns import Return
from daraja_simulator.world import World, json_answer, raw_answer

KEPT_SECONDS: Final = 48 * 3600.0
_TOKEN_REFUSAL: Final = "invalid_access_token_401_001"
_REVERSAL_TYPE: Final = "organization-reversal"


async def register_pull(world: World, request: web.Request) -> web.Response:
    """POST /pulltransactions/v1/register: once for a shortcode, before its first pull."""
    fields = await _fields(world, request)
    if isinstance(fields, Refusal):
        return world.refuse(fields)
    await world.wait_latency("register", len(world.pull_registrations))
    shortcode, number = text_of(fields, "ShortCode"), text_of(fields, "NominatedNumber")
    if not _is_ours(world, shortcode):
        return world.refuse(ERRORS["pull_invalid_shortcode"])
    if text_of(fields, "RequestType") != "Pull":
        return world.refuse(invalid("RequestType"))
    if not (number.isascii() and number.isdigit() and 10 <= len(number) <= 12):
        return world.refuse(invalid("NominatedNumber"))
    if not acceptable_url(text_of(fields, "CallBackURL")):
        return world.refuse(invalid("CallBackURL"))
    chosen = world.chosen_for("pull", "register", shortcode, len(world.pull_registrations))
    known = shortcode in world.pull_registrations
    world.pull_registrations.add(shortcode)
    if known:
        world.hits["pull.registered_before"] += 1
    space = " " if chosen.take("pull.spaced_keys") else ""
    return json_answer(
        {
            **_reference(world, chosen, "register", shortcode),
            f"Response{space}Status": _code("1001" if known else "1000", chosen),
            "ShortCode": shortcode,
            f"Response{space}Description": "ShortCode already Registered"
            if known
            else "Shortcode Registered Successfully",
        }
    )


async def answer_pull(world: World, request: web.Request) -> web.Response:
    """POST /pulltransactions/v1/query."""
    fields = await _fields(world, request)
    if isinstance(fields, Refusal):
        return world.refuse(fields)
    world.enquiries.pulls_asked += 1
    number = world.enquiries.pulls_asked
    behaviour = world.enquiries.next_pull()
    await world.wait_latency("pull", number)
    if behaviour.error is not None:
        world.hits["pull.error"] += 1
        return world.refuse(ERRORS[behaviour.error])
    if behaviour.raw_answer is not None:
        world.hits["pull.raw_answer"] += 1
        return raw_answer(behaviour.raw_answer)
    shortcode = text_of(fields, "ShortCode")
    if shortcode not in world.pull_registrations:
        world.hits["pull.not_registered"] += 1
        return world.refuse(ERRORS["pull_invalid_shortcode"])
    start, end = spaced_unix_time(text_of(fields, "StartDate")), spaced_unix_time(text_of(fields, "EndDate"))
    offset = text_of(fields, "OffSetValue")
    if start is None:
        return world.refuse(invalid("StartDate"))
    if end is None or end < start:
        return world.refuse(invalid("EndDate"))
    if not (offset.isascii() and offset.isdigit() and len(offset) <= 9):
        return world.refuse(invalid("OffSetValue"))
    chosen = _chosen_for_page(world, behaviour, number)
    listed, size = _rows_between(world, shortcode, start, end), world.settings.pull_page_rows
    first = 0 if chosen.take("pull.offset_ignored") else int(offset)
    rows = [_row(one, _chosen_for_row(world, behaviour, one)) for one in listed[first:][:size]]
    return _page(world, rows, chosen, number, _totals(chosen, len(listed), first, size))


async def _fields(world: World, request: web.Request) -> dict[str, Any] | Refusal:
    """What was sent, or why nothing of it is looked at."""
    if request.method != "POST":
        if request.method == "GET":
            world.hits["pull.get"] += 1
        return ERRORS["method_not_allowed"]
    content = await request.read()
    refusal = refused_token(world, request, content, usual=_TOKEN_REFUSAL)
    if refusal is not None:
        return refusal
    fields = json_object(content)
    return ERRORS["bad_payload"] if fields is None else fields


def _is_ours(world: World, number: str) -> bool:
    return any(number in (shortcode.number, shortcode.till) for shortcode in world.settings.shortcodes)


def _rows_between(world: World, shortcode: str, start: float, end: float) -> list[Push | Return]:
    """What was paid to a party, and sent back, in a window of whole seconds, both ends included, oldest first."""
    now = time.time()
    if start < now - KEPT_SECONDS:
        world.hits["pull.window_cut"] += 1
        start = now - KEPT_SECONDS
    debits = world.ledger.debits
    shown: list[Push | Return] = []
    for index in range(bisect_left(debits, start // 1, key=_debited_time), len(debits)):
        push = debits[index]
        if int(push.debited_time) > end:
            break
        if shortcode in _parties(push):
            shown += [push] * _times_shown(world, push, now)
    back = [
        sent
        for sent in world.returns.by_payment.values()
        if start // 1 <= int(sent.time) <= end and shortcode in _parties(_payment_of(sent))
    ]
    return sorted([*shown, *back], key=_moved_at) if back else shown


def _payment_of(row: Push | Return) -> Push:
    if isinstance(row, Push):
        return row
    assert row.payment is not None, "only what is sent back by the payment has a row"
    return row.payment


def _parties(push: Push) -> tuple[str, str]:
    return push.shortcode, push.party_b


def _moved_at(row: Push | Return) -> float:
    return row.debited_time if isinstance(row, Push) else row.time


def _debited_time(push: Push) -> float:
    return push.debited_time


def _times_shown(world: World, push: Push, now: float) -> int:
    behaviour = world.plans[push.number].behaviour
    if behaviour.pull is PullRows.NEVER:
        world.hits["pull.row_never"] += 1
        return 0
    if push.debited_time + behaviour.pull_delay_seconds > now:
        world.hits["pull.row_late"] += 1
        return 0
    if behaviour.pull is PullRows.TWICE:
        world.hits["pull.row_twice"] += 1
        return 2
    return 1


def _chosen_for_page(world: World, behaviour: PullBehaviour, number: int) -> Chosen:
    if behaviour.quirks is not None:
        return Chosen(frozenset(behaviour.quirks), world.hits)
    return world.chosen_for("pull", "page", number)


def _chosen_for_row(world: World, behaviour: PullBehaviour, row: Push | Return) -> Chosen:
    """Drawn for the payment, so that its row looks the same in every pull."""
    push = _payment_of(row)
    scripted = behaviour.quirks if behaviour.quirks is not None else world.plans[push.number].behaviour.quirks
    return world.chosen("pull", push, scripted)[0]


def _row(row: Push | Return, chosen: Chosen) -> dict[str, Any]:
    push = _payment_of(row)
    buys_goods = push.party_b != push.shortcode
    went_back = isinstance(row, Return)
    # A reversal has a receipt of its own, or is listed under the one that it sends back.
    named = push if went_back and chosen.take("pull.reversal_by_original") else row
    return {
        "transactionId": named.receipt,
        "trxDate": _date(_moved_at(row), chosen),
        "msisdn": _msisdn(push, chosen),
        "sender": "PASSENGER",
        "transactiontype": _REVERSAL_TYPE if went_back else _type(chosen, buys_goods),
        # A till has no account numbers.
        "billreference": "" if buys_goods else push.account_reference,
        "amount": _amount(push, chosen),
        "organizationname": "Virtual Coaches",
    }


def _type(chosen: Chosen, buys_goods: bool) -> str:
    if chosen.take("pull.type_other"):
        return "Fuliza M-PESA Ov"
    if chosen.take("pull.type_cut"):
        return "c2b-buygoods-deb" if buys_goods else "c2b-paybill-debi"
    return "c2b-buy-goods-debit" if buys_goods else "c2b-pay-bill-debit"


def _date(at: float, chosen: Chosen) -> str:
    if chosen.take("pull.date_false_zone"):
        return zulu_timestamp(at + NAIROBI_AHEAD_SECONDS)
    forms = {
        "pull.date_nairobi": spaced_timestamp,
        "pull.date_offset": offset_timestamp,
        "pull.date_fraction": fraction_timestamp,
        "pull.date_digits": timestamp,
    }
    written = next((form for quirk_id, form in forms.items() if chosen.take(quirk_id)), zulu_timestamp)
    return written(at)


def _msisdn(push: Push, chosen: Chosen) -> str | int:
    if chosen.take("pull.msisdn_number"):
        return int(push.phone[3:])
    return push.phone[3:] if chosen.take("pull.msisdn_text") else masked(push.phone)


def _amount(push: Push, chosen: Chosen) -> str | float:
    if chosen.take("pull.amount_number"):
        return float(push.debited_kes)
    return str(push.debited_kes) if chosen.take("pull.amount_whole") else f"{push.debited_kes}.00"


def _totals(chosen: Chosen, listed: int, first: int, size: int) -> dict[str, Any]:
    """How much there is of the window; most answers do not say."""
    if chosen.take("pull.totals_above"):
        listed += 50
    elif not chosen.take("pull.totals"):
        return {}
    pages = {"CurrentPage": first // size + 1, "PageSize": size, "TotalPages": -(-listed // size)}
    return {**pages, "TotalRecords": listed}


def _page(
    world: World, rows: list[dict[str, Any]], chosen: Chosen, number: int, totals: dict[str, Any]
) -> web.Response:
    if chosen.take("pull.not_working"):
        return _answer(world, chosen, number, "1001", "No records found or Organization Name not available")
    if chosen.take("pull.failed_200"):
        return _answer(world, chosen, number, "500", "Failed to retrieve transactions")
    if not rows:
        return _empty_page(world, chosen, number, totals)
    lists: list[Any] = [rows]
    if chosen.take("pull.flat"):
        lists = rows
    elif len(rows) > 1 and chosen.take("pull.several_lists"):
        lists = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return _answer(world, chosen, number, "1000", "Success", {**totals, "Response": lists})


def _empty_page(world: World, chosen: Chosen, number: int, totals: dict[str, Any]) -> web.Response:
    if chosen.take("pull.empty_500"):
        return world.refuse(ERRORS["pull_nothing_found"])
    if chosen.take("pull.empty_success"):
        return _answer(world, chosen, number, "1000", "Success", {**totals, "Response": [[]]})
    if chosen.take("pull.empty_list"):
        return _answer(world, chosen, number, "1000", "Success", {**totals, "Response": []})
    none = "No transactions available for the selected time period"
    if chosen.take("pull.empty_text"):
        return _answer(world, chosen, number, "1001", none, {**totals, "Transaction": "[[]]"})
    nested: dict[str, Any] = {"Response": [[]]} if chosen.take("pull.empty_nested") else {}
    return _answer(world, chosen, number, "1001", none, {**totals, **nested})


def _answer(
    world: World, chosen: Chosen, number: int, code: str, message: str, content: dict[str, Any] | None = None
) -> web.Response:
    return json_answer(
        {
            **_reference(world, chosen, "pull", number),
            "ResponseCode": _code(code, chosen),
            "ResponseMessage": message,
            **(content or {}),
        }
    )


def _reference(world: World, chosen: Chosen, *key: object) -> dict[str, str]:
    return {"RequestID" if chosen.take("pull.request_id") else "ResponseRefID": world.request_id(*key)}


def _code(code: str, chosen: Chosen) -> str | int:
    return int(code) if chosen.take("pull.code_number") else code
