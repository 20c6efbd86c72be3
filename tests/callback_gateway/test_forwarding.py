"""How callbacks travel to the core: in groups within the contract's limits, again while it is away, in bounded time."""

import asyncio
import contextlib

import grpc
import pytest

from callback_gateway import forwarding
from development.slowness import slowness
from tests.callback_gateway.edges import (
    FORWARD_TIME_S,
    ask_to_send,
    connection,
    eventually,
    gateway,
    good_path,
    post,
    read_reply,
)
from tests.callback_gateway.recording_core import RecordingCore, serve_core
from tests.patience import PATIENCE_SECONDS


async def test_callbacks_that_come_together_share_calls(edge: str, core: RecordingCore) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connection(edge)) for _ in range(100)]
        for number, (reader, writer) in enumerate(clients):
            await ask_to_send(reader, writer, b"%d" % number)
        # At one moment: what is left to send of each is its body.
        for number, (_, writer) in enumerate(clients):
            writer.write(b"%d" % number)
        assert [(await read_reply(reader)).status for reader, _ in clients] == [200] * 100
    assert sorted(map(int, core.bodies)) == list(range(100))
    assert len(core.calls) <= 10
    assert max(len(call) for call in core.calls) >= 50


async def test_a_group_stays_within_the_limits_of_the_contract(core: RecordingCore) -> None:
    core.delay_s = 0.3 * slowness()
    async with gateway(core.address, forward_time_s=FORWARD_TIME_S) as edge:
        large = [post(edge, good_path(), b"%05d" % number + b"x" * 65_000) for number in range(60)]
        small = [post(edge, good_path(), b"%d" % number) for number in range(300)]
        replies = await asyncio.gather(*large, *small)
    assert {reply.status for reply in replies} == {200}
    assert max(sum(callback.ByteSize() for callback in call) for call in core.calls) <= forwarding.GROUP_MAX_BYTES
    assert max(len(call) for call in core.calls) <= forwarding.GROUP_MAX_CALLBACKS
    assert len(core.bodies) == 360


async def test_each_callback_of_a_group_gets_its_own_outcome(edge: str, core: RecordingCore) -> None:
    core.delay_s = 0.1 * slowness()
    core.outcome = lambda callback: 2 if int(callback.body) % 2 else 1
    replies = await asyncio.gather(*[post(edge, good_path(), b"%d" % number) for number in range(40)])
    assert [reply.status for reply in replies] == [200, 404] * 20


async def test_a_core_that_restarts_within_the_time_costs_no_callback() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serve_core(RecordingCore(delay_s=30.0)) as first:
            port = int(first.address.split(":")[1])
            edge = await stack.enter_async_context(gateway(first.address, forward_time_s=FORWARD_TIME_S))
            in_call = asyncio.create_task(post(edge, good_path(), b"in a call"))
            await eventually(lambda: first.bodies == [b"in a call"])
        while_away = asyncio.create_task(post(edge, good_path(), b"while away"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(while_away), 0.5)
        second = await stack.enter_async_context(serve_core(RecordingCore(), port))
        assert [(await in_call).status, (await while_away).status] == [200, 200]
        assert sorted(second.bodies) == [b"in a call", b"while away"]


async def test_a_core_that_stays_away_means_503_until_it_is_back() -> None:
    async with serve_core(RecordingCore()) as core:
        port = int(core.address.split(":")[1])
    async with gateway(core.address, forward_time_s=0.3 * slowness()) as edge:
        replies = await asyncio.gather(*[post(edge, good_path()) for _ in range(20)])
        assert {reply.status for reply in replies} == {503}
        async with serve_core(RecordingCore(), port):
            statuses: list[int] = []

            async def served() -> None:
                while not statuses or statuses[-1] != 200:
                    statuses.append((await post(edge, good_path())).status)

            await asyncio.wait_for(served(), PATIENCE_SECONDS)
            assert set(statuses) <= {503, 200}


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE]
)
async def test_a_failure_that_passes_within_the_time_costs_no_callback(
    core: RecordingCore, code: grpc.StatusCode
) -> None:
    core.failing = code
    async with gateway(core.address, forward_time_s=FORWARD_TIME_S) as edge:
        waiting = asyncio.create_task(post(edge, good_path(), b"kept"))
        await eventually(lambda: core.refused_calls >= 2)
        core.failing = None
        assert (await waiting).status == 200
    assert core.bodies == [b"kept"]


@pytest.mark.parametrize("code", sorted(forwarding.FINAL_CODES, key=str))
async def test_a_failure_that_time_does_not_heal_is_503_at_once(
    edge: str, core: RecordingCore, code: grpc.StatusCode
) -> None:
    core.failing = code
    assert (await post(edge, good_path())).status == 503
    assert core.refused_calls == 1


async def test_a_core_that_answers_with_too_few_outcomes_is_not_believed(edge: str, core: RecordingCore) -> None:
    core.forget = 1
    assert (await post(edge, good_path())).status == 503


async def test_a_core_that_hangs_means_503_in_time(core: RecordingCore) -> None:
    core.delay_s = 60.0
    async with gateway(core.address, forward_time_s=0.3 * slowness()) as edge:
        replies = await asyncio.gather(*[post(edge, good_path()) for _ in range(5)])
        assert {reply.status for reply in replies} == {503}
        core.delay_s = 0.0
        async with asyncio.timeout(PATIENCE_SECONDS):
            # On a machine that has other work even a core that answers at once may not do so within this time.
            while (await post(edge, good_path())).status != 200:
                pass


async def test_a_full_queue_means_503_at_once_and_nothing_is_lost_that_was_in_it(core: RecordingCore) -> None:
    core.may_answer.clear()
    async with gateway(core.address, callbacks_waiting_max=4, forward_time_s=FORWARD_TIME_S) as edge:
        posts = [asyncio.create_task(post(edge, good_path(), b"%d" % number)) for number in range(10)]
        await eventually(lambda: sum(one.done() for one in posts) == 6)
        assert {one.result().status for one in posts if one.done()} == {503}
        core.may_answer.set()
        replies = await asyncio.gather(*posts)
    assert sorted(reply.status for reply in replies) == [200] * 4 + [503] * 6
    assert len(core.bodies) == 4
