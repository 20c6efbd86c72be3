"""Answers to orders to send money: which of them prove that none will move, and which prove nothing."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.daraja.order_codes import MEANINGS, Ending
from payment_service.daraja.orders import Accepted, OrderAnswer, Refused, read_order_answer
from payment_service.daraja.sending import NotSent, Uncertain
from payment_service.daraja.transport import HttpAnswer, NoAnswer

TAKEN = {"OriginatorConversationID": "29115-1", "ConversationID": "AG_20261128_1", "ResponseCode": "0"}


def answer(status: int, body: object, **headers: str) -> OrderAnswer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_order_answer(HttpAnswer(status, named, content), "reversal")


def envelope(code: str, text: str) -> dict[str, str]:
    return {"requestId": "7f21-4d0a-1", "errorCode": code, "errorMessage": text}


@pytest.mark.parametrize(
    ("changed", "conversation"),
    [({}, "AG_20261128_1"), ({"ResponseCode": 0}, "AG_20261128_1"), ({"ConversationID": None}, None)],
)
def test_an_order_that_was_taken(changed: dict[str, object], conversation: str | None) -> None:
    assert answer(200, TAKEN | changed) == Accepted("29115-1", conversation)


def test_and_with_the_misspelt_name_of_its_conversation() -> None:
    misspelt = {"OriginatorCoversationID": "29115-1", "ResponseCode": "0"}
    assert answer(200, misspelt) == Accepted("29115-1", None)


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (400, "400.002.02", "Bad Request - Invalid RecieverIdentifierType"),
        (400, "400.002.02", "Bad Request - Invalid TransactionID"),
        (400, "400.002.02", "Bad Request - Invalid Amount"),
        (400, "400.002.05", "Invalid Request Payload"),
        (404, "404.001.01", "Resource not found"),
        (405, "405.001", "Method Not Allowed"),
    ],
)
def test_a_named_refusal_proves_that_no_money_moves_and_says_what_to_check(status: int, code: str, text: str) -> None:
    found = answer(status, envelope(code, text))
    assert isinstance(found, Refused)
    assert (found.code, "reversal" in found.alarm) == (code, True)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, envelope("404.001.03", "Invalid Access Token"), NotSent("404.001.03", token_refused=True)),
        (
            500,
            envelope("500.003.02", "Error Occurred: Spike Arrest Violation"),
            NotSent("500.003.02", retry_after=timedelta(seconds=2)),
        ),
        (500, envelope("500.002.1001", "Service is currently under maintenance."), NotSent("500.002.1001")),
        (429, b"", NotSent("429", retry_after=timedelta(seconds=2))),
    ],
)
def test_an_order_that_did_not_reach_mpesa_may_be_sent_again(status: int, body: object, expected: NotSent) -> None:
    assert answer(status, body) == expected


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, envelope("500.002.1001", "System internal error.")),
        (500, envelope("500.002.1001", "Duplicate OriginatorConversationID.")),
        (500, envelope("500.003.1001", "Internal Server Error")),
        (500, envelope("500.001.1001", "Internal Server Error")),
        # What proves that a prompt was not shown says nothing of an order.
        (500, envelope("500.001.1001", "Merchant does not exist")),
        (500, envelope("500.001.1001", "Unable to lock subscriber, a transaction is already in process")),
        (500, envelope("500.003.02", "System is busy. Please try again in few minutes.")),
        (502, envelope("400.002.02", "Bad Request - Invalid Amount")),
        (503, b"Request unsuccessful. Incapsula incident ID: 1-2"),
        (200, TAKEN | {"ResponseCode": "1"}),
        (200, TAKEN | {"ResponseCode": False}),
        (200, TAKEN | {"OriginatorConversationID": None}),
        (500, TAKEN),
        (200, b"<html>Welcome</html>"),
        (200, b""),
    ],
)
def test_everything_else_is_uncertain(status: int, body: object) -> None:
    assert isinstance(answer(status, body), Uncertain)


def test_without_an_answer_the_first_byte_decides() -> None:
    assert read_order_answer(NoAnswer(False, "NOT_CONNECTED"), "reversal") == NotSent("NOT_CONNECTED")
    assert read_order_answer(NoAnswer(True, "ANSWER_CUT"), "reversal") == Uncertain("ANSWER_CUT")


@given(st.integers(100, 599), st.binary(max_size=500))
def test_no_bytes_are_an_exception(status: int, body: bytes) -> None:
    answer(status, body)


def test_only_codes_that_prove_something_are_listed() -> None:
    assert {code for code, meaning in MEANINGS.items() if meaning.ending is Ending.DONE} == {"0"}
    assert all(meaning.ending is not Ending.UNKNOWN for meaning in MEANINGS.values())
