"""A flood of forged callbacks changes nothing, and keeps no true one out, whoever else holds sockets open."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.callback_tokens import CallbackKeys, callback_path
from runtime.serving import raise_descriptor_limit
from tests.callback_gateway.edges import (
    KEYS,
    connection,
    gateway_program,
    new_reference,
    post,
    read_reply,
    request_bytes,
)
from tests.callback_gateway.recording_core import RecordingCore

SENDERS = 4
AT_ONCE = 50
"""Requests that a sender has on the way: what it costs to answer is the gateway's, not the way there and back."""
OTHER_DESCRIPTORS = 200
RETIRED = CallbackKeys(current_id="c3", keys={"c3": b"r" * 32})
FORGED_BODY = b'{"Body":{"stkCallback":{"ResultCode":0}}}'


def forged_paths() -> Iterator[str]:
    """In equal shares: a MAC by chance, another payment's, one of a retired key, one of another kind of callback."""
    while True:
        path, other = callback_path(KEYS, "stk", new_reference()), callback_path(KEYS, "stk", new_reference())
        yield path[:-32] + secrets.token_hex(16)
        yield path.rpartition("/")[0] + "/" + other.rpartition("/")[2]
        yield callback_path(RETIRED, "stk", new_reference())
        yield path.replace("/stk/", "/result/")


async def send_forged(address: str, count: int) -> list[int]:
    """So many forged callbacks over one connection, and the statuses of the answers."""
    paths = forged_paths()
    statuses: list[int] = []
    async with connection(address) as (reader, writer):
        while len(statuses) < count:
            batch = list(itertools.islice(paths, min(AT_ONCE, count - len(statuses))))
            writer.write(b"".join(request_bytes("POST", path, FORGED_BODY) for path in batch))
            await writer.drain()
            statuses += [(await read_reply(reader)).status for _ in batch]
    return statuses


@pytest.mark.timeout(1_200)
async def test_a_flood_of_forged_callbacks_is_refused_and_keeps_no_true_one_out(
    tmp_path: Path, core: RecordingCore, at_length: bool, record_property: Callable[[str, object], None]
) -> None:
    forged, stalled = (1_000_000, 2_000) if at_length else (2_000, 50)
    sent: list[bytes] = []
    raise_descriptor_limit(stalled + OTHER_DESCRIPTORS, "this test")
    async with (
        gateway_program(tmp_path, core.address, GATEWAY_FORWARD_TIME_S="30") as program,
        AsyncExitStack() as stack,
    ):
        for _ in range(stalled):
            _, writer = await stack.enter_async_context(connection(program.address))
            writer.write(b"POST /callbacks/stk/")
        flood = asyncio.gather(*(send_forged(program.address, forged // SENDERS) for _ in range(SENDERS)))
        while not (sent and flood.done()):
            sent.append(f'{{"number":{len(sent)}}}'.encode())
            reply = await post(program.address, callback_path(KEYS, "stk", new_reference()), sent[-1])
            assert reply.status == 200
        assert set(itertools.chain(*await flood)) == {404}
    assert core.bodies == sent
    record_property(
        "figure",
        f"{forged:,} forged callbacks: all refused, none reached the service; {len(sent):,} true ones meanwhile, with"
        f" {stalled:,} stalled sockets open: all stored",
    )
