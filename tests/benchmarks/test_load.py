"""What the load generator counts as an error, and how latencies and validity are read: a benchmark that overlooks a
failure is worse than none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from mpesa_payments.v1 import payment_pb2 as messages
from mpesa_payments.v1 import payment_service_pb2 as pb

from benchmarks.latency import percentiles
from benchmarks.report import BEGIN, END, table, write_table
from benchmarks.subscriber import READY_LINE
from development.slowness import slowness
from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]

Initiate = Callable[[pb.InitiatePaymentRequest, Any], Awaitable[pb.InitiatePaymentResponse]]


@contextlib.asynccontextmanager
async def answering(initiate: Initiate) -> AsyncIterator[str]:
    """A payment service that has one method only."""
    handler = grpc.unary_unary_rpc_method_handler(
        initiate,
        request_deserializer=pb.InitiatePaymentRequest.FromString,
        response_serializer=pb.InitiatePaymentResponse.SerializeToString,
    )
    server = grpc.aio.server()
    service = "mpesa_payments.v1.PaymentService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"InitiatePayment": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def start_load(address: str, *options: str) -> asyncio.subprocess.Process:
    """The load generator, told that its subscriber is ready; the test plays the subscriber."""
    words = ["-m", "benchmarks.load", f"--address={address}", "--name=test", "--first=0", "--warm-up=0", *options]
    pipe = asyncio.subprocess.PIPE
    load = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=PROJECT, stdin=pipe, stdout=pipe)
    assert load.stdin is not None
    load.stdin.write(f"{READY_LINE}\n".encode())
    return load


async def result_of(load: asyncio.subprocess.Process) -> dict[str, Any]:
    assert load.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        lines = [json.loads(line) async for line in load.stdout]
        assert await load.wait() == 0
    assert [line.get("phase") for line in lines] == ["measuring", "measured", None]
    result: dict[str, Any] = lines[-1]
    return result


def playing_subscriber(loads: list[asyncio.subprocess.Process], status: int, times: int) -> Initiate:
    """A service that answers at once, and whose payments have all ended in this way, so many times each."""

    async def initiate(request: pb.InitiatePaymentRequest, _: Any) -> pb.InitiatePaymentResponse:
        stdin = loads[0].stdin
        assert stdin is not None
        stdin.write(f"{request.booking_id} reference {status} {time.time_ns()}\n".encode() * times)
        return pb.InitiatePaymentResponse()

    return initiate


async def test_a_payment_counts_once_it_is_completed_at_the_subscriber() -> None:
    loads: list[asyncio.subprocess.Process] = []
    async with answering(playing_subscriber(loads, messages.PAYMENT_STATUS_COMPLETED, times=1)) as address:
        loads.append(await start_load(address, "--in-flight=3", f"--seconds={0.5 * slowness()}"))
        result = await result_of(loads[0])
    assert result["errors"] == {}
    assert result["payments"] >= result["completed"] > 0
    assert result["open_max"] == 3
    assert result["payments_per_second"] == pytest.approx(result["completed"] / result["seconds"])


async def test_a_payment_that_fails_is_an_error() -> None:
    loads: list[asyncio.subprocess.Process] = []
    async with answering(playing_subscriber(loads, messages.PAYMENT_STATUS_FAILED, times=1)) as address:
        loads.append(await start_load(address, "--in-flight=2", f"--seconds={0.3 * slowness()}"))
        result = await result_of(loads[0])
    assert result["completed"] == 0
    assert result["errors"]["ended as PAYMENT_STATUS_FAILED"] > 0


async def test_an_end_that_comes_twice_is_an_error() -> None:
    loads: list[asyncio.subprocess.Process] = []
    async with answering(playing_subscriber(loads, messages.PAYMENT_STATUS_COMPLETED, times=2)) as address:
        loads.append(await start_load(address, "--in-flight=2", f"--seconds={0.3 * slowness()}"))
        result = await result_of(loads[0])
    assert result["errors"]["ended twice, or never asked for"] > 0


async def test_ends_of_other_payments_are_none_of_the_runs() -> None:
    loads: list[asyncio.subprocess.Process] = []

    async def initiate(request: pb.InitiatePaymentRequest, _: Any) -> pb.InitiatePaymentResponse:
        stdin = loads[0].stdin
        assert stdin is not None
        for booking in ("watched-1", request.booking_id):
            stdin.write(f"{booking} reference {messages.PAYMENT_STATUS_COMPLETED} {time.time_ns()}\n".encode())
        return pb.InitiatePaymentResponse()

    async with answering(initiate) as address:
        loads.append(await start_load(address, "--in-flight=2", f"--seconds={0.3 * slowness()}"))
        result = await result_of(loads[0])
    assert result["errors"] == {}
    assert result["payments"] > 0


async def test_a_refused_request_is_an_error_and_is_not_sent_again() -> None:
    asked: list[str] = []

    async def refuse(request: pb.InitiatePaymentRequest, context: Any) -> pb.InitiatePaymentResponse:
        asked.append(request.request_id)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError("abort raises")

    async with answering(refuse) as address:
        result = await result_of(await start_load(address, "--rate=50", f"--seconds={0.5 * slowness()}"))
    assert result["errors"] == {"InitiatePayment: UNAVAILABLE": len(asked)}
    assert len(asked) == len(set(asked)) > 0


async def test_arrivals_of_the_open_loop_do_not_wait_for_answers() -> None:
    waiting: list[str] = []
    all_here = asyncio.Event()

    async def hold(request: pb.InitiatePaymentRequest, _: Any) -> pb.InitiatePaymentResponse:
        waiting.append(request.booking_id)
        if len(waiting) == 10:
            all_here.set()
        await all_here.wait()
        stdin = load.stdin
        assert stdin is not None
        stdin.write(f"{request.booking_id} reference {messages.PAYMENT_STATUS_COMPLETED} {time.time_ns()}\n".encode())
        return pb.InitiatePaymentResponse()

    async with answering(hold) as address:
        load = await start_load(address, "--rate=100", f"--seconds={0.5 * slowness()}")
        result = await result_of(load)
    assert result["errors"] == {}
    assert result["open_max"] >= 10


def test_percentiles_are_measured_values_by_nearest_rank() -> None:
    hundred = [number / 1_000 for number in range(100, 0, -1)]
    assert percentiles(hundred) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert percentiles([0.004]) == {"p50": 4.0, "p95": 4.0, "p99": 4.0, "max": 4.0}


def test_the_table_replaces_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    results = json.loads((PROJECT / "benchmarks" / "results" / "latest.json").read_text(encoding="utf-8"))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold table\n{END}\nafter\n", encoding="utf-8")
    write_table(readme, results)
    once = readme.read_text(encoding="utf-8")
    assert "old table" not in once
    assert once.startswith(f"before\n{BEGIN}\n")
    assert once.endswith(f"{END}\nafter\n")
    write_table(readme, results)
    assert readme.read_text(encoding="utf-8") == once


def test_the_published_table_is_that_of_the_published_results() -> None:
    published = PROJECT / "benchmarks"
    results = json.loads((published / "results" / "latest.json").read_text(encoding="utf-8"))
    readme = (published / "README.md").read_text(encoding="utf-8")
    assert readme.partition(BEGIN)[2].partition(END)[0].strip() == table(results)
