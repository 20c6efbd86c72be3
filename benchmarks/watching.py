"""Many watchers at once: a payment for each, all streams opened in one burst, each to receive exactly its own event.

The payments are prompted first, with their callbacks held back in the simulator; once all watchers have their
snapshot, the callbacks are let go, a bounded number at a time. Memory is the service's own, before and after.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import grpc
from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import payment_pb2 as messages
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from benchmarks import meters
from benchmarks.latency import control, percentiles
from benchmarks.load import PHONES_FROM
from benchmarks.runs import client
from benchmarks.stage import Stage
from runtime.grpc_options import CLIENT_OPTIONS

IN_FLIGHT = 32
"""Payments asked for, and callbacks let go, at a time."""
CALL_WAIT_SECONDS = 60.0
OPEN_WAIT_SECONDS = 180.0
END_WAIT_SECONDS = 60.0
"""After the last callback was sent."""
STREAM_SECONDS = 900.0
"""The streams' own deadline, beyond everything else here."""
SETTLE_SECONDS = 1.0
"""Before memory is read, so that what the burst has thrown away is gone."""


class Prompted(NamedTuple):
    """A payment whose prompt is on its phone."""

    phone: str
    status_token: str


async def measure_watchers(stage: Stage, folder: Path, first: int, watchers: int, processes: int) -> Mapping[str, Any]:
    """The whole scenario, with the watchers in so many processes; `first` numbers the payments."""
    numbers = range(first, first + watchers)
    timeout = aiohttp.ClientTimeout(CALL_WAIT_SECONDS)
    async with (
        aiohttp.ClientSession(stage.simulator_url, timeout=timeout) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        await control(http, "faults", {"behaviour": {"callback": "held"}, "count": watchers})
        payments = await prompted(stage.service.address, numbers)
        clients = [await _client(stack, stage, folder, index) for index in range(processes)]
        await asyncio.sleep(SETTLE_SECONDS)
        memory_before = meters.resident_bytes(stage.service_pid)
        begun = time.monotonic()
        ids = list(payments)
        for index, process in enumerate(clients):
            await _send_ids(process, ids[index::processes])
        opened = await asyncio.wait_for(_lines(clients), OPEN_WAIT_SECONDS)
        open_seconds = time.monotonic() - begun
        await asyncio.sleep(SETTLE_SECONDS)
        memory = meters.resident_bytes(stage.service_pid) - memory_before
        begun = time.monotonic()
        sent, refused = await let_go(http, payments)
        ended = await _ends(clients)
        deliver_seconds = time.monotonic() - begun
    seen: dict[str, float] = {}
    for index in range(processes):
        seen |= json.loads(_times_file(folder, index).read_text(encoding="utf-8"))
    served = sum(line["served"] for line in ended)
    return {
        "watchers": watchers,
        "client_processes": processes,
        "opened": sum(line["opened"] for line in opened),
        "served": served,
        "wrong": dict(sum((Counter(line["wrong"]) for line in ended), Counter())),
        "callbacks_not_taken": refused,
        "errors": watchers - served,
        "kib_each": round(memory / 1024 / watchers, 1),
        "service_mib_before": round(memory_before / 2**20, 1),
        "service_mib_with_watchers": round((memory_before + memory) / 2**20, 1),
        "open_burst_seconds": round(open_seconds, 2),
        "snapshot_ms": percentiles([seconds for line in opened for seconds in line["open_seconds"]]),
        "deliver_seconds": round(deliver_seconds, 2),
        "callback_to_watcher_ms": percentiles([seen[payment_id] - sent[payment_id] for payment_id in seen]),
    }


async def prompted(address: str, numbers: Sequence[int]) -> dict[str, Prompted]:
    """A prompted payment for each number, whose callback is held back, by its id."""
    payments: dict[str, Prompted] = {}
    queue = iter(numbers)

    async def caller(stub: PaymentServiceStub) -> None:
        for number in queue:
            phone = str(PHONES_FROM + number)
            request = pb.InitiatePaymentRequest(
                request_id=f"watched-{number}",
                booking_id=f"watched-{number}",
                phone_number=phone,
                amount=money_pb2.Money(currency_code="KES", units=500),
            )
            response = await stub.InitiatePayment(request, timeout=CALL_WAIT_SECONDS)
            assert response.payment.status == messages.PAYMENT_STATUS_PROCESSING, "the prompt did not reach its phone"
            payments[response.payment.payment_id] = Prompted(phone, response.status_token)

    async with grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS) as channel, asyncio.TaskGroup() as callers:
        for _ in range(IN_FLIGHT):
            callers.create_task(caller(PaymentServiceStub(channel)))
    return payments


async def _client(
    stack: contextlib.AsyncExitStack, stage: Stage, folder: Path, index: int
) -> asyncio.subprocess.Process:
    words = [f"--address={stage.service.address}", f"--timeout={STREAM_SECONDS}"]
    words.append(f"--times-file={_times_file(folder, index)}")
    pipe = asyncio.subprocess.PIPE
    process = await stack.enter_async_context(client("benchmarks.watchers", words, stdin=pipe, stdout=pipe))
    await asyncio.wait_for(_lines([process]), CALL_WAIT_SECONDS)
    return process


def _times_file(folder: Path, index: int) -> Path:
    return folder / f"watcher-times-{index}.json"


async def _send_ids(process: asyncio.subprocess.Process, ids: Sequence[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(f"{payment_id}\n" for payment_id in itertools.chain(ids, [""])).encode())
    await process.stdin.drain()


async def _lines(clients: Sequence[asyncio.subprocess.Process]) -> list[Any]:
    """The next line of each client."""
    lines = []
    for process in clients:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client with watchers ended with exit code {await process.wait()}")
        lines.append(json.loads(line))
    return lines


async def _ends(clients: Sequence[asyncio.subprocess.Process]) -> list[Any]:
    """The last line of each client; after a while those that still wait are told to give up."""
    telling = asyncio.create_task(_lines(clients))
    await asyncio.wait({telling}, timeout=END_WAIT_SECONDS)
    for process in clients:
        assert process.stdin is not None
        process.stdin.close()
    return await asyncio.wait_for(telling, CALL_WAIT_SECONDS)


async def let_go(http: aiohttp.ClientSession, payments: Mapping[str, Prompted]) -> tuple[dict[str, float], int]:
    """Send every held callback; payment id to the time it was sent, and how many the gateway did not take."""
    sent: dict[str, float] = {}
    refused = 0
    queue = iter(payments.items())

    async def sender() -> None:
        nonlocal refused
        for payment_id, payment in queue:
            sent[payment_id] = time.time()
            told = await control(http, "callbacks/resend", {"phone": payment.phone})
            refused += told["callbacks"][0]["status"] != 200

    async with asyncio.TaskGroup() as senders:
        for _ in range(IN_FLIGHT):
            senders.create_task(sender())
    return sent, refused
