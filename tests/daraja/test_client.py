"""The client against a simulated Daraja, over HTTP, and the bytes it puts on the wire, read by a bare server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from daraja_simulator.settings import (
    DEVELOPMENT_CONSUMER_KEY,
    DEVELOPMENT_CONSUMER_SECRET,
    DEVELOPMENT_PASSKEY,
    SANDBOX_PASSKEY,
)
from development.slowness import slowness
from payment_service.daraja import client as client_module
from payment_service.daraja.client import DarajaClient, Exchange, open_daraja
from payment_service.daraja.push import Accepted, PushAnswer, Refused, push
from payment_service.daraja.sending import NotSent, Uncertain
from payment_service.daraja.shortcodes import PushRequest, Shortcode, ShortcodeKind
from payment_service.daraja.token import DarajaApp, TokenIssued, TokenUnavailable, fetch_token
from payment_service.daraja.transport import Timeouts
from payment_service.domain.reasons import Reason
from tests.daraja_simulator.simulators import in_process

PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY)
TILL = Shortcode("600584", ShortcodeKind.TILL, DEVELOPMENT_PASSKEY, till_number="300584")
PHONE = "254722000555"
CALLBACK_URL = "http://127.0.0.1:9/callbacks/stk/bcdf23/0a1b2c3d4e5f"
PATIENT = Timeouts(connect_seconds=5.0 * slowness(), total_seconds=15.0 * slowness())
APP = DarajaApp("app", DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET, ("174379",))
HASTY = Timeouts(connect_seconds=5.0 * slowness(), total_seconds=2.0 * slowness())


def now() -> datetime:
    return datetime.now(UTC)


def request(shortcode: Shortcode = PAYBILL, amount: int = 850) -> PushRequest:
    return PushRequest(shortcode, PHONE, amount, "BCDF2345", CALLBACK_URL, "Fare")


@asynccontextmanager
async def client_of(url: str, timeouts: Timeouts = PATIENT) -> AsyncIterator[DarajaClient]:
    async with open_daraja(url, now, push_timeouts=timeouts, token_timeouts=timeouts) as client:
        yield client


async def token_of(client: DarajaClient) -> str:
    answer, _ = await fetch_token(client, APP)
    assert isinstance(answer, TokenIssued)
    return answer.token


async def control(url: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.request("GET" if body is None else "POST", f"{url}/control/{path}", json=body) as response,
    ):
        assert response.status == 200, await response.text()
        found: dict[str, object] = await response.json()
        return found


async def scripted(behaviour: Mapping[str, object], timeouts: Timeouts = PATIENT) -> tuple[PushAnswer, Exchange, int]:
    """One push that Daraja treats so: the answer, the exchange, and how many prompts the phone was shown."""
    async with in_process() as (_, url), client_of(url, timeouts) as client:
        token = await token_of(client)
        await control(url, "faults", {"behaviour": behaviour, "count": 1})
        answer, exchange = await push(client, token, request())
        totals = (await control(url, "ledger"))["totals"]
        assert isinstance(totals, dict)
        return answer, exchange, int(totals["prompted"])


@pytest.mark.parametrize("shortcode", [PAYBILL, TILL])
async def test_a_push_is_accepted_and_the_phone_rings(shortcode: Shortcode) -> None:
    async with in_process() as (_, url), client_of(url) as client:
        answer, exchange = await push(client, await token_of(client), request(shortcode))
        ledger = await control(url, f"ledger?phone={PHONE}")
    assert isinstance(answer, Accepted)
    pushes = ledger["pushes"]
    assert isinstance(pushes, list)
    assert [(one["phone"], one["amount"], one["checkout_request_id"]) for one in pushes] == [
        (PHONE, 850, answer.checkout_request_id)
    ]
    assert (exchange.operation, exchange.http_status, exchange.classified_as) == ("push", 200, "Accepted")


async def test_an_exchange_keeps_everything_but_the_secrets() -> None:
    async with in_process() as (_, url), client_of(url) as client:
        issued, token_exchange = await fetch_token(client, APP)
        assert isinstance(issued, TokenIssued)
        answer, exchange = await push(client, issued.token, request())
    assert isinstance(answer, Accepted)
    sent = json.loads(exchange.request_body)
    assert (sent["PhoneNumber"], sent["CallBackURL"], sent["Password"]) == (PHONE, CALLBACK_URL, "[blanked]")
    assert answer.checkout_request_id.encode() in exchange.answer_body
    assert timedelta(0) < exchange.duration < timedelta(minutes=1)
    assert issued.token.encode() not in token_exchange.answer_body
    assert b"expires_in" in token_exchange.answer_body
    for secret in (
        PHONE,
        issued.token,
        SANDBOX_PASSKEY,
        DEVELOPMENT_CONSUMER_KEY,
        DEVELOPMENT_CONSUMER_SECRET,
        "0a1b2c3d4e5f",
        answer.checkout_request_id,
    ):
        assert secret not in repr((issued, token_exchange, answer, exchange, request(), PAYBILL, client, APP))


async def test_wrong_credentials_bring_no_token_and_an_alarm() -> None:
    async with in_process() as (_, url), client_of(url) as client:
        with structlog.testing.capture_logs() as lines:
            answer, exchange = await fetch_token(client, replace(APP, consumer_secret="wrong"))
    assert isinstance(answer, TokenUnavailable)
    assert answer.alarm is not None
    assert exchange.classified_as == f"TokenUnavailable {answer.code}"
    # A slow machine may warn of other things beside it.
    assert [line["alarm"] for line in lines if line["log_level"] == "error"] == [answer.alarm.name]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("invalid_access_token", NotSent("404.001.03", token_refused=True)),
        ("no_apiproduct_match", NotSent("401.002.01", token_refused=True)),
        ("subscriber_locked", Refused("500.001.1001", Reason.PHONE_BUSY)),
        ("no_iccid", Refused("500.001.1001", Reason.NOT_AN_MPESA_NUMBER)),
        ("maintenance", NotSent("500.002.1001")),
        ("spike_arrest", NotSent("500.003.02", retry_after=timedelta(seconds=2))),
    ],
)
async def test_a_named_refusal_is_told_apart_and_shows_no_prompt(error: str, expected: PushAnswer) -> None:
    answer, _, prompted = await scripted({"error": error})
    assert (answer, prompted) == (expected, 0)


@pytest.mark.parametrize(
    "error", ["system_busy", "internal_error", "unknown_text", "bad_gateway_502", "unreadable_200"]
)
async def test_what_may_hide_a_prompt_is_uncertain(error: str) -> None:
    answer, _, prompted = await scripted({"error": error, "prompts": True})
    assert isinstance(answer, Uncertain)
    assert prompted == 1


@pytest.mark.parametrize("lost", ["lost", "reset", "cut_header", "cut_body"])
async def test_an_answer_lost_on_the_way_is_uncertain_and_not_sent_again(lost: str) -> None:
    answer, exchange, prompted = await scripted({"answer": lost})
    assert isinstance(answer, Uncertain)
    assert prompted == 1
    assert exchange.classified_as.startswith("Uncertain: ")


async def test_silence_is_uncertain() -> None:
    answer, exchange, prompted = await scripted({"answer_delay_seconds": 30}, HASTY)
    assert answer == Uncertain("NO_ANSWER_IN_TIME")
    assert (exchange.http_status, prompted) == (None, 1)


async def test_an_outage_is_not_sent() -> None:
    async with in_process() as (_, url):
        pass
    async with client_of(url) as client:
        answer, exchange = await push(client, "a-token", request())
        token, _ = await fetch_token(client, APP)
    assert answer == NotSent("NOT_CONNECTED")
    assert token == TokenUnavailable("NOT_CONNECTED")
    assert (exchange.http_status, exchange.answer_body) == (None, b"")


async def test_from_send_before_on_nothing_leaves() -> None:
    async with in_process() as (_, url), client_of(url) as client:
        token = await token_of(client)
        answer, _ = await push(client, token, request(), send_before=now() - timedelta(seconds=1))
        assert answer == NotSent("TOO_LATE_TO_SEND")
        assert (await control(url, "ledger"))["pushes"] == []
        answer, _ = await push(client, token, request(), send_before=now() + timedelta(minutes=1))
        assert isinstance(answer, Accepted)


async def test_a_refusal_that_we_have_to_mend_is_logged_with_what_to_check() -> None:
    with structlog.testing.capture_logs() as lines:
        answer, _, _ = await scripted({"error": "wrong_credentials"})
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.SERVICE_MISCONFIGURED
    assert [(line["log_level"], "clock" in line["check"]) for line in lines] == [("error", True)]
    assert PHONE not in str(lines)


# The bytes.


async def heard_by_a_bare_server(shortcode: Shortcode, clock: datetime) -> tuple[bytes, dict[str, object]]:
    heard = bytearray()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        heard.extend(head + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(heard), heard))
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_daraja(f"http://127.0.0.1:{port}/", lambda: clock) as client:
        _, exchange = await push(client, "the-token", request(shortcode))
    server.close()
    # The server has sent back what it heard, as a gateway on the way might do in an error page.
    assert exchange.answer_body == bytes(heard).replace(b"the-token", b"[blanked]")
    head, _, body = bytes(heard).partition(b"\r\n\r\n")
    fields: dict[str, object] = json.loads(body)
    return head, fields


async def test_the_password_is_made_of_the_very_timestamp_beside_it_in_nairobis_time() -> None:
    # Half past ten in the evening, UTC: in Nairobi the next day has begun.
    _, fields = await heard_by_a_bare_server(PAYBILL, datetime(2026, 12, 31, 22, 30, 5, tzinfo=UTC))
    assert fields["Timestamp"] == "20270101013005"
    assert base64.b64decode(str(fields["Password"])).decode() == f"174379{SANDBOX_PASSKEY}20270101013005"


@pytest.mark.parametrize(
    ("shortcode", "kind", "paid_to"),
    [(PAYBILL, "CustomerPayBillOnline", "174379"), (TILL, "CustomerBuyGoodsOnline", "300584")],
)
async def test_a_paybill_and_a_till_are_asked_for_in_their_own_shape(
    shortcode: Shortcode, kind: str, paid_to: str
) -> None:
    head, fields = await heard_by_a_bare_server(shortcode, now())
    assert head.startswith(b"POST /mpesa/stkpush/v1/processrequest HTTP/1.1\r\n")
    assert {name: value for name, value in fields.items() if name not in ("Password", "Timestamp")} == {
        "BusinessShortCode": shortcode.number,
        "TransactionType": kind,
        "Amount": 850,
        "PartyA": PHONE,
        "PartyB": paid_to,
        "PhoneNumber": PHONE,
        "CallBackURL": CALLBACK_URL,
        "AccountReference": "BCDF2345",
        "TransactionDesc": "Fare",
    }


# The trace.


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(client_module, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


async def test_a_span_tells_of_the_call_and_safaricom_hears_nothing_of_it(spans: InMemorySpanExporter) -> None:
    head, _ = await heard_by_a_bare_server(PAYBILL, now())
    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind) == ("POST /mpesa/stkpush/v1/processrequest", trace.SpanKind.CLIENT)
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.response.status_code"] == 200
    assert (attributes["server.address"], attributes["url.template"]) == (
        "127.0.0.1",
        "/mpesa/stkpush/v1/processrequest",
    )
    assert PHONE not in str(attributes)
    assert b"the-token" in head
    assert "the-token" not in str(attributes)
    assert b"trace" not in head.lower()


async def test_a_failed_call_says_so_in_its_span(spans: InMemorySpanExporter) -> None:
    await scripted({"answer": "lost"})
    span = spans.get_finished_spans()[-1]
    assert (span.attributes or {})["error.type"] == "CONNECTION_LOST"
    assert not span.status.is_ok


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "127.0.0.1:8070", "http://", "https://user:word@host", "http://h?a=1"]
)
async def test_a_base_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="expected http"):
        async with client_of(url):
            pass
