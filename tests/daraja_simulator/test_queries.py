"""STK query: five ways of "not yet", one of "this is how it ended", never an amount or a receipt."""

from __future__ import annotations

import asyncio

from tests.daraja_simulator.merchant import Merchant, merchant_of, new_phone
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS

PENDING = {
    "being_processed": (500, "500.001.1001", "The transaction is being processed"),
    "empty_error": (200, "500.001.1001", ""),
    "invalid_checkout": (400, "400.002.02", "Bad Request - Invalid CheckoutRequestID"),
    "does_not_exist": (500, "500.001.1001", "The transaction does not Exist"),
}


async def test_the_five_forms_of_pending_can_be_scripted(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, queries=[*PENDING, "4999"], callback_delay_seconds=3600)
    _, answer = await merchant.push(phone)
    for expected in PENDING.values():
        status, body = await merchant.query(answer["CheckoutRequestID"])
        assert (status, body["errorCode"], body["errorMessage"]) == expected
    status, body = await merchant.query(answer["CheckoutRequestID"])
    assert (status, body["ResponseCode"], body["ResultCode"]) == (200, "0", "4999")
    assert await merchant.query(answer["CheckoutRequestID"]) != (200, body)


async def test_a_result_is_text_and_brings_neither_receipt_nor_amount(merchant: Merchant) -> None:
    for phone, code in ((new_phone(), "0"), ("254700042032", "1032"), ("254700042998", "0"), ("254700042999", "1037")):
        _, answer = await merchant.push(phone)
        status, body = await settled(merchant, answer["CheckoutRequestID"])
        assert (status, body["ResultCode"]) == (200, code)
        assert set(body) == {
            "ResponseCode",
            "ResponseDescription",
            "MerchantRequestID",
            "CheckoutRequestID",
            "ResultCode",
            "ResultDesc",
        }


async def test_an_unknown_or_missing_id_is_refused(merchant: Merchant) -> None:
    status, body = await merchant.query("ws_CO_unknown")
    assert (status, body["errorMessage"]) == (500, "The transaction does not Exist")
    status, body = await merchant.query("")
    assert (status, body["errorMessage"]) == (400, "Bad Request - Invalid CheckoutRequestID")
    unreadable: tuple[object, ...] = (None, [], {"BusinessShortCode": "1"}, {"BusinessShortCode": "174379"})
    for body_sent in unreadable:
        status, _ = await merchant.post("/mpesa/stkpushquery/v1/query", body_sent)
        assert status in (400, 500)


async def test_the_next_queries_of_a_phone_can_be_scripted_at_any_time(merchant: Merchant) -> None:
    phone = new_phone()
    _, answer = await merchant.push(phone)
    await settled(merchant, answer["CheckoutRequestID"])
    await merchant.control(f"phones/{phone}/queries", {"answers": ["error_after_end", "rate_limited", "result"]})
    answers = [await merchant.query(answer["CheckoutRequestID"]) for _ in range(3)]
    assert [status for status, _ in answers] == [500, 429, 200]
    assert "SpikeArrest" in answers[1][1]["fault"]["detail"]["errorcode"]


async def test_queries_about_one_phone_are_held_until_they_are_let_go(merchant: Merchant) -> None:
    phone, other = new_phone(), new_phone()
    (_, answer), (_, of_other) = await merchant.push(phone), await merchant.push(other)
    await settled(merchant, answer["CheckoutRequestID"])
    await merchant.control(f"phones/{phone}/held", {"held": True})
    query = asyncio.create_task(merchant.query(answer["CheckoutRequestID"]))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await merchant.control(f"phones/{phone}/held", method="GET"))["waiting"] == 0:
            assert not query.done()
            await asyncio.sleep(0.01)
    await settled(merchant, of_other["CheckoutRequestID"])
    assert not query.done()
    await merchant.control(f"phones/{phone}/held", {"held": False})
    status, body = await query
    assert (status, body["ResultCode"]) == (200, "0")
    assert await merchant.control(f"phones/{phone}/held", method="GET") == {"waiting": 0}


async def test_a_sixth_query_in_a_minute_meets_the_spike_arrest() -> None:
    async with in_process(queries_per_minute=5) as (_, url), merchant_of(url) as merchant:
        statuses = [(await merchant.query("ws_CO_unknown"))[0] for _ in range(7)]
    assert statuses == [500] * 5 + [429] * 2


async def test_with_quirks_queries_vary_as_listed_and_are_right_in_the_end() -> None:
    async with in_process(quirks=True) as (world, url), merchant_of(url) as merchant:
        pending, done = set(), set()
        for _ in range(12):
            phone = new_phone()
            await merchant.control("settings", {"callback_delay_seconds": 3600})
            _, answer = await merchant.push(phone)
            for _ in range(8):
                _, body = await merchant.query(answer["CheckoutRequestID"])
                pending.add(body.get("errorMessage", body.get("ResultCode")))
            await merchant.control("callbacks/settle", {"phone": phone, "ending": "no_funds"})
            for _ in range(8):
                _, body = await merchant.query(answer["CheckoutRequestID"])
                done.add(body.get("errorMessage", body.get("ResultCode")))
    assert pending == {text for _, _, text in PENDING.values()} | {"4999"}
    assert done == {"1", "The transaction is being processed"}
    assert world.hits["query.typo"] > 0


async def settled(merchant: Merchant, checkout_request_id: str) -> tuple[int, dict[str, str]]:
    """Ask until there is a result, as a patient client does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            status, body = await merchant.query(checkout_request_id)
            if "ResultCode" in body and body["ResultCode"] != "4999":
                return status, body
            await asyncio.sleep(0.01)
