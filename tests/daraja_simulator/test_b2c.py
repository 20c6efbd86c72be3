"""B2C: money to any customer, once under each name, from the account of the shortcode."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp
import pytest

from tests.daraja_simulator.merchant import Merchant, Received, new_phone
from tests.daraja_simulator.results import paid, result_of, results
from tests.patience import PATIENCE_SECONDS


async def test_money_goes_to_a_phone_and_the_books_say_so(merchant: Merchant) -> None:
    phone, before = new_phone(), await merchant.balance()
    status, answer = await merchant.pay_out("refund-0001", phone, 120)
    assert (status, answer["ResponseCode"], answer["OriginatorConversationID"]) == (200, "0", "refund-0001")
    result = await result_of(merchant)
    assert (result.path, result.status["ResultCode"]) == ("/result", 0)
    assert result.status["OriginatorConversationID"] == "refund-0001"
    assert result.status["ConversationID"] == answer["ConversationID"]
    told = result.parameters
    assert (told["TransactionAmount"], told["TransactionReceipt"]) == (120, result.status["TransactionID"])
    assert told["ReceiverPartyPublicName"].startswith(f"{phone} - ")
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d", told["TransactionCompletedDateTime"])
    assert told["B2CUtilityAccountAvailableFunds"] == before - 120 == await merchant.balance()
    account = await merchant.account(phone)
    assert (account["debited_kes"], account["returned_kes"]) == (0, 120)
    (back,) = account["returns"]
    assert (back["kind"], back["receipt"], back["original_receipt"]) == ("b2c", told["TransactionReceipt"], "")
    (order,) = await merchant.orders(kind="b2c", phone=phone)
    assert (order["sent_kes"], order["result_code"]) == (120, 0)


async def test_a_name_is_taken_once_whatever_became_of_the_answer(merchant: Merchant) -> None:
    phone = new_phone()
    scripts = [{"answer": "lost"}, {"error": "internal_error", "carries_out": True}, {"delay_seconds": 3600}]
    await merchant.control(f"phones/{phone}/orders", {"behaviours": scripts})
    with pytest.raises(aiohttp.ClientError):
        await merchant.pay_out("refund-0001", phone)
    assert (await merchant.pay_out("refund-0002", phone))[0] == 500
    assert (await merchant.pay_out("refund-0003", phone))[0] == 200
    for name in ("refund-0001", "refund-0002", "refund-0003"):
        status, body = await merchant.pay_out(name, phone)
        assert (status, body["errorCode"]) == (500, "500.002.1001")
        assert body["errorMessage"] == "Duplicate OriginatorConversationID."
    await returned(merchant, phone, 300)
    # An order that was refused has not used its name up.
    await merchant.control("orders", {"behaviour": {"error": "internal_error"}})
    assert (await merchant.pay_out("refund-0004", phone))[0] == 500
    assert (await merchant.pay_out("refund-0004", phone))[0] == 200
    await returned(merchant, phone, 450)


async def test_what_cannot_be_paid_says_why(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.control("balance", {"shortcode": "174379", "kes": 149})
    assert (await told(merchant, phone)).status["ResultCode"] == 1
    assert (await told(merchant, phone, 9)).status["ResultCode"] == 2
    assert (await told(merchant, "254700000040", 10)).status["ResultCode"] == 2040
    assert (await told(merchant, phone, InitiatorName="somebody")).status["ResultCode"] == 2001
    failure = await told(merchant, phone)
    assert re.fullmatch(r"[0-9A-Z]{3}0{7}", failure.status["TransactionID"])
    assert [order["sent_kes"] for order in await merchant.orders()] == [0] * 5
    assert await merchant.balance() == 149


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"OriginatorConversationID": None}, "OriginatorConversationID"),
        ({"InitiatorName": None, "Initiator": "development-initiator"}, "InitiatorName"),
        ({"SecurityCredential": "cGxhaW4="}, "SecurityCredential"),
        ({"CommandID": "AccountBalance"}, "CommandID"),
        ({"Amount": 250_001}, "Amount"),
        ({"Amount": 10.5}, "Amount"),
        ({"PartyA": "999999"}, "PartyA"),
        ({"PartyB": "0722000000"}, "PartyB"),
        ({"ResultURL": None}, "ResultURL"),
        ({"QueueTimeOutURL": "http://127.0.0.1/mpesa"}, "QueueTimeOutURL"),
        ({"Remarks": None}, "Remarks"),
        ({"Occassion": "x" * 101}, "Occassion"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(merchant: Merchant, changes: dict[str, Any], field: str) -> None:
    status, body = await merchant.pay_out("refund-0001", new_phone(), **changes)
    assert (status, body["errorMessage"]) == (400, f"Bad Request - Invalid {field}")


async def test_a_result_can_come_a_day_later_or_without_its_receipt(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.control(f"phones/{phone}/orders", {"behaviours": [{"result": "held"}]})
    _, answer = await merchant.pay_out("refund-0001", phone)
    await returned(merchant, phone, 150)
    assert results(merchant.received) == []
    assert await merchant.control("results/release") == {"results": [{"status": 200, "error": None}]}
    assert (await result_of(merchant)).status["ConversationID"] == answer["ConversationID"]
    await merchant.control("orders", {"behaviour": {"quirks": ["b2c.no_receipt"]}})
    assert "TransactionReceipt" not in (await told(merchant, phone)).parameters


async def test_transaction_status_knows_a_payment_by_its_name(merchant: Merchant) -> None:
    phone = new_phone()
    result = await told(merchant, phone)
    name = (await merchant.orders())[0]["originator_conversation_id"]
    await merchant.ask_status(None, OriginalConversationID=name)
    told_of = (await result_of(merchant, 2)).parameters
    assert (told_of["OriginatorConversationID"], told_of["TransactionStatus"]) == (name, "Completed")
    assert told_of["ReasonType"] == "Business Payment to Customer via API"
    assert (told_of["Amount"], told_of["ReceiptNo"]) == (150, result.status["TransactionID"])


async def test_part_of_a_payment_is_no_reversal_of_it(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    await told(merchant, phone, 50)
    assert (await merchant.account(phone))["returned_kes"] == 50
    await merchant.ask_status(receipt)
    assert (await result_of(merchant, 2)).parameters["TransactionStatus"] == "Completed"


async def told(merchant: Merchant, phone: str, amount: int = 150, **changes: Any) -> Received:
    """Pay out under a new name, and wait for what is posted next."""
    before = len(results(merchant.received))
    name = f"part-{before:04}"
    status, answer = await merchant.pay_out(name, phone, amount, **changes)
    assert status == 200, answer
    return await result_of(merchant, before + 1)


async def returned(merchant: Merchant, phone: str, kes: int) -> None:
    """Wait until a phone has had so much."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum(order["sent_kes"] for order in await merchant.orders(phone=phone)) < kes:
            await asyncio.sleep(0.01)
    assert (await merchant.account(phone))["returned_kes"] == kes
