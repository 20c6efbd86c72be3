"""Callbacks at a steady rate while the core is away and the gateway is killed again and again; then the core is back.

Decides what is run side by side and what is compared: the callbacks that were answered 200 are the truth, and each
must have reached the core.

`python -m tests.callback_gateway.spool_campaign --help` runs it at any rate and for any time.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from development.slowness import slowness
from tests.callback_gateway import spools
from tests.callback_gateway.edges import (
    Program,
    connection,
    gateway_program,
    good_path,
    post,
    read_reply,
    request_bytes,
)
from tests.callback_gateway.recording_core import RecordingCore, serve_core

# As long as Safaricom's, more or less; with a number of its own, so that each can be told from all others.
BODY = b'{"Body":{"stkCallback":{"CheckoutRequestID":"ws_CO_%06d","ResultCode":0,"Padding":"' + b"x" * 400 + b'"}}}'
DELIVERY_WAIT_S = 120.0 * slowness()
CONNECTIONS = 64
KILLS_DELIVERING = 2


@dataclass
class Figures:
    """What was sent, and what became of it."""

    rate: float
    seconds: float
    kills: int = 0
    sent: int = 0
    accepted: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    deliveries: int = 0
    lost: int = 0
    damaged_files: int = 0

    def __str__(self) -> str:
        return (
            f"{self.sent} callbacks in {self.seconds:.1f} s ({self.rate:g} a second while a gateway served), the core "
            f"away all the time, the gateway killed {self.kills} times, and {KILLS_DELIVERING} times more when it "
            "delivered\n"
            f"answers: {dict(self.answers)}\n"
            f"accepted with 200: {self.accepted}, of which lost: {self.lost}; the core got {self.delivered} different "
            f"callbacks in {self.deliveries} deliveries; segments with a torn end: {self.damaged_files}\n"
        )


async def run_campaign(folder: Path, *, rate: float, seconds: float, kills: int) -> Figures:
    """The whole of it; `seconds` are those in which a gateway serves, shared by the lives between the kills."""
    figures = Figures(rate, seconds)
    accepted: set[bytes] = set()
    async with serve_core(RecordingCore()) as core:
        port = int(core.address.split(":")[1])
    began = time.monotonic()
    for _ in range(kills):
        async with gateway_program(folder, core.address, **_environment(folder)) as program:
            await _one_life(program, figures, accepted, seconds / kills)
            figures.kills += 1
    figures.seconds = time.monotonic() - began
    figures.accepted = len(accepted)
    # Slow enough to be killed in the midst of a delivery.
    core.delay_s = 0.05
    async with serve_core(core, port), asyncio.timeout(DELIVERY_WAIT_S):
        for _ in range(KILLS_DELIVERING):
            async with gateway_program(folder, core.address, **_environment(folder)) as program:
                delivered = len(core.calls)
                while len(core.calls) < delivered + 2:
                    await asyncio.sleep(0.01)
                program.process.kill()
        async with gateway_program(folder, core.address, **_environment(folder)):
            while _waiting(folder):
                await asyncio.sleep(0.05)
    figures.delivered, figures.deliveries = len(set(core.bodies)), len(core.bodies)
    figures.lost = len(accepted - set(core.bodies))
    figures.damaged_files = len(spools.files(folder)) - len(_waiting(folder))
    return figures


async def _one_life(program: Program, figures: Figures, accepted: set[bytes], seconds: float) -> None:
    """Send at the rate until more than half of what these seconds bring is accepted, and kill the gateway amid it."""
    async with asyncio.TaskGroup() as senders:
        began, wanted = time.monotonic(), len(accepted) + figures.rate * seconds / 2
        for number in itertools.count():
            if number >= figures.rate * seconds and len(accepted) > wanted:
                break
            await asyncio.sleep(max(0.0, began + number / figures.rate - time.monotonic()))
            senders.create_task(_send(program.address, BODY % figures.sent, figures, accepted))
            figures.sent += 1
        # The last of them are somewhere between the socket and the disk, each time elsewhere.
        await asyncio.sleep(0.02 * random.random())
        program.process.kill()
        await program.process.wait()


async def _send(address: str, body: bytes, figures: Figures, accepted: set[bytes]) -> None:
    try:
        status = (await post(address, good_path(), body)).status
    except (OSError, EOFError):
        figures.answers["none"] += 1
        return
    figures.answers[str(status)] += 1
    if status == 200:
        accepted.add(body)


async def measure_acceptance(folder: Path, seconds: float) -> float:
    """Callbacks a second that a gateway accepts into its spool, each fsync'd, from 64 clients that wait for answers."""
    done = 0

    async def client(address: str, end: float) -> None:
        nonlocal done
        async with connection(address) as (reader, writer):
            while time.monotonic() < end:
                writer.write(request_bytes("POST", good_path(), BODY % done))
                assert (await read_reply(reader)).status == 200
                done += 1

    async with gateway_program(folder, "127.0.0.1:1", **_environment(folder)) as program:
        assert (await post(program.address, good_path(), b"{}")).status == 200
        began = time.monotonic()
        await asyncio.gather(*[client(program.address, began + seconds) for _ in range(CONNECTIONS)])
        return done / (time.monotonic() - began)


def _environment(folder: Path) -> dict[str, str]:
    return spools.environment(folder) | {"GATEWAY_FORWARD_TIME_S": str(0.5 * slowness()), "GATEWAY_LOG_LEVEL": "INFO"}


def _waiting(folder: Path) -> list[str]:
    return [name for name in spools.files(folder) if "/" not in name]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Kill a gateway again and again while the core is away.")
    parser.add_argument("--rate", type=float, default=50.0, help="callbacks a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds in which a gateway serves")
    parser.add_argument("--kills", type=int, default=10)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(run_campaign(Path(name), rate=words.rate, seconds=words.seconds, kills=words.kills))
        sys.stdout.write(str(figures))
    with tempfile.TemporaryDirectory() as name:
        accepted = asyncio.run(measure_acceptance(Path(name), 10.0))
        sys.stdout.write(f"accepted with fsync: {accepted:.0f} callbacks/s\n")
    sys.exit(figures.lost > 0)


if __name__ == "__main__":
    main()
