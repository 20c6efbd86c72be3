"""What our accounts have: read from the packed text in every recorded shape, and asked of a simulator."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daraja_simulator.settings import DEVELOPMENT_PASSKEY, SANDBOX_PASSKEY
from payment_service.daraja.account_balance import (
    Balance,
    BalanceQuestion,
    NoBalance,
    ask_account_balance,
    read_balance_result,
)
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.questions import Asked
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from tests.daraja.ordering import ordering
from tests.daraja_simulator.results import result_of

PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY)
TILL = Shortcode("600584", ShortcodeKind.TILL, DEVELOPMENT_PASSKEY, till_number="300584")
ACCOUNTS = (
    "Working Account|KES|346568.83|6186.83|340382.00|0.00",
    "Utility Account|KES|228037.00|228037.00|0.00|0.00",
    "Charges Paid Account|KES|-1540.00|-1540.00|0.00|0.00",
)
READ = {"working account": 6186, "utility account": 228037, "charges paid account": -1540}


def body(packed: object = "&".join(ACCOUNTS), code: object = "0", swapped: bool = False, **outer: object) -> bytes:
    pairs = [{"Key": "AccountBalance", "Value": packed}, {"Key": "BOCompletedTime", "Value": "20200109125710"}]
    outside, inside = ("ResultParameter", "ResultParameters") if swapped else ("ResultParameters", "ResultParameter")
    result = {"ResultType": "0", "ResultCode": code, "TransactionID": "OA90000000", outside: {inside: pairs}}
    return json.dumps({"Result": result | outer}).encode()


@pytest.mark.parametrize("content", [body(), body(swapped=True), body(code=0), body("&".join(reversed(ACCOUNTS)))])
def test_what_may_be_spent_is_read_account_by_account(content: bytes) -> None:
    assert read_balance_result(content) == Balance(READ, datetime(2020, 1, 9, 9, 57, 10, tzinfo=UTC))


def test_what_can_be_sent_back_depends_on_the_kind_of_shortcode() -> None:
    balance = Balance({"utility account": 10, "merchant account": 20}, None)
    assert (balance.to_send(PAYBILL), balance.to_send(TILL)) == (10, 20)
    assert Balance({"working account": 5}, None).to_send(PAYBILL) is None


@pytest.mark.parametrize("defect", ["", "?", "|KES|1|1|0|0", "Float Account|USD|1|1|0|0", "Float Account|KES|1|x|0|0"])
def test_an_account_that_cannot_be_read_takes_no_other_with_it(defect: str) -> None:
    found = read_balance_result(body("&".join((*ACCOUNTS, defect))))
    assert isinstance(found, Balance)
    assert found.spendable == READ


def test_an_account_that_is_there_twice_says_nothing() -> None:
    found = read_balance_result(body("&".join((*ACCOUNTS, "utility account|KES|9.00|9.00|0.00|0.00"))))
    assert isinstance(found, Balance)
    assert found.to_send(PAYBILL) is None


@pytest.mark.parametrize("code", [2001, "8006"])
def test_a_refused_initiator_is_noticed(code: object) -> None:
    found = read_balance_result(body(code=code))
    assert isinstance(found, NoBalance)
    assert (found.initiator_refused, found.alarm is not None) == (True, True)


@pytest.mark.parametrize(
    "content",
    [
        body(code=1, ResultType=1),
        body(ResultType=1),
        body(code=15),
        body(code=False),
        body(packed=None),
        body(packed=7),
        body(packed="?"),
        b"{}",
        b"nonsense",
    ],
)
def test_nothing_else_tells_of_a_balance(content: bytes) -> None:
    found = read_balance_result(content)
    assert isinstance(found, NoBalance)
    assert not found.initiator_refused


@given(st.text(max_size=80), st.binary(max_size=200))
def test_no_shape_is_an_exception(packed: str, content: bytes) -> None:
    read_balance_result(body(packed))
    read_balance_result(content)


@pytest.mark.parametrize("shortcode", [PAYBILL, TILL])
async def test_the_balance_is_asked_for_and_told_later(tmp_path: Path, shortcode: Shortcode) -> None:
    async with ordering(tmp_path) as made:
        await made.merchant.control("balance", {"shortcode": shortcode.number, "kes": 4321})
        url = made.merchant.callback_url
        question = BalanceQuestion(shortcode, f"{url}/result", f"{url}/timeout")
        answer, exchange = await ask_account_balance(made.client, made.token, made.initiator, question)
        assert answer == Asked()
        assert json.loads(exchange.request_body)["SecurityCredential"] == "[blanked]"
        found = read_balance_result((await result_of(made.merchant)).body)
        assert isinstance(found, Balance)
        assert found.to_send(shortcode) == 4321
        await made.merchant.control("tokens/refuse", {"count": 1})
        refused, _ = await ask_account_balance(made.client, made.token, made.initiator, question)
    assert isinstance(refused, NothingLearned)
    assert refused.token_refused
