"""How spooled callbacks reach the payment service: in rounds over the spool, at least once, none held up by another.

A round goes through every segment and offers what is not settled yet. Progress is only in memory: after a crash all of
a segment is offered again, and the service keeps a body once however often it comes. A segment leaves the spool when
everything in it is settled; what the service refuses for good is set aside in `rejected/` first, and a segment of which
something could not be read goes to `damaged/`.

After a call that fails, or settles nothing, there is a pause that grows, with chance in it, and the next group has half
the size: a callback on which the service chokes ends up alone, and its neighbours get through. After a call that
succeeds there is a pause as long as the call: however large the backlog, half of the service's time is for live
callbacks.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
import structlog
from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.alarms import CALLBACK_REJECTED, SPOOL_DAMAGED, SPOOL_UNREADABLE
from callback_gateway.core_channel import CoreChannel
from callback_gateway.forwarding import GROUP_MAX_BYTES
from callback_gateway.spool import Spool
from callback_gateway.spool_records import Record
from runtime.alarms import LastingAlarm, raise_alarm

# A quarter of what a call may carry: a live callback that comes at the same time waits for few others.
GROUP_MAX_CALLBACKS = 64
CALL_TIME_S = 10.0
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 3.0
# What comes to the folder by other hands, such as a file moved back from `rejected/`, is found within this time.
LOOK_EVERY_S = 30.0
SETTLING = frozenset({pb.CALLBACK_OUTCOME_STORED, pb.CALLBACK_OUTCOME_TOKEN_REFUSED})

log = structlog.get_logger()


@dataclass(eq=False)
class Delivery:
    """The deliveries of one gateway from its spool."""

    spool: Spool
    core: CoreChannel
    # Told when the service has answered a call.
    core_answered: Callable[[], None]
    # What is settled of the segments that are still there, by the starts of its records.
    settled: dict[str, set[int]] = field(default_factory=dict)
    damage_told: set[str] = field(default_factory=set)
    group_max: int = GROUP_MAX_CALLBACKS
    # Calls in a row that settled nothing.
    fruitless: int = 0
    # In the round under way; the alarm lasts until a round without.
    disk_failed: bool = False
    disk_fails: LastingAlarm = field(default_factory=lambda: LastingAlarm(SPOOL_UNREADABLE))

    async def run(self) -> NoReturn:
        """Deliver until cancelled."""
        while True:
            # Before the look, so that nothing kept after it is missed.
            self.spool.kept.clear()
            if not await self.round():
                await self._something_kept()

    async def round(self) -> bool:
        """Offer everything in the spool once; False if there is nothing in it."""
        self.disk_failed = False
        names: list[str] = []
        with self._outliving_the_disk():
            names = await self.spool.on_disk(self.spool.folder.segments)
            self.settled = {name: self.settled.get(name, set()) for name in names}
            self.damage_told &= set(names)
        for name in names:
            with self._outliving_the_disk():
                await self._deliver(name)
        if self.disk_failed:
            await asyncio.sleep(PAUSE_MAX_S * random.uniform(0.5, 1.0))
        else:
            self.disk_fails.set(False)
        return bool(names) or self.disk_failed

    async def _deliver(self, name: str) -> None:
        contents = await self.spool.on_disk(self.spool.folder.read, name)
        if contents.unreadable_bytes and name not in self.damage_told:
            self.damage_told.add(name)
            raise_alarm(
                SPOOL_DAMAGED,
                file=name,
                intact_callbacks=len(contents.records),
                unreadable_bytes=contents.unreadable_bytes,
            )
        settled = self.settled[name]
        waiting = (record for record in contents.records if record.start not in settled)
        for group in self._groups(waiting):
            outcomes = await self._submit(group)
            stored = [record.start for record, outcome in outcomes if outcome == pb.CALLBACK_OUTCOME_STORED]
            settled.update(stored)
            for record, outcome in outcomes:
                if outcome == pb.CALLBACK_OUTCOME_TOKEN_REFUSED:
                    with self._outliving_the_disk():
                        await self._reject(name, record)
                        settled.add(record.start)
        if len(settled) < len(contents.records):
            return
        if contents.unreadable_bytes:
            await self.spool.on_disk(self.spool.folder.set_aside, name)
        else:
            await self.spool.on_disk(self.spool.folder.remove, name)

    def _groups(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        """The records in groups for one call each; how large the next may be can change from call to call."""
        group: list[Record] = []
        size = 0
        for record in records:
            # On disk a callback is longer than in a call.
            length = record.end - record.start
            if group and (len(group) >= self.group_max or size + length > GROUP_MAX_BYTES):
                yield group
                group, size = [], 0
            group.append(record)
            size += length
        if group:
            yield group

    async def _submit(self, group: list[Record]) -> list[tuple[Record, int]]:
        """One call and the pause after it; each record with its outcome, or nothing at all."""
        began = asyncio.get_running_loop().time()
        request = pb.SubmitCallbacksRequest(callbacks=[record.callback for record in group])
        outcomes: list[int] = []
        reason = "NOT_STORED"
        try:
            outcomes += (await self.core.callbacks.SubmitCallbacks(request, timeout=CALL_TIME_S)).outcomes
        except grpc.aio.AioRpcError as error:
            reason = error.code().name
        else:
            self.core_answered()
        if len(outcomes) != len(group):
            self.group_max = max(1, len(group) // 2)
            outcomes.clear()
        if SETTLING.isdisjoint(outcomes):
            if not self.fruitless:
                log.warning("delivery waits", code=reason, callbacks=len(group))
            # No further doubling once it changes nothing: the number would grow without end.
            longest = min(PAUSE_MAX_S, PAUSE_MIN_S * 2.0**self.fruitless)
            self.fruitless += longest < PAUSE_MAX_S
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))
        else:
            self.fruitless = 0
            self.group_max = min(GROUP_MAX_CALLBACKS, 2 * self.group_max)
            await asyncio.sleep(asyncio.get_running_loop().time() - began)
        return list(zip(group, outcomes, strict=False))

    async def _reject(self, name: str, record: Record) -> None:
        kept = await self.spool.on_disk(self.spool.folder.reject, name, record)
        raise_alarm(CALLBACK_REJECTED, reference=record.callback.reference, file=f"{kept.parent.name}/{kept.name}")

    @contextlib.contextmanager
    def _outliving_the_disk(self) -> Iterator[None]:
        """What the disk refuses now is tried again in the next round, and told of once."""
        try:
            yield
        except OSError as error:
            self.disk_failed = True
            self.disk_fails.set(True, why=str(error))

    async def _something_kept(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self.spool.kept.wait()
        except TimeoutError:
            return
