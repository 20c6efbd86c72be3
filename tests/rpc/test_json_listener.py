"""Payments asked for as JSON, by a real client of the real listener before a real core: the same rules as over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from aiohttp import ClientConnectionError, ClientSession
from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from structlog.testing import capture_logs

from development.certificates import BOOKING, NOTIFICATION, Certificates
from payment_service.application.recording.record_facts import Submission
from payment_service.rpc import json_listener
from payment_service.rpc.identity import PlaintextRefused
from payment_service.rpc.json_listener import INITIATE_PATH, json_listening
from payment_service.rpc.json_replies import HTTP_STATUS
from payment_service.rpc.json_requests import FIELDS
from runtime.serving import Address, AddressTaken
from tests import openapi
from tests.certificates import AGENCY, certificates_in, door_of
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.answers import refusal_of
from tests.rpc.processes import LOOPBACK, Process, paid, refused, running_process, sent

PHONE = "0712 345 678"


def a_booking(**changed: object) -> dict[str, object]:
    return {"booking_id": f"BK-{uuid4().hex[:12]}", "phone_number": PHONE, "amount": 500} | changed


@pytest.fixture
async def client(process: Process) -> AsyncIterator[ClientSession]:
    async with contextlib.AsyncExitStack() as stack:
        listener = json_listening(process.core, process.server.gate, LOOPBACK, setting="--json")
        address = await stack.enter_async_context(listener)
        yield await stack.enter_async_context(ClientSession(f"http://{address}"))


async def ask(client: ClientSession, body: object, key: str | None = None) -> tuple[int, dict[str, Any]]:
    headers = {"Idempotency-Key": key} if key is not None else {}
    given = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with client.post(INITIATE_PATH, headers=headers, **given) as reply:
        return reply.status, await reply.json()


async def fields_of(client: ClientSession, body: object) -> dict[str, str]:
    status, answer = await ask(client, body, "r-1")
    assert (status, answer["error"]["reason"]) == (400, "INVALID_REQUEST"), answer
    return {one["field"]: one["description"] for one in answer["error"]["fields"]}


async def test_a_payment_asked_for_as_json_is_the_payment_that_grpc_shows(
    process: Process, client: ClientSession
) -> None:
    wanted = {"metadata": {"seat": "12A"}, "language_code": "sw", "hold_expire_time": "2027-05-01T08:00:00Z"}
    status, answer = await ask(client, a_booking(**wanted, late_payment_policy="CONFIRM"), "order-1")
    assert (status, answer["replayed"]) == (201, False)
    shown = answer["payment"]
    found = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=shown["payment_id"]))).payment
    assert (found.reference, found.booking_id, found.amount.units) == (shown["reference"], shown["booking_id"], 500)
    assert (shown["status"], shown["metadata"]) == ("PENDING", {"seat": "12A"})
    assert len(answer["status_token"]) == 40
    assert "712345" not in str(answer)


async def test_a_key_makes_a_repetition_safe_and_is_shared_with_grpc(process: Process, client: ClientSession) -> None:
    body = a_booking()
    first, again = await ask(client, body, "order-1"), await ask(client, body | {"amount": "500.00"}, "order-1")
    assert (first[0], again[0], again[1]["replayed"]) == (201, 200, True)
    assert first[1]["payment"]["payment_id"] == again[1]["payment"]["payment_id"]
    over_grpc = await process.payments.InitiatePayment(
        pb.InitiatePaymentRequest(
            request_id="order-1",
            booking_id=str(body["booking_id"]),
            phone_number="+254712345678",
            amount=money_pb2.Money(currency_code="KES", units=500),
        )
    )
    assert over_grpc.replayed
    status, answer = await ask(client, body | {"amount": 600}, "order-1")
    assert (status, answer["error"]["reason"]) == (409, "REQUEST_ID_REUSED")
    assert answer["error"]["metadata"]["fields"] == "amount"


async def test_a_repetition_is_told_how_to_pay_by_hand_once_the_prompt_has_failed(
    process: Process, client: ClientSession
) -> None:
    hold = process.writers.clock.now + timedelta(minutes=10)
    body = a_booking(hold_expire_time=hold.isoformat())
    _, first = await ask(client, body, "order-1")
    assert first["payment"]["pay_bill"] is None
    for fact in (*sent(1), refused()):
        await process.writers.facts.submit(Submission(fact, UUID(first["payment"]["payment_id"])))
    status, again = await ask(client, body, "order-1")
    offer = again["payment"]["pay_bill"]
    assert (offer["business_number"], offer["account_number"]) == ("174379", first["payment"]["reference"])
    assert datetime.fromisoformat(offer["pay_until_time"]) == hold - timedelta(minutes=1)
    operation = openapi.operation("post", INITIATE_PATH)
    openapi.check(openapi.schema_of(operation, status), again)


async def test_without_a_key_a_live_identical_payment_is_answered(
    process: Process, client: ClientSession, database: Database
) -> None:
    body = a_booking()
    answers = await asyncio.gather(*(ask(client, body) for _ in range(4)))
    assert {answer["payment"]["payment_id"] for _, answer in answers} == {answers[0][1]["payment"]["payment_id"]}
    assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
    assert await rows_of(database, "SELECT count(*) FROM payment_transactions") == [(1,)]
    for other in ({"amount": 600}, {"phone_number": "0722000000"}, {"description": "Another"}):
        status, answer = await ask(client, body | other)
        assert (status, answer["error"]["reason"]) == (409, "BOOKING_HAS_LIVE_PAYMENT")
        assert answer["error"]["customer_message"]


async def test_without_a_key_a_payment_that_is_paid_is_not_answered_as_if_it_were_asked_for(
    process: Process, client: ClientSession
) -> None:
    payment = await process.create()
    await process.tell(payment, *sent(1), paid("TKA1B2C3D4"))
    status, answer = await ask(client, a_booking(booking_id=payment.booking_id))
    assert (status, answer["error"]["metadata"]["status"]) == (409, "COMPLETED")


@pytest.mark.parametrize("amount", ["500", "500.0", "500.00", "5e2", '"500"', '"500.00"', "500.000000000000"])
async def test_amounts_are_read_exactly(client: ClientSession, amount: str) -> None:
    body = f'{{"booking_id": "B-{uuid4().hex}", "phone_number": "0712345678", "amount": {amount}}}'
    status, answer = await ask(client, body.encode(), str(uuid4()))
    assert (status, answer["payment"]["amount"]) == (201, 500)


@pytest.mark.parametrize(
    ("amount", "field"),
    [
        ("499.99", "amount.nanos"),
        ("499.999999999999999999999", "amount.nanos"),
        ("500.0000000000001", "amount.nanos"),
        ("0.001", "amount.nanos"),
        ("1e-400000000", "amount.nanos"),
        ("0", "amount.units"),
        ("-500", "amount.units"),
        ("1e400000000", "amount"),
        ("1" * 400, "amount"),
        ('"five hundred"', "amount"),
        ('"5_00"', "amount"),
        ('"NaN"', "amount"),
        ("true", "amount"),
        ("null", "amount"),
        ("[500]", "amount"),
    ],
)
async def test_an_amount_that_is_not_whole_shillings_is_refused(client: ClientSession, amount: str, field: str) -> None:
    body = f'{{"booking_id": "B-1", "phone_number": "0712345678", "amount": {amount}}}'
    assert field in await fields_of(client, body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"NaN",
        b'{"amount": Infinity}',
        b'{"booking_id": "B-1", "booking_id": "B-2"}',
        b'{"booking_id": "\xff"}',
        b"[" * 60_000,
        b'{"booking_id": "' + b"x" * 70_000 + b'"}',
    ],
)
async def test_what_is_no_json_object_is_refused_in_a_sentence(client: ClientSession, body: bytes) -> None:
    assert set(await fields_of(client, body)) == {"request"}


async def test_field_errors_are_those_of_grpc_and_all_at_once(process: Process, client: ClientSession) -> None:
    bad = {"booking_id": "", "phone_number": "12", "account_reference": "too long for it", "shortcode": "1"}
    answered = await fields_of(client, bad | {"amount": 500, "late_payment_policy": "MAYBE"})
    message = pb.InitiatePaymentRequest(request_id="r-1", late_payment_policy=99, **bad)  # type: ignore[arg-type]  # the fields are those of the message
    message.amount.CopyFrom(money_pb2.Money(currency_code="KES", units=500))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await process.payments.InitiatePayment(message)
    assert answered == refusal_of(refused.value).fields
    # What only JSON can get wrong stands beside what both can.
    mixed = await fields_of(client, {"booking_id": 5, "phone_number": "12", "metadata": {"seat": 12}, "amout": 1})
    assert {"booking_id", "phone_number", "metadata", "amout", "amount"} <= set(mixed)
    assert "expected text" in mixed["booking_id"]
    assert set(await fields_of(client, a_booking(hold_expire_time="tomorrow"))) == {"hold_expire_time"}


async def test_a_key_that_is_no_request_id_is_refused(client: ClientSession) -> None:
    for key in ("", "two words", "x" * 65):
        status, answer = await ask(client, a_booking(), key)
        assert (status, answer["error"]["fields"][0]["field"]) == (400, "request_id")


async def test_half_of_a_character_is_a_bad_field(client: ClientSession) -> None:
    half = "\ud83d"
    for field in ("booking_id", "description", "language_code"):
        assert field in await fields_of(client, a_booking(**{field: half}))
    for metadata in ({"seat": half}, {half: "12A"}):
        assert set(await fields_of(client, a_booking(metadata=metadata))) == {"metadata"}
    assert half in await fields_of(client, a_booking(**{half: "x"}))
    for field in ("amount", "hold_expire_time", "late_payment_policy"):
        assert len(await fields_of(client, a_booking(**{field: half}))) == 1


async def raw_answer(process: Process, *parts: bytes, half_closed: bool = False) -> bytes:
    """What is answered to these bytes."""
    reader, writer = await asyncio.open_connection(process.json_address.host, process.json_address.port)
    writer.write(b"POST " + INITIATE_PATH.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
    writer.write(b"".join(parts))
    if half_closed:
        writer.write_eof()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()
    finally:
        writer.close()


async def test_a_key_that_is_no_text_is_a_bad_request_id(process: Process) -> None:
    answer = await raw_answer(process, b"Idempotency-Key: \xff\r\nContent-Length: 2\r\n\r\n{}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"request_id"' in answer


async def test_a_client_that_leaves_or_sends_broken_chunks_is_no_fault_of_ours(process: Process) -> None:
    with capture_logs() as logs:
        chunked = b'Transfer-Encoding: chunked\r\n\r\n4\r\n{"am\r\nthis is no chunk\r\n'
        assert not (await raw_answer(process, chunked)).startswith(b"HTTP/1.1 5")
        await raw_answer(process, b"Content-Length: 100\r\n\r\n{", half_closed=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while process.server.gate.in_hand:
                await asyncio.sleep(0.01)
    assert [line for line in logs if line["event"] == "alarm"] == []


async def test_a_body_that_is_slow_to_come_may_be_sent_again(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_listener, "MESSAGE_WAIT_SECONDS", 0.05)
    answer = await raw_answer(process, b"Content-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b'"TOO_MANY_REQUESTS"' in answer
    assert b'"sending"' in answer


async def test_both_listeners_drain_at_once_and_finish_what_is_in_hand(database: Database, tmp_path: Path) -> None:
    body = json.dumps(a_booking()).encode()
    stop, running = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with running_process(database.application_url, tmp_path, drain_seconds=PATIENCE_SECONDS) as process:
            running.set_result(process)
            await stop.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(run())
        process: Process = await running
        reader, writer = await asyncio.open_connection(process.json_address.host, process.json_address.port)
        head = f"POST {INITIATE_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:5])
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not process.server.gate.in_hand:
                await asyncio.sleep(0.01)
            stop.set()
            while not process.server.gate.draining:
                await asyncio.sleep(0.01)
            async with ClientSession(f"http://{process.json_address}") as client:
                status, answer = await ask(client, a_booking())
            assert (status, answer["error"]["reason"]) == (503, "SERVICE_DRAINING")
            writer.write(body[5:])
            assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()


async def test_openapi_says_what_is_served(process: Process, client: ClientSession) -> None:
    operation = openapi.operation("post", INITIATE_PATH)
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(openapi.resolved(schema)["properties"]) == set(FIELDS)
    body = a_booking(metadata={"seat": "1"}, late_payment_policy="REVIEW", language_code="sw")
    openapi.check(schema, body)
    for asked, key, expected in (
        (body, "one", 201),
        (body, "one", 200),
        ({}, "two", 400),
        (body, "three", 409),
    ):
        status, answer = await ask(client, asked, key)
        assert status == expected
        openapi.check(openapi.schema_of(operation, status), answer)
    openapi.check(openapi.schema_of(operation, 400), {"error": {"reason": "X"}}, fits=False)
    assert {int(status) for status in operation["responses"]} - {200, 201} <= set(HTTP_STATUS.values())


async def test_a_drained_process_answers_when_to_come_again(process: Process, client: ClientSession) -> None:
    process.server.gate.draining = True
    async with client.post(INITIATE_PATH, json=a_booking()) as reply:
        assert (reply.status, (await reply.json())["error"]["reason"]) == (503, "SERVICE_DRAINING")
        assert int(reply.headers["Retry-After"]) >= 1


async def test_a_taken_port_and_plaintext_for_others_are_one_sentence(process: Process) -> None:
    taken = process.server.address
    with pytest.raises(AddressTaken, match=f"Port {taken.port}.*--json"):
        async with json_listening(process.core, process.server.gate, taken, setting="--json"):
            pass
    with pytest.raises(PlaintextRefused):
        async with json_listening(process.core, process.server.gate, Address("0.0.0.0", 0), setting="--json"):
            pass


@contextlib.asynccontextmanager
async def secured(database: Database, folder: Path) -> AsyncIterator[tuple[Process, Certificates, str]]:
    """A process behind its door, and the URL of its listener."""
    certificates = certificates_in(folder)
    async with (
        running_process(database.application_url, folder, door=door_of(certificates)) as process,
        json_listening(process.core, process.server.gate, LOOPBACK, setting="--json") as address,
    ):
        yield process, certificates, f"https://localhost:{address.port}"


def shown(certificates: Certificates, caller: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificates.content(BOOKING).authority.decode())
    if caller is not None:
        context.load_cert_chain(certificates.certificate(caller), certificates.key(caller))
    return context


async def test_a_caller_is_who_its_certificate_says(database: Database, tmp_path: Path) -> None:
    async with secured(database, tmp_path) as (_, certificates, url):
        for caller, expected in ((BOOKING, 201), (AGENCY, 201), (NOTIFICATION, 403)):
            async with (
                ClientSession(url) as client,
                client.post(
                    INITIATE_PATH, json=a_booking(), headers={"Idempotency-Key": "one"}, ssl=shown(certificates, caller)
                ) as reply,
            ):
                assert reply.status == expected, caller
        callers = await rows_of(database, "SELECT caller FROM payment_transactions ORDER BY caller")
        assert callers == [(AGENCY,), (BOOKING,)]


async def test_nobody_is_answered_without_a_certificate_or_in_plaintext(database: Database, tmp_path: Path) -> None:
    async with secured(database, tmp_path) as (_, certificates, url):
        for target, context in ((url, shown(certificates, None)), (url.replace("https", "http"), None)):
            async with ClientSession(target) as client:
                with pytest.raises(ClientConnectionError):
                    async with client.post(INITIATE_PATH, json=a_booking(), ssl=context or False) as reply:
                        await reply.read()
        assert await rows_of(database, "SELECT count(*) FROM payment_transactions") == [(0,)]
