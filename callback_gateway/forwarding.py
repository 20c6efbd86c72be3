"""How callbacks reach the payment service: in natural groups, with a bound on number and on time.

While calls are in flight the next group fills, so a lone callback waits for nobody and a busy second shares calls.
A callback is tried again within its time while the service is away or cannot store it now: SubmitCallbacks keeps a
body once however often it comes. This file decides when and with whom a callback travels; what its outcome means to
Safaricom is `edge.py`'s to say.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

import grpc
import structlog
from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway.alarms import SERVICE_ANSWERS_WRONGLY, SERVICE_REFUSES_GATEWAY
from callback_gateway.core_channel import CoreChannel
from runtime.alarms import raise_alarm

# The contract's limits. A callback adds some 200 bytes of its own to its body; a margin is left for the framing.
GROUP_MAX_CALLBACKS = 256
GROUP_MAX_BYTES = 1_000_000
# With one call the gateway idles while the service commits; with two the next group travels meanwhile.
CALLS_IN_FLIGHT = 2
# An attempt may end with the service away, and it may be back a moment later.
RETRY_PAUSE_S = 0.1
# What no repetition changes: the two programs do not agree on the contract, or on who may call.
FINAL_CODES = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
)

log = structlog.get_logger()


class Outcome(Enum):
    """What became of a callback; the queue never says SPOOLED."""

    STORED = "stored"
    SPOOLED = "in the spool"
    REFUSED = "refused"
    NOT_STORED = "not stored in time"


@dataclass(frozen=True, eq=False)
class Waiting:
    """A callback on its way."""

    callback: pb.Callback
    give_up_at: float
    outcome: asyncio.Future[Outcome]


@dataclass(eq=False)
class ForwardQueue:
    """The callbacks that wait for a call, in order of arrival."""

    callbacks_max: int
    forward_time_s: float
    waiting: deque[Waiting] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    # Those waiting and those in a call.
    unsettled: int = 0
    # As far as the last call of anybody's tells.
    core_away: bool = False

    def offer(self, callback: pb.Callback) -> asyncio.Future[Outcome] | None:
        """Queue a callback, or return None if the queue is full."""
        if self.unsettled >= self.callbacks_max:
            return None
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self.waiting.append(Waiting(callback, loop.time() + self.forward_time_s, outcome))
        self.unsettled += 1
        self.arrived.set()
        return outcome

    def settle(self, item: Waiting, outcome: Outcome) -> None:
        """Tell whoever waits what became of the callback."""
        self.unsettled -= 1
        item.outcome.set_result(outcome)

    def core_answered(self) -> None:
        """Note that the service is there."""
        if self.core_away:
            self.core_away = False
            log.info("core reached again")

    def put_back(self, group: list[Waiting]) -> None:
        """Queue again, in front and in order, what a call did not settle."""
        self.waiting.extendleft(reversed(group))


async def forward_callbacks(queue: ForwardQueue, core: CoreChannel) -> NoReturn:
    """Forward what is queued until cancelled."""
    async with asyncio.TaskGroup() as senders:
        for _ in range(CALLS_IN_FLIGHT):
            senders.create_task(_send_groups(queue, core))
    raise AssertionError("the senders run until they are cancelled")


async def _send_groups(queue: ForwardQueue, core: CoreChannel) -> NoReturn:
    while True:
        while not queue.waiting:
            queue.arrived.clear()
            await queue.arrived.wait()
        group = _take_group(queue)
        if group and not await _send(queue, core, group):
            await asyncio.sleep(RETRY_PAUSE_S)


def _take_group(queue: ForwardQueue) -> list[Waiting]:
    """The next callbacks that fit into one call; those whose time is over are settled instead."""
    group: list[Waiting] = []
    size, now = 0, asyncio.get_running_loop().time()
    while queue.waiting and len(group) < GROUP_MAX_CALLBACKS:
        item = queue.waiting[0]
        if item.give_up_at <= now:
            queue.settle(queue.waiting.popleft(), Outcome.NOT_STORED)
            continue
        # Field number and length before each callback: 4 bytes at most for 64 KiB.
        size += item.callback.ByteSize() + 4
        if group and size > GROUP_MAX_BYTES:
            break
        group.append(queue.waiting.popleft())
    return group


async def _send(queue: ForwardQueue, core: CoreChannel, group: list[Waiting]) -> bool:
    """One call; False if something is left to be tried again after a pause."""
    request = pb.SubmitCallbacksRequest(callbacks=[item.callback for item in group])
    time_left = max(item.give_up_at for item in group) - asyncio.get_running_loop().time()
    try:
        response = await core.callbacks.SubmitCallbacks(request, timeout=max(time_left, 0.01))
    except grpc.aio.AioRpcError as error:
        return _call_failed(queue, group, error)
    except asyncio.CancelledError:
        queue.put_back(group)
        raise
    queue.core_answered()
    if len(response.outcomes) != len(group):
        raise_alarm(SERVICE_ANSWERS_WRONGLY, callbacks=len(group), outcomes=len(response.outcomes))
        for item in group:
            queue.settle(item, Outcome.NOT_STORED)
        return True
    again = []
    for item, outcome in zip(group, response.outcomes, strict=True):
        # A newer service may know outcomes that we do not: only these two are final.
        if outcome == pb.CALLBACK_OUTCOME_STORED:
            queue.settle(item, Outcome.STORED)
        elif outcome == pb.CALLBACK_OUTCOME_TOKEN_REFUSED:
            queue.settle(item, Outcome.REFUSED)
        else:
            again.append(item)
    queue.put_back(again)
    return not again


def _call_failed(queue: ForwardQueue, group: list[Waiting], error: grpc.aio.AioRpcError) -> bool:
    """Try again, whatever it was, unless it is certain to fail again: repeating costs little, and money may be told."""
    if error.code() not in FINAL_CODES:
        if not queue.core_away:
            queue.core_away = True
            log.warning("core unavailable", code=error.code().name, details=error.details())
        queue.put_back(group)
        return False
    refused = error.code() is grpc.StatusCode.PERMISSION_DENIED
    alarm = SERVICE_REFUSES_GATEWAY if refused else SERVICE_ANSWERS_WRONGLY
    raise_alarm(alarm, callbacks=len(group), code=error.code().name, details=error.details())
    for item in group:
        queue.settle(item, Outcome.NOT_STORED)
    return True
