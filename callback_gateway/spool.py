"""Where callbacks wait that the payment service cannot take now: on disk, before Safaricom is told 200.

Callbacks share fsyncs in natural groups: while one group is being written the next fills, off the event loop. This
file decides when the spool takes a callback (there is room, and the disk says in time that it is safe) and what a
failing disk means: a line in the log, no 200, and another try with each group, or by itself every few seconds. How
the callbacks leave again is `delivery.py`'s to say; what stands on disk, `spool_folder.py`'s.
"""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn, ParamSpec, TypeVar

from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.alarms import SPOOL_DISK_FAILS, SPOOL_FULL
from callback_gateway.spool_folder import SpoolFolder
from callback_gateway.spool_records import RECORD_MAX_BYTES
from runtime.alarms import LastingAlarm

GROUP_MAX_BYTES = 1_048_576
# A disk that failed is tried this often while no callback tries it: a gateway that is not ready gets none.
PROBE_EVERY_S = 2.0
ADVICE = {
    errno.ENOSPC: "free space on the volume of the spool",
    errno.EDQUOT: "free space on the volume of the spool, or raise its quota",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "mount the volume of the spool for writing",
    errno.EACCES: "let the gateway's user write to the spool",
    errno.EPERM: "let the gateway's user write to the spool",
}

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False)
class Spool:
    """The spool of one gateway. `write_groups` must run for it to take anything."""

    folder: SpoolFolder
    bytes_max: int
    # Longest time for a callback to be on disk, seconds.
    keep_time_s: float
    # Set whenever something was kept; whoever delivers clears it.
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    # Callbacks whose fate is not known yet.
    unsettled: int = 0
    _waiting: dict[asyncio.Future[bool], bytes] = field(default_factory=dict)
    _unwritten_bytes: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _full: LastingAlarm = field(default_factory=lambda: LastingAlarm(SPOOL_FULL))
    _failing: LastingAlarm = field(default_factory=lambda: LastingAlarm(SPOOL_DISK_FAILS))
    # One thread: what it does needs no locks, and a disk that hangs holds up nothing else.
    _disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="spool"))

    @property
    def takes_callbacks(self) -> bool:
        """Whether a callback that came now would be kept, as far as is known."""
        return self._has_room() and not self._failing.raised

    async def keep(self, callback: pb.Callback) -> bool:
        """Whether the callback is on disk for good. If not, it may still be found there after a crash, which is
        harmless; it must not be acknowledged."""
        if not self._has_room():
            return False
        record = self.folder.sealer.seal(callback)
        safe: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[safe] = record
        self._unwritten_bytes += len(record)
        self.unsettled += 1
        self._arrived.set()
        try:
            async with asyncio.timeout(self.keep_time_s):
                return await safe
        except TimeoutError:
            self.report_slow_disk()
            return False
        finally:
            self._waiting.pop(safe, None)
            self._unwritten_bytes -= len(record)
            self.unsettled -= 1

    def report_slow_disk(self) -> None:
        """A callback has waited too long for the disk. Until the disk is found to work, none is taken."""
        self._failed("the disk did not answer in time", "see why the volume of the spool is slow")

    async def write_groups(self) -> NoReturn:
        """Write what waits, group after group, until cancelled."""
        while True:
            await self._something_waits()
            group = self._take_group()
            try:
                await self.on_disk(self.folder.append, list(group.values()))
            except OSError as error:
                self._disk_failed(error)
                written = False
            else:
                self._disk_works()
                self.kept.set()
                written = True
            for safe in group:
                # One that waited too long has left.
                if not safe.done():
                    safe.set_result(written)

    async def on_disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do some work of the folder's, off the event loop and after all that was asked for before."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, lambda: work(*args, **kwargs))

    async def close(self) -> None:
        """Let go of the folder; what is in it waits for the next start."""
        await self.on_disk(self.folder.close)
        self._disk.shutdown(wait=False)

    async def _something_waits(self) -> None:
        while not self._waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(PROBE_EVERY_S if self._failing.raised else None):
                    await self._arrived.wait()
            except TimeoutError:
                await self._probe()

    async def _probe(self) -> None:
        try:
            await self.on_disk(self.folder.probe)
        except OSError as error:
            self._disk_failed(error)
        else:
            self._disk_works()

    def _take_group(self) -> dict[asyncio.Future[bool], bytes]:
        group: dict[asyncio.Future[bool], bytes] = {}
        size = 0
        for safe, record in self._waiting.items():
            size += len(record)
            if group and size > GROUP_MAX_BYTES:
                break
            group[safe] = record
        for safe in group:
            del self._waiting[safe]
        return group

    def _has_room(self) -> bool:
        # Room for the largest, so that small ones do not slip through a spool that is full for others.
        used = self.folder.used_bytes + self._unwritten_bytes
        full = used + RECORD_MAX_BYTES > self.bytes_max
        self._full.set(full, used_bytes=used, bytes_max=self.bytes_max)
        return not full

    def _disk_failed(self, error: OSError) -> None:
        known = ADVICE.get(error.errno or 0, "look after the volume of the spool")
        self._failed(error.strerror or repr(error), known)

    def _failed(self, reason: str, advice: str) -> None:
        self._failing.set(True, why=reason, folder=str(self.folder.path), check=advice)
        # The writer may be waiting for a callback, and is to look meanwhile whether the disk works again.
        self._arrived.set()

    def _disk_works(self) -> None:
        self._failing.set(False, folder=str(self.folder.path))
