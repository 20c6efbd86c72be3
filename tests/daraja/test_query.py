"""What an answer to a query says: each shape that Daraja is known to give, and everything else, which says nothing.

The shapes are those of the simulator, over HTTP; what a simulator would not send is read directly.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from daraja_simulator.errors import ERRORS, Refusal, invalid, render
from payment_service.daraja.client import Exchange
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.push import Accepted, push
from payment_service.daraja.query import (
    NotYet,
    QueriedPush,
    QueryAnswer,
    TokenRefused,
    Told,
    TooFast,
    query,
    read_query_answer,
)
from payment_service.daraja.refusals import EDGE_ALARM, RATE_LIMIT_WAIT
from payment_service.daraja.result_codes import MEANINGS, meaning_of
from payment_service.domain.facts import Verdict
from tests.daraja.test_client import PAYBILL, PHONE, client_of, control, request, token_of
from tests.daraja_simulator.simulators import in_process

SILENT: dict[str, object] = {"callback": "never", "callback_delay_seconds": 3600}
MERCHANT = "2e9c-429c-a95c-b4cd653531a317168"
CHECKOUT = "ws_CO_04102025123847792712345678"
GOOD: dict[str, object] = {
    "ResponseCode": "0",
    "ResponseDescription": "The service request has been accepted successsfully",
    "MerchantRequestID": "2e9c-429c-a95c-b4cd653531a317168",
    "CheckoutRequestID": CHECKOUT,
    "ResultCode": "0",
    "ResultDesc": "The service request is processed successfully.",
}
TOKENS = {
    name
    for name, error in ERRORS.items()
    if error.code in ("404.001.03", "401.001", "401.002.01", "401.003.01", "400.003.01")
}
"""The refusals of a token that the addresses of STK push and query are known to give."""
ASKED = QueriedPush(CHECKOUT, MERCHANT)
NO_CODES: tuple[object, ...] = (None, False, True, 0.0, "", "0 ", "zero", [0], {}, "-0")


def read(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> QueryAnswer:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_query_answer(status, headers or {}, body, ASKED)


# Results.


@pytest.mark.parametrize("code", sorted(set(MEANINGS) - {"4999"}))
def test_a_listed_code_says_what_the_list_says(code: str) -> None:
    assert read(GOOD | {"ResultCode": code}) == Told(code, MEANINGS[code])


@pytest.mark.parametrize("code", ["50", "77777", "1050", "2032", "15"])
def test_a_code_that_is_not_listed_proves_nothing(code: str) -> None:
    answer = read(GOOD | {"ResultCode": code})
    assert answer == Told(code, meaning_of(code))
    assert isinstance(answer, Told)
    assert answer.meaning.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "changed",
    [
        {"ResultCode": 0, "ResponseCode": 0},
        {"CustomerMessage": ""},
        {"ResponseDescription": "The service request has been accepted successfully"},
        {"ResultDesc": "nobody reads this"},
        {"MerchantRequestID": None},
        {"CheckoutRequestID": CHECKOUT},
    ],
    ids=str,
)
def test_a_result_in_any_recorded_spelling_is_a_result(changed: dict[str, object]) -> None:
    assert read(GOOD | changed) == Told("0", MEANINGS["0"])


def test_an_answer_that_names_no_id_answers_what_was_asked() -> None:
    assert isinstance(read({name: value for name, value in GOOD.items() if name != "CheckoutRequestID"}), Told)


# Not yet, in five ways.


def test_4999_is_not_yet_and_never_a_failure() -> None:
    assert read(GOOD | {"ResultCode": "4999"}) == NotYet("4999")
    assert read(GOOD | {"ResultCode": 4999}) == NotYet("4999")


@pytest.mark.parametrize(
    "refusal",
    [
        ERRORS["being_processed"],
        ERRORS["empty_envelope_200"],
        ERRORS["empty_text"],
        invalid("CheckoutRequestID"),
        ERRORS["does_not_exist"],
        Refusal(500, "500.001.1001", "The transaction is  being processed."),
    ],
    ids=str,
)
def test_an_error_that_means_not_yet(refusal: Refusal) -> None:
    assert isinstance(refused(refusal), NotYet)


# Slower, and another token.


@pytest.mark.parametrize("name", ["apigee_429", "spike_arrest", "quota"])
def test_a_rate_limit_says_to_ask_less(name: str) -> None:
    answer = refused(ERRORS[name])
    assert isinstance(answer, TooFast)
    assert answer.retry_after == RATE_LIMIT_WAIT


def test_a_rate_limit_may_say_how_long() -> None:
    assert read(b"slow down", 429, {"retry-after": "7"}) == TooFast("429", timedelta(seconds=7))
    assert read(b"slow down", 429, {"retry-after": "86400"}) == TooFast("429", timedelta(minutes=5))
    assert isinstance(read({"errorCode": "429.1", "errorMessage": "never heard of"}, 429), TooFast)


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_a_token_that_is_refused_is_told_apart(name: str) -> None:
    assert refused(ERRORS[name]) == TokenRefused(ERRORS[name].code)


# Nothing.


def test_every_other_refusal_says_nothing_about_the_payment() -> None:
    learned = {name for name in ERRORS if not isinstance(refused(ERRORS[name]), NothingLearned)}
    not_yet = {"being_processed", "empty_envelope_200", "empty_text", "does_not_exist"}
    assert learned == TOKENS | not_yet | {"apigee_429", "spike_arrest", "quota"}


@pytest.mark.parametrize("name", ["wrong_credentials", "merchant_does_not_exist", "resource_not_found"])
def test_a_refusal_that_we_have_to_mend_says_what_to_check(name: str) -> None:
    answer = refused(ERRORS[name])
    assert isinstance(answer, NothingLearned)
    assert answer.alarm


def test_the_edge_before_daraja_is_an_alarm() -> None:
    for name in ("incapsula_403", "incapsula_503"):
        assert refused(ERRORS[name]) == NothingLearned("EDGE_REFUSED", alarm=EDGE_ALARM)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"", 200),
        (b"<html><body>Welcome</body></html>", 200),
        (b"null", 200),
        (b"[]", 200),
        (b"0", 200),
        (b"{}", 200),
        (b"\xff\xfe", 200),
        (json.dumps(GOOD).encode()[:-9], 200),
        (json.dumps(GOOD).replace('"ResultCode": "0"', '"ResultCode": "1", "ResultCode": "0"').encode(), 200),
        (GOOD, 201),
        (GOOD, 500),
        (GOOD | {"errorCode": "500.003.1001", "errorMessage": "Internal Server Error"}, 200),
        (GOOD | {"ResponseCode": "1"}, 200),
        (GOOD | {"ResponseCode": False}, 200),
        (GOOD | {"ResponseCode": None}, 200),
        (GOOD | {"CheckoutRequestID": CHECKOUT[:-1] + "9"}, 200),
        (GOOD | {"CheckoutRequestID": None}, 200),
        (GOOD | {"MerchantRequestID": "another-one"}, 200),
        (GOOD | {"CheckoutRequestID": [CHECKOUT]}, 200),
        *((GOOD | {"ResultCode": code}, 200) for code in NO_CODES),
        ({name: value for name, value in GOOD.items() if name != "ResultCode"}, 200),
    ],
    ids=str,
)
def test_nonsense_says_nothing(value: object, status: int) -> None:
    assert isinstance(read(value, status), NothingLearned)


@given(st.binary(max_size=200), st.sampled_from([200, 400, 403, 404, 500, 503]))
def test_no_bytes_at_all_make_a_result_or_a_fault(body: bytes, status: int) -> None:
    # Hypothesis also draws what it finds written in these tests, so a real answer may be among them.
    if isinstance(read_query_answer(status, {}, body, ASKED), Told):
        assert json.loads(body)["CheckoutRequestID"] == CHECKOUT


# Over HTTP.


async def asked_about(behaviour: dict[str, object], *, settled: bool = True) -> tuple[QueryAnswer, Exchange, str]:
    """A push that ends so, and one query about it; its CheckoutRequestID comes third."""
    async with in_process() as (_, url), client_of(url) as client:
        token = await token_of(client)
        await control(url, "faults", {"behaviour": SILENT | behaviour})
        accepted, _ = await push(client, token, request())
        assert isinstance(accepted, Accepted)
        if settled:
            named = {"checkout_request_id": accepted.checkout_request_id}
            await control(url, "callbacks/settle", named | {"ending": behaviour.get("ending", "paid")})
        asked = QueriedPush(accepted.checkout_request_id, accepted.merchant_request_id)
        answer, exchange = await query(client, token, PAYBILL, asked)
        return answer, exchange, accepted.checkout_request_id


@pytest.mark.parametrize(
    ("ending", "code"), [("paid", "0"), ("no_funds", "1"), ("cancelled", "1032"), ("wrong_pin", "2001")]
)
async def test_a_query_tells_how_a_prompt_ended(ending: str, code: str) -> None:
    answer, exchange, _ = await asked_about({"ending": ending})
    assert answer == Told(code, MEANINGS[code])
    assert (exchange.operation, exchange.http_status, exchange.classified_as) == ("query", 200, f"Told {code}")


@pytest.mark.parametrize(
    ("scripted", "kind"),
    [
        ("being_processed", NotYet),
        ("4999", NotYet),
        ("empty_error", NotYet),
        ("invalid_checkout", NotYet),
        ("does_not_exist", NotYet),
        ("error_after_end", NotYet),
        ("rate_limited", TooFast),
    ],
)
async def test_what_the_simulator_says_before_the_end(scripted: str, kind: type) -> None:
    answer, exchange, _ = await asked_about({"queries": [scripted]}, settled=False)
    assert isinstance(answer, kind)
    assert exchange.classified_as.startswith(kind.__name__)


async def test_an_exchange_keeps_everything_but_the_secrets() -> None:
    _, exchange, checkout_id = await asked_about({})
    sent = json.loads(exchange.request_body)
    assert (sent["BusinessShortCode"], sent["CheckoutRequestID"], sent["Password"]) == (
        PAYBILL.number,
        checkout_id,
        "[blanked]",
    )
    assert set(sent) == {"BusinessShortCode", "Password", "Timestamp", "CheckoutRequestID"}
    assert checkout_id.encode() in exchange.answer_body
    assert PHONE[-9:] not in repr(exchange)


async def test_a_token_that_died_is_refused() -> None:
    async with in_process() as (_, url), client_of(url) as client:
        answer, _ = await query(client, "no-such-token-at-all-00000000", PAYBILL, ASKED)
    assert isinstance(answer, TokenRefused)


async def test_a_refusal_that_we_have_to_mend_is_an_alarm_with_a_name() -> None:
    async with in_process() as (_, url), client_of(url) as client:
        token = await token_of(client)
        with structlog.testing.capture_logs() as lines:
            await query(client, token, replace(PAYBILL, passkey="another-passkey"), ASKED)
    told = [(line["alarm"], line["question"]) for line in lines if line["event"] == "alarm"]
    assert told == [("question_refused", "query")]


async def test_an_outage_says_nothing() -> None:
    async with in_process() as (_, url):
        pass
    async with client_of(url) as client:
        with structlog.testing.capture_logs() as lines:
            answer, exchange = await query(client, "a-token", PAYBILL, ASKED)
    assert answer == NothingLearned("NOT_CONNECTED")
    assert exchange.http_status is None
    assert [line["log_level"] for line in lines] == ["warning"]


def refused(refusal: Refusal) -> QueryAnswer:
    status, _, body = render(refusal, "request-1")
    return read_query_answer(status, {}, body, ASKED)
