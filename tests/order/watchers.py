"""Clients of WatchPayments that keep hanging up, and remember every event they were told, in order."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import grpc
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from tests.parts import channel
from tests.patience import PATIENCE_SECONDS

Told = tuple[str, int]
"""A payment and its version."""

EVENTS_A_STREAM_MAX = (100, 150, 200, 3_000)
"""The most events a watcher takes from one stream; every fourth watcher is a patient one, who sees nearly all live."""
RETRY_SECONDS = 0.05
NAP_SECONDS = 0.4
"""Long enough that a busy log outruns what the service keeps in memory for a watcher."""
NAPS = 0.003


@dataclass
class Watcher:
    """One client: what it was told, and how often it came back."""

    events_a_stream_max: int
    told: list[Told] = field(default_factory=list)
    resumes: int = 0
    naps: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cursor: str = ""


async def watch(watcher: Watcher, address: str, chance: Random, last: asyncio.Future[str]) -> None:
    """Follow all payments, with one interruption after another, until the payment that `last` will name has come."""
    async with channel(address) as connection:
        payments = PaymentServiceStub(connection)
        while not (last.done() and watcher.told and watcher.told[-1][0] == last.result()):
            came_so_far = len(watcher.told)
            try:
                await _one_stream(watcher, payments, chance, last)
            except grpc.aio.AioRpcError as error:
                watcher.errors[error.code().name] += 1
                await asyncio.sleep(RETRY_SECONDS)
            # One that brought nothing is no interruption of anything.
            watcher.resumes += len(watcher.told) > came_so_far


async def _one_stream(
    watcher: Watcher, payments: PaymentServiceStub, chance: Random, last: asyncio.Future[str]
) -> None:
    if watcher.cursor:
        request = pb.WatchPaymentsRequest(cursor=watcher.cursor)
    else:
        request = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    stream = payments.WatchPayments(request, timeout=PATIENCE_SECONDS)
    events_left = chance.randint(1, watcher.events_a_stream_max)
    try:
        async for message in stream:
            for event in message.events:
                watcher.told.append((event.payment.payment_id, event.payment.version))
                watcher.cursor = event.cursor
                events_left -= 1
                if events_left == 0 or (last.done() and event.payment.payment_id == last.result()):
                    # Whatever else was in the message is forgotten: the cursor of this event must bring it again.
                    return
            watcher.cursor = message.cursor
            if chance.random() < NAPS:
                watcher.naps += 1
                await asyncio.sleep(NAP_SECONDS)
    finally:
        stream.cancel()
