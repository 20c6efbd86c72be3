"""Every row of the table of push errors, by the answer as it comes, and what resembles a row without being one."""

import json
from datetime import timedelta

import pytest

from payment_service.daraja.push import Accepted, PushAnswer, Refused, push_answer_name, read_push_answer
from payment_service.daraja.sending import NotSent, Uncertain
from payment_service.daraja.transport import HttpAnswer
from payment_service.domain.reasons import Reason


def envelope(code: object, text: object) -> bytes:
    return json.dumps({"requestId": "7f21-4d0a-9c55-1ab21c33d4e0", "errorCode": code, "errorMessage": text}).encode()


def apigee(code: str, text: str) -> bytes:
    return json.dumps({"fault": {"faultstring": text, "detail": {"errorcode": code}}}).encode()


def answer(status: int, body: bytes, **headers: str) -> PushAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_push_answer(HttpAnswer(status, named, body))


OURS = Reason.SERVICE_MISCONFIGURED
REFUSALS = [
    (400, "400.002.02", "Bad Request - Invalid PhoneNumber", Reason.PHONE_NUMBER_REFUSED, False),
    (400, "400.002.02", "Bad Request - Invalid PhoneNumer", Reason.PHONE_NUMBER_REFUSED, False),
    (400, "400.002.02", "Bad Request - Invalid PartyA", Reason.PHONE_NUMBER_REFUSED, False),
    (400, "400.002.02", "Bad Request - Invalid Amount", Reason.AMOUNT_NOT_ALLOWED, True),
    (400, "400.002.02", "Bad Request - Invalid CallBackURL", OURS, True),
    (400, "400.002.02", "Bad Request - Invalid BusinessShortCode", OURS, True),
    (400, "400.002.02", "Bad Request - Invalid TransactionType", OURS, True),
    (400, "400.002.05", "Invalid Request Payload", OURS, True),
    (400, "400.003.02", "Bad Request", OURS, True),
    (404, "404.001.01", "Resource not found", OURS, True),
    (404, "404.002.01", "Resource not found", OURS, True),
    (404, "404.003.01", "Resource not found", OURS, True),
    (404, "404.001.04", "Invalid Authentication Header", OURS, True),
    (405, "405.001", "Method Not Allowed", OURS, True),
    (500, "500.001.1001", "Merchant does not exist", OURS, True),
    (500, "500.001.1001", "Wrong credentials", OURS, True),
    (500, "500.001.1001", "[MerchantValidate] - Wrong credentials", OURS, True),
    (500, "500.001.1001", "[MerchantValidate] - Timestamp expired", OURS, True),
    (
        500,
        "500.001.1001",
        "Unable to lock subscriber, a transaction is already in process for the current subscriber",
        Reason.PHONE_BUSY,
        False,
    ),
    (500, "500.001.1001", "[CBS - ] No ICCID found", Reason.NOT_AN_MPESA_NUMBER, False),
]


@pytest.mark.parametrize(("status", "code", "text", "reason", "alarm"), REFUSALS)
def test_a_named_refusal_proves_that_no_prompt_was_shown(
    status: int, code: str, text: str, reason: Reason, alarm: bool
) -> None:
    for spelled in (text, text.upper(), f" {text}. ", text.replace(" ", "  ")):
        found = answer(status, envelope(code, spelled))
        assert isinstance(found, Refused)
        assert (found.code, found.reason, found.alarm is not None) == (code, reason, alarm)


TOKEN_REFUSALS = [
    (404, "404.001.03", "Invalid Access Token"),
    (401, "401.002.01", "Error Occurred - Invalid Access Token"),
    (401, "401.003.01", "Error Occurred - Invalid Access Token"),
    (400, "400.003.01", "Invalid Access Token"),
    (401, "404.001.03", "Error Occurred - Invalid Access Token - mb0dWGkL2E"),
    (
        401,
        "401.002.01",
        "Error Occurred - Invalid Access Token - Invalid API call as no apiproduct match found",
    ),
]


@pytest.mark.parametrize(("status", "code", "text"), TOKEN_REFUSALS)
def test_a_refused_token_means_the_push_was_not_accepted(status: int, code: str, text: str) -> None:
    assert answer(status, envelope(code, text)) == NotSent(code, token_refused=True)


RATE_LIMITS = [
    (500, envelope("500.003.02", "Error Occurred: Spike Arrest Violation"), "500.003.02"),
    (500, envelope("500.003.02", "Spike Arrest Violation"), "500.003.02"),
    (500, envelope("500.003.03", "Error Occurred: Quota Violation"), "500.003.03"),
    (500, envelope("500.003.03", "Quota Violation"), "500.003.03"),
    (
        429,
        apigee("policies.ratelimit.SpikeArrestViolation", "Spike arrest violation. Allowed rate : MessageRate{…}"),
        "policies.ratelimit.SpikeArrestViolation",
    ),
    (429, b"", "429"),
    (429, b"<html>Too many requests</html>", "429"),
    (429, envelope("999.999", "slow down"), "429"),
]


@pytest.mark.parametrize(("status", "body", "code"), RATE_LIMITS)
def test_a_rate_limit_slows_us_down_and_sends_nothing(status: int, body: bytes, code: str) -> None:
    assert answer(status, body) == NotSent(code, retry_after=timedelta(seconds=2))
    assert answer(status, body, retry_after="7") == NotSent(code, retry_after=timedelta(seconds=7))
    assert answer(status, body, retry_after="999999") == NotSent(code, retry_after=timedelta(minutes=5))
    assert answer(status, body, retry_after="Wed, 21 Oct") == NotSent(code, retry_after=timedelta(seconds=2))


def test_maintenance_sends_nothing() -> None:
    text = "Service is currently under maintenance. Please try again in a little while"
    assert answer(500, envelope("500.002.1001", text)) == NotSent("500.002.1001")


EDGE_PAGES = pytest.mark.parametrize(
    "body",
    [
        b"Request unsuccessful. Incapsula incident ID: 101-77",
        b"<html><head><META NAME=robots></head><iframe src=/_Incapsula_Resource?x=1></iframe></html>",
        b"<html>Powered by Imperva \xff\xfe</html>",
    ],
)


@EDGE_PAGES
def test_the_page_of_the_edge_with_403_sent_nothing_and_raises_an_alarm(body: bytes) -> None:
    found = answer(403, body)
    assert isinstance(found, NotSent)
    assert found.code == "EDGE_REFUSED"
    assert found.alarm is not None


@EDGE_PAGES
def test_the_page_of_the_edge_with_503_may_hide_an_answer(body: bytes) -> None:
    assert isinstance(answer(503, body), Uncertain)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("401.001", "Invalid Access Token"),
        ("404.001.03", "Error Occured : Invalid Access Token"),
    ],
)
def test_a_token_is_dead_under_every_code_that_says_so(code: str, text: str) -> None:
    found = answer(401, envelope(code, text))
    assert isinstance(found, NotSent)
    assert found.token_refused


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("400.002.02", "Bad Request – Invalid Amount", Refused),
        ("400.002.02", "Bad Request —  Invalid PhoneNumber", Refused),
        ("405.001", "Method Not Allowed", Refused),
        ("405.001", "HTTP method is not allowed.", Refused),
        ("500.003.02", "Error Occured: Spike Arrest Violation", NotSent),
    ],
)
def test_a_listed_text_is_known_in_whatever_dashes_and_spelling(code: str, text: str, kind: type) -> None:
    assert isinstance(answer(400, envelope(code, text)), kind)


NO_PROOF = [
    # Rows that say so.
    (500, envelope("500.003.02", "System is busy. Please try again in few minutes.")),
    (500, envelope("500.003.1001", "Internal Server Error")),
    # Rows of the query, or of other products.
    (500, envelope("500.001.1001", "The transaction is being processed")),
    (500, envelope("500.001.1001", "The transaction does not Exist")),
    (500, envelope("500.001.1001", "")),
    (200, envelope("500.001.1001", "")),
    (500, envelope("500.002.1001", "Duplicate OriginatorConversationID.")),
    # A known code with a text nobody listed, and a known text under another code.
    (400, envelope("400.002.02", "Bad Request")),
    (400, envelope("400.002.02", "Bad Request - Invalid PhoneNumber, prompt sent")),
    (400, envelope("400.002.05", "Something new")),
    (404, envelope("404.001.03", "Resource not found")),
    (401, envelope("401.002.01", "")),
    (404, envelope("404.001.01", "Invalid something")),
    (405, envelope("405.001", None)),
    (500, envelope("500.001.1001", "System is busy")),
    (500, envelope("500.009.9999", "Wrong credentials")),
    (500, envelope("500.003.03", "Internal Server Error")),
    (400, envelope(400, "Bad Request - Invalid Amount")),
    # Gateways that lost the answer of the server behind them, whatever they write.
    (502, envelope("500.001.1001", "Wrong credentials")),
    (504, envelope("404.001.03", "Invalid Access Token")),
    (502, b"<html>Bad Gateway</html>"),
    (504, b"<html>Gateway Timeout, Incapsula</html>"),
    # Other envelopes, other pages.
    (500, b'{"Envelope":{"Body":{"Fault":{"faultcode":"soap:Server","faultstring":"failed"}}}}'),
    (401, apigee("keymanagement.service.invalid_access_token", "Invalid access token")),
    (500, b'{"fault":"text"}'),
    (503, b"Service is currently unreachable"),
    (403, b"<html>Forbidden</html>"),
    (500, b"Request unsuccessful. Incapsula incident ID: 101-77"),
    (401, b""),
    (404, b""),
    (500, b""),
    (301, b""),
    # An error and an acceptance in one, twice the same key, a text that is no text.
    (500, b'{"errorCode":"404.001.03","errorMessage":"Invalid Access Token","ResponseCode":"0"}'),
    (404, b'{"errorCode":"404.001.03","errorCode":"404.001.03","errorMessage":"Invalid Access Token"}'),
    (404, b'["404.001.03"]'),
    (404, b"null"),
]


@pytest.mark.parametrize(("status", "body"), NO_PROOF)
def test_everything_else_is_uncertain(status: int, body: bytes) -> None:
    assert isinstance(answer(status, body), Uncertain)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("400.009.77", "Uncertain: HTTP 400 with the unlisted error 400.009.77"),
        ("254712345678", "Uncertain: HTTP 400 with an unlisted error"),
        ("0712.345.678", "Uncertain: HTTP 400 with an unlisted error"),
        ("a" * 17, "Uncertain: HTTP 400 with an unlisted error"),
    ],
)
def test_an_unlisted_error_is_told_by_its_code_unless_that_may_be_somebodys_number(code: str, told: str) -> None:
    assert push_answer_name(answer(400, envelope(code, "No till is found"))) == told


def test_the_meanings_of_one_code_have_names_of_their_own() -> None:
    names = {
        push_answer_name(answer(500, envelope("500.001.1001", text)))
        for text in ("Wrong credentials", "Unable to lock subscriber", "[CBS - ] No ICCID found")
    }
    assert names == {
        "Refused 500.001.1001 SERVICE_MISCONFIGURED",
        "Refused 500.001.1001 PHONE_BUSY",
        "Refused 500.001.1001 NOT_AN_MPESA_NUMBER",
    }


TAKEN = {
    "MerchantRequestID": "1f9c-4c0e-a2b7-55e0d1c2b3a41234567",
    "CheckoutRequestID": "ws_CO_23112026101500123700000001",
    "ResponseCode": "0",
    "ResponseDescription": "Success. Request accepted for processing",
    "CustomerMessage": "Success. Request accepted for processing",
}


@pytest.mark.parametrize("change", [{}, {"ResponseCode": 0}, {"CustomerMessage": None}, {"ResponseDescription": 5}])
def test_an_acceptance_needs_its_code_and_both_ids_and_nothing_else(change: dict[str, object]) -> None:
    found = answer(200, json.dumps(TAKEN | change).encode())
    assert found == Accepted(TAKEN["MerchantRequestID"], TAKEN["CheckoutRequestID"])
    assert "700000001" not in repr(found)


@pytest.mark.parametrize(
    "change",
    [
        {"ResponseCode": "1"},
        {"ResponseCode": False},
        {"ResponseCode": 0.0},
        {"ResponseCode": None},
        {"ResponseCode": "00"},
        {"MerchantRequestID": None},
        {"CheckoutRequestID": ""},
        {"CheckoutRequestID": 5},
        {"CheckoutRequestID": "x" * 65},
        {"MerchantRequestID": "two\nlines"},
        {"MerchantRequestID": "\x00"},
        {"errorCode": "404.001.03", "errorMessage": "Invalid Access Token"},
    ],
)
def test_half_an_acceptance_is_uncertain(change: dict[str, object]) -> None:
    assert isinstance(answer(200, json.dumps(TAKEN | change).encode()), Uncertain)


@pytest.mark.parametrize("status", [201, 202, 302, 400, 429, 500, 503])
def test_an_acceptance_under_another_status_is_uncertain(status: int) -> None:
    assert isinstance(answer(status, json.dumps(TAKEN).encode()), Uncertain)


@pytest.mark.parametrize("cut", [1, 20, 120, 200])
def test_a_cut_acceptance_is_uncertain(cut: int) -> None:
    assert isinstance(answer(200, json.dumps(TAKEN).encode()[:-cut]), Uncertain)
