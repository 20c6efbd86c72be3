"""Transaction Status: acknowledged at once, told later, in every recorded form, and lost in every way."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate

from daraja_simulator.quirks import QUIRKS
from tests.daraja_simulator.merchant import Merchant, Received, merchant_of, new_phone
from tests.daraja_simulator.results import paid, result_of, results
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS


async def test_a_receipt_is_acknowledged_and_then_told_as_recorded(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone, Amount=480)
    status, answer = await merchant.ask_status(receipt)
    assert status == 200
    assert (answer["ResponseCode"], answer["ResponseDescription"]) == ("0", "Accept the service request successfully.")
    result = await result_of(merchant)
    assert result.path == "/result"
    assert (result.status["ResultType"], result.status["ResultCode"]) == (0, 0)
    for name in ("OriginatorConversationID", "ConversationID"):
        assert result.status[name] == answer[name]
    assert re.fullmatch(r"AG_[0-9]{8}_[0-9a-f]{20}", answer["ConversationID"])
    # Of the query, not of the payment.
    assert re.fullmatch(r"[0-9A-Z]{3}0{7}", result.status["TransactionID"])
    assert result.parameters["ReceiptNo"] == receipt
    assert result.parameters["Amount"] == 480
    assert result.parameters["TransactionStatus"] == "Completed"
    assert result.parameters["ReasonType"] == "Pay Bill Online"
    assert result.parameters["DebitPartyName"].startswith(f"0{phone[3:]} - ")
    assert result.parameters["CreditPartyName"].startswith("174379 - ")
    (row,) = (await merchant.ledger(phone=phone))["pushes"]
    moved = time.strftime("%Y%m%d%H%M%S", time.gmtime(row["debited_time"] + 3 * 3600))
    assert result.parameters["FinalisedTime"] == int(moved)
    assert result.status["ReferenceData"]["ReferenceItem"] == {"Key": "Occasion", "Value": "Sweep"}


async def test_a_payment_is_also_found_by_its_conversation_and_by_either_party(merchant: Merchant) -> None:
    paying, cancelling = new_phone(), "254700042032"
    receipt = await paid(merchant, paying)
    _, cancelled = await merchant.push(cancelling)
    await merchant.callbacks(2)
    (row,) = (await merchant.ledger(phone=paying))["pushes"]
    asked: tuple[tuple[str | None, dict[str, Any]], ...] = (
        (None, {"OriginalConversationID": row["merchant_request_id"]}),
        (None, {"OriginatorConversationID": cancelled["MerchantRequestID"]}),
        (receipt, {"PartyA": paying, "IdentifierType": 1}),
    )
    results = [await told(merchant, named, **changes) for named, changes in asked]
    assert [result.parameters["TransactionStatus"] for result in results] == ["Completed", "Cancelled", "Completed"]
    assert results[0].parameters["ReceiptNo"] == receipt
    assert not results[1].parameters["ReceiptNo"]


async def test_what_is_not_there_or_not_ones_own_is_not_found(merchant: Merchant) -> None:
    receipt = await paid(merchant, new_phone())
    open_phone = new_phone()
    await merchant.script(open_phone, callback_delay_seconds=3600)
    _, pending = await merchant.push(open_phone)
    asked: tuple[tuple[str | None, dict[str, Any], int], ...] = (
        ("TAH0000000", {}, 2032),
        (receipt, {"PartyA": "600998"}, 2032),
        (receipt, {"IdentifierType": "2"}, 2032),
        (None, {"OriginalConversationID": "AG_20260101_x"}, 2033),
        (None, {"OriginalConversationID": pending["MerchantRequestID"]}, 2033),
    )
    for named, changes, code in asked:
        result = await told(merchant, named, **changes)
        assert result.status["ResultCode"] == code
        assert "ResultParameters" not in result.status


async def test_till_payments_belong_to_the_till(merchant: Merchant) -> None:
    phone = new_phone()
    till = {"BusinessShortCode": "600584", "PartyB": "300584", "TransactionType": "CustomerBuyGoodsOnline"}
    receipt = await paid(merchant, phone, **till)
    result = await told(merchant, receipt, PartyA="300584", IdentifierType="2")
    assert result.parameters["CreditPartyName"].startswith("300584 - ")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Initiator": None}, "Initiator"),
        ({"SecurityCredential": "cGxhaW4="}, "SecurityCredential"),
        ({"SecurityCredential": "not base64"}, "SecurityCredential"),
        ({"CommandID": "AccountBalance"}, "CommandID"),
        ({"TransactionID": "short"}, "TransactionID"),
        ({"TransactionID": None}, "TransactionID"),
        ({"PartyA": "me"}, "PartyA"),
        ({"IdentifierType": "11"}, "IdentifierType"),
        ({"ResultURL": "http://127.0.0.1/mpesa"}, "ResultURL"),
        ({"QueueTimeOutURL": None}, "QueueTimeOutURL"),
        ({"Remarks": ""}, "Remarks"),
        ({"Occasion": "x" * 101}, "Occasion"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(merchant: Merchant, changes: dict[str, Any], field: str) -> None:
    status, body = await merchant.ask_status("TAH0000000", **changes)
    assert (status, body["errorCode"]) == (400, "400.002.02")
    assert body["errorMessage"] == f"Bad Request - Invalid {field}"


async def test_requests_that_are_none_are_refused(merchant: Merchant) -> None:
    path = "/mpesa/transactionstatus/v1/query"
    assert (await merchant.post(path, []))[0] == 400
    merchant.token = "x" * 28
    status, body = await merchant.post(path, {})
    assert (status, json.loads(body)["errorCode"]) == (400, "400.003.01")
    async with merchant.session.get(merchant.url + path) as answer:
        assert answer.status == 405


async def test_the_third_wrong_password_locks_the_initiator(merchant: Merchant) -> None:
    receipt = await paid(merchant, new_phone())
    wrong = await merchant.credential("wrong")
    codes = [(await told(merchant, receipt, SecurityCredential=wrong)).status["ResultCode"] for _ in range(4)]
    assert codes == [2001, 2001, 2001, 8006]
    assert (await told(merchant, receipt)).status["ResultCode"] == 8006
    await merchant.control("initiator", {"locked": False})
    assert (await told(merchant, receipt)).status["ResultCode"] == 0
    assert (await told(merchant, receipt, Initiator="somebody")).status["ResultCode"] == 2001


async def test_the_certificate_has_run_out_as_the_published_one_has(merchant: Merchant) -> None:
    pem = (await merchant.control("certificate", method="GET"))["certificate"]
    assert load_pem_x509_certificate(pem.encode()).not_valid_after_utc < datetime.now(UTC)


async def test_a_result_can_be_lost_doubled_late_or_a_timeout(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone)
    behaviours = [{"result": "never"}, {"result": "queue_timeout"}, {"result": "twice"}, {"delay_seconds": 0.05}]
    await merchant.control(f"phones/{phone}/statuses", {"behaviours": behaviours})
    lost, timed_out, doubled, late = [(await merchant.ask_status(receipt))[1] for _ in behaviours]
    arrived = results(await merchant.callbacks(5))
    by_path = sorted((result.path, result.status["ConversationID"]) for result in arrived)
    expected = [("/timeout", timed_out), ("/result", doubled), ("/result", doubled), ("/result", late)]
    assert by_path == sorted((path, answer["ConversationID"]) for path, answer in expected)
    assert lost["ResponseCode"] == "0"
    timeout = next(result for result in arrived if result.path == "/timeout")
    assert "ResultParameters" not in timeout.status


async def test_the_next_status_queries_can_be_made_to_fail_or_lie(merchant: Merchant) -> None:
    phone = new_phone()
    receipt = await paid(merchant, phone, Amount=90)
    await merchant.control("statuses", {"behaviour": {"error": "apigee_429"}, "count": 2})
    assert [(await merchant.ask_status(receipt))[0] for _ in range(2)] == [429, 429]
    await merchant.control("statuses", {"behaviour": {"raw_answer": {"body": '{"a": "?"}'}, "result": "once"}})
    assert (await merchant.ask_status(receipt))[1] == ANYTHING
    assert (await result_of(merchant)).parameters["Amount"] == 90
    lies = [
        {"parameters": {"Amount": 1}, "without": ["FinalisedTime"]},
        {"result_code": "R1", "result_desc": "Odd"},
        {"raw_result": {"body": '{"Result": {"a": "?"}}', "content_type": "text/plain"}},
    ]
    await merchant.control(f"phones/{phone}/statuses", {"behaviours": lies})
    wrong_amount, odd, raw = [await told(merchant, receipt) for _ in lies]
    assert wrong_amount.parameters["Amount"] == 1
    assert "FinalisedTime" not in wrong_amount.parameters
    assert (odd.status["ResultCode"], odd.status["ResultDesc"]) == ("R1", "Odd")
    assert raw.status == ANYTHING
    assert raw.headers["Content-Type"] == "text/plain"
    await merchant.control("statuses", {"behaviour": {"error": "quota"}, "count": 3})
    assert await merchant.control("statuses", method="DELETE") == {"dropped": 3}
    assert (await merchant.control("totals", method="GET"))["statuses_asked"] == 6


ANYTHING = {"a": "?"}


async def test_a_result_can_be_held_for_a_day_and_released(merchant: Merchant) -> None:
    receipt = await paid(merchant, new_phone())
    await merchant.control("statuses", {"behaviour": {"result": "held"}})
    _, answer = await merchant.ask_status(receipt)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (released := (await merchant.control("results/release"))["results"]):
            await asyncio.sleep(0.01)
    assert released == [{"status": 200, "error": None}]
    assert (await result_of(merchant)).status["ConversationID"] == answer["ConversationID"]


QUIRKY = [quirk.id for quirk in QUIRKS if quirk.id.startswith("status.") and quirk.share > 0]
QUIRKY += ["status.only_receipt", "status.bare_list", "status.swapped_names"]
OF_FAILURES = ("status.failure_parameters", "status.single_parameter")


@pytest.mark.parametrize("quirk_id", QUIRKY)
async def test_a_quirk_asked_for_is_shown_and_counted(quirk_id: str) -> None:
    async with in_process() as (world, url), merchant_of(url) as merchant:
        receipt = "TAH0000000" if quirk_id in OF_FAILURES else await paid(merchant, new_phone())
        always = ["status.failure_parameters"] if quirk_id == "status.single_parameter" else []
        plain = await scripted(merchant, receipt, [*always])
        quirky = await scripted(merchant, receipt, [*always, quirk_id])
        assert world.hits[quirk_id] == 1
    # As text, because 1.0 equals 1.
    assert json.dumps(quirky) != json.dumps(plain)


async def test_the_recorded_forms_are_what_they_were(merchant: Merchant) -> None:
    receipt = await paid(merchant, new_phone())
    dotted = await scripted(merchant, receipt, ["status.date_dotted", "status.repeated_key", "status.no_value"])
    pairs = dotted["ResultParameters"]["ResultParameter"]
    assert [pair["Key"] for pair in pairs].count("DebitPartyName") == 2
    assert {"Key": "TransactionReason"} in pairs
    (finalised,) = [pair["Value"] for pair in pairs if pair["Key"] == "FinalisedTime"]
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d", finalised)
    lone = await scripted(merchant, "TAH0000000", ["status.failure_parameters", "status.single_parameter"])
    assert lone["ResultParameters"]["ResultParameter"]["Key"] == "BOCompletedTime"


async def test_with_quirks_a_patient_reader_learns_the_same_every_time() -> None:
    async with in_process(quirks=True) as (world, url), merchant_of(url) as merchant:
        phone = new_phone()
        receipt = await paid(merchant, phone, Amount=70)
        shapes = set()
        for _ in range(60):
            result = (await told(merchant, receipt)).status
            pairs = result["ResultParameters"]["ResultParameter"]
            values = {pair["Key"]: pair.get("Value") for pair in pairs}
            assert (int(result["ResultCode"]), values["ReceiptNo"], float(values["Amount"])) == (0, receipt, 70)
            shapes.add(json.dumps([type(result["ResultCode"]).__name__, *values]))
        assert len(shapes) > 3
        assert world.hits["status.no_value"] > 0


async def told(merchant: Merchant, receipt: str | None, **changes: Any) -> Received:
    """Ask, and wait for what is posted next."""
    before = len(results(merchant.received))
    status, _ = await merchant.ask_status(receipt, **changes)
    assert status == 200
    return await result_of(merchant, before + 1)


async def scripted(merchant: Merchant, receipt: str, quirks: list[str]) -> dict[str, Any]:
    """The result with exactly these quirks, without what differs from query to query."""
    await merchant.control("statuses", {"behaviour": {"quirks": quirks}})
    result = (await told(merchant, receipt)).status
    return {name: value for name, value in result.items() if not name.endswith("ConversationID")}
