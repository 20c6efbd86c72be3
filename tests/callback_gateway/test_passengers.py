"""What a passenger's browser gets from the real gateway before a real core: its own payment, and nothing of others'."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientResponse, ClientSession
from mpesa_payments.v1 import payment_service_pb2 as pb
from structlog.testing import capture_logs

from callback_gateway import passengers
from callback_gateway.passengers import PASSENGER_PATH
from payment_service.domain.payment import STATUS_OF, Payment
from payment_service.security.status_tokens import STATUS_TOKEN_LIFE, status_token
from runtime.callback_tokens import callback_path
from runtime.serving import Address, parse_address
from tests import openapi
from tests.callback_gateway.edges import (
    closed_by_gateway,
    connection,
    eventually,
    gateway,
    gateway_with,
    new_reference,
    request_bytes,
)
from tests.callback_gateway.recording_core import RecordingCore
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import Process, paid, refused, running_process, sent
from tests.sending import CALLBACK_KEYS
from tests.writers import Clock

PAGE = "https://book.example.org"


@contextlib.asynccontextmanager
async def browsing(core: Address, **settings: object) -> AsyncIterator[ClientSession]:
    """A browser before a gateway of that core."""
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(gateway_with(CALLBACK_KEYS, str(core), **settings))
        yield await stack.enter_async_context(ClientSession(f"http://{address}"))


@pytest.fixture
async def browser(process: Process) -> AsyncIterator[ClientSession]:
    async with browsing(process.server.address, passenger_origins=PAGE) as session:
        yield session


async def token_of(process: Process, payment: Payment) -> str:
    asked = pb.GetPaymentRequest(payment_id=str(payment.payment_id))
    return (await process.payments.GetPayment(asked)).status_token


def status_path(payment_id: UUID) -> str:
    return f"/api/v1/payments/{payment_id}/status"


def events_path(payment_id: UUID, token: str) -> str:
    return f"/api/v1/payments/{payment_id}/events?token={token}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def next_event(stream: ClientResponse) -> tuple[str, dict[str, object]]:
    """The id and the payment of the next event."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := await stream.content.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return fields["id"], json.loads(fields["data"])
            else:
                fields = {}
    raise AssertionError("the stream has ended")


async def ended(stream: ClientResponse) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await stream.content.read()


async def test_a_browser_sees_its_payment_and_nothing_that_names_a_person(
    process: Process, browser: ClientSession
) -> None:
    created = await process.create(metadata={"seat": "12A"}, booking_id="BK-77", phone_number="254712345678")
    payment = await process.tell(created, *sent(1), paid("TKA1B2C3D4"))
    async with browser.get(status_path(payment.payment_id), headers=bearer(await token_of(process, payment))) as reply:
        assert reply.status == 200
        assert reply.headers["Cache-Control"] == "no-store"
        text = await reply.text()
    shown = json.loads(text)
    assert shown["status"] == "COMPLETED"
    assert (shown["amount"], shown["currency"], shown["mpesa_receipt_number"]) == (500, "KES", "TKA1B2C3D4")
    assert shown["customer_message"]
    assert shown["complete_time"]
    assert shown["refund"] is None
    assert shown["masked_phone"].endswith("678")
    for hidden in ("712345678", "BK-77", "12A", payment.reference, "development"):
        assert hidden not in text


async def test_a_browser_is_told_how_to_pay_by_hand_once_the_prompt_has_failed(
    process: Process, browser: ClientSession
) -> None:
    hold = process.writers.clock.now + timedelta(minutes=10)
    payment = await process.tell(await process.create(hold_expire_at=hold), *sent(1))
    async with browser.get(events_path(payment.payment_id, await token_of(process, payment))) as stream:
        assert (await next_event(stream))[1]["pay_bill"] is None
        await process.tell(payment, refused())
        _, told = await next_event(stream)
    offer = told["pay_bill"]
    assert isinstance(offer, dict)
    assert (offer["business_number"], offer["account_number"]) == ("174379", payment.reference)
    assert datetime.fromisoformat(offer["pay_until_time"]) == hold - timedelta(minutes=1)
    openapi.check(openapi.schema_of(openapi.operation("get", "/api/v1/payments/{payment_id}/status"), 200), told)


@pytest.mark.parametrize("what", ["status", "events"])
async def test_expired_foreign_and_damaged_tokens_get_one_and_the_same_answer(
    process: Process, browser: ClientSession, what: str
) -> None:
    payment, other = await process.create(), await process.create()
    keys, clock = process.core.token_keys, process.core.clock
    good = await token_of(process, payment)
    tokens = {
        "expired": status_token(keys, payment.payment_id, clock() - STATUS_TOKEN_LIFE),
        "another payment's": await token_of(process, other),
        "damaged": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "too short": good[:-1],
        "empty": "",
        "long": "a" * 5_000,
    }
    answers = set()
    for token in tokens.values():
        async with browser.get(f"/api/v1/payments/{payment.payment_id}/{what}", headers=bearer(token)) as reply:
            headers = {name: value for name, value in reply.headers.items() if name != "Date"}
            answers.add((reply.status, str(headers), await reply.text()))
    unknown = uuid4()
    async with browser.get(
        f"/api/v1/payments/{unknown}/{what}", headers=bearer(status_token(keys, unknown, clock()))
    ) as reply:
        headers = {name: value for name, value in reply.headers.items() if name != "Date"}
        answers.add((reply.status, str(headers), await reply.text()))
    [(status, _, body)] = answers
    assert (status, json.loads(body)["error"]["reason"]) == (401, "STATUS_TOKEN_REFUSED")
    async with browser.get(f"/api/v1/payments/{payment.payment_id}/{what}", headers=bearer(good)) as reply:
        assert reply.status == 200


async def test_the_token_of_a_new_payment_ends_after_a_day(process: Process, browser: ClientSession) -> None:
    payment = await process.create()
    token, clock = await token_of(process, payment), process.core.clock
    assert isinstance(clock, Clock)
    clock.move(STATUS_TOKEN_LIFE.total_seconds())
    async with browser.get(status_path(payment.payment_id), headers=bearer(token)) as reply:
        assert reply.status == 401


async def test_a_status_token_is_not_taken_from_the_query_of_a_status(process: Process, browser: ClientSession) -> None:
    payment = await process.create()
    token = await token_of(process, payment)
    async with browser.get(f"{status_path(payment.payment_id)}?token={token}") as reply:
        assert reply.status == 401


async def test_events_begin_with_the_payment_and_go_on_with_each_change(
    process: Process, browser: ClientSession
) -> None:
    payment = await process.create()
    async with browser.get(events_path(payment.payment_id, await token_of(process, payment))) as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        event_id, told = await next_event(stream)
        assert (event_id, told["status"]) == (f"{payment.payment_id}-1", "PENDING")
        for facts in (sent(1), (paid("TKA1B2C3D4"),)):
            seen, payment = payment.version, await process.tell(payment, *facts)
            for version in range(seen + 1, payment.version + 1):
                event_id, told = await next_event(stream)
                assert (event_id, told["version"]) == (f"{payment.payment_id}-{version}", version)
            assert told["status"] == STATUS_OF[payment.state].value
        assert told["status"] == "COMPLETED"


async def test_a_browser_that_comes_back_gets_what_it_has_missed_once(process: Process, browser: ClientSession) -> None:
    payment = await process.create()
    token = await token_of(process, payment)
    async with browser.get(events_path(payment.payment_id, token)) as stream:
        seen, _ = await next_event(stream)
    payment = await process.tell(payment, *sent(1), paid("TKA1B2C3D4"))
    async with browser.get(events_path(payment.payment_id, token), headers={"Last-Event-ID": seen}) as stream:
        told = [await next_event(stream) for _ in range(payment.version - 1)]
    assert [one["version"] for _, one in told] == list(range(2, payment.version + 1))
    assert told[-1][1]["status"] == "COMPLETED"


@pytest.mark.parametrize("kind", ["another payment's", "ahead of all", "no event id"])
async def test_a_last_event_id_that_means_nothing_begins_with_the_payment_as_it_stands(
    process: Process, browser: ClientSession, kind: str
) -> None:
    other = await process.tell(await process.create(), *sent(1))
    payment = await process.tell(await process.create(), *sent(2))
    last = {
        "another payment's": f"{other.payment_id}-1",
        "ahead of all": f"{payment.payment_id}-999999999",
        "no event id": "x" * 3_000,
    }[kind]
    path = events_path(payment.payment_id, await token_of(process, payment))
    async with browser.get(path, headers={"Last-Event-ID": last}) as stream:
        _, told = await next_event(stream)
    assert (told["payment_id"], told["version"]) == (str(payment.payment_id), payment.version)


async def test_openapi_says_what_the_edge_serves(process: Process, browser: ClientSession) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid("TKA1B2C3D4"))
    token = await token_of(process, payment)
    served = {path for path in openapi.paths() if PASSENGER_PATH.fullmatch(path.format(payment_id=uuid4()))}
    assert served == {"/api/v1/payments/{payment_id}/status", "/api/v1/payments/{payment_id}/events"}
    status, events = (openapi.operation("get", path) for path in sorted(served, reverse=True))
    for given, expected in ((token, 200), ("0" * 40, 401)):
        async with browser.get(status_path(payment.payment_id), headers=bearer(given)) as reply:
            assert reply.status == expected
            openapi.check(openapi.schema_of(status, expected), await reply.json())
    async with browser.get(events_path(payment.payment_id, token)) as stream:
        assert stream.content_type in events["responses"]["200"]["content"]
        _, told = await next_event(stream)
    openapi.check(openapi.schema_of(status, 200), told)


async def test_callbacks_find_their_place_beside_as_many_streams_as_there_may_be(process: Process) -> None:
    settings = {"connections_max": 8, "passenger_streams_max": 500}
    async with browsing(process.server.address, **settings) as browser, contextlib.AsyncExitStack() as open_streams:
        for _ in range(4):
            payment = await process.create()
            path = events_path(payment.payment_id, await token_of(process, payment))
            stream = await open_streams.enter_async_context(browser.get(path))
            assert stream.status == 200
        async with browser.get(path) as reply:
            assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        for _ in range(20):
            async with browser.post(callback_path(CALLBACK_KEYS, "stk", new_reference()), data=b"{}") as reply:
                assert reply.status == 200


async def test_one_payment_has_a_few_streams_only(process: Process, browser: ClientSession) -> None:
    payment, other = await process.create(), await process.create()
    path, others = [events_path(one.payment_id, await token_of(process, one)) for one in (payment, other)]
    async with contextlib.AsyncExitStack() as open_streams:
        for _ in range(10):
            assert (await open_streams.enter_async_context(browser.get(path))).status == 200
        async with browser.get(path) as refused, browser.get(others) as stream:
            assert (refused.status, stream.status) == (503, 200)


async def test_a_browser_that_leaves_gives_its_place_back_at_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is sent to it, and the silence of the service ends no stream: only its leaving can have been noticed.
    monkeypatch.setattr(passengers, "SILENCE_MAX_S", 3_600.0)
    async with running_process(database.application_url, tmp_path, heartbeat_seconds=3_600.0) as process:
        payment = await process.create()
        path = events_path(payment.payment_id, await token_of(process, payment))
        async with browsing(process.server.address, passenger_streams_max=1) as browser:
            async with browser.get(path) as stream:
                await next_event(stream)
                stream.close()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    async with browser.get(path) as stream:
                        if stream.status == 200:
                            break
                    await asyncio.sleep(0.02)
        await eventually(lambda: not any("STREAM" in lane for lane in process.server.gate.in_hand))


async def test_a_browser_that_left_before_its_first_event_holds_no_place(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, too, the first event comes, and finds that nobody is there.
    monkeypatch.setattr(passengers, "ANSWER_TIME_S", PATIENCE_SECONDS)
    payment = await process.create()
    path = events_path(payment.payment_id, await token_of(process, payment))
    async with (
        gateway_with(CALLBACK_KEYS, str(process.server.address), passenger_streams_max=1) as address,
        connection(address) as (reader, writer),
        ClientSession(f"http://{address}") as another,
    ):
        writer.write(request_bytes("GET", path))
        writer.write_eof()
        told = await closed_by_gateway(reader)
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"data:" not in told
        async with another.get(path) as stream:
            assert stream.status == 200
            await next_event(stream)


async def test_a_gateway_that_stops_ends_its_streams(process: Process) -> None:
    payment = await process.create()
    path = events_path(payment.payment_id, await token_of(process, payment))
    stopping = contextlib.AsyncExitStack()
    address = await stopping.enter_async_context(
        gateway(str(process.server.address), header_time_s=60, body_time_s=60, forward_time_s=30)
    )
    async with ClientSession() as browser, browser.get(f"http://{address}{path}") as stream:
        await next_event(stream)
        leaving = asyncio.create_task(stopping.aclose())
        # Well before the time that a drain has for callbacks, which is minutes.
        await ended(stream)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await leaving


async def test_streams_end_with_the_service_and_a_browser_is_told_to_come_back(
    database: Database, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(running_process(database.application_url, tmp_path))
        payment = await process.create()
        token = await token_of(process, payment)
        async with browsing(process.server.address) as browser:
            async with browser.get(events_path(payment.payment_id, token)) as stream:
                await next_event(stream)
                await stack.aclose()
                await ended(stream)
            async with browser.get(events_path(payment.payment_id, token)) as stream:
                assert stream.status == 200, "a browser would give up for good"
                assert (await ended(stream)).startswith(b"retry: ")
            async with browser.get(status_path(payment.payment_id), headers=bearer(token)) as reply:
                assert (reply.status, (await reply.json())["error"]["reason"]) == (503, "TRY_AGAIN_LATER")


async def test_a_quiet_stream_says_that_it_is_there(database: Database, tmp_path: Path) -> None:
    async with running_process(database.application_url, tmp_path, heartbeat_seconds=0.05) as process:
        payment = await process.create()
        path = events_path(payment.payment_id, await token_of(process, payment))
        async with browsing(process.server.address) as browser, browser.get(path) as stream:
            await next_event(stream)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await stream.content.readuntil(b"\n\n") == b": still here\n\n"


async def test_pages_of_listed_origins_may_ask_and_others_may_not_read(
    process: Process, browser: ClientSession
) -> None:
    payment = await process.create()
    path, token = status_path(payment.payment_id), await token_of(process, payment)
    asking = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    async with browser.options(path, headers={"Origin": PAGE} | asking) as reply:
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
    async with browser.get(path, headers={"Origin": PAGE} | bearer(token)) as reply:
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
        assert reply.headers["Vary"] == "Origin"
    for origin in (f"{PAGE}.evil.test", "https://evil.test", "null"):
        async with browser.options(path, headers={"Origin": origin} | asking) as reply:
            assert (reply.status, "Access-Control-Allow-Origin" in reply.headers) == (403, False)
        async with browser.get(path, headers={"Origin": origin} | bearer(token)) as reply:
            assert "Access-Control-Allow-Origin" not in reply.headers


async def test_no_log_holds_a_token(process: Process, core: RecordingCore) -> None:
    payment = await process.create()
    token = await token_of(process, payment)
    with capture_logs() as lines:
        # A core that has no such service is the one that something would be said of.
        for address in (process.server.address, parse_address(core.address)):
            async with browsing(address) as browser:
                async with browser.get(events_path(payment.payment_id, token)) as stream:
                    if stream.status == 200:
                        await next_event(stream)
                async with browser.get(status_path(payment.payment_id), headers=bearer(token)) as reply:
                    assert reply.status in (200, 503)
                async with browser.get(f"/api/v1/payments/{payment.payment_id}/nothing?token={token}") as reply:
                    assert reply.status == 404
    assert lines
    assert token not in repr(lines)
