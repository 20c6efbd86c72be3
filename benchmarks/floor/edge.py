"""The floor's edge: callbacks in over HTTP, forwarded to the floor's core in natural groups, 200 once it has them."""

import argparse
import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import grpc
from aiohttp import web
from mpesa_payments.v1 import callback_service_pb2 as pb
from mpesa_payments.v1.callback_service_pb2_grpc import CallbackServiceStub

from runtime.grpc_options import CLIENT_OPTIONS
from runtime.serving import run, stop_requested, write_ready_file

CALLS_IN_FLIGHT = 2
"""While one call is answered the next travels, as in the gateway."""
CALL_WAIT_SECONDS = 10.0
ACCEPTED = b'{"ResultCode":0,"ResultDesc":"Accepted"}'


@dataclass(slots=True)
class Queue:
    """Callbacks that wait for a call."""

    waiting: list[tuple[pb.Callback, asyncio.Future[None]]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


async def take_callback(queue: Queue, request: web.BaseRequest) -> web.Response:
    """Read, queue, and answer once the core has it."""
    _, _, _, reference, token = request.path.split("/")
    callback = pb.Callback(
        kind=pb.CALLBACK_KIND_STK,
        reference=reference,
        token=token,
        body=await request.read(),
        source_address=request.remote or "",
    )
    callback.receive_time.GetCurrentTime()
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    queue.waiting.append((callback, stored))
    queue.arrived.set()
    await stored
    return web.Response(body=ACCEPTED, content_type="application/json")


async def forward(queue: Queue, stub: CallbackServiceStub) -> NoReturn:
    """Send what has gathered, for ever."""
    while True:
        while not queue.waiting:
            queue.arrived.clear()
            await queue.arrived.wait()
        group, queue.waiting = queue.waiting, []
        request = pb.SubmitCallbacksRequest(callbacks=[callback for callback, _ in group])
        await stub.SubmitCallbacks(request, timeout=CALL_WAIT_SECONDS)
        for _, stored in group:
            stored.set_result(None)


async def serve(core_address: str, ready_file: Path) -> None:
    """Serve on a free port until told to stop."""
    stop, queue = stop_requested(), Queue()
    async with grpc.aio.insecure_channel(core_address, options=CLIENT_OPTIONS) as channel:
        server = web.Server(lambda request: take_callback(queue, request))
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, backlog=1_024)
        async with asyncio.TaskGroup() as senders:
            calls = [senders.create_task(forward(queue, CallbackServiceStub(channel))) for _ in range(CALLS_IN_FLIGHT)]
            write_ready_file(ready_file, {"address": f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"})
            await stop.wait()
            for call in calls:
                call.cancel()
        listener.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", required=True, help="HOST:PORT of the floor's core")
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    run(serve(arguments.core, arguments.ready_file))


if __name__ == "__main__":
    main()
