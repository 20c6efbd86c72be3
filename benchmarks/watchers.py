"""One client process with many watchers: a `WatchPayment` stream for each payment id it reads from standard input.

An empty line says go: all streams are opened in one burst. It prints a JSON line once every watcher has its snapshot,
and one when every stream has ended or standard input has: whoever still waits then has not been served. A watcher is
served if it got exactly one event, which is its own payment's COMPLETED, and then the end of the stream; everything
else is counted under what went wrong.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop
from mpesa_payments.v1 import payment_pb2 as messages
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from runtime.grpc_options import CLIENT_OPTIONS

CONNECT_WAIT_SECONDS = 10.0
LAST_WAIT_SECONDS = 5.0
"""For what was on its way when standard input ended."""


@dataclass(slots=True)
class Tally:
    """What has happened so far."""

    wanted: int
    opened: int = 0
    ended_unopened: int = 0
    open_seconds: list[float] = field(default_factory=list)
    served: dict[str, float] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)
    all_opened: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self) -> None:
        """Every watcher has its snapshot or has failed."""
        if self.opened + self.ended_unopened >= self.wanted:
            self.all_opened.set()


async def watch(stub: PaymentServiceStub, payment_id: str, tally: Tally, timeout: float) -> None:
    """Watch one payment to its end."""
    begun, seen = time.monotonic(), 0.0
    events: list[messages.PaymentEvent] = []
    has_snapshot = False
    try:
        async for message in stub.WatchPayment(pb.WatchPaymentRequest(payment_id=payment_id), timeout=timeout):
            if not has_snapshot:
                has_snapshot = True
                tally.opened += 1
                tally.open_seconds.append(round(time.monotonic() - begun, 4))
                tally.settle()
            if message.events:
                seen = time.time()
                events += message.events
    except grpc.aio.AioRpcError as error:
        tally.wrong[error.code().name] += 1
    else:
        mine = [(event.payment.payment_id, event.type) for event in events]
        if mine == [(payment_id, messages.PAYMENT_EVENT_TYPE_COMPLETED)]:
            tally.served[payment_id] = seen
        else:
            tally.wrong["not exactly its own event"] += 1
    tally.ended_unopened += not has_snapshot
    tally.settle()


async def watch_all(address: str, timeout: float, times_file: Path) -> None:
    """Read ids, wait for go, watch them all, report."""
    async with grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        await asyncio.wait_for(channel.channel_ready(), CONNECT_WAIT_SECONDS)
        ids = await asyncio.to_thread(read_ids)
        tally = Tally(len(ids))
        stub = PaymentServiceStub(channel)
        watchers = [asyncio.create_task(watch(stub, payment_id, tally, timeout)) for payment_id in ids]
        await tally.all_opened.wait()
        sys.stdout.write(json.dumps({"opened": tally.opened, "open_seconds": tally.open_seconds}) + "\n")
        sys.stdout.flush()
        all_ended = asyncio.gather(*watchers, return_exceptions=True)
        patience = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        await asyncio.wait([all_ended, patience], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([all_ended], timeout=LAST_WAIT_SECONDS)
        for watcher in watchers:
            tally.wrong["nothing came"] += watcher.cancel()
        await all_ended
    times_file.write_text(json.dumps(tally.served))
    sys.stdout.write(json.dumps({"served": len(tally.served), "wrong": dict(tally.wrong)}) + "\n")
    # Said before the end of the process, which waits for the thread that reads standard input.
    sys.stdout.flush()


def read_ids() -> list[str]:
    """The ids up to the empty line, which is the sign to go; the first line says that this process is ready."""
    sys.stdout.write(json.dumps({"ready": True}) + "\n")
    sys.stdout.flush()
    ids = []
    while line := sys.stdin.readline().strip():
        ids.append(line)
    return ids


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="HOST:PORT of the service")
    parser.add_argument("--timeout", type=float, required=True, help="longest life of a stream, seconds")
    parser.add_argument("--times-file", type=Path, required=True, help="when each payment's event was seen")
    arguments = parser.parse_args()
    uvloop.run(watch_all(arguments.address, arguments.timeout, arguments.times_file))


if __name__ == "__main__":
    main()
