"""A gateway reads new keys without a restart, and tells the service which ones it holds."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from mpesa_payments.v1 import callback_service_pb2 as pb
from typer.testing import CliRunner

from callback_gateway.__main__ import app
from callback_gateway.spool_folder import keys_needed, open_spool_folder
from runtime.callback_tokens import CallbackKeys, callback_path, key_checks
from runtime.key_files import add_key, changing, use_key
from runtime.key_rings import create_key_ring, load_key_ring
from tests.callback_gateway.edges import KEYS, gateway, new_reference, post, write_ring
from tests.callback_gateway.recording_core import RecordingCore, serve_core
from tests.patience import PATIENCE_SECONDS

NEWER = CallbackKeys("c3", {**KEYS.keys, "c3": b"3" * 32})


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


async def test_a_gateway_takes_callbacks_of_a_new_key_without_a_restart(tmp_path: Path) -> None:
    file = write_ring(tmp_path / "callback-keys.json", KEYS)
    core = RecordingCore(keys=NEWER)
    async with serve_core(core), gateway(core.address, callback_keys_file=file) as edge:
        path = callback_path(NEWER, "stk", new_reference())
        assert (await post(edge, path, b"1")).status == 404
        await until(lambda: bool(core.compared))
        write_ring(file, NEWER)
        await until(lambda: {key.key_id for key in core.compared[-1].keys} == set(NEWER.keys))
        assert (await post(edge, path, b"2")).status == 200
        told = core.compared[-1]
        assert {key.key_id: key.check for key in told.keys} == key_checks(NEWER)
        assert told.process.startswith("callback-gateway on ")
        assert {one.process for one in core.compared} == {told.process}, "a process keeps its name"
    assert core.bodies == [b"2"]


def test_what_lies_in_the_spool_tells_which_keys_it_needs(tmp_path: Path) -> None:
    keys_file = tmp_path / "spool-keys.json"
    create_key_ring(keys_file)
    folder = open_spool_folder(tmp_path / "spool", keys_file)
    first = load_key_ring(keys_file, "keys", "").current_id
    folder.append([folder.sealer.seal(pb.Callback(body=b"1")), folder.sealer.seal(pb.Callback(body=b"2"))])
    with changing(keys_file) as ring:
        second = add_key(ring, [], one_character=False)
        use_key(ring, second)
    folder.sealer.ring.renew(load_key_ring(keys_file, "keys", ""))
    folder.append([folder.sealer.seal(pb.Callback(body=b"3"))])
    assert keys_needed(folder.path) == {first: 2, second: 1}
    (name,) = folder.segments()
    assert [record.callback.body for record in folder.read(name).records] == [b"1", b"2", b"3"]
    folder.close()


def gateway_command(*words: str) -> str:
    """`callback-gateway keys` with these words; what it says, or the sentence of a refusal."""
    answer = CliRunner().invoke(app, ["keys", *words])
    return answer.output if answer.exit_code == 0 else f"refused: {answer.output}"


def test_a_key_of_the_spool_is_replaced_and_kept_while_a_record_needs_it(tmp_path: Path) -> None:
    keys_file, spool = tmp_path / "spool-keys.json", tmp_path / "spool"
    create_key_ring(keys_file)
    folder = open_spool_folder(spool, keys_file)
    folder.append([folder.sealer.seal(pb.Callback(body=b"1"))])
    old = load_key_ring(keys_file, "keys", "").current_id
    files = ("--keys-file", str(keys_file))
    gateway_command("add", *files)
    (new,) = load_key_ring(keys_file, "keys", "").keys.keys() - {old}
    assert "refused" in gateway_command("use", *files, "zz")
    assert new in gateway_command("use", *files, new)
    both = (*files, "--folder", str(spool))
    assert gateway_command("list", *both).splitlines() == [f"{old}           1 records", f"{new}  current  0 records"]
    assert "a running gateway may still use the key of before" in gateway_command("retire", *both, old)
    long_ago = keys_file.stat().st_mtime - 3_600
    os.utime(keys_file, (long_ago, long_ago))
    assert "1 records in" in gateway_command("retire", *both, old)
    (name,) = folder.segments()
    folder.remove(name)
    assert "is retired" in gateway_command("retire", *both, old)
    assert set(load_key_ring(keys_file, "keys", "").keys) == {new}
    folder.close()
