"""The load generator of a run: asks for payments, and knows when each has ended from the subscriber's lines on stdin.

Closed loop (`--in-flight`): that many callers, each asking for its next payment once the last one is COMPLETED at the
subscriber. Open loop (`--rate`): arrival times are drawn before the run from a fixed seed, and latencies count from the
scheduled time, so that a service that falls behind cannot slow down its own examiner.

Standard output is JSON, a line each: {"phase": "measuring"}, {"phase": "measured"}, then the result. Anything that is
not one COMPLETED payment for one request is an error, and errors are counted, never retried.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop
from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import payment_pb2 as messages
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from benchmarks.reaching import add_service, channel_to_service
from benchmarks.subscriber import READY_LINE
from runtime.grpc_options import CLIENT_OPTIONS

CHANNELS = 2
"""Connections to the service: two callers' worth; more would only cost the load generator."""
PAYMENT_WAIT_SECONDS = 60.0
"""A payment that is not at the subscriber by then is an error."""
LATE_START_SECONDS = 0.005
"""An arrival that starts later than this after its time is a late start, and counted."""
ARRIVALS_SEED = 20_240_601
NOT_ASKED_FOR = "ended twice, or never asked for"
PHONES_FROM = 254_710_000_000
"""Outside the simulator's special range: every one of these phones pays."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A payment's end as the subscriber saw it."""

    reference: str
    status: int
    seen_ns: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One payment of the measured time. Times are seconds of the wall clock."""

    reference: str
    scheduled: float
    answered: float
    completed: float


@dataclass(slots=True)
class Tally:
    """What has happened so far."""

    waiting: dict[str, asyncio.Future[Ended]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    late_starts: int = 0
    open_max: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What asking for payments needs."""

    stubs: Iterator[PaymentServiceStub]
    numbers: Iterator[int]
    name: str
    tally: Tally


async def pay(run: Run, scheduled: float) -> None:
    """One payment from its scheduled time to its end at the subscriber."""
    number, tally = next(run.numbers), run.tally
    booking = f"{run.name}-{number}"
    ended = tally.waiting[booking] = asyncio.get_running_loop().create_future()
    tally.open_max = max(tally.open_max, len(tally.waiting))
    request = pb.InitiatePaymentRequest(
        request_id=booking,
        booking_id=booking,
        phone_number=str(PHONES_FROM + number),
        amount=money_pb2.Money(currency_code="KES", units=100 + number % 900),
    )
    try:
        async with asyncio.timeout(PAYMENT_WAIT_SECONDS):
            await next(run.stubs).InitiatePayment(request, timeout=PAYMENT_WAIT_SECONDS)
            answered = time.time()
            end = await ended
    except grpc.aio.AioRpcError as error:
        tally.errors[f"InitiatePayment: {error.code().name}"] += 1
        tally.waiting.pop(booking, None)
    except TimeoutError:
        tally.errors["not at the subscriber in time"] += 1
        tally.waiting.pop(booking, None)
    else:
        if end.status == messages.PAYMENT_STATUS_COMPLETED:
            tally.samples.append(Sample(end.reference, scheduled, answered, end.seen_ns / 1e9))
        else:
            tally.errors[f"ended as {messages.PaymentStatus.Name(messages.PaymentStatus.ValueType(end.status))}"] += 1


async def follow_subscriber(lines: asyncio.StreamReader, name: str, tally: Tally) -> None:
    """Hand every end of this run to whoever waits for it; the subscriber tells of other payments, too."""
    while line := await lines.readline():
        booking, reference, status, seen_ns = line.decode().split()
        if not booking.startswith(f"{name}-"):
            continue
        future = tally.waiting.pop(booking, None)
        if future is None:
            tally.errors[NOT_ASKED_FOR] += 1
        elif not future.done():
            future.set_result(Ended(reference, int(status), int(seen_ns)))
    for future in tally.waiting.values():
        future.cancel()
    raise ConnectionError("the subscriber has gone")


async def closed_loop(run: Run, in_flight: int, warm_up: float, seconds: float) -> tuple[float, float]:
    """Keep `in_flight` payments going; the first and last moment of the measured time."""
    stopping = False

    async def caller() -> None:
        while not stopping:
            await pay(run, time.time())

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
        await asyncio.sleep(warm_up)
        begin = say("measuring")
        await asyncio.sleep(seconds)
        end = say("measured")
        stopping = True
    return begin, end


async def open_loop(run: Run, rate: float, warm_up: float, seconds: float) -> tuple[float, float]:
    """Start payments at times drawn beforehand, whatever becomes of them."""
    draws = random.Random(ARRIVALS_SEED)
    arrivals = list(
        itertools.takewhile(
            lambda at: at < warm_up + seconds, itertools.accumulate(draws.expovariate(rate) for _ in itertools.count())
        )
    )
    start = time.time() + 0.1
    begin = 0.0
    async with asyncio.TaskGroup() as payments:
        for offset in arrivals:
            if begin == 0.0 and offset >= warm_up:
                begin = say("measuring")
                run.tally.late_starts = 0
            scheduled = start + offset
            if (wait := scheduled - time.time()) > 0:
                await asyncio.sleep(wait)
            run.tally.late_starts += time.time() - scheduled > LATE_START_SECONDS
            payments.create_task(pay(run, scheduled))
        end = say("measured")
    return begin, end


def say(phase: str) -> float:
    """Tell the campaign where the run is, so that it reads its meters now."""
    sys.stdout.write(json.dumps({"phase": phase}) + "\n")
    sys.stdout.flush()
    return time.time()


async def generate(arguments: argparse.Namespace) -> None:
    """One run, from the subscriber's readiness to the result on standard output."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    ready = (await lines.readline()).decode().strip()
    if ready != READY_LINE:
        raise ConnectionError(f"the subscriber is not ready but said {ready!r}")
    options = (*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    channels = [channel_to_service(arguments, options) for _ in range(CHANNELS)]
    tally = Tally()
    stubs = itertools.cycle([PaymentServiceStub(channel) for channel in channels])
    run = Run(stubs, itertools.count(arguments.first), arguments.name, tally)
    following = asyncio.create_task(follow_subscriber(lines, arguments.name, tally))
    kind: Callable[..., Awaitable[tuple[float, float]]] = open_loop if arguments.rate else closed_loop
    begin, end = await kind(run, arguments.rate or arguments.in_flight, arguments.warm_up, arguments.seconds)
    following.cancel()
    for channel in channels:
        await channel.close(grace=None)
    if arguments.samples:
        write_samples(arguments.samples, [sample for sample in tally.samples if begin <= sample.scheduled < end])
    sys.stdout.write(json.dumps(result(tally, begin, end)) + "\n")


def result(tally: Tally, begin: float, end: float) -> dict[str, Any]:
    """The result line. Throughput counts what reached the subscriber within the measured time."""
    completed = sum(begin <= sample.completed < end for sample in tally.samples)
    return {
        "seconds": end - begin,
        "completed": completed,
        "payments_per_second": completed / (end - begin),
        "payments": len(tally.samples),
        "errors": dict(tally.errors),
        "late_starts": tally.late_starts,
        "open_max": tally.open_max,
    }


def write_samples(path: Path, samples: list[Sample]) -> None:
    """One payment a line: reference, scheduled, answered, completed."""
    rows = (f"{s.reference} {s.scheduled:.6f} {s.answered:.6f} {s.completed:.6f}\n" for s in samples)
    path.write_text("".join(rows))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_service(parser)
    parser.add_argument("--name", required=True, help="begins every booking and request id of this run")
    parser.add_argument("--first", type=int, required=True, help="number of the first payment; decides its phone")
    parser.add_argument("--in-flight", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="payments per second, open loop")
    parser.add_argument("--warm-up", type=float, required=True, help="seconds before measuring")
    parser.add_argument("--seconds", type=float, required=True, help="seconds measured")
    parser.add_argument("--samples", type=Path, help="file for one line per payment")
    uvloop.run(generate(parser.parse_args()))


if __name__ == "__main__":
    main()
