"""The address without a token: every post gets the same answer, and none takes a true callback's place."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter

import grpc
import pytest

from callback_gateway import hints as hints_module
from callback_gateway.core_channel import CoreChannel
from callback_gateway.hints import HINT_MAX_BYTES, HINT_PATH, READ_AT_ONCE, WAITING_MAX, Hints
from tests.callback_gateway.edges import (
    closed_by_gateway,
    connection,
    eventually,
    gateway,
    good_path,
    post,
    read_reply,
    request_bytes,
    send,
)
from tests.callback_gateway.recording_core import RecordingCore

DATE = re.compile(rb"Date: [^\r]*\r\n")
HINT = b'{"Body": {"stkCallback": {"CheckoutRequestID": "ws_CO_1", "ResultCode": 0}}}'


async def test_a_hint_is_passed_on_and_is_no_callback(edge: str, core: RecordingCore) -> None:
    assert (await post(edge, HINT_PATH, HINT)).status == 200
    await eventually(lambda: core.hints == [HINT])
    assert core.calls == []


async def test_every_hint_gets_the_answer_of_every_other(edge: str, core: RecordingCore) -> None:
    replies = [await post(edge, HINT_PATH, body) for body in (HINT, b"{}", b"\xff")]
    core.failing = grpc.StatusCode.UNAVAILABLE
    replies.append(await post(edge, HINT_PATH, HINT))
    assert len({(DATE.sub(b"", reply.header), reply.body) for reply in replies}) == 1
    for verb in ("GET", "PUT"):
        assert (await send(edge, request_bytes(verb, HINT_PATH))).status == 404
    assert (await post(edge, HINT_PATH, b"x" * (HINT_MAX_BYTES + 1))).status == 413


async def test_senders_that_hold_their_hints_back_take_few_places(core: RecordingCore) -> None:
    async with contextlib.AsyncExitStack() as stack:
        edge = await stack.enter_async_context(gateway(core.address, body_time_s=60))
        holding: list[asyncio.StreamWriter] = []
        for _ in range(READ_AT_ONCE):
            reader, writer = await stack.enter_async_context(connection(edge))
            writer.write(request_bytes("POST", HINT_PATH, HINT, "Expect: 100-continue").removesuffix(HINT))
            assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
            holding.append(writer)
        reader, writer = await stack.enter_async_context(connection(edge))
        writer.write(request_bytes("POST", HINT_PATH, HINT).removesuffix(HINT))
        assert (await read_reply(reader)).status == 200
        assert await closed_by_gateway(reader) == b""
        assert (await post(edge, good_path())).status == 200
        assert core.hints == []
        # The gateway would wait for them when it stops.
        for writer in holding:
            writer.write(HINT)


async def test_what_is_too_many_is_dropped(core: RecordingCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints_module, "PAUSE_S", 0.0)
    counts: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(core.address) as channel:
        reached = CoreChannel()
        reached.take(channel)
        hints = Hints(reached, counts)
        for number in range(WAITING_MAX + 5):
            hints.offer(b"%d" % number)
        assert counts == {"hint_dropped": 5}
        passing = asyncio.create_task(hints.pass_on())
        await eventually(lambda: len(core.hints) == WAITING_MAX)
        passing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await passing
    assert core.hints == [b"%d" % number for number in range(WAITING_MAX)]


async def test_a_hint_that_the_service_cannot_take_is_lost_and_the_next_is_passed_on(core: RecordingCore) -> None:
    counts: Counter[str] = Counter()
    core.failing = grpc.StatusCode.UNAVAILABLE
    async with grpc.aio.insecure_channel(core.address) as channel:
        reached = CoreChannel()
        reached.take(channel)
        hints = Hints(reached, counts)
        passing = asyncio.create_task(hints.pass_on())
        hints.offer(b"lost")
        await eventually(lambda: counts["hint_dropped"] == 1)
        core.failing = None
        hints.offer(b"passed on")
        await eventually(lambda: core.hints == [b"passed on"])
        passing.cancel()
