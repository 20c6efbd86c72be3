"""Results of reversals in every recorded shape: what proves that the money went back, that it did not, and nothing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.daraja.orders import Failed, Unproven
from payment_service.daraja.reversal import (
    AlreadyReversed,
    ReversalOrder,
    Reversed,
    read_reversal_result,
    read_reversal_status,
)
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.domain.facts import UNREADABLE

RECEIPT, OWN_RECEIPT = "TKA1B2C3D4", "TKA1B2C3D9"
CONVERSATION = "dad6-4c34-8787-c8cb963a496d1268232"
VALUES: dict[str, Any] = {
    "DebitAccountBalance": "Utility Account|KES|7722179.62|7722179.62|0.00|0.00",
    "Amount": 480,
    "TransCompletedTime": 20261114132711,
    "OriginalTransactionID": RECEIPT,
    "Charge": 0,
    "CreditPartyPublicName": "254722000126 - PASSENGER",
}
MOMENT = datetime(2026, 11, 14, 10, 27, 11, tzinfo=UTC)
DONE = Reversed(RECEIPT, 480, OWN_RECEIPT, MOMENT)


def pairs(**changed: Any) -> list[dict[str, Any]]:
    """The parameters; a value of `...` stands for a key without one, and None for no such key."""
    values = {name: value for name, value in (VALUES | changed).items() if value is not None}
    return [{"Key": key} if value is ... else {"Key": key, "Value": value} for key, value in values.items()]


def body(parameters: object = None, code: object = 0, **outer: object) -> bytes:
    result: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "said",
        "OriginatorConversationID": CONVERSATION,
        "ConversationID": "AG_20261114_201018edbbf9f1582eaa",
        "TransactionID": OWN_RECEIPT if code in (0, "0") else "TKA0000000",
    }
    if parameters is not None:
        result["ResultParameters"] = parameters
    return json.dumps({"Result": result | outer}).encode()


@pytest.mark.parametrize(
    "content",
    [
        body({"ResultParameter": pairs()}),
        body({"ResultParameter": pairs()}, code="0", ResultType="0"),
        body({"ResultParameter": list(reversed(pairs()))}),
        body(pairs()),
        body(ResultParameter={"ResultParameters": pairs()}),
        body({"ResultParameter": [*pairs(), {"Key": "OriginalTransactionID", "Value": RECEIPT}, {"Key": "Note"}, 5]}),
        body({"ResultParameter": pairs(OriginalTransactionID=None, **{"original transaction ID": RECEIPT})}),
        json.dumps(json.loads(body({"ResultParameter": pairs()}))["Result"]).encode(),
    ],
    ids=["plain", "texts", "other order", "bare list", "names exchanged", "same twice", "spaces", "no outer Result"],
)
def test_a_reversal_that_was_carried_out_is_read_in_every_shape(content: bytes) -> None:
    assert read_reversal_result(content) == DONE


@pytest.mark.parametrize(
    ("changed", "amount", "moment"),
    [
        ({"Amount": "480.00"}, 480, MOMENT),
        ({"Amount": 480.5}, UNREADABLE, MOMENT),
        ({"Amount": None}, None, MOMENT),
        ({"TransCompletedTime": "14.11.2026 13:27:11"}, 480, MOMENT),
        ({"TransCompletedTime": "soon"}, 480, None),
    ],
)
def test_a_defect_costs_its_own_field(changed: dict[str, Any], amount: object, moment: datetime | None) -> None:
    found = read_reversal_result(body({"ResultParameter": pairs(**changed)}))
    assert found == Reversed(RECEIPT, amount, OWN_RECEIPT, moment)  # type: ignore[arg-type]  # As the table has it.


@pytest.mark.parametrize("placeholder", ["TKA0000000", "XXXXXXXXXX", "", None, 7])
def test_a_placeholder_is_no_receipt_of_the_reversal(placeholder: object) -> None:
    found = read_reversal_result(body({"ResultParameter": pairs()}, TransactionID=placeholder))
    assert found == Reversed(RECEIPT, 480, None, MOMENT)


@pytest.mark.parametrize("code", ["1", 1, 11, 21, 2001, 2006, 2028, 8006, "R000002"])
def test_a_listed_failure_proves_that_nothing_moved(code: object) -> None:
    found = read_reversal_result(body(code=code))
    assert isinstance(found, Failed)
    assert (found.code, found.initiator_refused) == (str(code), code in (2001, 8006))
    assert (found.alarm is None) == (code == "R000002")


def test_a_failure_may_have_parameters_of_its_own() -> None:
    parameters = {"ResultParameter": [{"Key": "ErrorMsg", "Value": "API Password is locked."}]}
    assert isinstance(read_reversal_result(body(parameters, code=8006)), Failed)


def test_reversed_before_says_that_the_money_went_back() -> None:
    assert read_reversal_result(body(code="R000001")) == AlreadyReversed()
    assert read_reversal_result(body({"ResultParameter": pairs()}, code="R000001")) == AlreadyReversed()


@pytest.mark.parametrize(
    "content",
    [
        body(),
        body({"ResultParameter": pairs(OriginalTransactionID=None)}),
        body({"ResultParameter": pairs(OriginalTransactionID=...)}),
        body({"ResultParameter": pairs(OriginalTransactionID="?")}),
        body({"ResultParameter": [*pairs(), {"Key": "OriginalTransactionID", "Value": "TKA1B2C3D5"}]}),
        # The post to the timeout address: code 1, which would be "too little money".
        body(code=1, ResultType=1, TransactionID=""),
        body({"ResultParameter": pairs()}, ResultType=1),
        body({"ResultParameter": pairs()}, ResultType=False),
        body(code=1, ResultType=None),
        body({"ResultParameter": pairs()}, code=1),
        *(body(code=code) for code in (17, 26, 9999, "R000003", False, None, 0.0, "", [0], "2547220001")),
        b'{"Result": {"a": "?"}}',
        b"{}",
        b"\xff not JSON",
        b"",
    ],
)
def test_nothing_else_proves_anything(content: bytes) -> None:
    assert isinstance(read_reversal_result(content), Unproven)


STATUS: dict[str, Any] = {
    "OriginatorConversationID": CONVERSATION,
    "TransactionStatus": "Completed",
    "FinalisedTime": "14.11.2026 13:27:11",
    "Amount": 480,
    "ReceiptNo": OWN_RECEIPT,
}


def status(code: object = 0, **changed: Any) -> bytes:
    told = [{"Key": key, "Value": value} for key, value in (STATUS | changed).items() if value is not None]
    return body({"ResultParameter": told}, code=code)


def test_transaction_status_tells_of_a_reversal_by_its_conversation() -> None:
    assert read_reversal_status(status(), RECEIPT, CONVERSATION) == DONE


@pytest.mark.parametrize("word", ["Declined", "cancelled", "Expired"])
def test_or_that_it_was_not_carried_out(word: str) -> None:
    found = read_reversal_status(status(TransactionStatus=word), RECEIPT, CONVERSATION)
    assert found == Failed(word.upper())


def test_a_payment_that_is_called_reversed_has_gone_back() -> None:
    content = status(ReceiptNo=RECEIPT, TransactionStatus="Reversed", OriginatorConversationID="29115-1")
    assert read_reversal_status(content, RECEIPT, None) == AlreadyReversed()


@pytest.mark.parametrize(
    "content",
    [
        # The payment is completed before and, for all we know, after its reversal.
        status(ReceiptNo=RECEIPT, OriginatorConversationID="29115-1"),
        status(ReceiptNo=RECEIPT),
        status(OriginatorConversationID="another"),
        status(OriginatorConversationID=None),
        status(TransactionStatus="Pending"),
        status(TransactionStatus=None),
        *(status(code=code) for code in (2032, 2033, 2001, 1)),
        body(code=1, ResultType=1),
        b"nonsense",
    ],
)
def test_no_other_status_proves_anything(content: bytes) -> None:
    assert isinstance(read_reversal_status(content, RECEIPT, CONVERSATION), Unproven)
    assert isinstance(read_reversal_status(content, RECEIPT, None), Unproven)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(list(VALUES.values())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ResultType", "ResultCode", "ResultParameters", "ResultParameter", "Key", "Value"]), inner
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_no_shape_is_an_exception(value: object) -> None:
    content = json.dumps({"Result": value}).encode()
    read_reversal_result(content)
    read_reversal_status(content, RECEIPT, CONVERSATION)


PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, "passkey")


@pytest.mark.parametrize(("receipt", "amount"), [("", 480), ("short", 480), (RECEIPT, 0), (RECEIPT, 250_001)])
def test_what_must_not_be_sent_cannot_be_built(receipt: str, amount: int) -> None:
    with pytest.raises(ValueError, match="a reversal"):
        ReversalOrder(PAYBILL, receipt, amount, "https://example.test/r", "https://example.test/t")
