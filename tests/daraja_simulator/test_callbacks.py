"""What happens on the phone, what the callback says of it, and how it travels."""

from __future__ import annotations

import asyncio

import pytest

from daraja_simulator.phones import PHONES
from tests.daraja_simulator.merchant import Merchant, merchant_of, nairobi_now, new_phone
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS


async def test_a_payment_is_told_as_recorded(merchant: Merchant) -> None:
    phone = new_phone()
    _, answer = await merchant.push(phone, Amount=480)
    (callback,) = await merchant.callbacks(1)
    assert callback.path == "/callbacks/stk/r/t"
    assert callback.headers["User-Agent"].startswith("ReactorNetty/")
    assert callback.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert callback.headers["Businessshortcode"] == "174379"
    assert callback.result["MerchantRequestID"] == answer["MerchantRequestID"]
    assert callback.result["CheckoutRequestID"] == answer["CheckoutRequestID"]
    assert callback.result["ResultCode"] == 0
    items = callback.result["CallbackMetadata"]["Item"]
    assert [item["Name"] for item in items] == [
        "Amount",
        "MpesaReceiptNumber",
        "Balance",
        "TransactionDate",
        "PhoneNumber",
    ]
    assert items[2] == {"Name": "Balance"}
    assert callback.items["Amount"] == 480
    assert isinstance(callback.items["Amount"], int)
    assert callback.items["PhoneNumber"] == int(phone)
    assert str(callback.items["TransactionDate"])[:10] == nairobi_now()[:10]
    (row,) = (await merchant.ledger(phone=phone))["pushes"]
    assert row["receipt"] == callback.items["MpesaReceiptNumber"]
    assert len(row["receipt"]) == 10
    assert (row["debited_kes"], row["prompted"], row["callbacks"][0]["status"]) == (480, True, 200)


@pytest.mark.parametrize(
    ("digits", "code"),
    [
        ("001", 1),
        ("032", 1032),
        ("037", 1037),
        ("019", 1019),
        ("201", 2001),
        ("017", 17),
        ("101", 1001),
        ("777", 7777),
        ("000", 0),
    ],
)
async def test_the_number_decides_the_ending(merchant: Merchant, digits: str, code: int) -> None:
    phone = f"254700042{digits}"
    await merchant.push(phone)
    (callback,) = await merchant.callbacks(1)
    assert callback.result["ResultCode"] == code
    assert ("CallbackMetadata" in callback.result) == (code == 0)
    assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == (150 if code == 0 else 0)


async def test_numbers_that_are_refused_at_once(merchant: Merchant) -> None:
    texts = [(await merchant.push(f"254700042{digits}"))[1]["errorMessage"] for digits in ("911", "912", "913")]
    assert texts[0].startswith("Unable to lock subscriber")
    assert texts[1] == "[CBS - ] No ICCID found"
    assert texts[2].startswith("System is busy")
    assert (await merchant.ledger())["totals"]["prompted"] == 0


async def test_a_paying_phone_without_a_callback_has_paid(merchant: Merchant) -> None:
    paid, silent = "254700042998", "254700042999"
    await merchant.push(paid)
    await merchant.push(silent)
    await all_ended(merchant, 2)
    assert (await merchant.ledger(phone=paid))["totals"] == {**TOTALS, "payments": 1, "debited_kes": 150}
    assert (await merchant.ledger(phone=silent))["totals"] == TOTALS
    assert merchant.received == []


async def test_a_callback_that_comes_twice_is_the_same_both_times(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, callback="twice", callback_gap_seconds=0.05)
    await merchant.push(phone)
    first, second = await merchant.callbacks(2)
    assert first.body == second.body
    assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == 150


async def test_a_callback_can_overtake_the_answer(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, callback="before_answer")
    status, answer = await merchant.push(phone)
    assert status == 200
    assert [callback.result["CheckoutRequestID"] for callback in merchant.received] == [answer["CheckoutRequestID"]]


async def test_a_reordered_callback_waits_for_a_later_one(merchant: Merchant) -> None:
    first, second = new_phone(), new_phone()
    await merchant.script(first, callback="reordered")
    await merchant.push(first)
    await all_ended(merchant, 1)
    await merchant.push(second)
    callbacks = await merchant.callbacks(2)
    assert [callback.items["PhoneNumber"] for callback in callbacks] == [int(second), int(first)]


async def test_a_held_callback_goes_when_it_is_released(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, callback="held")
    await merchant.push(phone)
    await all_ended(merchant, 1)
    assert merchant.received == []
    assert await merchant.control("callbacks/release") == {"callbacks": [{"status": 200, "error": None}]}
    assert len(merchant.received) == 1


async def test_contents_of_a_callback_can_be_scripted(merchant: Merchant) -> None:
    for script in (
        {"callback_items": {"Amount": 1}},
        {"callback_without": ["MpesaReceiptNumber"]},
        {"callback_without": ["CallbackMetadata"]},
        {"callback_ids": {"CheckoutRequestID": "ws_CO_other", "MerchantRequestID": None}},
        {"result_code": "R1", "result_desc": "Odd", "pays": True},
        {"raw_callback": {"body_base64": "//4=", "content_type": "text/plain"}},
    ):
        phone, before = new_phone(), len(merchant.received)
        await merchant.script(phone, **script)
        await merchant.push(phone)
        await merchant.callbacks(before + 1)
        assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == 150
    amount, receipt, metadata, ids, code, raw = merchant.received
    assert amount.items["Amount"] == 1
    assert "MpesaReceiptNumber" not in receipt.items
    assert "CallbackMetadata" not in metadata.result
    assert ids.result["CheckoutRequestID"] == "ws_CO_other"
    assert "MerchantRequestID" not in ids.result
    assert (code.result["ResultCode"], code.result["ResultDesc"]) == ("R1", "Odd")
    assert (raw.body, raw.headers["Content-Type"]) == (b"\xff\xfe", "text/plain")


async def test_a_past_callback_can_be_sent_again_or_replaced(merchant: Merchant) -> None:
    phone = new_phone()
    _, answer = await merchant.push(phone)
    await merchant.callbacks(1)
    named = {"checkout_request_id": answer["CheckoutRequestID"]}
    assert await merchant.control("callbacks/resend", named) == {"callbacks": [{"status": 200, "error": None}]}
    await merchant.control("callbacks/raw", {"phone": phone, "raw_callback": {"body": "{"}})
    assert [callback.body for callback in merchant.received] == [merchant.received[0].body] * 2 + [b"{"]


async def test_money_may_move_after_the_payment_was_called_off(merchant: Merchant) -> None:
    phone = "254700042037"
    await merchant.push(phone)
    await merchant.callbacks(1)
    await merchant.control("callbacks/settle", {"phone": phone, "ending": "paid"})
    failed, paid = merchant.received
    assert (failed.result["ResultCode"], paid.result["ResultCode"]) == (1037, 0)
    await merchant.control("callbacks/settle", {"phone": phone, "ending": "paid"})
    assert merchant.received[2].items["MpesaReceiptNumber"] == paid.items["MpesaReceiptNumber"]
    assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == 150


async def test_a_wrong_till_and_an_overlong_prompt_fail_later(merchant: Merchant) -> None:
    wrong, overlong = new_phone(), new_phone()
    await merchant.push(wrong, PartyB="600998")
    await merchant.push(overlong, AccountReference="R" * 150)
    by_phone = {row["phone"]: row for row in await all_ended(merchant, 2)}
    assert by_phone[wrong]["result_code"] == 2028
    assert by_phone[overlong]["result_code"] == 1025


async def test_an_undelivered_callback_is_not_tried_again(merchant: Merchant) -> None:
    refused, failing = new_phone(), new_phone()
    merchant.answer_status = 500
    await merchant.push(failing)
    await merchant.callbacks(1)
    await merchant.push(refused, CallBackURL="http://127.0.0.1:1/callbacks")
    await until_tried(merchant, 2)
    rows = (await merchant.ledger())["pushes"]
    assert [row["debited_kes"] for row in rows] == [150, 150]
    assert [attempt["status"] for attempt in rows[0]["callbacks"]] == [500]
    assert [attempt["error"] for attempt in rows[1]["callbacks"]] == ["no connection (ConnectionRefusedError)"]


async def test_a_gateway_that_hangs_up_or_babbles_is_noted() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop())
        writer.close()

    answers = [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", CHUNKED]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, in_process() as (_, simulator), merchant_of(simulator) as merchant:
        for number in range(4):
            await merchant.push(new_phone(), CallBackURL=url)
            await until_tried(merchant, number + 1)
        attempts = [row["callbacks"][0] for row in (await merchant.ledger())["pushes"]]
    assert [attempt["status"] for attempt in attempts] == [200, 204, None, None]
    assert [attempt["error"] for attempt in attempts[2:]] == [
        "unreadable answer",
        "connection closed without an answer",
    ]


async def test_reset_forgets_everything_but_the_counts(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.script(phone, callback="twice")
    await merchant.push(phone)
    await merchant.callbacks(2)
    await merchant.control("faults", {"behaviour": {"error": "quota"}, "count": 5})
    await merchant.control("reset")
    merchant.token = ""
    assert (await merchant.ledger())["pushes"] == []
    assert (await merchant.push(phone))[0] == 200
    async with merchant.session.get(f"{merchant.url}/control/quirks") as answer:
        hits = {entry["id"]: entry["hits"] for entry in (await answer.json())["quirks"]}
    assert hits["callback.twice"] == 1


async def test_times_can_be_changed_while_it_runs(merchant: Merchant) -> None:
    await merchant.control("settings", {"callback_delay_seconds": None, "latency_seconds": 0.01})
    phone = new_phone()
    await merchant.push(phone)
    assert (await merchant.ledger(phone=phone))["pushes"][0]["ended_time"] is None
    await merchant.control("settings", {"callback_delay_seconds": 0})
    await merchant.push(new_phone())
    assert len(await merchant.callbacks(1)) == 1


async def test_every_virtual_phone_is_listed(merchant: Merchant) -> None:
    async with merchant.session.get(f"{merchant.url}/control/phones") as answer:
        listed = (await answer.json())["phones"]
    assert len(listed) == len(PHONES)
    assert {"number": "2547000NN032", "ending": "cancelled", "text": "cancels"} in listed


async def all_ended(merchant: Merchant, count: int) -> list[dict[str, object]]:
    """The ledger's rows once so many pushes have ended on the phone."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            rows: list[dict[str, object]] = (await merchant.ledger())["pushes"]
            if sum(row["ended_time"] is not None for row in rows) >= count:
                return rows
            await asyncio.sleep(0.01)


async def until_tried(merchant: Merchant, count: int) -> None:
    """Wait until so many callbacks have an outcome."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            attempts = [a for row in (await merchant.ledger())["pushes"] for a in row["callbacks"]]
            if sum(a["status"] is not None or a["error"] is not None for a in attempts) >= count:
                return
            await asyncio.sleep(0.01)


TOTALS = {"pushes": 1, "prompted": 1, "payments": 0, "debited_kes": 0, "callbacks": 0, "callbacks_ok": 0}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
