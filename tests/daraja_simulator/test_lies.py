"""Answers, queries and callbacks that say something else than what happened, each on request only."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.daraja_simulator.merchant import Merchant, nairobi_now, new_phone, password

QUERY = "/mpesa/stkpushquery/v1/query"


async def test_a_push_that_is_refused_may_have_reached_the_phone(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, error="system_busy", prompts=True)
    status, body = await merchant.push(phone)
    assert (status, body["errorCode"]) == (500, "500.003.02")
    (callback,) = await merchant.callbacks(1)
    (row,) = (await merchant.ledger(phone=phone))["pushes"]
    assert row["debited_kes"] == 150
    assert callback.result["CheckoutRequestID"] == row["checkout_request_id"]
    assert await hits(merchant, "push.says_refused") == 1


async def test_a_push_that_is_accepted_may_never_reach_the_phone(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, prompts=False)
    status, answer = await merchant.push(phone)
    assert (status, answer["ResponseCode"]) == (200, "0")
    assert (await merchant.query(answer["CheckoutRequestID"]))[1]["errorMessage"] == "The transaction does not Exist"
    assert (await merchant.ledger(phone=phone))["totals"]["prompted"] == 0
    assert await hits(merchant, "push.says_accepted") == 1


async def test_a_query_can_contradict_what_the_phone_did(merchant: Merchant) -> None:
    paying, cancelling, undecided = new_phone(), "254700051032", new_phone()
    await merchant.script(undecided, callback_delay_seconds=3600)
    ids = [(await merchant.push(phone))[1]["CheckoutRequestID"] for phone in (paying, cancelling, undecided)]
    await merchant.callbacks(2)
    await merchant.control("queries", {"answers": ["contradiction"], "count": 3})
    codes = [(await merchant.query(checkout_id))[1]["ResultCode"] for checkout_id in ids]
    assert codes == ["1032", "0", "0"]
    assert (await merchant.query(ids[0]))[1]["ResultCode"] == "0"
    stated = {"result_code": 1037, "result_desc": "No response from user."}
    await merchant.control(f"phones/{paying}/queries", {"answers": [stated]})
    _, body = await merchant.query(ids[0])
    assert (body["ResultCode"], body["ResultDesc"]) == ("1037", "No response from user.")
    assert (await hits(merchant, "query.says_failed"), await hits(merchant, "query.says_paid")) == (2, 2)


async def test_every_query_can_be_answered_with_nonsense(merchant: Merchant) -> None:
    _, answer = await merchant.push(new_phone())
    await merchant.callbacks(1)
    nonsense = ["html", "empty", "wrong_types", "rate_limited", {"raw_answer": {"status": 502, "body": "no"}}]
    await merchant.control("queries", {"answers": nonsense, "count": 2})
    told = [
        await ask(merchant, checkout_id) for checkout_id in (answer["CheckoutRequestID"], "ws_CO_x") for _ in nonsense
    ]
    assert [status for status, _ in told] == [200, 200, 200, 429, 502] * 2
    assert told[0][1].startswith(b"<html>")
    assert told[1][1] == b""
    assert json.loads(told[2][1])["ResultCode"] is None
    assert told[4][1] == b"no"
    await merchant.control("queries", {"answers": ["html"], "count": 5})
    assert await merchant.control("queries", method="DELETE") == {"dropped": 5}
    assert (await merchant.query(answer["CheckoutRequestID"]))[1]["ResultCode"] == "0"
    assert (await merchant.control("totals", method="GET"))["queries_asked"] == 11


async def test_a_callback_can_come_from_the_future(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, quirks=["callback.date_future"])
    await merchant.push(phone)
    (callback,) = await merchant.callbacks(1)
    tomorrow = datetime.now(UTC) + timedelta(hours=3 + 23)
    assert callback.items["TransactionDate"] > int(tomorrow.strftime("%Y%m%d%H%M%S"))
    assert await hits(merchant, "callback.date_future") == 1


@pytest.mark.parametrize(
    ("quirk_id", "masked"),
    [
        ("callback.phone_masked", "254722***{tail}"),
        ("callback.phone_masked_c2b", "2547 ***** {tail}"),
        ("callback.phone_masked_sms", "0{middle}***"),
    ],
)
async def test_the_phone_can_be_masked_in_every_known_form(merchant: Merchant, quirk_id: str, masked: str) -> None:
    phone = new_phone()
    await merchant.script(phone, quirks=[quirk_id])
    await merchant.push(phone)
    (callback,) = await merchant.callbacks(1)
    assert callback.items["PhoneNumber"] == masked.format(tail=phone[-3:], middle=phone[3:9])


async def test_a_callback_can_carry_the_ids_of_another_payment(merchant: Merchant) -> None:
    other, phone = new_phone(), new_phone()
    _, others = await merchant.push(other)
    await merchant.callbacks(1)
    await merchant.script(phone, callback_ids_of=other)
    await merchant.push(phone)
    callback = (await merchant.callbacks(2))[1]
    assert callback.items["PhoneNumber"] == int(phone)
    for name in ("MerchantRequestID", "CheckoutRequestID"):
        assert callback.result[name] == others[name]
    await merchant.script(phone, callback_ids_of=new_phone())
    _, own = await merchant.push(phone)
    assert (await merchant.callbacks(3))[2].result["CheckoutRequestID"] == own["CheckoutRequestID"]
    assert await hits(merchant, "callback.other_payments_ids") == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("queries", {"answers": ["nothing"]}),
        ("queries", {"answers": "html"}),
        ("queries", {"answers": [{}]}),
        ("queries", {"answers": [{"result_code": True}]}),
        ("queries", {"answers": ["html", "empty"], "count": 1_000_000}),
        ("phones/254722000001/queries", {"answers": None}),
        ("phones/254722000001/statuses", {"behaviours": {}}),
        ("statuses", {"behaviour": {"result": "often"}}),
        ("statuses", {"behaviour": {"quirks": ["status.unheard"]}}),
        ("statuses", {}),
        ("pulls", {"behaviour": {"error": "unheard"}}),
        ("pulls", {"behaviour": {"rows": 1}}),
        ("initiator", {}),
    ],
)
async def test_a_script_that_cannot_be_read_is_refused(merchant: Merchant, path: str, body: Any) -> None:
    async with merchant.session.post(f"{merchant.url}/control/{path}", json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]


async def ask(merchant: Merchant, checkout_request_id: str) -> tuple[int, bytes]:
    stamp = nairobi_now()
    fields = {"BusinessShortCode": "174379", "Password": password("174379", stamp), "Timestamp": stamp}
    return await merchant.post(QUERY, fields | {"CheckoutRequestID": checkout_request_id})


async def hits(merchant: Merchant, quirk_id: str) -> int:
    async with merchant.session.get(f"{merchant.url}/control/quirks") as answer:
        return next(int(entry["hits"]) for entry in (await answer.json())["quirks"] if entry["id"] == quirk_id)
