"""Answers of the token address, and of both addresses to no question at all."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.alarms import CREDENTIALS_REFUSED, EDGE_BLOCKS, TOKEN_UNREADABLE
from payment_service.daraja.push import Accepted, read_push_answer
from payment_service.daraja.token import TokenAnswer, TokenIssued, TokenUnavailable, read_token_answer
from payment_service.daraja.transport import HttpAnswer
from runtime.alarms import Alarm

TOKEN = "Zx9Kq2LmT0vB4nYc7RwS1uHd8PfJ"


def answer(status: int, body: bytes) -> TokenAnswer:
    return read_token_answer(status, {}, body)


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        *[("3599", 3599), (3599, 3599), ("3600", 3600), ("60", 60)],
        *[(odd, 3599) for odd in (None, "soon", 0, -5, True, "9" * 30, 12.5)],
    ],
)
def test_a_token_lives_as_long_as_daraja_says_in_either_spelling(expires_in: object, seconds: int) -> None:
    found = answer(200, json.dumps({"access_token": TOKEN, "expires_in": expires_in}).encode())
    assert found == TokenIssued(TOKEN, timedelta(seconds=seconds))
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("token", ["", 5, "short", "with space in it", "line\r\nX-Injected: 1", "é" * 28, "a" * 3000])
def test_what_could_not_stand_in_a_header_is_no_token_and_says_so(token: object) -> None:
    found = answer(200, json.dumps({"access_token": token, "expires_in": "3599"}).encode())
    assert isinstance(found, TokenUnavailable)
    assert (found.code, found.alarm) == ("UNREADABLE_TOKEN", TOKEN_UNREADABLE)


@pytest.mark.parametrize(
    ("status", "body", "code", "alarm"),
    [
        (
            400,
            b'{"errorCode":"400.008.01","errorMessage":"Invalid Authentication passed"}',
            "400.008.01",
            CREDENTIALS_REFUSED,
        ),
        (
            400,
            b'{"errorCode":"400.008.02","errorMessage":"Invalid grant type passed"}',
            "400.008.02",
            CREDENTIALS_REFUSED,
        ),
        (400, b"", "HTTP_400", CREDENTIALS_REFUSED),
        (401, b"", "HTTP_401", CREDENTIALS_REFUSED),
        (500, b"", "HTTP_500", None),
        (502, b"<html>", "HTTP_502", None),
        (429, b"", "429", None),
        (200, b"<html>", "HTTP_200", None),
        (403, b"Request unsuccessful. Incapsula incident ID: 1-2", "EDGE_REFUSED", EDGE_BLOCKS),
        (503, b"Request unsuccessful. Incapsula incident ID: 1-2", "EDGE_REFUSED", EDGE_BLOCKS),
        (503, b"Service is currently unreachable", "HTTP_503", None),
    ],
)
def test_why_there_is_no_token(status: int, body: bytes, code: str, alarm: Alarm | None) -> None:
    found = answer(status, body)
    assert isinstance(found, TokenUnavailable)
    assert (found.code, found.alarm) == (code, alarm)


@given(st.integers(100, 599), st.binary(max_size=500))
def test_no_bytes_are_an_exception_an_acceptance_or_a_token(status: int, body: bytes) -> None:
    # Hypothesis also draws what it finds written in these tests, so a real answer may be among them.
    if isinstance(read_push_answer(HttpAnswer(status, {}, body)), Accepted):
        assert "CheckoutRequestID" in json.loads(body)
    if not isinstance(answer(status, body), TokenUnavailable):
        assert "access_token" in json.loads(body)
