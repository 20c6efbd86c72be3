"""Results of Transaction Status in every recorded shape: one kind is evidence, and nothing else ever is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.questions import Asked, read_acknowledgement
from payment_service.daraja.status import TOKEN_ALARM, initiator_refused, read_status_result
from payment_service.domain.facts import UNREADABLE, NothingTold, ResultReported, Source, TakenBack, Verdict

CONVERSATION = "3dff-467b-6c7c-1c812ec1a4247770823"
VALUES: dict[str, Any] = {
    "DebitPartyName": "0722000126 - PASSENGER  126",
    "OriginatorConversationID": CONVERSATION,
    "TransactionStatus": "Completed",
    "FinalisedTime": 20240706224852,
    "Amount": 480,
    "ReceiptNo": "TKA1B2C3D4",
}
MOMENT = datetime(2024, 7, 6, 19, 48, 52, tzinfo=UTC)


def pairs(**changed: Any) -> list[dict[str, Any]]:
    """The parameters; a value of `...` stands for a key without one, and None for no such key."""
    values = {name: value for name, value in (VALUES | changed).items() if value is not None}
    return [{"Key": key} if value is ... else {"Key": key, "Value": value} for key, value in values.items()]


def body(parameters: object = None, code: object = 0, **outer: object) -> bytes:
    result: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "said",
        # Of the question, not of the payment.
        "OriginatorConversationID": "9999-1",
        "ConversationID": "AG_1",
        "TransactionID": "TKA0000000",
    }
    if parameters is not None:
        result["ResultParameters"] = parameters
    return json.dumps({"Result": result | outer}).encode()


def told(content: bytes) -> ResultReported:
    result = read_status_result(content, "callback:1")
    assert isinstance(result, ResultReported), result
    assert (result.source, result.verdict, result.code) == (Source.STATUS, Verdict.PAID, "0")
    assert (result.merchant_request_id, result.checkout_request_id) == (CONVERSATION, None)
    assert (result.receipt, result.in_doubt) == ("TKA1B2C3D4", False)
    return result


@pytest.mark.parametrize(
    "content",
    [
        body({"ResultParameter": pairs()}),
        body({"ResultParameter": pairs()}, code="0"),
        body({"ResultParameter": list(reversed(pairs()))}),
        body(pairs()),
        body(ResultParameter={"ResultParameters": pairs()}),
        body({"ResultParameter": [*pairs(), {"Key": "DebitPartyName", "Value": "174379 - COACHES"}]}),
        body({"ResultParameter": [*pairs(), {"Key": "ReceiptNo", "Value": "TKA1B2C3D4"}, {"Key": "Note"}, 5, None]}),
        body({"ResultParameter": pairs(OriginatorConversationID=None, **{"Originator Conversation ID": CONVERSATION})}),
    ],
    ids=["plain", "code as text", "other order", "bare list", "names exchanged", "key twice", "same twice", "spaces"],
)
def test_a_completed_transaction_is_read_in_every_shape(content: bytes) -> None:
    result = told(content)
    assert (result.amount, result.transaction_at) == (480, MOMENT)


@pytest.mark.parametrize(("amount", "read"), [(480.0, 480), ("480.00", 480), (480.5, UNREADABLE), ("much", UNREADABLE)])
def test_an_amount_is_whole_shillings_or_wrong(amount: object, read: object) -> None:
    assert told(body({"ResultParameter": pairs(Amount=amount)})).amount == read


@pytest.mark.parametrize(
    ("time", "moment"),
    [("20240706224852", MOMENT), ("06.07.2024 22:48:52", MOMENT), ("soon", None), ("6.7.24", None), (..., None)],
)
def test_a_time_is_read_in_three_forms_and_else_left_out(time: object, moment: datetime | None) -> None:
    assert told(body({"ResultParameter": pairs(FinalisedTime=time)})).transaction_at == moment


@pytest.mark.parametrize("status", ["Reversed", "reversed"])
def test_a_reversed_transaction_is_money_that_went_back(status: str) -> None:
    content = body({"ResultParameter": pairs(TransactionStatus=status)})
    assert read_status_result(content, "callback:1") == TakenBack(
        "callback:1", Source.STATUS, "TKA1B2C3D4", 480, receipt="TKA1B2C3D4", conversation_id=CONVERSATION
    )
    nameless = body({"ResultParameter": pairs(TransactionStatus=status, OriginatorConversationID=None)})
    assert isinstance(read_status_result(nameless, "callback:1"), NothingTold)


@pytest.mark.parametrize(
    "content",
    [
        *(body({"ResultParameter": pairs()}, code=code) for code in (1, "1", 2001, 2032, 2033, 8006, "R000002")),
        *(body({"ResultParameter": pairs()}, code=code) for code in (False, None, 0.0, "", [0])),
        *(
            body({"ResultParameter": pairs(TransactionStatus=status)})
            for status in ("Cancelled", "Declined", "Expired", "Pending", "", ..., None, 1)
        ),
        *(body({"ResultParameter": pairs(**{name: ...})}) for name in ("ReceiptNo", "Amount")),
        body({"ResultParameter": pairs(OriginatorConversationID=None)}),
        body({"ResultParameter": pairs(OriginatorConversationID=7)}),
        body({"ResultParameter": [*pairs(), {"Key": "ReceiptNo", "Value": "TKA1B2C3D5"}]}),
        body({"ResultParameter": {"Key": "ReceiptNo", "Value": "TKA1B2C3D4"}}),
        body(),
        b'{"Result": {"a": "?"}}',
        b"{}",
        b"\xff not JSON",
    ],
)
def test_nothing_else_is_evidence_of_anything(content: bytes) -> None:
    assert isinstance(read_status_result(content, "callback:1"), NothingTold)


@pytest.mark.parametrize("code", [2001, "2001", 8006, "8006"])
def test_a_refused_initiator_is_noticed(code: object) -> None:
    assert initiator_refused(body(code=code)) == str(code)


@pytest.mark.parametrize("content", [body(code=0), body(code=1), body(code=2032), b"{}", b"nonsense"])
def test_and_no_other_result_is_one(content: bytes) -> None:
    assert initiator_refused(content) is None


@pytest.mark.parametrize("code", ["0", 0])
def test_a_question_that_was_taken(code: object) -> None:
    assert read_acknowledgement(200, {}, json.dumps({"ResponseCode": code}).encode(), TOKEN_ALARM) == Asked()


@pytest.mark.parametrize(
    ("status", "answer", "code", "token_refused"),
    [
        (200, {"ResponseCode": "1"}, "HTTP_200", False),
        (200, {"ResponseCode": False}, "HTTP_200", False),
        (500, {"ResponseCode": "0"}, "HTTP_500", False),
        (400, {"errorCode": "400.003.01", "errorMessage": "Invalid Access Token"}, "400.003.01", True),
        (400, {"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid Initiator"}, "400.002.02", False),
        (429, {}, "429", False),
    ],
)
def test_a_question_that_was_not(status: int, answer: object, code: str, token_refused: bool) -> None:
    read = read_acknowledgement(status, {}, json.dumps(answer).encode(), TOKEN_ALARM)
    assert isinstance(read, NothingLearned)
    assert (read.code, read.token_refused) == (code, token_refused)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(list(VALUES.values())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["Result", "ResultCode", "ResultParameters", "ResultParameter", "Key", "Value"]), inner
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_no_shape_is_an_exception(value: object) -> None:
    content = json.dumps({"Result": value}).encode()
    read_status_result(content, "callback:1")
    initiator_refused(content)
