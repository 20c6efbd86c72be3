"""`payment-service demo`: payments through every ending, shown as a subscriber sees them, and checked.

Decides the order of the performance: the whole system in a private folder, a viewer in a process of its own, all
passengers at once, then the summary. The plot is in `demo_stories`, the judgement in `demo_summary`. Nothing here waits
for a time to pass: the performance is over when the stream has said the last word on every payment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import typer
from google.protobuf.json_format import Parse
from mpesa_payments.v1 import money_pb2, payment_pb2, payment_service_pb2, payment_service_pb2_grpc
from rich.console import Console

from development.demo_stories import (
    EXPIRE_AFTER_SECONDS,
    PROMPT_GONE_SECONDS,
    PULL_INTERVAL_SECONDS,
    QUERY_AFTER_SECONDS,
    STORIES,
    WATCH_FOR_SECONDS,
    Story,
)
from development.demo_summary import Replies, compare, show_summary
from development.foreground import run_in_foreground
from development.system import Plan, System, running_system, until_a_part_ends

SETTINGS = {
    "PAYMENTS_EXPIRE_AFTER_S": str(EXPIRE_AFTER_SECONDS),
    "PAYMENTS_WATCH_FOR_S": str(WATCH_FOR_SECONDS),
    "PAYMENTS_QUERY_AFTER_S": str(QUERY_AFTER_SECONDS),
    "PAYMENTS_RETRY_WAIT_S": str(PROMPT_GONE_SECONDS),
    "PAYMENTS_PUSH_TIMEOUT_S": str(PROMPT_GONE_SECONDS),
    "PAYMENTS_QUERIES_PER_MINUTE": "600",
    "PAYMENTS_PULL_INTERVAL_S": str(PULL_INTERVAL_SECONDS),
}
# The sandbox's limit of five queries a minute would stretch the plot.
SIMULATOR_OPTIONS = ("--latency=recorded", "--seed=1", "--queries-per-minute=0")
# Several times what the plot takes; then the summary says what is missing.
PLOT_TIMEOUT_SECONDS = 90
CALL_TIMEOUT_SECONDS = 20
STOP_TIMEOUT_SECONDS = 10
# Wider than any table here: without a terminal nothing is cut or wrapped.
PLAIN_WIDTH = 500


def demo() -> None:
    """Play it; exit code 1 on any difference between what the stream said and what the ledger holds."""
    agrees = run_in_foreground(_demo())
    raise typer.Exit(0 if agrees else 1)


async def _demo() -> bool:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mpesa-demo-"))
    # Of a demonstration that failed, what the parts logged is the first thing one wants to read.
    keep = True
    try:
        agrees = await _play(console, folder)
        keep = not agrees
    except asyncio.CancelledError:
        keep = False
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    end = f"what the parts logged is in {folder / 'logs'}" if keep else "nothing is left behind"
    console.print(f"Everything has been stopped, {end}; {time.monotonic() - began:.0f} s in all.", soft_wrap=True)
    return agrees


async def _play(console: Console, folder: Path) -> bool:
    began = time.monotonic()
    console.print("Starting PostgreSQL, the payment service, its callback gateway and a simulated Safaricom …")
    plan = Plan(folder, simulator_options=SIMULATOR_OPTIONS, settings=SETTINGS, inherit_settings=False)
    async with running_system(plan) as system:
        _introduce(console, system, time.monotonic() - began)
        played = asyncio.create_task(_perform(system))
        failed = asyncio.create_task(until_a_part_ends(system))
        try:
            await asyncio.wait({played, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            replies, events, ledger = await played
        finally:
            for task in (played, failed):
                task.cancel()
            await asyncio.gather(played, failed, return_exceptions=True)
        console.print()
        asked = {_booking_id(number): pair for number, pair in enumerate(zip(STORIES, replies, strict=True))}
        return show_summary(console, *compare(asked, events, ledger))


def _introduce(console: Console, system: System, seconds: float) -> None:
    if system.notice is not None:
        console.print(system.notice, soft_wrap=True)
    settings = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    sentences = []
    sentences.append(
        f"All parts serve after {seconds:.1f} s. A booking service now asks {len(STORIES)} passengers to pay, "
        "all at once; each phone does what its line says."
    )
    sentences.append(
        "Every line below is what a subscriber to WatchPayments, a process of its own, received: the time since the "
        "payment was recorded, whose it is, its status, what happened."
    )
    sentences.append(
        f"Times shortened for this: an unanswered prompt expires {EXPIRE_AFTER_SECONDS} s after it was sent (120 s by "
        f"default), late money is waited for until {WATCH_FOR_SECONDS} s (48 h), Safaricom is asked about a payment "
        f"whose callback has not come from {QUERY_AFTER_SECONDS} s on (30 s), and its own list of what arrived is read "
        f"every {PULL_INTERVAL_SECONDS} s (10 min): {settings}"
    )
    for sentence in (*sentences, ""):
        console.print(sentence, soft_wrap=True)


async def _perform(system: System) -> tuple[list[Replies], list[payment_pb2.PaymentEvent], dict[str, Any]]:
    """Everyone pays at once; ends with the stream's last word, or when that is overdue."""
    events: list[payment_pb2.PaymentEvent] = []
    async with _viewer(system) as record, _simulator(system) as simulator:
        for story in STORIES:
            if story.script:
                answer = await simulator.post(f"/control/phones/{story.phone}/script", json=dict(story.script))
                answer.raise_for_status()
        async with system.channel() as channel:
            service = payment_service_pb2_grpc.PaymentServiceStub(channel)
            async with asyncio.TaskGroup() as group:
                group.create_task(_listen(record, events))
                asking = [group.create_task(_ask(service, number, story)) for number, story in enumerate(STORIES)]
        ledger = await simulator.get("/control/ledger")
        ledger.raise_for_status()
        return [task.result() for task in asking], events, ledger.json()


def _booking_id(number: int) -> str:
    return f"TRIP-{1001 + number}"


async def _ask(service: payment_service_pb2_grpc.PaymentServiceStub, number: int, story: Story) -> Replies:
    request = payment_service_pb2.InitiatePaymentRequest(
        request_id=f"demo-{secrets.token_hex(8)}",
        booking_id=_booking_id(number),
        phone_number=story.phone,
        amount=money_pb2.Money(currency_code="KES", units=story.amount),
        metadata={"story": story.title},
    )
    calls = [service.InitiatePayment(request, timeout=CALL_TIMEOUT_SECONDS) for _ in range(story.asked)]
    return [await call for call in calls]


async def _listen(record: asyncio.StreamReader, events: list[payment_pb2.PaymentEvent]) -> None:
    """Collect what the viewer received, until every payment has had its last word or it is overdue."""
    last: dict[str, payment_pb2.Payment] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PLOT_TIMEOUT_SECONDS):
            async for text in record:
                event = Parse(text, payment_pb2.PaymentEvent())
                events.append(event)
                last[event.payment.payment_id] = event.payment
                if len(last) >= len(STORIES) and all(_is_settled(payment) for payment in last.values()):
                    return


def _is_settled(payment: payment_pb2.Payment) -> bool:
    return payment.outcome_certain and payment.booking_action != payment_pb2.BOOKING_ACTION_WAIT


@contextlib.asynccontextmanager
async def _viewer(system: System) -> AsyncIterator[asyncio.StreamReader]:
    """The view prints to our standard output by itself; the pipe carries the same events to us."""
    sys.stdout.flush()
    reading_end, writing_end = os.pipe()
    with os.fdopen(reading_end, "rb") as pipe:
        try:
            view = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "development.view", system.grpc_address, f"--record-fd={writing_end}"),
                *([] if system.certificates is None else [f"--certificates={system.certificates.folder}"]),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(writing_end,),
            )
        finally:
            os.close(writing_end)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            yield reader
        finally:
            transport.close()
            if view.returncode is None:
                view.terminate()
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await view.wait()


@contextlib.asynccontextmanager
async def _simulator(system: System) -> AsyncIterator[httpx.AsyncClient]:
    # Proxy variables in the environment would carry off even loopback requests.
    async with httpx.AsyncClient(base_url=system.daraja_url, trust_env=False, timeout=CALL_TIMEOUT_SECONDS) as client:
        yield client
