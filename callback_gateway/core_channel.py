"""The channel to the payment service: who the gateway says it is, and that new certificates need no restart.

gRPC reads a client's certificate once, when the channel is made. So the files are looked at now and then, and when they
have changed, a new channel takes over; calls that are under way end on the old one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import grpc.aio
import structlog
from grpc_health.v1 import health_pb2_grpc
from mpesa_payments.v1.callback_service_pb2_grpc import CallbackServiceStub
from mpesa_payments.v1.passenger_service_pb2_grpc import PassengerServiceStub

from callback_gateway.alarms import CERTIFICATE_EXPIRES, TLS_FILES_UNUSABLE
from runtime.alarms import LastingAlarm
from runtime.serving import Address
from runtime.tls import FollowedFiles, TlsFiles, open_channel, read_tls, watch_expiry

LOOK_EVERY_S = 5.0
# Longer than any call of the gateway's: what is under way is not cut off.
OLD_CHANNEL_TIME_S = 30.0

log = structlog.get_logger()


class CoreChannel:
    """The stubs of the channel that is in force. Ask for them anew for each call."""

    callbacks: CallbackServiceStub
    passengers: PassengerServiceStub
    health: health_pb2_grpc.HealthStub

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.take(channel)

    def take(self, channel: grpc.aio.Channel) -> None:
        """From now on, call through this channel."""
        self.channel = channel
        self.callbacks = CallbackServiceStub(channel)
        self.passengers = PassengerServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)


@contextlib.asynccontextmanager
async def core_channel(address: Address, files: TlsFiles | None) -> AsyncIterator[CoreChannel]:
    """A channel that follows its files; in plaintext without them. StartRefused where a file cannot be used now."""
    if files is None:
        async with open_channel(address, None) as channel:
            yield CoreChannel(channel)
        return
    followed = FollowedFiles(files, read_tls(files, datetime.now(UTC)), TLS_FILES_UNUSABLE)
    core = CoreChannel(open_channel(address, followed.in_force()))
    following = asyncio.create_task(_follow(core, address, followed))
    try:
        yield core
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await core.channel.close(None)


async def _follow(core: CoreChannel, address: Address, files: FollowedFiles) -> None:
    expires, shown = LastingAlarm(CERTIFICATE_EXPIRES), files.in_force()
    async with asyncio.TaskGroup() as closing:
        while True:
            await watch_expiry(files, expires, partial(datetime.now, UTC))
            await asyncio.sleep(LOOK_EVERY_S)
            if (content := files.in_force()) is shown:
                continue
            old, shown = core.channel, content
            core.take(open_channel(address, content))
            closing.create_task(old.close(OLD_CHANNEL_TIME_S))
            log.info("certificate renewed")
