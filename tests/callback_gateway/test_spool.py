"""Callbacks that come while the core is away: 200 once they are safe on disk, and with the core in the end."""

import asyncio
import os
import resource
import shutil
import signal
from pathlib import Path

import grpc
import pytest
from mpesa_payments.v1 import callback_service_pb2 as pb

from callback_gateway import spool as spool_module
from callback_gateway.spool import Spool
from development.slowness import slowness
from tests.callback_gateway import spools
from tests.callback_gateway.edges import (
    Program,
    ask_to_send,
    connection,
    eventually,
    gateway,
    gateway_program,
    good_path,
    listens_no_more,
    post,
    request_bytes,
    run_command,
    send,
    write_keys,
)
from tests.callback_gateway.recording_core import RecordingCore, serve_core, stored
from tests.callback_gateway.spools import a_callback, open_spool
from tests.patience import PATIENCE_SECONDS

# After this a callback goes into the spool: soon, and not before a core that is there has had the time to answer.
FORWARD_TIME_S = 0.2 * slowness()
SOON = {"GATEWAY_FORWARD_TIME_S": str(FORWARD_TIME_S)}
# Nothing listens there.
NOWHERE = "127.0.0.1:1"
READY = request_bytes("GET", "/readyz")


@pytest.fixture
async def core_away() -> RecordingCore:
    """A core that has an address and does not serve; `serve_core` brings it back there."""
    async with serve_core(RecordingCore()) as core:
        return core


def port_of(core: RecordingCore) -> int:
    return int(core.address.split(":")[1])


async def becomes(address: str, status: int, request: bytes = READY) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await send(address, request)).status != status:
            await asyncio.sleep(0.05)


def events(lines: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    """The last line of each event."""
    return {line["event"]: line for line in lines}


async def test_what_comes_while_the_core_is_away_is_accepted_and_delivered_as_it_came(
    tmp_path: Path, core_away: RecordingCore
) -> None:
    path, body = good_path(), b'{"Body": \xff\x00 not even JSON'
    async with gateway(core_away.address, forward_time_s=FORWARD_TIME_S, **spools.settings(tmp_path)) as edge:
        reply = await post(edge, path, body)
        assert (reply.status, reply.body) == (200, b'{"ResultCode":0,"ResultDesc":"Accepted"}')
        replies = await asyncio.gather(*[post(edge, good_path(), b"%d" % number) for number in range(50)])
        assert [reply.status for reply in replies] == [200] * 50
        assert spools.files(tmp_path)
        async with serve_core(core_away, port_of(core_away)) as core:
            await eventually(lambda: len(set(core.bodies)) == 51)
            await eventually(lambda: spools.files(tmp_path) == [])
            # The core is known to be back: what comes now does not go by way of the disk, unless the machine is so busy
            # that the time to store it is over.
            async with asyncio.timeout(PATIENCE_SECONDS):
                while b"live" not in core.bodies:
                    assert (await post(edge, good_path(), b"live")).status == 200
    callback = next(callback for call in core.calls for callback in call if callback.body == body)
    assert (callback.kind, callback.source_address) == (pb.CALLBACK_KIND_STK, "127.0.0.1")
    assert path == f"/callbacks/stk/{callback.reference}/{callback.token}"
    assert callback.receive_time.seconds > 1_700_000_000


async def test_without_a_spool_they_are_answered_503_as_ever(tmp_path: Path) -> None:
    async with gateway_program(
        tmp_path,
        NOWHERE,
        **SOON,
        GATEWAY_SPOOL_FOLDER="",
        GATEWAY_SPOOL_KEYS_FILE="",
    ) as program:
        assert (await post(program.address, good_path())).status == 503
        assert (await send(program.address, READY)).status == 503
        assert "spool off" in events(await program.stop(signal.SIGTERM))


@pytest.mark.parametrize("trouble", ["no room", "no answer", "a fault", "not the same contract"])
async def test_a_core_that_does_not_store_in_time_costs_no_callback(
    tmp_path: Path, core: RecordingCore, trouble: str
) -> None:
    match trouble:
        case "no room":
            core.outcome = lambda _: pb.CALLBACK_OUTCOME_NOT_STORED
        case "no answer":
            core.delay_s = 60.0
        case "a fault":
            core.failing = grpc.StatusCode.INTERNAL
        case _:
            core.failing = grpc.StatusCode.UNIMPLEMENTED
    async with gateway(core.address, forward_time_s=0.3 * slowness(), **spools.settings(tmp_path)) as edge:
        assert (await post(edge, good_path(), b"kept")).status == 200
        assert spools.files(tmp_path)
        core.outcome, core.delay_s, core.failing = stored, 0.0, None
        await eventually(lambda: spools.files(tmp_path) == [])
    assert set(core.bodies) == {b"kept"}


async def test_a_queue_that_is_full_costs_no_callback(tmp_path: Path, core: RecordingCore) -> None:
    core.may_answer.clear()
    async with gateway(core.address, callbacks_waiting_max=4, forward_time_s=30.0, **spools.settings(tmp_path)) as edge:
        posts = [asyncio.create_task(post(edge, good_path(), b"%d" % number)) for number in range(20)]
        await eventually(lambda: sum(one.done() for one in posts) == 16)
        core.may_answer.set()
        assert {reply.status for reply in await asyncio.gather(*posts)} == {200}
        await eventually(lambda: len(set(core.bodies)) == 20 and spools.files(tmp_path) == [])


async def test_what_the_core_refuses_for_good_is_set_aside_and_holds_up_no_other(
    tmp_path: Path, core: RecordingCore
) -> None:
    def outcome(callback: pb.Callback) -> int:
        return pb.CALLBACK_OUTCOME_TOKEN_REFUSED if callback.body.startswith(b"refused") else 1

    core.failing, core.outcome = grpc.StatusCode.UNAVAILABLE, outcome
    environment = spools.environment(tmp_path)
    async with gateway_program(tmp_path, core.address, **SOON, **environment) as program:
        texts = [b"1", b"refused 2", b"3", b"refused 4", b"5"]
        replies = await asyncio.gather(*[post(program.address, good_path(), text) for text in texts])
        assert [reply.status for reply in replies] == [200] * 5
        core.failing = None
        await eventually(lambda: set(core.bodies) == set(texts))
        await eventually(lambda: [name.split("/")[0] for name in spools.files(tmp_path)] == ["rejected"] * 2)
        lines = [line for line in await program.stop(signal.SIGTERM) if line.get("alarm") == "callback_rejected"]
    assert sorted(str(line["file"]) for line in lines) == spools.files(tmp_path)
    assert {line["level"] for line in lines} == {"error"}
    # Once the operator has put right what was wrong, the files are moved back and go the way of all others.
    core.outcome = stored
    core.calls.clear()
    for name in spools.files(tmp_path):
        shutil.move(tmp_path / "spool" / name, tmp_path / "spool")
    async with gateway(core.address, **spools.settings(tmp_path)):
        await eventually(lambda: spools.files(tmp_path) == [])
    assert sorted(core.bodies) == [b"refused 2", b"refused 4"]


async def test_one_on_which_the_core_chokes_holds_up_no_other(tmp_path: Path, core: RecordingCore) -> None:
    """Goal: a callback that fails every call it is in stays in the spool, and all its neighbours reach the core."""

    def outcome(callback: pb.Callback) -> int:
        if callback.body == b"poison":
            raise RuntimeError("told to")
        return pb.CALLBACK_OUTCOME_STORED

    folder = spools.open_spool(tmp_path)
    texts = [b"poison" if number in (5, 20) else b"%d" % number for number in range(40)]
    folder.append([folder.sealer.seal(spools.a_callback(text)) for text in texts])
    folder.segments()
    folder.append([folder.sealer.seal(spools.a_callback(b"in another file"))])
    folder.close()
    core.outcome = outcome

    def got_through() -> set[bytes]:
        calls = [{callback.body for callback in call} for call in core.calls]
        return set().union(*[call for call in calls if b"poison" not in call])

    async with gateway(core.address, **spools.settings(tmp_path)) as edge:
        await eventually(lambda: got_through() == {*texts, b"in another file"} - {b"poison"})
        assert (await post(edge, good_path(), b"live")).status == 200
        assert len(spools.files(tmp_path)) == 1
        core.outcome = stored
        await eventually(lambda: spools.files(tmp_path) == [])


async def test_a_backlog_does_not_keep_live_callbacks_waiting(tmp_path: Path, core: RecordingCore) -> None:
    folder = spools.open_spool(tmp_path)
    for start in range(0, 3_000, 100):
        numbers = range(start, start + 100)
        folder.append([folder.sealer.seal(spools.a_callback(b"old %d" % number)) for number in numbers])
    folder.close()
    core.delay_s = 0.05 * slowness()
    async with gateway(core.address, **spools.settings(tmp_path)) as edge:
        await eventually(lambda: len(core.calls) > 2)
        replies = await asyncio.gather(*[post(edge, good_path(), b"live %d" % number) for number in range(50)])
        assert {reply.status for reply in replies} == {200}
        waiting = 3_000 - len({body for body in core.bodies if body.startswith(b"old")})
        assert waiting > 0, "the live ones waited for the backlog"
        core.delay_s = 0.0
        await eventually(lambda: spools.files(tmp_path) == [])
    assert len(core.bodies) == len(set(core.bodies)) == 3_050


async def test_files_cut_at_every_byte_give_up_what_they_hold_and_are_kept(tmp_path: Path, core: RecordingCore) -> None:
    folder = spools.open_spool(tmp_path)
    records = [folder.sealer.seal(spools.a_callback(b"%d" % number)) for number in range(3)]
    folder.close()
    whole = b"".join(records)
    ends = {0, len(records[0]), len(records[0]) + len(records[1]), len(whole)}
    for cut in range(len(whole) + 1):
        (tmp_path / "spool" / f"{cut:06d}-cut.spool").write_bytes(whole[:cut])
    (tmp_path / "spool" / "noise.spool").write_bytes(os.urandom(5_000))
    async with gateway_program(tmp_path, core.address, **spools.environment(tmp_path)) as program:
        damaged = sorted(f"damaged/{cut:06d}-cut.spool" for cut in range(len(whole) + 1) if cut not in ends)
        await eventually(lambda: spools.files(tmp_path) == [*damaged, "damaged/noise.spool"])
        assert (await post(program.address, good_path(), b"live")).status == 200
        told = [line for line in await program.stop(signal.SIGTERM) if line.get("alarm") == "spool_damaged"]
    assert len(told) == len(damaged) + 1
    assert {line["level"] for line in told} == {"error"}
    wanted = sum(sum(0 < end <= cut for end in ends) for cut in range(len(whole) + 1))
    assert len(core.bodies) == wanted + 1
    for name in damaged:
        assert (tmp_path / "spool" / name).read_bytes() == whole[: int(name[8:14])]


async def test_a_full_spool_means_503_until_the_core_is_back(tmp_path: Path, core: RecordingCore) -> None:
    core.failing = grpc.StatusCode.UNAVAILABLE
    environment = spools.environment(tmp_path) | {"GATEWAY_SPOOL_MAX_BYTES": "1000000"}
    async with gateway_program(tmp_path, core.address, **SOON, **environment) as program:
        statuses = [(await post(program.address, good_path(), b"%05d" % n + b"x" * 60_000)).status for n in range(20)]
        taken = statuses.count(200)
        assert statuses == [200] * taken + [503] * (20 - taken)
        assert 10 < taken < 17
        assert sum((tmp_path / "spool" / name).stat().st_size for name in spools.files(tmp_path)) < 1_000_000
        core.failing = None
        await eventually(lambda: spools.files(tmp_path) == [])
        assert len(set(core.bodies)) >= taken
        core.failing = grpc.StatusCode.UNAVAILABLE
        assert (await post(program.address, good_path(), b"room again")).status == 200
        lines = [line for line in await program.stop(signal.SIGTERM) if line.get("alarm") == "spool_full"]
    assert [line["event"] for line in lines] == ["alarm", "alarm is over"]
    assert "GATEWAY_SPOOL_MAX_BYTES" in str(lines[0]["what_to_do"])


def limit_files(program: Program, bytes_max: int | None) -> None:
    """A disk that takes no more than that in one file: what a full one is, for root as well as for anybody."""
    hard = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (hard if bytes_max is None else bytes_max, hard))


async def test_a_disk_that_takes_no_more_means_503_until_it_does(tmp_path: Path, core_away: RecordingCore) -> None:
    environment = spools.environment(tmp_path)
    async with gateway_program(tmp_path, core_away.address, **SOON, **environment) as program:
        assert (await post(program.address, good_path(), b"before")).status == 200
        limit_files(program, 200)
        for number in range(5):
            assert (await post(program.address, good_path(), b"lost %d" % number + b"x" * 400)).status == 503
        assert (await send(program.address, READY)).status == 503
        limit_files(program, None)
        # No callback comes to a gateway that is not ready: it finds out by itself.
        await becomes(program.address, 200)
        assert (await post(program.address, good_path(), b"after")).status == 200
        async with serve_core(core_away, port_of(core_away)):
            await eventually(lambda: spools.files(tmp_path) == [])
            assert (await post(program.address, good_path(), b"live")).status == 200
        lines = await program.stop(signal.SIGTERM)
    assert program.process.returncode == 0
    assert {b"before", b"after", b"live"} <= set(core_away.bodies)
    told = [line for line in lines if line.get("alarm")]
    assert [(line["alarm"], line["event"]) for line in told] == [
        ("spool_disk_fails", "alarm"),
        ("spool_disk_fails", "alarm is over"),
    ]
    assert "limit on the size of files" in str(told[0]["check"])


async def test_a_folder_that_is_gone_means_503_until_it_is_back(tmp_path: Path, core_away: RecordingCore) -> None:
    spool, away = tmp_path / "spool", tmp_path / "away"
    environment = spools.environment(tmp_path)
    async with gateway_program(tmp_path, core_away.address, **SOON, **environment) as program:
        spool.rename(away)
        spool.write_text("no folder")
        assert (await post(program.address, good_path(), b"gone")).status == 503
        assert (await send(program.address, READY)).status == 503
        async with serve_core(core_away, port_of(core_away)):
            await becomes(program.address, 200, request_bytes("POST", good_path(), b"live"))
        spool.unlink()
        away.rename(spool)
        await becomes(program.address, 200)
        assert (await post(program.address, good_path(), b"back")).status == 200
        async with serve_core(core_away, port_of(core_away)):
            await eventually(lambda: b"back" in core_away.bodies and spools.files(tmp_path) == [])
        lines = await program.stop(signal.SIGTERM)
        assert ("spool_disk_fails", "alarm is over") in [(line.get("alarm"), line["event"]) for line in lines]
    assert b"live" in core_away.bodies


async def test_a_gateway_is_ready_while_it_takes_callbacks_one_way_or_the_other(tmp_path: Path) -> None:
    async with gateway(NOWHERE, forward_time_s=FORWARD_TIME_S, **spools.settings(tmp_path)) as edge:
        assert (await send(edge, READY)).status == 200
        assert (await post(edge, good_path())).status == 200
        assert (await send(edge, READY)).status == 200


async def test_a_stop_finishes_what_is_in_hand_and_leaves_the_rest_on_disk(tmp_path: Path) -> None:
    async with gateway_program(tmp_path, NOWHERE, **spools.environment(tmp_path)) as program:
        assert (await post(program.address, good_path(), b"1")).status == 200
        async with connection(program.address) as (reader, writer):
            await ask_to_send(reader, writer, b"2")
            program.process.send_signal(signal.SIGTERM)
            await listens_no_more(program.address)
            writer.write(b"2")
            assert (await reader.readuntil(b"\r\n")).split()[1] == b"200"
        await program.wait()
        assert program.process.returncode == 0
    folder = spools.open_spool(tmp_path)
    found = [record.callback.body for name in folder.segments() for record in folder.read(name).records]
    folder.close()
    assert sorted(found) == [b"1", b"2"]


async def test_a_second_gateway_on_the_same_folder_does_not_start(tmp_path: Path) -> None:
    environment = spools.environment(tmp_path)
    async with gateway_program(tmp_path, NOWHERE, **environment) as program:
        with pytest.raises(AssertionError, match="Another gateway uses the spool"):
            async with gateway_program(tmp_path, NOWHERE, **environment):
                pass
        program.process.kill()
        await program.wait()
        # The lock ends with its holder, however that ends.
        async with gateway_program(tmp_path, NOWHERE, **environment) as second:
            assert (await post(second.address, good_path())).status == 200


async def test_nothing_of_a_callback_stands_in_the_folder_or_the_log(tmp_path: Path) -> None:
    path, body = good_path(), b'{"PhoneNumber":254712345678,"CheckoutRequestID":"ws_CO_231120261215300712345678"}'
    async with gateway_program(tmp_path, NOWHERE, **SOON, **spools.environment(tmp_path)) as program:
        assert (await post(program.address, path, body)).status == 200
        await program.stop(signal.SIGTERM)
    written = program.output + b"".join(file.read_bytes() for file in tmp_path.rglob("*.spool"))
    for secret in (b"712345678", b"ws_CO_2", *(part.encode() for part in path.split("/")[3:])):
        assert secret not in written


def test_a_spool_without_keys_is_a_sentence(tmp_path: Path) -> None:
    keys = str(write_keys(tmp_path))
    done = run_command("serve", GATEWAY_CALLBACK_KEYS_FILE=keys, GATEWAY_SPOOL_FOLDER=str(tmp_path / "spool"))
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert "GATEWAY_SPOOL_KEYS_FILE" in sentence


def test_check_config_shows_the_spool_and_touches_nothing(tmp_path: Path) -> None:
    environment = spools.environment(tmp_path)
    done = run_command("serve", "--check-config", GATEWAY_CALLBACK_KEYS_FILE=str(write_keys(tmp_path)), **environment)
    assert done.returncode == 0
    assert {f"{name}={value}" for name, value in environment.items()} <= set(done.stdout.splitlines())
    assert "GATEWAY_SPOOL_MAX_BYTES=1000000000" in done.stdout.splitlines()
    assert not (tmp_path / "spool").exists()


async def test_a_disk_that_was_slow_once_is_found_to_work_though_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "PROBE_EVERY_S", 0.01)
    spool = Spool(open_spool(tmp_path), bytes_max=10_000_000, keep_time_s=PATIENCE_SECONDS)
    writing = asyncio.create_task(spool.write_groups())
    try:
        assert await spool.keep(a_callback(b"{}"))
        # As when a callback has waited too long at the moment in which the disk answers after all.
        spool.report_slow_disk()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not spool.takes_callbacks:
                await asyncio.sleep(0.01)
    finally:
        writing.cancel()
        await spool.close()
