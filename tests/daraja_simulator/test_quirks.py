"""Quirks: each can be shown on request, comes at its share otherwise, and is counted when and only when shown."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from daraja_simulator.draws import Draws, recorded_latency_seconds
from daraja_simulator.quirks import QUIRKS, drawn
from tests.daraja_simulator.merchant import Merchant, merchant_of, new_phone
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS

FORCED = [quirk.id for quirk in QUIRKS if quirk.id.split(".")[0] in ("push", "callback") and quirk.share > 0]
FORCED += ["callback.amount_string", "callback.code_string", "callback.no_receipt", "callback.no_metadata"]
FORCED += ["callback.wrong_amount"]


@pytest.mark.parametrize("quirk_id", FORCED)
async def test_a_quirk_asked_for_is_shown_and_counted(quirk_id: str) -> None:
    script: dict[str, Any] = {"quirks": [quirk_id]}
    changes: dict[str, Any] = {}
    if quirk_id in ("callback.old_prefix", "callback.other_wording"):
        script["ending"] = "unreachable"
    if quirk_id == "push.merchant_validate":
        changes = {"Password": "d3Jvbmc="}
    phone = "0722" if quirk_id == "push.phone_typo" else new_phone()
    async with in_process() as (world, url), merchant_of(url) as merchant:
        await merchant.script(phone, **script)
        plain = new_phone()
        await merchant.script(plain, quirks=[], ending=script.get("ending"))
        status, answer = await merchant.push(phone, PartyA=plain, **changes)
        _, plain_answer = await merchant.push(plain)
        if status == 200:
            await merchant.callbacks(2)
        assert world.hits[quirk_id] == 1
        quirky = shape(answer), [shape(callback.body) for callback in merchant.received if phone[3:] in str(callback)]
        ordinary = shape(plain_answer), [shape(c.body) for c in merchant.received if plain[3:] in str(c)]
        assert quirky != ordinary


def shape(message: Any) -> str:
    """A message with its ids and times made the same, so that two of them can be compared."""
    content = json.loads(message) if isinstance(message, bytes) else message
    return json.dumps(blur(content))


def blur(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: blur(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [blur(item) for item in value]
    if isinstance(value, str) and name in ("MerchantRequestID", "CheckoutRequestID"):
        return [value.startswith("ws_CO_DMZ_"), value.count("-") == 2]
    if isinstance(value, str) and value.isascii() and value.isalnum() and len(value) in (10, 14):
        return f"text of {len(value)}"
    if isinstance(value, int) and value > 10**9:
        return f"number of {len(str(value))} digits"
    return None if name == "requestId" else value


async def test_other_scripted_faults_are_counted(merchant: Merchant) -> None:
    """What the tests of answers, callbacks and queries do is counted there too; here it is shown to be."""
    for script, quirk_id in (
        ({"error": "quota"}, "push.error"),
        ({"error": "subscriber_locked"}, "push.subscriber_locked"),
        ({"raw_answer": {"status": 200}}, "push.raw_answer"),
        ({"answer_delay_seconds": 0.01}, "push.answer_late"),
        ({"callback": "never"}, "callback.never"),
        ({"callback": "twice"}, "callback.twice"),
        ({"callback": "before_answer"}, "callback.before_answer"),
        ({"callback": "held"}, "callback.held"),
        ({"callback": "reordered"}, "callback.reordered"),
        ({"callback_ids": {"CheckoutRequestID": "x"}}, "callback.foreign_ids"),
        ({"raw_callback": {"body": "x"}}, "callback.raw"),
        ({"callback_items": {"Amount": 2}}, "callback.wrong_amount"),
        ({"callback_without": ["MpesaReceiptNumber"]}, "callback.no_receipt"),
        ({"callback_without": ["CallbackMetadata"]}, "callback.no_metadata"),
    ):
        phone = new_phone()
        await merchant.script(phone, **script)
        await merchant.post("/mpesa/stkpush/v1/processrequest", merchant.fields(phone))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await hits(merchant, quirk_id) != 1:
                await asyncio.sleep(0.01)
        await merchant.control("reset")
        merchant.token = ""


async def test_a_query_with_integer_codes_can_be_asked_for(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, quirks=["query.int_codes", "query.customer_message"])
    _, answer = await merchant.push(phone)
    await merchant.callbacks(1)
    _, body = await merchant.query(answer["CheckoutRequestID"])
    assert (body["ResponseCode"], body["ResultCode"], body["CustomerMessage"]) == (0, 0, "")


async def test_the_same_seed_gives_the_same_history_in_any_order() -> None:
    phones = [new_phone() for _ in range(40)]
    histories = [await history(seed, phones, order) for seed, order in ((7, 1), (7, 2), (8, 1))]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


async def history(seed: int, phones: list[str], order: int) -> dict[str, Any]:
    """What each phone is told in its first two pushes, the pushes being mixed in a given order."""
    turns = phones * 2
    random.Random(order).shuffle(turns)
    told: dict[str, list[str]] = {phone: [] for phone in phones}
    async with in_process(quirks=True, seed=seed, callback_delay_seconds=0.0) as (_, url), merchant_of(url) as merchant:
        for number, phone in enumerate(turns):
            _, answer = await merchant.push(phone)
            callbacks = await merchant.callbacks(number + 1)
            told[phone] += [shape(answer), shape(callbacks[-1].body)]
    return told


def test_quirks_come_at_their_shares() -> None:
    occasions = 20_000
    for group in ("token", "push", "callback", "query"):
        counted = [quirk for n in range(occasions) for quirk in drawn(group, Draws(1, n, group))]
        for quirk in QUIRKS:
            if quirk.id.startswith(f"{group}."):
                # Four standard deviations of 20,000 draws are at most 1.5 %.
                assert counted.count(quirk.id) / occasions == pytest.approx(quirk.share, abs=0.015)


def test_every_quirk_without_a_share_says_that_it_only_comes_on_request() -> None:
    assert {quirk.id for quirk in QUIRKS if not quirk.share} == {
        quirk.id for quirk in QUIRKS if quirk.origin in ("scripted", "client")
    }


def test_latency_follows_the_recorded_distribution() -> None:
    seconds = sorted(recorded_latency_seconds(Draws(1, n).fraction(31)) for n in range(20_000))
    assert seconds[0] >= 0.44
    assert seconds[10_000] == pytest.approx(0.93, abs=0.03)
    assert seconds[19_000] == pytest.approx(2.2, abs=0.15)
    assert 6.0 < seconds[-1] <= 7.0


async def hits(merchant: Merchant, quirk_id: str) -> int:
    async with merchant.session.get(f"{merchant.url}/control/quirks") as answer:
        listed = (await answer.json())["quirks"]
    return next(int(entry["hits"]) for entry in listed if entry["id"] == quirk_id)
