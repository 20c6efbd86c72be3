"""The gateway's parts put together: listen, forward, report, drain."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from aiohttp import web

from callback_gateway.alarms import PROGRAM_FAULT
from callback_gateway.config import GatewaySettings
from callback_gateway.core_channel import core_channel
from callback_gateway.core_health import CoreHealth
from callback_gateway.delivery import Delivery
from callback_gateway.edge import Edge, UnknownKeys, answer
from callback_gateway.followed_keys import follow_keys
from callback_gateway.forwarding import ForwardQueue, forward_callbacks
from callback_gateway.hints import Hints
from callback_gateway.passengers import Passengers
from callback_gateway.sources import Sources, StrangeSources
from callback_gateway.spool import Spool
from callback_gateway.spool_folder import open_spool_folder
from runtime.callback_tokens import CallbackKeys, load_callback_keys
from runtime.connections import BoundedConnection, Connections
from runtime.serving import (
    Address,
    AddressTaken,
    is_address_taken,
    raise_descriptor_limit,
    stop_requested,
    write_ready_file,
)

SERVER_NAME = "gateway"
# A burst of callbacks opens its connections at once; the kernel holds those not accepted yet.
LISTEN_BACKLOG = 1_024
# Beside the connections: the spool's files, the channel to the core, the log.
OTHER_DESCRIPTORS = 100
COUNTS_EVERY_S = 60.0
# Bytes that a client sent before it could know that we drain are still taken.
DRAIN_GRACE_S = 0.2
DRAIN_LOOK_EVERY_S = 0.02
# What is not done when the drain has ended is given this long to notice that it is cancelled.
CUT_OFF_TIME_S = 0.1

log = structlog.get_logger()


async def serve(settings: GatewaySettings, ready_file: Path | None) -> None:
    """Serve until told to stop, then finish what is in hand."""
    stop = stop_requested()
    raise_descriptor_limit(settings.connections_max + OTHER_DESCRIPTORS, "GATEWAY_CONNECTIONS_MAX")
    keys = load_callback_keys(settings.callback_keys_file)
    async with run_gateway(settings, keys) as address:
        write_ready_file(ready_file, {"address": str(address), "core_address": str(settings.core_address)})
        log.info("gateway serves", address=str(address), core_address=str(settings.core_address))
        await stop.wait()
        log.info("gateway drains")


@contextlib.asynccontextmanager
async def run_gateway(settings: GatewaySettings, keys: CallbackKeys) -> AsyncIterator[Address]:
    """A serving gateway at the address; it has drained when the block is left."""
    counts: Counter[str] = Counter()
    connections = Connections(
        settings.header_time_s, settings.idle_time_s, settings.connections_max, SERVER_NAME, PROGRAM_FAULT, counts
    )
    queue = ForwardQueue(settings.callbacks_waiting_max, settings.forward_time_s)
    async with (
        _running_spool(settings) as spool,
        core_channel(settings.core_address, settings.core_tls) as core,
    ):
        health, hints = CoreHealth(core, keys), Hints(core, counts)
        # Half of the places stay for callbacks, whatever the setting says.
        streams_max = min(settings.passenger_streams_max, settings.connections_max // 2)
        passengers = Passengers(core, counts, frozenset(settings.passenger_origins), streams_max)
        edge = Edge(
            keys=keys,
            queue=queue,
            spool=spool,
            connections=connections,
            counts=counts,
            body_max_bytes=settings.body_max_bytes,
            body_time_s=settings.body_time_s,
            core=health,
            unknown_keys=UnknownKeys(),
            sources=Sources(settings.proxy_addresses, settings.callback_sources),
            strange_sources=StrangeSources(),
            hints=hints,
            passengers=passengers,
        )
        http = web.Server(lambda request: answer(edge, request))
        listener = await _listen(http, connections, settings.listen_address)
        # A part that fails ends the whole gateway: a process that takes callbacks and forwards none is worse than none.
        async with asyncio.TaskGroup() as parts:
            work = [parts.create_task(forward_callbacks(queue, core)), parts.create_task(_report(counts))]
            work.append(parts.create_task(follow_keys(settings, keys, spool, health)))
            work.append(parts.create_task(hints.pass_on()))
            if spool is not None:
                delivery = Delivery(spool, core, queue.core_answered)
                work += [parts.create_task(spool.write_groups()), parts.create_task(delivery.run())]
            try:
                host, port = listener.sockets[0].getsockname()[:2]
                yield Address(host, port)
            finally:
                listener.close()
                await _drain(connections, passengers, queue, spool, settings)
                await http.shutdown(CUT_OFF_TIME_S)
                for task in work:
                    task.cancel()
                log.info("gateway stopped", unsettled=queue.unsettled, **counts)


@contextlib.asynccontextmanager
async def _running_spool(settings: GatewaySettings) -> AsyncIterator[Spool | None]:
    """The spool, or None where the settings name none."""
    if settings.spool_folder is None or settings.spool_keys_file is None:
        log.warning("spool off", advice="set GATEWAY_SPOOL_FOLDER, or callbacks are refused while the service is away")
        yield None
        return
    folder = open_spool_folder(settings.spool_folder, settings.spool_keys_file)
    spool = Spool(folder, settings.spool_max_bytes, settings.spool_time_s)
    try:
        yield spool
    finally:
        await spool.close()


async def _listen(http: web.Server, connections: Connections, address: Address) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: BoundedConnection(http, connections), address.host, address.port, backlog=LISTEN_BACKLOG
        )
    except OSError as error:
        if is_address_taken(error):
            raise AddressTaken(address, "--listen or GATEWAY_LISTEN_ADDRESS") from error
        raise


async def _drain(
    connections: Connections,
    passengers: Passengers,
    queue: ForwardQueue,
    spool: Spool | None,
    settings: GatewaySettings,
) -> None:
    """Wait until nothing is in hand; each part of a request has its bound, and so has this."""
    connections.draining = True
    await asyncio.sleep(DRAIN_GRACE_S)
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.header_time_s + settings.body_time_s + settings.forward_time_s
    if spool is not None:
        end += settings.spool_time_s
    while loop.time() < end:
        connections.close_waiting()
        passengers.end_streams()
        unsettled = queue.unsettled + (spool.unsettled if spool is not None else 0)
        if not connections.waiting and not connections.in_hand and not unsettled:
            return
        await asyncio.sleep(DRAIN_LOOK_EVERY_S)


async def _report(counts: Counter[str]) -> None:
    """A line with the counts each minute in which they changed: single refusals would fill a log at will."""
    told: dict[str, int] = {}
    while True:
        await asyncio.sleep(COUNTS_EVERY_S)
        if counts != told:
            told = dict(counts)
            log.info("gateway counts", **told)
