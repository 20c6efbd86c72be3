"""The manners of a program: how addresses are read, when the ready file appears, how it refuses and how it stops."""

import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.serving import Address, AddressTaken, is_address_taken, parse_address, write_ready_file
from tests.patience import PATIENCE_SECONDS

PROGRAM = """
import asyncio, pathlib, sys
from runtime.serving import StartRefused, run, stop_requested, write_ready_file
async def main():
    if sys.argv[1] == "refuse":
        raise StartRefused("There is no money. Bring some.")
    if sys.argv[1] == "refuse in a group":
        async with asyncio.TaskGroup() as outer:
            async with asyncio.TaskGroup() as inner:
                inner.create_task(asyncio.sleep(600))
                raise StartRefused("There is no money. Bring some.")
    stop = stop_requested()
    write_ready_file(pathlib.Path(sys.argv[2]), {"loop": type(asyncio.get_running_loop()).__module__})
    await stop.wait()
    if sys.argv[1] == "linger":
        pathlib.Path(sys.argv[2] + ".draining").touch()
        await asyncio.sleep(600)
run(main())
"""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        (" localhost:65535 ", Address("localhost", 65535)),
        ("[::1]:8080", Address("::1", 8080)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_only_this_machine_is_loopback(host: str, here: bool) -> None:
    assert Address(host, 1).is_loopback is here


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "host:", "host:x", "host:65536", "host:-1", "::1:80", "[host]:80", "host:٣", "[]:1"]
)
def test_what_is_no_address_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


def test_a_ready_file_is_whole_private_and_names_the_process(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("an older one")
    write_ready_file(path, {"address": "127.0.0.1:5"})
    write_ready_file(None, {})
    document = json.loads(path.read_text())
    assert document["address"] == "127.0.0.1:5"
    assert isinstance(document["pid"], int)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_taken_address_is_recognised_and_told_with_its_way_out() -> None:
    assert is_address_taken(OSError(98, "Address already in use"))
    assert not is_address_taken(OSError(13, "Permission denied"))
    sentence = str(AddressTaken(Address("127.0.0.1", 8080), "--listen"))
    assert "8080" in sentence
    assert "--listen" in sentence


def start(tmp_path: Path, mode: str) -> tuple["subprocess.Popen[str]", Path]:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-c", PROGRAM, mode, str(ready)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), ready


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["refuse", "refuse in a group"])
def test_a_refused_start_is_one_sentence_and_exit_code_1(tmp_path: Path, mode: str) -> None:
    process, _ = start(tmp_path, mode)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (1, "", "There is no money. Bring some.\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_with_0(tmp_path: Path, number: int) -> None:
    process, ready = start(tmp_path, "stop")
    wait_for(ready)
    assert json.loads(ready.read_text()) == {"pid": process.pid, "loop": "uvloop"}
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE_SECONDS) == ("", "")
    assert process.returncode == 0


def test_a_second_signal_ends_the_program_at_once(tmp_path: Path) -> None:
    process, ready = start(tmp_path, "linger")
    wait_for(ready)
    process.send_signal(signal.SIGTERM)
    wait_for(ready.with_name("ready.json.draining"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_process_may_open_as_many_descriptors_as_the_system_allows() -> None:
    program = (
        "import resource; from runtime.serving import *; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512));"
        "raise_descriptor_limit(500, 'KIOSK_MAX'); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
        "with ending_on_refusal(): raise_descriptor_limit(513, 'KIOSK_MAX')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert (done.returncode, done.stdout) == (1, "512\n")
    assert "512 descriptors, and KIOSK_MAX asks for 513" in done.stderr
