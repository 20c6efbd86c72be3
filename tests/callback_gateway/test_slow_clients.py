"""Clients that send slowly, partly or not at all: each is let go in time, and none of them keeps a good one out.

The gateway runs as the program here, on the event loop that it has in production.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from development.slowness import slowness
from runtime.connections import LINGERING_TIME_S
from tests.callback_gateway.edges import (
    Program,
    ask_to_send,
    closed_by_gateway,
    connection,
    eventually,
    gateway_program,
    good_path,
    post,
    read_reply,
    request_bytes,
)
from tests.callback_gateway.recording_core import RecordingCore
from tests.patience import PATIENCE_SECONDS

# Long enough for whoever does not dawdle.
SHORT = str(0.5 * slowness())
HALF_A_HEADER = b"POST /callbacks/stk/x HTTP/1.1\r\nHost: ed"


# So long that no connection is let go by it in place of another bound.
LONG = "60"


@pytest.fixture
async def program(tmp_path: Path, core: RecordingCore) -> AsyncIterator[Program]:
    """A gateway with short times and 20 places."""
    async with program_with(tmp_path, core, SHORT) as running:
        yield running


@pytest.fixture
async def unhurried(tmp_path: Path, core: RecordingCore) -> AsyncIterator[Program]:
    """The same, where connections only ever lose their places to others."""
    async with program_with(tmp_path, core, LONG) as running:
        yield running


@contextlib.asynccontextmanager
async def program_with(tmp_path: Path, core: RecordingCore, time_s: str) -> AsyncIterator[Program]:
    """A gateway that gives a header and a body so much time."""
    async with gateway_program(
        tmp_path,
        core.address,
        GATEWAY_HEADER_TIME_S=time_s,
        GATEWAY_BODY_TIME_S=time_s,
        GATEWAY_FORWARD_TIME_S="30",
        GATEWAY_IDLE_TIME_S="600",
        GATEWAY_CONNECTIONS_MAX="20",
    ) as running:
        yield running


async def counts_at_end(program: Program) -> dict[str, object]:
    lines = await program.stop(signal.SIGTERM)
    assert program.process.returncode == 0
    return next(line for line in lines if line["event"] == "gateway stopped")


@pytest.mark.parametrize("sent", [b"", b"P", HALF_A_HEADER], ids=["nothing", "one byte", "half a header"])
async def test_a_connection_without_a_whole_header_is_closed(program: Program, sent: bytes) -> None:
    async with connection(program.address) as (reader, writer):
        writer.write(sent)
        assert await closed_by_gateway(reader) == b""
    assert (await counts_at_end(program))["timed_out"] == 1


async def test_a_header_that_drips_in_is_closed_all_the_same(program: Program) -> None:
    async with connection(program.address) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: ")
        closed = asyncio.create_task(closed_by_gateway(reader))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not closed.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(b"X")
                    await writer.drain()
                await asyncio.sleep(0.05)
        assert closed.result() == b""
    assert (await counts_at_end(program))["timed_out"] == 1


async def test_an_endless_header_is_cut_at_its_limit(program: Program) -> None:
    async with connection(program.address) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\n" + b"".join(b"H%d: %s\r\n" % (n, b"x" * 1000) for n in range(20)))
        await closed_by_gateway(reader)
    assert (await counts_at_end(program))["malformed"] == 1


async def test_a_second_header_that_stalls_is_closed_too(program: Program) -> None:
    async with connection(program.address) as (reader, writer):
        writer.write(request_bytes("POST", good_path(), b"{}"))
        assert (await read_reply(reader)).status == 200
        writer.write(HALF_A_HEADER)
        assert await closed_by_gateway(reader) == b""


async def test_an_idle_connection_is_closed_after_its_time(tmp_path: Path, core: RecordingCore) -> None:
    async with (
        gateway_program(tmp_path, core.address, GATEWAY_IDLE_TIME_S=SHORT, GATEWAY_HEADER_TIME_S="60") as program,
        connection(program.address) as (reader, writer),
    ):
        writer.write(request_bytes("POST", good_path(), b"{}"))
        assert (await read_reply(reader)).status == 200
        assert await closed_by_gateway(reader) == b""


async def test_a_body_that_stalls_is_given_up_and_not_forwarded(program: Program, core: RecordingCore) -> None:
    async with connection(program.address) as (reader, writer):
        writer.write(request_bytes("POST", good_path(), b"x" * 100)[:-1])
        assert (await read_reply(reader)).status == 408
        await closed_by_gateway(reader)
    assert core.calls == []
    assert (await counts_at_end(program))["timed_out"] == 1


async def test_stalled_connections_in_every_place_keep_no_callback_out(unhurried: Program, core: RecordingCore) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stalled = [await stack.enter_async_context(connection(unhurried.address)) for _ in range(50)]
        for number, (_, writer) in enumerate(stalled):
            with contextlib.suppress(ConnectionError):
                writer.write(HALF_A_HEADER[: number % 3 * 10])
        replies = await asyncio.gather(*[post(unhurried.address, good_path(), b"%d" % n) for n in range(10)])
        assert [reply.status for reply in replies] == [200] * 10
        for reader, _ in stalled[:30]:
            assert await closed_by_gateway(reader) == b""
    assert len(core.bodies) == 10
    assert int(str((await counts_at_end(unhurried))["displaced"])) >= 30


async def test_only_requests_in_hand_can_fill_every_place(unhurried: Program, core: RecordingCore) -> None:
    core.may_answer.clear()
    async with contextlib.AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(connection(unhurried.address)) for _ in range(20)]
        for number, (reader, writer) in enumerate(busy):
            await ask_to_send(reader, writer, b"%d" % number)
            writer.write(b"%d" % number)
        async with connection(unhurried.address) as (reader, _):
            assert await closed_by_gateway(reader) == b""
        core.may_answer.set()
        assert [(await read_reply(reader)).status for reader, _ in busy] == [200] * 20
    assert (await counts_at_end(unhurried))["turned_away"] == 1


async def test_a_client_that_closes_its_sending_side_still_gets_its_answer(
    program: Program, core: RecordingCore
) -> None:
    core.delay_s = 0.2 * slowness()
    async with connection(program.address) as (reader, writer):
        writer.write(request_bytes("POST", good_path(), b"half closed"))
        writer.write_eof()
        assert (await read_reply(reader)).status == 200
        assert await closed_by_gateway(reader) == b""
    assert core.bodies == [b"half closed"]


async def test_a_client_that_asks_on_and_on_and_reads_nothing_loses_its_place(program: Program) -> None:
    requests = request_bytes("GET", "/nothing/here") * 200

    async def ask_on_and_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(requests)
            await writer.drain()

    async with connection(program.address) as (_, writer):
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_on_and_on(writer), PATIENCE_SECONDS)
    assert (await post(program.address, good_path())).status == 200
    assert (await counts_at_end(program))["timed_out"] == 1


@pytest.mark.parametrize("reference", ["x", "known"], ids=["404", "413"])
async def test_the_rest_of_a_body_that_nobody_wants_fills_no_log(program: Program, reference: str) -> None:
    """Longer than any header may be, and sent after the answer, as any stranger can; who takes too long is let go."""
    path, wanted, length = ("/x", 404, 40_000) if reference == "x" else (good_path(), 413, 80_000)

    async def send_late(stay: bool) -> None:
        async with connection(program.address) as (reader, writer):
            writer.write(request_bytes("POST", path, b"x" * length)[:-length])
            assert (await read_reply(reader)).status == wanted
            for _ in range(length // 4_000 - (not stay)):
                writer.write(b"x" * 4_000)
                await writer.drain()
                # Apart from each other, so that the gateway reads them one by one.
                await asyncio.sleep(0.002)
            if stay and wanted == 404:
                writer.write(request_bytes("GET", "/healthz"))
                assert (await read_reply(reader)).status == 200

    async def send_late_or_be_let_go(stay: bool) -> None:
        began = time.monotonic()
        try:
            await send_late(stay)
        except (ConnectionError, asyncio.IncompleteReadError):
            # Only a busy machine lets anybody take so long for a header, or for the rest of a body.
            if time.monotonic() - began < min(LINGERING_TIME_S, float(SHORT)):
                raise

    await asyncio.gather(*[send_late_or_be_let_go(stay=number % 2 == 0) for number in range(16)])
    counts = await counts_at_end(program)
    assert "malformed" not in counts
    assert [line for line in program.lines() if line["level"] == "error"] == []


async def test_a_connection_that_is_displaced_within_such_a_body_fills_no_log(unhurried: Program) -> None:
    host, port = unhurried.address.split(":")
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        answered = []
        for _ in range(20):
            reader, writer = await stack.enter_async_context(connection(unhurried.address))
            writer.write(request_bytes("POST", "/x", b"x" * 40_000)[:-40_000])
            assert (await read_reply(reader)).status == 404
            answered.append(writer)
        # So that the gateway finds the newcomers and the bytes of those whom they displace at one and the same moment.
        unhurried.process.send_signal(signal.SIGSTOP)
        newcomers = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(20)]
        for writer in answered:
            writer.write(b"x" * 1_000)
        unhurried.process.send_signal(signal.SIGCONT)
        for newcomer in newcomers:
            newcomer.sendall(request_bytes("GET", "/healthz"))
            assert (await asyncio.to_thread(newcomer.recv, 12)) == b"HTTP/1.1 200"
        in_time = time.monotonic() - began < LINGERING_TIME_S
    displaced = (await counts_at_end(unhurried)).get("displaced", 0)
    # Whoever was answered longer ago than that, as on a busy machine, has lost its place already.
    assert displaced in ([20] if in_time else range(21))
    assert [line for line in unhurried.lines() if line["level"] == "error"] == []


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "reset"])
async def test_a_client_that_leaves_after_its_body_loses_nothing(
    program: Program, core: RecordingCore, abruptly: bool
) -> None:
    core.failing = grpc.StatusCode.UNAVAILABLE
    async with connection(program.address) as (_, writer):
        writer.write(request_bytes("POST", good_path(), b"left behind"))
        await eventually(lambda: core.refused_calls > 0)
        if abruptly:
            linger_no_time = b"\x01\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
    core.failing = None
    await eventually(lambda: core.bodies == [b"left behind"])
    assert (await post(program.address, good_path())).status == 200


async def test_a_client_that_leaves_within_its_body_leaves_nothing(program: Program, core: RecordingCore) -> None:
    async with connection(program.address) as (_, writer):
        writer.write(request_bytes("POST", good_path(), b"x" * 100)[:-1])
        await writer.drain()
    assert (await post(program.address, good_path(), b"next")).status == 200
    assert core.bodies == [b"next"]
    assert (await counts_at_end(program))["stored"] == 1
