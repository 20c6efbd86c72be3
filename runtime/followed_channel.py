"""A channel to the payment service that follows its files: a new certificate needs no restart.

gRPC reads a client's certificate once, when the channel is made. So the files are looked at now and then, and when they
have changed, a new channel takes over; calls that are under way end on the old one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import grpc.aio
import structlog

from runtime.alarms import Alarm, LastingAlarm
from runtime.serving import Address
from runtime.tls import FollowedFiles, TlsFiles, open_channel, read_tls, watch_expiry

LOOK_EVERY_S = 5.0
# As long as any call takes: what is under way is not cut off.
OLD_CHANNEL_TIME_S = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CertificateAlarms:
    """How a program tells of its certificate for the payment service."""

    unusable: Alarm
    expires: Alarm


@contextlib.asynccontextmanager
async def followed_channel(
    address: Address, files: TlsFiles | None, alarms: CertificateAlarms, take: Callable[[grpc.aio.Channel], None]
) -> AsyncIterator[None]:
    """`take` gets the channel now, and each one that follows it; in plaintext without files.

    StartRefused where a file cannot be used now.
    """
    if files is None:
        async with open_channel(address, None) as channel:
            take(channel)
            yield
        return
    followed = FollowedFiles(files, read_tls(files, datetime.now(UTC)), alarms.unusable)
    in_use = [open_channel(address, followed.in_force())]
    take(in_use[0])

    def replace(channel: grpc.aio.Channel) -> grpc.aio.Channel:
        take(channel)
        in_use.append(channel)
        return in_use.pop(0)

    following = asyncio.create_task(_follow(address, followed, LastingAlarm(alarms.expires), replace))
    try:
        yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await in_use[0].close(None)


async def _follow(
    address: Address,
    files: FollowedFiles,
    expires: LastingAlarm,
    replace: Callable[[grpc.aio.Channel], grpc.aio.Channel],
) -> None:
    shown = files.in_force()
    async with asyncio.TaskGroup() as closing:
        while True:
            await watch_expiry(files, expires, partial(datetime.now, UTC))
            await asyncio.sleep(LOOK_EVERY_S)
            if (content := files.in_force()) is shown:
                continue
            shown = content
            old = replace(open_channel(address, content))
            closing.create_task(old.close(OLD_CHANNEL_TIME_S))
            log.info("certificate renewed")
