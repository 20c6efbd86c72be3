"""Reversal: a payment goes back once, by books of its own, however it is answered and whatever is told."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from daraja_simulator.quirks import QUIRKS
from tests.daraja_simulator.merchant import Merchant, Received, merchant_of, new_phone
from tests.daraja_simulator.results import paid, result_of, results
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS


async def test_a_payment_goes_back_and_the_books_say_so(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone, Amount=480)
    before = await merchant.balance()
    status, answer = await merchant.reverse(receipt, 480)
    assert (status, answer["ResponseCode"]) == (200, "0")
    result = await result_of(merchant)
    assert result.path == "/result"
    assert (result.status["ResultType"], result.status["ResultCode"]) == (0, 0)
    for name in ("OriginatorConversationID", "ConversationID"):
        assert result.status[name] == answer[name]
    assert result.parameters["OriginalTransactionID"] == receipt
    assert result.parameters["Amount"] == 480
    assert result.parameters["CreditPartyPublicName"].startswith(phone)
    (order,) = await merchant.orders()
    assert (order["kind"], order["outcome"]) == ("reversal", "accepted")
    assert (order["sent_kes"], order["result_code"]) == (480, 0)
    assert result.status["TransactionID"] == order["receipt"] != receipt
    account = await merchant.account(phone)
    assert (account["debited_kes"], account["returned_kes"]) == (480, 480)
    (back,) = account["returns"]
    assert (back["kind"], back["original_receipt"], back["order"]) == ("reversal", receipt, order["number"])
    assert await merchant.balance() == before - 480


async def test_a_payment_goes_back_once(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    codes = [(await told(merchant, receipt)).status["ResultCode"] for _ in range(3)]
    assert codes == [0, "R000001", "R000001"]
    assert (await merchant.account(phone))["returned_kes"] == 150


async def test_two_orders_at_once_send_it_back_once(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    await asyncio.gather(merchant.reverse(receipt), merchant.reverse(receipt))
    codes = {str((await result_of(merchant, nth)).status["ResultCode"]) for nth in (1, 2)}
    assert codes == {"0", "R000001"}
    assert (await merchant.account(phone))["returned_kes"] == 150


async def test_what_cannot_go_back_says_why(merchant: Merchant) -> None:
    receipt = await paid(merchant, new_phone())
    await merchant.control("balance", {"shortcode": "174379", "kes": 149})
    assert (await told(merchant, receipt)).status["ResultCode"] == 1
    await merchant.control("balance", {"shortcode": "174379", "kes": 150})
    assert (await told(merchant, "TAH1234567")).status["ResultCode"] == "R000002"
    assert (await told(merchant, receipt, ReceiverParty="600998")).status["ResultCode"] == "R000002"
    await merchant.control("initiator", {"may_order": False})
    failure = (await told(merchant, receipt)).status
    assert failure["ResultCode"] == 21
    assert re.fullmatch(r"[0-9A-Z]{3}0{7}", failure["TransactionID"])
    assert "ResultParameters" not in failure
    await merchant.control("initiator", {"may_order": True})
    wrong = await merchant.credential("wrong")
    codes = [(await told(merchant, receipt, SecurityCredential=wrong)).status["ResultCode"] for _ in range(4)]
    assert codes == [2001, 2001, 2001, 8006]
    assert [order["sent_kes"] for order in await merchant.orders()] == [0] * 8
    await merchant.control("initiator", {"locked": False})
    assert (await told(merchant, receipt)).status["ResultCode"] == 0
    assert await merchant.balance() == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Initiator": None}, "Initiator"),
        ({"SecurityCredential": "cGxhaW4="}, "SecurityCredential"),
        ({"CommandID": "AccountBalance"}, "CommandID"),
        ({"TransactionID": "short"}, "TransactionID"),
        ({"Amount": 0}, "Amount"),
        ({"Amount": 149}, "Amount"),
        ({"ReceiverParty": "me"}, "ReceiverParty"),
        ({"RecieverIdentifierType": "4"}, "RecieverIdentifierType"),
        ({"RecieverIdentifierType": None, "ReceiverIdentifierType": "11"}, "RecieverIdentifierType"),
        ({"ResultURL": "http://127.0.0.1/mpesa"}, "ResultURL"),
        ({"QueueTimeOutURL": None}, "QueueTimeOutURL"),
        ({"Remarks": ""}, "Remarks"),
        ({"Occasion": "x" * 101}, "Occasion"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(merchant: Merchant, changes: dict[str, Any], field: str) -> None:
    receipt = await paid(merchant, new_phone())
    status, body = await merchant.reverse(receipt, **changes)
    assert (status, body["errorCode"]) == (400, "400.002.02")
    assert body["errorMessage"] == f"Bad Request - Invalid {field}"
    assert (await merchant.orders())[0]["sent_kes"] == 0


async def test_till_payments_are_sent_back_by_the_till(merchant: Merchant) -> None:
    phone = new_phone()
    till = {"BusinessShortCode": "600584", "PartyB": "300584", "TransactionType": "CustomerBuyGoodsOnline"}
    receipt = await paid(merchant, phone, **till)
    assert (await told(merchant, receipt, ReceiverParty="300584")).status["ResultCode"] == 0
    _, answer = await merchant.ask_status(
        None,
        OriginalConversationID=(await merchant.orders())[0]["originator_conversation_id"],
        PartyA="300584",
        IdentifierType="2",
    )
    assert answer["ResponseCode"] == "0"
    assert (await result_of(merchant, 2)).parameters["TransactionStatus"] == "Completed"


async def test_a_lost_answer_hides_a_reversal_that_was_carried_out(merchant: Merchant) -> None:
    for script in ({"answer": "lost"}, {"answer": "reset"}, {"answer": "cut_header"}, {"answer": "cut_body"}):
        phone = new_phone()
        receipt = await paid(merchant, phone)
        before = len(results(merchant.received))
        await merchant.control(f"phones/{phone}/orders", script)
        with pytest.raises((aiohttp.ClientError, ValueError)):
            await merchant.reverse(receipt)
        assert (await result_of(merchant, before + 1)).status["ResultCode"] == 0
        assert (await merchant.account(phone))["returned_kes"] == 150


async def test_a_system_error_may_be_carried_out_all_the_same(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    lies = {"error": "system_internal_error", "carries_out": True}
    await merchant.control("orders", {"behaviour": {"error": "internal_error"}, "count": 1})
    assert (await merchant.reverse(receipt))[0] == 500
    await merchant.control(f"phones/{phone}/orders", lies)
    status, body = await merchant.reverse(receipt)
    assert (status, body["errorMessage"]) == (500, "System internal error.")
    await carried_out(merchant, 1)
    # Nothing was acknowledged, so nothing is told.
    assert [order["result_code"] for order in await merchant.orders()] == [None, 0]
    assert (await told(merchant, receipt)).status["ResultCode"] == "R000001"
    assert (await merchant.account(phone))["returned_kes"] == 150


async def test_a_result_can_say_done_while_nothing_moved(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    await merchant.control(f"phones/{phone}/orders", {"carries_out": False})
    result = (await told(merchant, receipt)).status
    assert (result["ResultCode"], "ResultParameters" in result) == (0, False)
    assert (await merchant.account(phone))["returned_kes"] == 0


async def test_a_result_can_be_lost_doubled_late_held_or_a_timeout(merchant: Merchant) -> None:
    behaviours = [
        {"result": "never"},
        {"result": "queue_timeout"},
        {"result": "twice"},
        {"delay_seconds": 0.05, "answer_delay_seconds": 0.01},
        {"result": "held"},
    ]
    answers = []
    for behaviour in behaviours:
        phone = new_phone()
        receipt = await paid(merchant, phone)
        await merchant.control(f"phones/{phone}/orders", behaviour)
        answers.append((await merchant.reverse(receipt))[1]["ConversationID"])
    _, timed_out, doubled, late, held = answers
    await carried_out(merchant, 5)
    await result_of(merchant, 4)
    by_path = sorted((result.path, result.status["ConversationID"]) for result in results(merchant.received))
    assert by_path == sorted([("/timeout", timed_out), ("/result", doubled), ("/result", doubled), ("/result", late)])
    assert await merchant.control("results/release") == {"results": [{"status": 200, "error": None}]}
    assert (await result_of(merchant, 5)).status["ConversationID"] == held
    timeout = next(result for result in results(merchant.received) if result.path == "/timeout").status
    assert (timeout["ResultType"], timeout["ResultCode"]) == (1, 1)


async def test_the_next_orders_can_be_made_to_fail_or_lie(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    await merchant.control("orders", {"behaviour": {"error": "apigee_429"}, "count": 2})
    assert [(await merchant.reverse(receipt))[0] for _ in range(2)] == [429, 429]
    raw = {"raw_answer": {"status": 500, "body": '{"a": "?"}'}}
    await merchant.control("orders", {"behaviour": raw})
    assert await merchant.reverse(receipt) == (500, {"a": "?"})
    lies = [
        {"raw_result": {"body": '{"Result": {"a": "?"}}'}},
        {"result_code": 26, "result_desc": "Busy"},
    ]
    await merchant.control(f"phones/{phone}/orders", {"behaviours": lies})
    assert (await told(merchant, receipt)).status == {"a": "?"}
    assert (await told(merchant, receipt)).status["ResultCode"] == 26
    await merchant.control("orders", {"behaviour": {}, "count": 3})
    assert await merchant.control("orders", method="DELETE") == {"dropped": 3}
    assert (await merchant.account(phone))["returned_kes"] == 150


async def test_a_reversal_shows_in_transaction_status(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone, Amount=60)
    _, answer = await merchant.reverse(receipt, 60)
    await result_of(merchant)
    await merchant.control(f"phones/{phone}/statuses", {"behaviours": [{}, {"quirks": ["status.reversed_unsaid"]}]})
    said: list[str] = []
    for asked in (receipt, receipt):
        await merchant.ask_status(asked)
        said.append((await result_of(merchant, 2 + len(said))).parameters["TransactionStatus"])
    assert said == ["Reversed", "Completed"]
    await merchant.ask_status(None, OriginalConversationID=answer["OriginatorConversationID"])
    own = (await result_of(merchant, 4)).parameters
    assert (own["TransactionStatus"], own["Amount"], own["OriginatorConversationID"]) == (
        "Completed",
        60,
        answer["OriginatorConversationID"],
    )
    assert own["ReceiptNo"] == (await merchant.orders())[0]["receipt"]
    assert own["CreditPartyName"].startswith(f"0{phone[3:]}")


async def test_a_reversal_that_failed_is_declined_and_one_under_way_is_not_known(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    await merchant.control("balance", {"shortcode": "174379", "kes": 0})
    _, answer = await merchant.reverse(receipt)
    await result_of(merchant)
    await merchant.ask_status(None, OriginalConversationID=answer["OriginatorConversationID"])
    assert (await result_of(merchant, 2)).parameters["TransactionStatus"] == "Declined"
    await merchant.control(f"phones/{phone}/orders", {"delay_seconds": 3600})
    _, answer = await merchant.reverse(receipt)
    await merchant.ask_status(None, OriginalConversationID=answer["OriginatorConversationID"])
    assert (await result_of(merchant, 3)).status["ResultCode"] == 2033


async def test_a_reversal_has_a_row_of_its_own_among_the_pulled_ones(merchant: Merchant) -> None:
    await merchant.register_pull()
    phone = new_phone()
    receipt = await paid(merchant, phone, Amount=60)
    await merchant.reverse(receipt, 60)
    await result_of(merchant)
    (order,) = await merchant.orders()
    _, page = await merchant.pull()
    came, went = page["Response"][0]
    assert (came["transactionId"], came["transactiontype"]) == (receipt, "c2b-pay-bill-debit")
    assert (went["transactionId"], went["transactiontype"]) == (order["receipt"], "organization-reversal")
    assert (went["amount"], went["billreference"]) == ("60.00", "SEAT12")
    await merchant.control("pulls", {"behaviour": {"quirks": ["pull.reversal_by_original"]}})
    _, page = await merchant.pull()
    assert [row["transactionId"] for row in page["Response"][0]] == [receipt, receipt]


async def test_safaricom_takes_a_payment_back_at_the_payers_request(merchant: Merchant) -> None:
    await merchant.register_pull()
    phone = new_phone()
    receipt = await paid(merchant, phone)
    back = await merchant.control("takebacks", {"phone": phone})
    assert (back["kind"], back["original_receipt"], back["order"]) == ("taken_back", receipt, None)
    account = await merchant.account(phone)
    assert (account["debited_kes"], account["returned_kes"]) == (150, 150)
    assert [row["transactionId"] for row in (await merchant.pull())[1]["Response"][0]] == [receipt, back["receipt"]]
    assert (await told(merchant, receipt)).status["ResultCode"] == "R000001"
    await merchant.ask_status(receipt)
    assert (await result_of(merchant, 2)).parameters["TransactionStatus"] == "Reversed"
    async with merchant.session.post(f"{merchant.url}/control/takebacks", json={"phone": phone}) as again:
        assert again.status == 400


QUIRKY = [quirk.id for quirk in QUIRKS if quirk.id.startswith("order.") and quirk.share > 0]
QUIRKY += ["order.bare_list", "order.swapped_names", "reversal.no_original"]
OF_FAILURES = ("order.failure_parameters", "order.single_parameter")


@pytest.mark.parametrize("quirk_id", QUIRKY)
async def test_a_quirk_asked_for_is_shown_and_counted(quirk_id: str) -> None:
    async with in_process() as (world, url), merchant_of(url) as merchant:
        always = ["order.failure_parameters"] if quirk_id == "order.single_parameter" else []
        shapes = []
        for quirks in (always, [*always, quirk_id]):
            receipt = "TAH0000000" if quirk_id in OF_FAILURES else await paid(merchant, new_phone())
            await merchant.control("orders", {"behaviour": {"quirks": quirks}})
            before = len(results(merchant.received))
            _, answer = await merchant.reverse(receipt)
            shapes.append(shape(list(answer), (await result_of(merchant, before + 1)).status))
        assert world.hits[quirk_id] == 1
    assert shapes[0] != shapes[1]


def shape(*messages: Any) -> str:
    """Messages without the values that differ from payment to payment: the digits of their ids, phones and times."""
    text = re.sub(r'"[0-9a-f]{4}-[0-9a-f-]+"|"AG_[0-9a-f_]+"', '"id"', json.dumps(messages))
    text = re.sub(r"\b[0-9A-Z]{3}0{7}\b", "placeholder", text)
    text = re.sub(r'"[A-Z][0-9A-Z]{9}"', '"receipt"', text)
    return re.sub(r"2547[0-9]{8}|[0-9]+(?=\.00\|)|[0-9]{2}:[0-9]{2}:[0-9]{2}|20[0-9]{12}", "n", text)


async def test_with_quirks_a_patient_reader_learns_the_same_every_time() -> None:
    async with in_process(quirks=True) as (world, url), merchant_of(url) as merchant:
        for _ in range(30):
            phone = new_phone()
            receipt = await paid(merchant, phone)
            before = len(results(merchant.received))
            await merchant.reverse(receipt)
            result = (await result_of(merchant, before + 1)).status
            values = {pair["Key"]: pair["Value"] for pair in result["ResultParameters"]["ResultParameter"]}
            assert (int(result["ResultCode"]), values["OriginalTransactionID"]) == (0, receipt)
            assert float(values["Amount"]) == 150
            assert (await merchant.account(phone))["returned_kes"] == 150
        assert sum(world.hits[quirk.id] for quirk in QUIRKS if quirk.id.startswith("order.")) > 10


async def told(merchant: Merchant, receipt: str, **changes: Any) -> Received:
    """Order a reversal, and wait for what is posted next."""
    before = len(results(merchant.received))
    status, answer = await merchant.reverse(receipt, **changes)
    assert status == 200, answer
    return await result_of(merchant, before + 1)


async def carried_out(merchant: Merchant, count: int) -> None:
    """Wait until so many orders have moved money."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum(order["sent_kes"] > 0 for order in await merchant.orders()) < count:
            await asyncio.sleep(0.01)
