"""Account Balance: what the books have in the account that sends, packed into a text and told later."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from daraja_simulator.quirks import QUIRKS
from tests.daraja_simulator.merchant import Merchant, Received, merchant_of
from tests.daraja_simulator.results import result_of, results
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS


async def test_the_balance_is_told_later_account_by_account(merchant: Merchant) -> None:
    await merchant.control("balance", {"shortcode": "174379", "kes": 700})
    result = await told(merchant)
    assert (result.path, result.status["ResultCode"]) == ("/result", 0)
    accounts = result.parameters["AccountBalance"].split("&")
    assert "Utility Account|KES|700.00|700.00|0.00|0.00" in accounts
    assert "Charges Paid Account|KES|-1540.00|-1540.00|0.00|0.00" in accounts
    await merchant.control("balance", {"shortcode": "600584", "kes": 30})
    by_till = await told(merchant, PartyA="300584", IdentifierType="2")
    assert "Merchant Account|KES|30.00|30.00|0.00|0.00" in by_till.parameters["AccountBalance"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Initiator": None}, "Initiator"),
        ({"SecurityCredential": None}, "SecurityCredential"),
        ({"CommandID": "TransactionReversal"}, "CommandID"),
        ({"PartyA": "999999"}, "PartyA"),
        ({"IdentifierType": "11"}, "IdentifierType"),
        ({"ResultURL": None}, "ResultURL"),
        ({"Remarks": None}, "Remarks"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(merchant: Merchant, changes: dict[str, Any], field: str) -> None:
    status, body = await merchant.ask_balance(**changes)
    assert (status, body["errorMessage"]) == (400, f"Bad Request - Invalid {field}")


async def test_a_wrong_operator_is_told_so(merchant: Merchant) -> None:
    wrong = await merchant.credential("wrong")
    codes = [(await told(merchant, SecurityCredential=wrong)).status["ResultCode"] for _ in range(4)]
    assert codes == [2001, 2001, 2001, 8006]


async def test_a_balance_can_be_lost_doubled_late_held_a_timeout_or_a_lie(merchant: Merchant) -> None:
    for behaviour, posts in (
        ({"result": "never"}, 0),
        ({"result": "queue_timeout"}, 1),
        ({"result": "twice"}, 2),
        ({"delay_seconds": 0.02}, 1),
        ({"parameters": {"AccountBalance": "?"}}, 1),
        ({"raw_result": {"body": '{"Result": {"a": "?"}}'}}, 1),
        ({"error": "quota", "result": "once"}, 1),
        ({"raw_answer": {"status": 200, "body": '{"a": "?"}'}, "result": "held"}, 0),
    ):
        before = len(results(merchant.received))
        await merchant.control("balances", {"behaviour": behaviour})
        await merchant.ask_balance()
        if posts:
            await result_of(merchant, before + posts)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (released := (await merchant.control("results/release"))["results"]):
            await asyncio.sleep(0.01)
    assert released == [{"status": 200, "error": None}]
    paths = [result.path for result in results(merchant.received)]
    assert (paths.count("/timeout"), paths.count("/result")) == (1, 7)
    await merchant.control("balances", {"behaviour": {}, "count": 3})
    assert await merchant.control("balances", method="DELETE") == {"dropped": 3}
    assert (await merchant.control("totals", method="GET"))["balances_asked"] == 8


QUIRKY = [quirk.id for quirk in QUIRKS if quirk.id.startswith("balance.") and quirk.share > 0]


@pytest.mark.parametrize("quirk_id", QUIRKY)
async def test_a_quirk_asked_for_is_shown_and_counted(quirk_id: str) -> None:
    changes = {"Initiator": "somebody"} if quirk_id == "balance.failure_parameters" else {}
    async with in_process() as (world, url), merchant_of(url) as merchant:
        shapes = []
        for quirks in ([], [quirk_id]):
            await merchant.control("balances", {"behaviour": {"quirks": quirks}})
            result = (await told(merchant, **changes)).status
            shapes.append(json.dumps({name: one for name, one in result.items() if "ConversationID" not in name}))
        assert world.hits[quirk_id] == 1
    assert shapes[0] != shapes[1]


async def told(merchant: Merchant, **changes: Any) -> Received:
    """Ask, and wait for what is posted next."""
    before = len(results(merchant.received))
    status, answer = await merchant.ask_balance(**changes)
    assert status == 200, answer
    return await result_of(merchant, before + 1)
