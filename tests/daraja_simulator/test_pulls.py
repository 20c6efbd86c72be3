"""Pull Transactions: what really arrived, whatever became of its callback."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from daraja_simulator.quirks import QUIRKS
from tests.daraja_simulator.merchant import Merchant, merchant_of, nairobi_text, new_phone
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS

EMPTY = {
    "pull.empty_nested": (200, "1001"),
    "pull.empty_text": (200, "1001"),
    "pull.empty_success": (200, "1000"),
    "pull.empty_500": (500, "500"),
    "pull.empty_list": (200, "1000"),
}


async def test_a_shortcode_is_registered_once_and_for_all(merchant: Merchant) -> None:
    status, body = await merchant.pull()
    assert (status, body["errorCode"], body["errorMessage"]) == (400, "400.001", "Invalid ShortCode")
    status, body = await merchant.register_pull()
    assert status == 200
    assert (body["ResponseStatus"], body["ShortCode"]) == ("1000", "174379")
    assert body["ResponseDescription"] == "Shortcode Registered Successfully"
    _, body = await merchant.register_pull()
    assert (body["ResponseStatus"], body["ResponseDescription"]) == ("1001", "ShortCode already Registered")
    await merchant.control("reset")
    merchant.token = ""
    status, body = await merchant.pull()
    assert (status, body["ResponseCode"]) == (200, "1001")


async def test_a_row_says_what_was_paid_also_where_no_callback_came(merchant: Merchant) -> None:
    await merchant.register_pull()
    phone, unpaid = "254700031998", "254700031999"
    for pushed in (phone, unpaid):
        await merchant.push(pushed, Amount=320, AccountReference="SEAT7")
    await all_paid(merchant, 1)
    status, body = await merchant.pull()
    ((row,),) = body["Response"]
    (debit,) = (await debits(merchant))[phone]["debits"]
    assert (status, body["ResponseCode"], body["ResponseMessage"]) == (200, "1000", "Success")
    assert row["transactionId"] == debit["receipt"]
    assert (row["amount"], row["billreference"]) == ("320.00", "SEAT7")
    assert row["msisdn"] == "2547 ***** 998"
    assert row["transactiontype"] == "c2b-pay-bill-debit"
    assert row["trxDate"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(debit["time"]))
    assert merchant.received == []


async def test_the_ledger_tells_prompts_and_debits_of_each_phone(merchant: Merchant) -> None:
    phone, cancelling = new_phone(), "254700031032"
    for amount in (40, 50):
        await merchant.push(phone, Amount=amount, AccountReference=f"SEAT{amount}")
        await all_paid(merchant, 1 if amount == 40 else 2)
    await merchant.push(cancelling)
    await merchant.callbacks(3)
    told = await debits(merchant)
    assert (told[phone]["prompts"], told[phone]["debited_kes"]) == (2, 90)
    assert [(d["amount"], d["account_reference"]) for d in told[phone]["debits"]] == [(40, "SEAT40"), (50, "SEAT50")]
    assert told[phone]["debits"][0]["time"] < told[phone]["debits"][1]["time"]
    assert told[cancelling] == {"prompts": 1, "debited_kes": 0, "debits": [], "returned_kes": 0, "returns": []}
    narrowed = await debits(merchant, account_reference="SEAT50")
    assert list(narrowed) == [phone]
    assert [debit["amount"] for debit in narrowed[phone]["debits"]] == [50]
    assert list(await debits(merchant, phone=cancelling)) == [cancelling]


async def test_money_that_moves_after_the_end_has_a_row_of_that_time(merchant: Merchant) -> None:
    await merchant.register_pull()
    await merchant.push("254700031037")
    await merchant.callbacks(1)
    assert (await merchant.pull())[1]["ResponseCode"] == "1001"
    await merchant.control("callbacks/settle", {"phone": "254700031037", "ending": "paid"})
    (debit,) = (await debits(merchant))["254700031037"]["debits"]
    assert [row["transactionId"] for row in rows((await merchant.pull())[1])] == [debit["receipt"]]


async def test_pages_begin_at_the_offset(merchant: Merchant) -> None:
    await merchant.register_pull()
    await merchant.control("settings", {"pull_page_rows": 2})
    for number in range(5):
        await merchant.push(new_phone(), Amount=100 + number)
        await all_paid(merchant, number + 1)
    pages = [rows((await merchant.pull(OffSetValue=offset))[1]) for offset in ("0", 2, "4", "6")]
    assert [[row["amount"] for row in page] for page in pages] == [
        ["100.00", "101.00"],
        ["102.00", "103.00"],
        ["104.00"],
        [],
    ]


async def test_only_the_window_and_the_shortcode_that_were_asked_for(merchant: Merchant) -> None:
    for shortcode in ("174379", "600998", "300584"):
        await merchant.register_pull(ShortCode=shortcode)
    till = {"BusinessShortCode": "600584", "PartyB": "300584", "TransactionType": "CustomerBuyGoodsOnline"}
    await merchant.push(new_phone())
    await merchant.push(new_phone(), **till)
    await all_paid(merchant, 2)
    (bought,) = rows((await merchant.pull(ShortCode="300584"))[1])
    assert (bought["transactiontype"], bought["billreference"]) == ("c2b-buy-goods-debit", "")
    assert rows((await merchant.pull(ShortCode="600998"))[1]) == []
    assert rows((await merchant.pull(EndDate=nairobi_text(-1)))[1]) == []
    assert rows((await merchant.pull(StartDate=nairobi_text(0.5)[:16]))[1]) == []


async def test_money_that_moved_more_than_48_hours_ago_is_gone() -> None:
    async with in_process() as (world, url), merchant_of(url) as merchant:
        await merchant.register_pull()
        for number, hours_ago in enumerate((48.1, 47.9)):
            await merchant.push(new_phone(), Amount=10 + number)
            await all_paid(merchant, number + 1)
            world.ledger.debits[number].debited_time -= hours_ago * 3600
        found = rows((await merchant.pull(StartDate=nairobi_text(-72)))[1])
        assert [row["amount"] for row in found] == ["11.00"]
        assert world.hits["pull.window_cut"] == 1


async def test_rows_can_be_missing_late_or_double(merchant: Merchant) -> None:
    await merchant.register_pull()
    scripts: tuple[dict[str, Any], ...] = ({"pull": "never"}, {"pull": "twice"}, {"pull_delay_seconds": 3600}, {})
    for number, script in enumerate(scripts):
        phone = new_phone()
        await merchant.script(phone, **script)
        await merchant.push(phone, Amount=number + 1)
        await all_paid(merchant, number + 1)
    assert [row["amount"] for row in rows((await merchant.pull())[1])] == ["2.00", "2.00", "4.00"]


async def test_a_late_row_is_there_in_the_end(merchant: Merchant) -> None:
    await merchant.register_pull()
    phone = new_phone()
    await merchant.script(phone, pull_delay_seconds=0.3)
    await merchant.push(phone)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not rows((await merchant.pull())[1]):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ShortCode": "999999"}, "400.001"),
        ({"StartDate": "yesterday"}, "400.002.02"),
        ({"EndDate": "2020-01-01 10:00:00"}, "400.002.02"),
        ({"OffSetValue": "-1"}, "400.002.02"),
    ],
)
async def test_a_wrong_pull_is_refused(merchant: Merchant, changes: dict[str, Any], code: str) -> None:
    await merchant.register_pull()
    status, body = await merchant.pull(**changes)
    assert (status, body["errorCode"]) == (400, code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ShortCode": "999999"}, "400.001"),
        ({"RequestType": "Push"}, "400.002.02"),
        ({"NominatedNumber": "me"}, "400.002.02"),
        ({"CallBackURL": "http://localhost/"}, "400.002.02"),
    ],
)
async def test_a_wrong_registration_is_refused(merchant: Merchant, changes: dict[str, Any], code: str) -> None:
    status, body = await merchant.register_pull(**changes)
    assert (status, body["errorCode"]) == (400, code)


async def test_requests_that_are_none_are_refused(merchant: Merchant) -> None:
    for path in ("/pulltransactions/v1/query", "/pulltransactions/v1/register"):
        assert (await merchant.post(path, "text"))[0] == 400
        async with merchant.session.get(merchant.url + path) as answer:
            assert (answer.status, (await answer.json())["errorCode"]) == (405, "405.001")
        async with merchant.session.put(merchant.url + path) as answer:
            assert answer.status == 405
        merchant.token = "x" * 28
        status, body = await merchant.post(path, {})
        assert (status, json.loads(body)["errorCode"]) == (401, "401.001")
        merchant.token = ""


async def test_the_next_pulls_can_be_made_to_fail(merchant: Merchant) -> None:
    await merchant.register_pull()
    await merchant.control("pulls", {"behaviour": {"error": "apigee_429"}, "count": 2})
    await merchant.control("pulls", {"behaviour": {"raw_answer": {"body": "{}"}}})
    assert [await merchant.pull() for _ in range(3)][2] == (200, {})
    await merchant.control("pulls", {"behaviour": {"error": "quota"}, "count": 3})
    assert await merchant.control("pulls", method="DELETE") == {"dropped": 3}
    assert (await merchant.pull())[0] == 200
    assert (await merchant.control("totals", method="GET"))["pulls_asked"] == 4


QUIRKY = [quirk.id for quirk in QUIRKS if quirk.id.startswith("pull.") and quirk.share > 0 and quirk.id not in EMPTY]
QUIRKY.remove("pull.spaced_keys")
QUIRKY += ["pull.date_false_zone", "pull.type_other", "pull.totals_above"]


@pytest.mark.parametrize("quirk_id", QUIRKY)
async def test_a_quirk_asked_for_is_shown_and_counted(quirk_id: str) -> None:
    async with in_process() as (world, url), merchant_of(url) as merchant:
        await merchant.register_pull()
        for number in range(2):
            await merchant.push(new_phone())
            await all_paid(merchant, number + 1)
        plain = await scripted(merchant, [])
        quirky = await scripted(merchant, [quirk_id])
        assert world.hits[quirk_id] >= 1
    assert quirky != plain


async def test_a_page_can_lie_about_what_there_is(merchant: Merchant) -> None:
    await merchant.register_pull()
    await merchant.control("settings", {"pull_page_rows": 1})
    for number in range(2):
        await merchant.push(new_phone(), Amount=100 + number)
        await all_paid(merchant, number + 1)

    async def page(offset: int, *quirks: str) -> dict[str, Any]:
        await merchant.control("pulls", {"behaviour": {"quirks": list(quirks)}})
        return (await merchant.pull(OffSetValue=offset))[1]

    first = await page(0)
    repeated = await page(1, "pull.offset_ignored")
    assert rows(repeated) == rows(first)
    told = await page(1, "pull.totals")
    assert [told[name] for name in ("CurrentPage", "PageSize", "TotalPages", "TotalRecords")] == [2, 1, 2, 2]
    assert (await page(0, "pull.totals_above"))["TotalRecords"] == 52
    not_working, failed = await page(0, "pull.not_working"), await page(0, "pull.failed_200")
    assert (not_working["ResponseCode"], failed["ResponseCode"]) == ("1001", "500")
    assert not_working["ResponseMessage"] == "No records found or Organization Name not available"
    assert rows(not_working) == rows(failed) == []


@pytest.mark.parametrize("quirk_id", EMPTY)
async def test_nothing_has_several_forms(quirk_id: str) -> None:
    async with in_process() as (world, url), merchant_of(url) as merchant:
        await merchant.register_pull()
        await merchant.control("pulls", {"behaviour": {"quirks": [quirk_id]}})
        status, body = await merchant.pull()
        assert world.hits[quirk_id] == 1
        assert (status, body.get("ResponseCode", body.get("errorCode"))) == EMPTY[quirk_id]
        assert not rows(body)


async def test_with_quirks_every_row_is_found_and_registering_is_told_in_both_spellings() -> None:
    async with in_process(quirks=True, seed=3) as (world, url), merchant_of(url) as merchant:
        spellings = {next(name for name in (await merchant.register_pull())[1] if "Status" in name) for _ in range(2)}
        for shortcode in ("600998", "600584", "300584"):
            spellings |= {name for name in (await merchant.register_pull(ShortCode=shortcode))[1] if "Status" in name}
        assert spellings == {"ResponseStatus", "Response Status"}
        for number in range(12):
            await merchant.push(new_phone(), Amount=500 + number)
            await all_paid(merchant, number + 1)
        for _ in range(10):
            found = rows((await merchant.pull())[1])
            assert [float(row["amount"]) for row in found] == [500 + number for number in range(12)]
        assert world.hits["pull.spaced_keys"] > 0


async def all_paid(merchant: Merchant, count: int) -> None:
    """Wait until so many phones have paid."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await merchant.control("totals", method="GET"))["totals"]["payments"] < count:
            await asyncio.sleep(0.01)


async def debits(merchant: Merchant, **narrowed: str) -> dict[str, Any]:
    async with merchant.session.get(f"{merchant.url}/control/debits", params=narrowed) as answer:
        phones: dict[str, Any] = (await answer.json())["phones"]
        return phones


def rows(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a page, however they are nested."""
    listed = body.get("Response", [])
    return [row for part in listed for row in (part if isinstance(part, list) else [part])]


async def scripted(merchant: Merchant, quirks: list[str]) -> Any:
    """A page with exactly these quirks, without its reference."""
    await merchant.control("pulls", {"behaviour": {"quirks": quirks}})
    body = (await merchant.pull())[1]
    return {name: None if name in ("ResponseRefID", "RequestID") else value for name, value in body.items()}
