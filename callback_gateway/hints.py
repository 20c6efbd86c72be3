"""Hints: results that are posted to the address without a token, where anybody can post anything.

A hint makes the payment service ask Safaricom sooner, and does nothing else. So it has none of a callback's rights: it
is never kept in the spool, a few are read at a time, they go to the service one after the other, and what is too many
is dropped. Every sender gets the same answer, whatever becomes of the hint.
"""

import asyncio
from collections import Counter
from typing import NoReturn

import grpc.aio
from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.core_channel import CoreChannel

HINT_PATH = "/api/v1/payments/mpesa/callback"
"""Where integrations of before have their callbacks sent."""
HINT_MAX_BYTES = 8_192
"""Many times the longest result of an STK push."""
READ_AT_ONCE = 16
"""Of some two thousand connections: whoever sends a hint slowly takes no callback's place."""
WAITING_MAX = 64
PAUSE_S = 0.05
"""Between two hints to the service, so twenty a second at most."""
HINT_TIME_S = 3.0


class Hints:
    """Those that wait for the payment service."""

    def __init__(self, core: CoreChannel, counts: Counter[str]) -> None:
        self._core, self._counts = core, counts
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(WAITING_MAX)
        self.being_read = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may be read."""
        return self.being_read < READ_AT_ONCE and not self._waiting.full()

    def offer(self, body: bytes) -> None:
        """Pass a hint on when it is its turn; one too many is dropped."""
        try:
            self._waiting.put_nowait(body)
        except asyncio.QueueFull:
            self.drop()

    def drop(self) -> None:
        """Count one that nobody looks at."""
        self._counts["hint_dropped"] += 1

    async def pass_on(self) -> NoReturn:
        """Pass hints on until cancelled. One that the service cannot take now is lost: its own queries go on."""
        while True:
            body = await self._waiting.get()
            try:
                await self._core.callbacks.SubmitHint(pb.SubmitHintRequest(body=body), timeout=HINT_TIME_S)
                self._counts["hint_passed_on"] += 1
            except grpc.aio.AioRpcError:
                self.drop()
            await asyncio.sleep(PAUSE_S)
