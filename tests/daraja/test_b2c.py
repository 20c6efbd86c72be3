"""B2C payments: what an answer and a result prove under the name that we gave the order, and against a simulator."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daraja_simulator.settings import SANDBOX_PASSKEY
from payment_service.daraja.b2c import B2cOrder, order_b2c, read_b2c_answer, read_b2c_result, read_b2c_status
from payment_service.daraja.orders import Accepted, CarriedOut, Failed, OrderAnswer, Refused, TakenBefore, Unproven
from payment_service.daraja.questions import Asked
from payment_service.daraja.sending import NotSent, Uncertain
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.daraja.status import StatusQuestion, ask_transaction_status
from payment_service.daraja.transport import HttpAnswer
from payment_service.domain.facts import UNREADABLE
from tests.daraja.ordering import Ordering, ordering
from tests.daraja_simulator.merchant import new_phone
from tests.daraja_simulator.results import result_of, results
from tests.patience import PATIENCE_SECONDS

PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY)
COMMAND = "BusinessPayment"
NAME = "018f-refund-0001"
RECEIPT = "TKA1B2C3D9"
VALUES: dict[str, Any] = {
    "TransactionAmount": 120,
    "TransactionReceipt": RECEIPT,
    "ReceiverPartyPublicName": "0113000126 - PASSENGER",
    "TransactionCompletedDateTime": "14.11.2026 13:27:11",
    "B2CUtilityAccountAvailableFunds": 8959269.6,
}
DONE = CarriedOut(RECEIPT, 120, datetime(2026, 11, 14, 10, 27, 11, tzinfo=UTC))


def body(code: object = 0, values: dict[str, Any] | None = None, **outer: object) -> bytes:
    result: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "said",
        "OriginatorConversationID": NAME,
        "ConversationID": "AG_20261114_1",
        "TransactionID": RECEIPT if code in (0, "0") else "TKA0000000",
    }
    if values is not None:
        pairs = [{"Key": key, "Value": value} for key, value in values.items() if value is not None]
        result["ResultParameters"] = {"ResultParameter": pairs}
    return json.dumps({"Result": result | outer}).encode()


@pytest.mark.parametrize(
    "content",
    [
        body(values=VALUES),
        body("0", VALUES, ResultType="0"),
        body(values=dict(reversed(VALUES.items()))),
        body(values=VALUES, TransactionID="TKA0000000"),
        body(values=VALUES | {"TransactionReceipt": None}),
        body(values=VALUES | {"TransactionAmount": "120.00"}),
    ],
)
def test_money_that_went_out_is_proven_by_our_name_and_a_receipt(content: bytes) -> None:
    assert read_b2c_result(content, NAME) == DONE


def test_a_defect_costs_its_own_field() -> None:
    odd = VALUES | {"TransactionAmount": 120.5, "TransactionCompletedDateTime": "soon"}
    assert read_b2c_result(body(values=odd), NAME) == CarriedOut(RECEIPT, UNREADABLE, None)
    assert read_b2c_result(body(), NAME) == CarriedOut(RECEIPT, None, None)


@pytest.mark.parametrize("code", [1, 2, 4, 8, 11, 21, "2001", 2040, 8006, "SFC_IC0003"])
def test_a_listed_failure_proves_that_nothing_moved(code: object) -> None:
    found = read_b2c_result(body(code), NAME)
    assert isinstance(found, Failed)
    assert (found.code, found.initiator_refused) == (str(code), str(code) in ("2001", "8006"))


@pytest.mark.parametrize(
    "content",
    [
        body(values=VALUES, OriginatorConversationID="018f-refund-0002"),
        body(values=VALUES, OriginatorConversationID=None),
        body(1, OriginatorConversationID="018f-refund-0002"),
        body(values=VALUES | {"TransactionReceipt": None}, TransactionID="TKA0000000"),
        body(values=VALUES | {"TransactionReceipt": "TKA1B2C3D8"}),
        body(1, VALUES),
        body("R000001"),
        # The post to the timeout address.
        body(1, ResultType=1, TransactionID=""),
        body(values=VALUES, ResultType=1),
        *(body(code) for code in (17, 26, 15, 9999, False, None, "")),
        b"{}",
        b"\xff not JSON",
    ],
)
def test_nothing_else_proves_anything(content: bytes) -> None:
    assert isinstance(read_b2c_result(content, NAME), Unproven)


@given(st.binary(max_size=300))
def test_no_bytes_are_an_exception(content: bytes) -> None:
    read_b2c_result(content, NAME)
    read_b2c_status(content, NAME)


def answer(status: int, value: object) -> OrderAnswer | TakenBefore:
    return read_b2c_answer(HttpAnswer(status, {}, json.dumps(value).encode()), NAME)


def error(text: str) -> dict[str, str]:
    return {"requestId": "1-2", "errorCode": "500.002.1001", "errorMessage": text}


def test_only_the_text_tells_a_duplicate_from_an_error_and_from_maintenance() -> None:
    assert answer(500, error("Duplicate OriginatorConversationID.")) == TakenBefore()
    assert isinstance(answer(500, error("System internal error.")), Uncertain)
    assert isinstance(answer(500, error("Service is currently under maintenance.")), NotSent)


def test_an_order_that_was_taken_under_another_name_is_uncertain() -> None:
    taken = {"OriginatorConversationID": NAME, "ConversationID": "AG_1", "ResponseCode": "0"}
    assert answer(200, taken) == Accepted(NAME, "AG_1")
    assert isinstance(answer(200, taken | {"OriginatorConversationID": "another"}), Uncertain)


@pytest.mark.parametrize(
    ("name", "phone", "amount"),
    [
        ("short", "254722000126", 120),
        ("018f refund 0001", "254722000126", 120),
        (NAME, "0722000126", 120),
        (NAME, "254722000126", 9),
        (NAME, "254722000126", 250_001),
    ],
)
def test_what_must_not_be_sent_cannot_be_built(name: str, phone: str, amount: int) -> None:
    with pytest.raises(ValueError, match="a B2C payment"):
        B2cOrder(PAYBILL, COMMAND, name, phone, amount, "https://example.test/r", "https://example.test/t")


async def ordered(made: Ordering, phone: str, amount: int = 120) -> OrderAnswer | TakenBefore:
    url = made.merchant.callback_url
    order = B2cOrder(PAYBILL, COMMAND, NAME, phone, amount, f"{url}/result", f"{url}/timeout")
    return (await order_b2c(made.client, made.token, made.initiator, order))[0]


async def test_a_part_goes_back_once_however_often_it_is_ordered(tmp_path: Path) -> None:
    async with ordering(tmp_path) as made:
        phone = new_phone()
        assert isinstance(await ordered(made, phone), Accepted)
        assert await ordered(made, phone) == TakenBefore()
        result = read_b2c_result((await result_of(made.merchant)).body, NAME)
        account = await made.merchant.account(phone)
    assert isinstance(result, CarriedOut)
    assert result.amount == account["returned_kes"] == 120
    assert result.receipt == account["returns"][0]["receipt"]


@pytest.mark.parametrize("script", [{"answer": "lost"}, {"error": "system_internal_error", "carries_out": True}])
async def test_an_uncertain_answer_may_hide_money_that_went_out(tmp_path: Path, script: dict[str, object]) -> None:
    async with ordering(tmp_path) as made:
        phone = new_phone()
        await made.script(**script)
        assert isinstance(await ordered(made, phone), Uncertain)
        await made.returned(phone)
        assert await ordered(made, phone) == TakenBefore()
        question = StatusQuestion(PAYBILL, None, NAME, f"{made.merchant.callback_url}/status")
        taken, _ = await ask_transaction_status(made.client, made.token, made.initiator, question)
        assert isinstance(taken, Asked)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (told := [one.body for one in results(made.merchant.received) if one.path == "/status"]):
                await asyncio.sleep(0.01)
        found = read_b2c_status(told[0], NAME)
        assert isinstance(found, CarriedOut)
        assert found.amount == (await made.merchant.account(phone))["returned_kes"] == 120


async def test_a_wrong_field_is_refused_and_an_empty_account_fails(tmp_path: Path) -> None:
    async with ordering(tmp_path) as made:
        await made.script(error="bad_payload")
        assert isinstance(await ordered(made, new_phone()), Refused)
        await made.merchant.control("balance", {"shortcode": "174379", "kes": 119})
        assert isinstance(await ordered(made, new_phone()), Accepted)
        found = read_b2c_result((await result_of(made.merchant)).body, NAME)
    assert isinstance(found, Failed)
    assert (found.code, found.alarm is not None) == ("1", True)
