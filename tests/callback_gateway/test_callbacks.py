"""What the edge answers: 200 only for what the core has committed, one 404 for all that is not a callback of ours."""

import asyncio
import re
from pathlib import Path

import pytest
from mpesa_payments.v1 import callback_service_pb2 as pb
from structlog.testing import capture_logs

from callback_gateway.edge import ACCEPTED_BODY, UnknownKeys
from runtime.callback_tokens import CallbackKeys, callback_path, callback_token
from tests.callback_gateway import spools
from tests.callback_gateway.edges import (
    FORWARD_TIME_S,
    KEYS,
    closed_by_gateway,
    connection,
    eventually,
    gateway,
    good_path,
    new_reference,
    post,
    read_reply,
    request_bytes,
    send,
)
from tests.callback_gateway.recording_core import RecordingCore, serve_core
from tests.patience import PATIENCE_SECONDS

# Those that are tried again until their time is over.
NOT_FINAL = {pb.CALLBACK_OUTCOME_NOT_STORED, pb.CALLBACK_OUTCOME_UNSPECIFIED}
TOLD = {
    pb.CALLBACK_OUTCOME_STORED: 200,
    pb.CALLBACK_OUTCOME_TOKEN_REFUSED: 404,
    pb.CALLBACK_OUTCOME_NOT_STORED: 503,
    pb.CALLBACK_OUTCOME_UNSPECIFIED: 503,
}


@pytest.mark.parametrize(("kind", "named"), [("stk", pb.CALLBACK_KIND_STK), ("result", pb.CALLBACK_KIND_RESULT)])
async def test_a_callback_is_forwarded_as_it_came_and_accepted_once_stored(
    core: RecordingCore, edge: str, kind: str, named: pb.CallbackKind.ValueType
) -> None:
    reference = new_reference()
    token = callback_token(KEYS, kind, reference)
    reply = await post(edge, f"/callbacks/{kind}/{reference}/{token}", b'{"Body": \xff\x00 not even JSON')
    assert (reply.status, reply.body) == (200, b'{"ResultCode":0,"ResultDesc":"Accepted"}')
    assert b"application/json" in reply.header
    [[callback]] = core.calls
    assert (callback.kind, callback.reference, callback.token) == (named, reference, token)
    assert callback.body == b'{"Body": \xff\x00 not even JSON'
    assert callback.source_address == "127.0.0.1"
    assert callback.receive_time.seconds > 1_700_000_000


@pytest.mark.parametrize("outcome", TOLD)
async def test_the_answer_says_what_the_core_made_of_it(core: RecordingCore, outcome: int) -> None:
    core.outcome = lambda _: outcome
    forward_time_s = 0.5 if outcome in NOT_FINAL else FORWARD_TIME_S
    async with gateway(core.address, forward_time_s=forward_time_s) as edge:
        reply = await post(edge, good_path())
    assert reply.status == TOLD[pb.CallbackOutcome.ValueType(outcome)]
    assert (reply.body == ACCEPTED_BODY) is (reply.status == 200)


async def test_what_could_not_be_stored_at_first_is_offered_again(edge: str, core: RecordingCore) -> None:
    outcomes = iter([pb.CALLBACK_OUTCOME_NOT_STORED, pb.CALLBACK_OUTCOME_STORED])
    core.outcome = lambda _: next(outcomes)
    assert (await post(edge, good_path(), b"again")).status == 200
    assert core.bodies == [b"again", b"again"]


async def test_no_answer_comes_before_the_core_has_stored_the_callback(edge: str, core: RecordingCore) -> None:
    core.may_answer.clear()
    async with connection(edge) as (reader, writer):
        writer.write(request_bytes("POST", good_path(), b"{}"))
        await eventually(lambda: len(core.calls) == 1)
        reply = asyncio.create_task(read_reply(reader))
        assert await asyncio.wait({reply}, timeout=0.1) == (set(), {reply})
        core.may_answer.set()
        assert (await reply).status == 200


async def test_everything_unknown_gets_the_same_404_to_the_byte(edge: str, core: RecordingCore) -> None:
    reference = new_reference()
    token = callback_token(KEYS, "stk", reference)
    good = f"/callbacks/stk/{reference}/{token}"
    wrong = [
        ("POST", f"/callbacks/stk/{reference}/{'0' * 34}"),
        ("POST", f"/callbacks/stk/{reference}/{token[:-1]}{'0' if token[-1] != '0' else '1'}"),
        ("POST", f"/callbacks/stk/{reference}/{token.upper()}"),
        ("POST", f"/callbacks/stk/{new_reference()}/{token}"),
        ("POST", f"/callbacks/result/{reference}/{token}"),
        ("POST", f"/callbacks/stk/{reference}"),
        ("POST", good + "/"),
        ("POST", good + "?x=1"),
        ("POST", good.replace("stk", "%73tk")),
        ("POST", good.replace("stk", "result")),
        ("GET", good),
        ("PUT", good),
        ("DELETE", good),
        ("OPTIONS", good),
        ("POST", "/healthz"),
        ("GET", "/"),
        ("GET", "/metrics"),
    ]
    replies = set()
    for method, path in wrong:
        reply = await send(edge, request_bytes(method, path, b"{}"))
        replies.add((reply.status, re.sub(rb"Date: [^\r]*", b"Date:", reply.header), reply.body))
    assert [status for status, _, _ in replies] == [404]
    assert core.calls == []
    assert (await post(edge, good)).status == 200


@pytest.mark.parametrize("origin", ["http://edge", "HTTPS://pay.example.com:8443"])
async def test_a_target_that_is_a_whole_address_is_served_as_its_path(
    edge: str, core: RecordingCore, origin: str
) -> None:
    assert (await send(edge, request_bytes("POST", origin + good_path(), b"{}"))).status == 200
    assert (await send(edge, request_bytes("GET", f"{origin}/healthz"))).status == 200
    assert len(core.calls) == 1


async def test_a_bad_token_is_refused_before_the_body_is_sent(edge: str, core: RecordingCore) -> None:
    async with connection(edge) as (reader, writer):
        writer.write(request_bytes("POST", f"/callbacks/stk/{new_reference()}/{'a1' + '0' * 32}", b"x" * 9)[:-9])
        assert (await read_reply(reader)).status == 404
    assert core.calls == []


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to(edge: str, core: RecordingCore) -> None:
    head = request_bytes("POST", good_path(), b"asked first", "Expect: 100-continue").removesuffix(b"asked first")
    async with connection(edge) as (reader, writer):
        writer.write(head)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"asked first")
        assert (await read_reply(reader)).status == 200
    assert core.bodies == [b"asked first"]


@pytest.mark.parametrize(("token", "length", "status"), [(False, 9, 404), (True, 65_537, 413)])
async def test_a_client_that_asks_is_not_told_to_send_what_is_refused(
    edge: str, core: RecordingCore, token: bool, length: int, status: int
) -> None:
    path = good_path() if token else f"/callbacks/stk/{new_reference()}/{'a1' + '0' * 32}"
    async with connection(edge) as (reader, writer):
        writer.write(request_bytes("POST", path, b"x" * length, "Expect: 100-continue")[:-length])
        assert (await read_reply(reader)).status == status
    assert core.calls == []


async def test_an_announced_huge_body_is_refused_before_it_is_sent(edge: str, core: RecordingCore) -> None:
    async with connection(edge) as (reader, writer):
        writer.write(f"POST {good_path()} HTTP/1.1\r\nHost: edge\r\nContent-Length: 65537\r\n\r\n".encode())
        assert (await read_reply(reader)).status == 413
        assert await closed_by_gateway(reader) == b""
    assert core.calls == []


async def test_a_huge_body_without_a_length_is_refused_at_the_limit(edge: str, core: RecordingCore) -> None:
    async with connection(edge) as (reader, writer):
        writer.write(f"POST {good_path()} HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(17):
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert (await read_reply(reader)).status == 413
    assert core.calls == []


async def test_the_largest_allowed_body_arrives_whole_and_a_packed_one_stays_packed(
    edge: str, core: RecordingCore
) -> None:
    largest = bytes(range(256)) * 256
    assert (await post(edge, good_path(), largest)).status == 200
    packed = b"\x1f\x8b\x08\x00 not really gzip"
    reply = await send(edge, request_bytes("POST", good_path(), packed, "Content-Encoding: gzip"))
    assert reply.status == 200
    assert (await post(edge, good_path(), b"")).status == 200
    assert core.bodies == [largest, packed, b""]


async def test_requests_on_one_connection_are_answered_in_turn(edge: str, core: RecordingCore) -> None:
    async with connection(edge) as (reader, writer):
        for number in range(3):
            writer.write(request_bytes("POST", good_path(), b"%d" % number))
            assert (await read_reply(reader)).status == 200
        writer.write(b"".join(request_bytes("POST", good_path(), b"p%d" % number) for number in range(5)))
        assert [(await read_reply(reader)).status for _ in range(5)] == [200] * 5
    assert core.bodies == [b"0", b"1", b"2", b"p0", b"p1", b"p2", b"p3", b"p4"]


async def test_what_is_not_http_is_answered_without_repeating_it(edge: str) -> None:
    async with connection(edge) as (reader, writer):
        writer.write(b"\x16\x03\x01 0712345678 <script>\r\n\r\n")
        answer = await closed_by_gateway(reader)
    assert answer.split()[1] == b"400"
    assert b"0712345678" not in answer
    assert b"script" not in answer


async def test_readiness_follows_the_core_and_health_does_not() -> None:
    alive, ready = request_bytes("GET", "/healthz"), request_bytes("GET", "/readyz")

    async def becomes(edge: str, status: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await send(edge, ready)).status != status:
                await asyncio.sleep(0.05)

    async with serve_core(RecordingCore()) as core:
        port = int(core.address.split(":")[1])
    async with gateway(f"127.0.0.1:{port}") as edge:
        assert (await send(edge, ready)).status == 503
        assert (await send(edge, alive)).status == 200
        async with serve_core(RecordingCore(), port):
            await becomes(edge, 200)
        await becomes(edge, 503)
        assert (await send(edge, alive)).status == 200


@pytest.mark.parametrize("with_spool", [False, True])
async def test_a_gateway_with_other_keys_than_the_core_is_not_ready_and_says_so(
    core: RecordingCore, tmp_path: Path, with_spool: bool
) -> None:
    ready, spool = request_bytes("GET", "/readyz"), spools.settings(tmp_path) if with_spool else {}

    async def becomes(edge: str, status: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await send(edge, ready)).status != status:
                await asyncio.sleep(0.05)

    with capture_logs() as lines:
        async with gateway(core.address, **spool) as edge:
            await becomes(edge, 200)
            core.keys = CallbackKeys("c3", {"c3": bytes(32), "a1": KEYS.keys["a1"], "b2": bytes(32)})
            await becomes(edge, 503)
            core.keys = CallbackKeys("a1", {"a1": KEYS.keys["a1"], "c3": bytes(32)})
            await becomes(edge, 200)
    told = [(line["event"], line["key_ids"]) for line in lines if line.get("alarm") == "callback_keys_differ"]
    assert told == [("alarm", ["c3", "b2"]), ("alarm is over", [])]


async def test_refused_tokens_of_an_unknown_key_are_told_of_once_a_minute(edge: str) -> None:
    other = CallbackKeys("ee", {"ee": bytes(32)})
    with capture_logs() as lines:
        for _ in range(3):
            assert (await post(edge, callback_path(other, "stk", new_reference()))).status == 404
            assert (await post(edge, good_path()[:-1])).status == 404
    assert [line["refused"] for line in lines if line["event"] == "callback key unknown"] == [1]
    times = iter([0.0, 0.0, 59.0, 60.0, 60.0])
    with capture_logs() as lines:
        unknown = UnknownKeys(lambda: next(times))
        for _ in range(3):
            unknown.refused()
    assert [line["refused"] for line in lines] == [1, 2]
