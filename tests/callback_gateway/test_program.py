"""The gateway as a program: its command line, its drain, and what its log may show."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from development.postgres import find_free_port
from development.slowness import slowness
from tests.callback_gateway.edges import (
    Program,
    ask_to_send,
    closed_by_gateway,
    connection,
    eventually,
    gateway_command,
    gateway_program,
    good_path,
    listens_no_more,
    post,
    read_reply,
    request_bytes,
    run_command,
    send,
    write_keys,
)
from tests.callback_gateway.recording_core import RecordingCore
from tests.parts import read_page, soft_limit


async def test_a_drain_finishes_what_is_in_hand_and_leaves_with_0(tmp_path: Path, core: RecordingCore) -> None:
    core.delay_s = 0.5 * slowness()
    async with (
        gateway_command(tmp_path, core.address, GATEWAY_BODY_TIME_S="60", GATEWAY_FORWARD_TIME_S="30") as program,
        contextlib.AsyncExitStack() as stack,
    ):
        in_hand = [await stack.enter_async_context(connection(program.address)) for _ in range(5)]
        idle, _ = await stack.enter_async_context(connection(program.address))
        for number, (reader, writer) in enumerate(in_hand):
            await ask_to_send(reader, writer, b"%d" % number)
            writer.write(b"%d" % number if number else b"")
        await eventually(lambda: len(core.bodies) >= 1)
        program.process.send_signal(signal.SIGTERM)
        await listens_no_more(program.address)
        in_hand[0][1].write(b"0")
        replies = [await read_reply(reader) for reader, _ in in_hand]
        assert [reply.status for reply in replies] == [200] * 5
        assert await closed_by_gateway(idle) == b""
        await program.wait()
        assert program.process.returncode == 0
        assert sorted(core.bodies) == [b"0", b"1", b"2", b"3", b"4"]
        last = program.lines()[-1]
        assert (last["event"], last["received"], last["stored"], last["unsettled"]) == ("gateway stopped", 5, 5, 0)


async def test_a_gateway_opens_more_descriptors_than_the_usual_soft_limit_and_tells_prometheus(
    tmp_path: Path, core: RecordingCore
) -> None:
    page = f"127.0.0.1:{find_free_port()}"
    with soft_limit(1_024) as hard:
        async with gateway_command(tmp_path, core.address, GATEWAY_METRICS_ADDRESS=page) as program:
            assert resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
            assert 'service_name="callback-gateway"' in await read_page(page)


async def test_a_second_signal_ends_the_drain_at_once(tmp_path: Path, core: RecordingCore) -> None:
    core.delay_s = 30.0
    async with (
        gateway_command(tmp_path, core.address, GATEWAY_FORWARD_TIME_S="30") as program,
        connection(program.address) as (_, writer),
    ):
        writer.write(request_bytes("POST", good_path(), b"{}"))
        await eventually(lambda: len(core.calls) == 1)
        program.process.send_signal(signal.SIGINT)
        await listens_no_more(program.address)
        assert program.process.returncode is None
        program.process.send_signal(signal.SIGINT)
        await program.wait()
    assert program.process.returncode == 128 + signal.SIGINT


async def test_no_log_line_shows_a_phone_number_a_token_or_a_forged_line(tmp_path: Path, core: RecordingCore) -> None:
    body = b'{"PhoneNumber":254712345678,"CheckoutRequestID":"ws_CO_231120261215300712345678"}'
    path = good_path()
    hostile = "/callbacks/stk/0712345678/x%0d%0a%1b[2J\x1b[31m"
    async with gateway_program(tmp_path, core.address) as program:
        assert (await post(program.address, path, body)).status == 200
        bad = path[:-4] + "0000"
        assert (await post(program.address, bad, body)).status == 404
        assert (await send(program.address, request_bytes("GET", "/?phone=0712345678", b""))).status == 404
        async with connection(program.address) as (reader, writer):
            writer.write(request_bytes("POST", hostile, body, "User-Agent: \x1b]0;x\x07 254712345678"))
            await closed_by_gateway(reader)
        async with connection(program.address) as (reader, writer):
            writer.write(path.encode() + b' 0712345678\r\n{"event":"forged"}\r\n\r\n')
            await closed_by_gateway(reader)
        core.forget = 1
        assert (await post(program.address, path, body)).status == 503
        lines = await program.stop(signal.SIGTERM)
    text = program.output.decode("ascii")
    for secret in ("712345678", path.split("/")[3], path.split("/")[4], bad.split("/")[4], "ws_CO_2", "\x1b"):
        assert secret not in text
    assert "gateway stopped" in {line["event"] for line in lines}
    assert "forged" not in {line["event"] for line in lines}


async def test_the_program_forwards_on_its_own_event_loop_with_hostile_proxy_settings(
    tmp_path: Path, core: RecordingCore
) -> None:
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"), "http://127.0.0.1:9")
    async with gateway_command(tmp_path, core.address, **proxies) as program:
        replies = await asyncio.gather(*[post(program.address, good_path(), b"%d" % number) for number in range(50)])
        assert [reply.status for reply in replies] == [200] * 50
    assert len(core.bodies) == 50


def test_a_taken_port_ends_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_command(
            *("serve", "--listen", f"127.0.0.1:{port}"), GATEWAY_CALLBACK_KEYS_FILE=str(write_keys(tmp_path))
        )
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert str(port) in sentence
    assert "--listen" in sentence


def test_missing_keys_end_with_one_sentence(tmp_path: Path) -> None:
    missing = run_command("serve", "--listen", "127.0.0.1:0", GATEWAY_CALLBACK_KEYS_FILE=str(tmp_path / "none.json"))
    assert missing.returncode == 1
    [sentence] = missing.stderr.splitlines()
    assert str(tmp_path / "none.json") in sentence


def test_a_ready_file_that_cannot_be_written_ends_with_one_sentence(tmp_path: Path) -> None:
    ready_file = tmp_path / "missing" / "ready.json"
    words = ("serve", "--listen", "127.0.0.1:0", "--ready-file", str(ready_file))
    done = run_command(*words, GATEWAY_CALLBACK_KEYS_FILE=str(write_keys(tmp_path)))
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert str(ready_file) in sentence
    assert "--ready-file" in sentence


def test_check_config_refuses_the_keys_that_serve_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    for name in ("none.json", "keys.json"):
        done = run_command("serve", "--check-config", GATEWAY_CALLBACK_KEYS_FILE=str(tmp_path / name))
        assert done.returncode == 1
        assert f"GATEWAY_CALLBACK_KEYS_FILE={tmp_path / name}" in done.stdout.splitlines()
        [sentence] = done.stderr.splitlines()
        assert str(tmp_path / name) in sentence


def test_keys_that_others_may_read_keep_the_gateway_from_starting(tmp_path: Path) -> None:
    keys = write_keys(tmp_path)
    keys.chmod(0o644)
    done = run_command("serve", "--listen", "127.0.0.1:0", GATEWAY_CALLBACK_KEYS_FILE=str(keys))
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert str(keys) in sentence
    assert "chmod 600" in sentence


def test_every_wrong_setting_is_named_at_once() -> None:
    done = run_command(
        "serve",
        GATEWAY_LISTEN_ADDRESS="nowhere",
        GATEWAY_BODY_TIME_S="soon",
        GATEWAY_CONNECTION_MAX="5",
    )
    assert done.returncode == 1
    sentences = done.stderr.splitlines()
    assert len(sentences) == 4
    for expected in (
        "GATEWAY_CALLBACK_KEYS_FILE is not set",
        "GATEWAY_LISTEN_ADDRESS",
        "GATEWAY_BODY_TIME_S",
        "did you mean GATEWAY_CONNECTIONS_MAX?",
    ):
        assert any(expected in sentence for sentence in sentences), expected


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"GATEWAY_PLAINTEXT": "false"},
            "set GATEWAY_CORE_CERTIFICATE_FILE, GATEWAY_CORE_KEY_FILE, GATEWAY_CORE_CA_FILE",
        ),
        ({"GATEWAY_CORE_ADDRESS": "192.0.2.1:50051"}, "has to be an address on this machine (loopback)"),
        ({"GATEWAY_CORE_CA_FILE": "authority.pem"}, "GATEWAY_PLAINTEXT is set beside files for TLS"),
    ],
)
def test_tokens_leave_this_machine_encrypted_or_not_at_all(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    given = {"GATEWAY_CALLBACK_KEYS_FILE": str(write_keys(tmp_path)), "GATEWAY_PLAINTEXT": "true"} | environment
    done = run_command("serve", "--check-config", **given)
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert said in sentence


def test_check_config_shows_the_settings_and_serves_nothing(tmp_path: Path) -> None:
    done = run_command(
        *("serve", "--check-config", "--listen", "127.0.0.1:4711"),
        GATEWAY_CALLBACK_KEYS_FILE=str(write_keys(tmp_path)),
        GATEWAY_LISTEN_ADDRESS="127.0.0.1:1",
        GATEWAY_BODY_TIME_S="1.5",
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "GATEWAY_LISTEN_ADDRESS=127.0.0.1:4711" in lines
    assert "GATEWAY_BODY_TIME_S=1.5" in lines


async def test_a_gateway_needs_no_core_to_start(tmp_path: Path) -> None:
    async with gateway_program(tmp_path, "127.0.0.1:1", GATEWAY_FORWARD_TIME_S=str(0.2 * slowness())) as program:
        assert isinstance(program, Program)
        assert (await post(program.address, good_path())).status == 503
        os.kill(program.process.pid, signal.SIGTERM)
        await program.wait()
    assert program.process.returncode == 0
