"""STK query: what became of a push, from "Daraja: M-Pesa Express Query" and recorded answers.

A query is asked again and again, so only one thing has to be right: nothing but a result counts as one. Daraja says
"not yet" in five ways, two of which look like refusals, and answers nonsense at times; all of that is no news, and
the next query asks the same. What a result code means stands in `result_codes`, for callbacks and queries alike.

An answer names neither amount nor receipt. One that is about another push, by either of its ids, says nothing here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import assert_never

import structlog

from payment_service.alarms import QUESTION_REFUSED
from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.envelopes import (
    NothingLearned,
    error_in,
    is_edge_page,
    learned,
    lenient_json,
    retry_after,
    unlisted_error,
)
from payment_service.daraja.push import express_credentials
from payment_service.daraja.refusals import (
    EDGE_ALARM,
    EDGE_REFUSED_CODE,
    RATE_LIMITED_CODE,
    Kind,
    find_refusal,
    normalise,
)
from payment_service.daraja.result_codes import Meaning, meaning_of, read_code
from payment_service.daraja.shortcodes import Shortcode
from payment_service.domain.facts import Verdict
from runtime.alarms import raise_alarm

QUERY_PATH = "/mpesa/stkpushquery/v1/query"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class QueriedPush:
    """The push that is asked about."""

    checkout_request_id: str = field(repr=False)
    merchant_request_id: str | None
    """None where it is not known."""


@dataclass(frozen=True, slots=True)
class Told:
    """A result, listed or not."""

    code: str
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class NotYet:
    """The payment is on its way, or Daraja has not heard of it yet."""

    how: str


@dataclass(frozen=True, slots=True)
class TooFast:
    """We ask too often."""

    code: str
    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """The token has to be renewed; with the new one the same may be asked at once."""

    code: str


QueryAnswer = Told | NotYet | NothingLearned | TooFast | TokenRefused

_NOT_YET = frozenset(
    {
        ("500.001.1001", "the transaction is being processed"),
        # Asked too early; or Daraja has forgotten it, which proves nothing either.
        ("500.001.1001", "the transaction does not exist"),
        ("400.002.02", "bad request - invalid checkoutrequestid"),
    }
)
"""Code and normalised text of the errors that mean "not yet"; so does any error without a text."""


async def query(
    client: DarajaClient, token: str, shortcode: Shortcode, asked: QueriedPush
) -> tuple[QueryAnswer, Exchange]:
    """Ask once what became of a push. Asking changes nothing, so it may be cancelled, and asked again at any time."""
    answer, classified = await post(
        client,
        token,
        "query",
        QUERY_PATH,
        express_credentials(shortcode, client.clock()) | {"CheckoutRequestID": asked.checkout_request_id},
        secret="Password",
        timeouts=client.query_timeouts,
    )
    said = learned(answer, partial(read_query_answer, asked=asked))
    if isinstance(said, NothingLearned):
        _log.warning("query unanswered", answer=said.code, http_status=answer.status)
        if said.alarm is not None:
            raise_alarm(QUESTION_REFUSED, question="query", answer=said.code, check=said.alarm)
    return said, classified(_query_name(said))


def _query_name(answer: QueryAnswer) -> str:
    match answer:
        case Told(code=code) | TooFast(code=code) | TokenRefused(code=code):
            return f"{type(answer).__name__} {code}"
        case NotYet(how=how):
            return f"NotYet {how}"
        case NothingLearned(code=code):
            return f"NothingLearned: {code}"
        case _:
            assert_never(answer)


def read_query_answer(status: int, headers: Mapping[str, str], body: bytes, asked: QueriedPush) -> QueryAnswer:
    """What the answer to a query for this push says. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    if isinstance(value, dict):
        error = error_in(value)
        if error is not None:
            return _read_error(status, headers, *error)
        if status == 200:
            return _read_result(value, asked)
    if status == 429:
        return TooFast(RATE_LIMITED_CODE, retry_after(headers))
    if value is None and is_edge_page(status, body):
        return NothingLearned(EDGE_REFUSED_CODE, alarm=EDGE_ALARM)
    return NothingLearned(f"HTTP {status} with an unreadable body")


def _read_error(status: int, headers: Mapping[str, str], code: str, text: str) -> QueryAnswer:
    if status == 429:
        return TooFast(code, retry_after(headers))
    if not normalise(text) or (code, normalise(text)) in _NOT_YET:
        return NotYet(code)
    row = find_refusal(code, text)
    if row is None:
        return NothingLearned(unlisted_error(status, code))
    if row.kind is Kind.TOKEN_REFUSED:
        return TokenRefused(row.code)
    if row.slow_down:
        return TooFast(row.code, retry_after(headers))
    return NothingLearned(row.code, alarm=row.alarm)


def _read_result(value: dict[str, object], asked: QueriedPush) -> QueryAnswer:
    accepted = value.get("ResponseCode")
    if accepted != "0" and not (type(accepted) is int and accepted == 0):
        return NothingLearned("a ResponseCode that is not 0")
    if value.get("CheckoutRequestID", asked.checkout_request_id) != asked.checkout_request_id:
        return NothingLearned("the answer is about another CheckoutRequestID")
    merchant = value.get("MerchantRequestID")
    if asked.merchant_request_id is not None and merchant not in (None, "", asked.merchant_request_id):
        return NothingLearned("the answer is about another MerchantRequestID")
    code = read_code(value.get("ResultCode"))
    if code is None:
        return NothingLearned("no readable ResultCode")
    meaning = meaning_of(code)
    return NotYet(code) if meaning.verdict is Verdict.STILL_PROCESSING else Told(code, meaning)
