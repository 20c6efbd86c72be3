"""A process that writes payments as fast as it can: `python -m tests.order.writer PLAN.json`.

It has the service's own grouped writers, many of them side by side with a connection each, and hands every fact to
whichever comes by chance: the versions of one payment go through different connections. Lanes work through payments
one fact at a time, so what a lane was told first was committed before what it was told next.

What was acknowledged goes into a record of its own, one line an event: lane, payment, version. This record, and never
the log, says what a watcher must have seen.
"""

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TextIO, TypeVar
from uuid import UUID

from payment_service.application.recording.record_facts import Submission
from payment_service.domain.errors import StoreUnavailable
from payment_service.domain.facts import Fact, PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Times
from tests.patience import PATIENCE_SECONDS
from tests.writers import Writers, a_request, running_writers

Answer = TypeVar("Answer")

CALLER = "development"
"""A lane's patience with a store whose connections keep being cut: many times what it ever needs."""
RETRY_SECONDS = 0.05
LOOK_SECONDS = 0.05

# Long enough that no timer of any process has a say in a payment of this campaign.
CALM = Times(
    expire_after=timedelta(hours=6),
    send_within=timedelta(hours=6),
    orphaned_after=timedelta(hours=6),
    lease=timedelta(hours=6),
)


@dataclass(frozen=True)
class Plan:
    """What one process is to do.

    It goes on past `events` until `enough_file` exists, and waits while `hold_file` does.
    """

    database_url: str
    keys_folder: str
    record_file: str
    enough_file: str
    hold_file: str
    pairs: int
    lanes: int
    events: int
    seed: str

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


class Record:
    """What was acknowledged, in the order of the acknowledgements; and whether to go on."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.events = 0
        self.go_on = asyncio.Event()
        self.enough = False

    def add(self, lane: str, payment_id: UUID, version: int) -> None:
        self._file.write(f"{lane} {payment_id} {version}\n")
        self.events += 1


async def write_payments(plan: Plan) -> None:
    """Run the lanes to their end. A lane that is told anything unexpected ends the process with a traceback."""
    with Path(plan.record_file).open("w") as file:
        record = Record(file)
        await _run_lanes(plan, record)


async def _run_lanes(plan: Plan, record: Record) -> None:
    async with contextlib.AsyncExitStack() as stack:
        writers = [
            await stack.enter_async_context(running_writers(plan.database_url, Path(plan.keys_folder), times=CALM))
            for _ in range(plan.pairs)
        ]
        lanes = [_lane(f"{plan.seed}-{number}", writers, record) for number in range(plan.lanes)]
        async with asyncio.TaskGroup() as running:
            running.create_task(_obey(plan, record))
            for lane in lanes:
                running.create_task(lane)


async def _obey(plan: Plan, record: Record) -> None:
    """Do as the files say, until there is enough."""
    while not record.enough:
        if Path(plan.hold_file).exists():
            record.go_on.clear()
        else:
            record.go_on.set()
        record.enough = record.events >= plan.events and Path(plan.enough_file).exists()
        await asyncio.sleep(LOOK_SECONDS)
    record.go_on.set()


async def _lane(lane: str, writers: Sequence[Writers], record: Record) -> None:
    chance = Random(lane)
    for number in itertools.count(1):
        await record.go_on.wait()
        if record.enough:
            return
        request = a_request()
        created = await _answered(lambda request=request: chance.choice(writers).create(CALLER, request, None, None))  # type: ignore[misc]  # the default binds the loop's value
        payment_id = created.payment.payment_id
        record.add(lane, payment_id, 1)
        for version, fact in enumerate(_life(lane, number), start=2):
            submission = Submission(fact, payment_id)
            await record.go_on.wait()
            told = await _answered(lambda told=submission: chance.choice(writers).facts.submit(told))  # type: ignore[misc]  # the default binds the loop's value
            if told.payment is None or told.payment.version != version:
                raise AssertionError(f"version {version} of {payment_id} became {told.payment}")
            record.add(lane, payment_id, version)


def _life(lane: str, number: int) -> Sequence[Fact]:
    """A payment's facts: claimed, accepted, paid."""
    name = f"{lane}-{number}"
    claim_id = UUID(int=Random(name).getrandbits(128))
    receipt = f"R{claim_id.hex[:9].upper()}"
    return (
        SendClaimed(claim_id),
        PromptAccepted(claim_id, f"merchant-{name}", f"checkout-{name}"),
        ResultReported(f"callback:{name}", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt),
    )


async def _answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask, with the same ids, until there is an answer: what was committed without one is found again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)


def main() -> None:
    """Do what the plan says."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    asyncio.run(write_payments(plan))


if __name__ == "__main__":
    main()
