"""What the simulator shows of the requests that came: each with its answer, and nothing that is nobody's reading."""

from __future__ import annotations

import json
import re

import aiohttp
import pytest

from tests.daraja_simulator.merchant import Merchant, new_phone


async def test_each_request_is_shown_with_its_answer_and_without_secrets(merchant: Merchant) -> None:
    phone = new_phone()
    _, pushed = await merchant.push(phone)
    await merchant.query(pushed["CheckoutRequestID"])
    await merchant.reverse("NOSUCHONE1")
    listed = (await merchant.control("requests", method="GET"))["requests"]
    assert [one["path"] for one in listed] == [
        "/mpesa/reversal/v1/request",
        "/mpesa/stkpushquery/v1/query",
        "/mpesa/stkpush/v1/processrequest",
        "/oauth/v1/generate",
    ]
    push = listed[2]
    assert push["status"] == 200
    assert push["body"]["AccountReference"] == "SEAT12"
    assert push["body"]["Password"] == "…"
    assert push["body"]["PhoneNumber"] == f"2547****{phone[-3:]}"
    assert push["body"]["CallBackURL"] == f"{merchant.callback_url}/…"
    assert push["answer"]["ResponseCode"] == "0"
    shown = json.dumps(listed)
    assert phone[3:] not in shown
    assert merchant.token not in shown
    assert re.search("[A-Za-z0-9+/]{60}", shown) is None


async def test_a_connection_that_ended_instead_of_an_answer_is_said_so(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, answer="lost")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.push(phone)
    (push, _) = (await merchant.control("requests", method="GET"))["requests"]
    assert push["body"]["Amount"] == 150
    assert push["status"] is None
    assert push["answer"] is None
