"""The program: how it starts, says where it is, stops, and lists what it knows."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daraja_simulator.__main__ import app
from daraja_simulator.quirks import QUIRKS
from daraja_simulator.settings import parse_seconds, parse_shortcodes
from tests.daraja_simulator.merchant import merchant_of, new_phone
from tests.daraja_simulator.simulators import as_process
from tests.patience import PATIENCE_SECONDS


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_is_and_reports_when_it_is_stopped(tmp_path: Path, name: signal.Signals) -> None:
    report = tmp_path / "report.json"
    flags = ("--callback-delay", "3600", "--report-file", str(report))
    async with as_process(tmp_path, *flags) as running, merchant_of(running.url) as merchant:
        assert running.ready["pid"] == running.process.pid
        assert running.ready["url"] == f"http://{running.ready['address']}"
        phone = new_phone()
        await merchant.script(phone, quirks=["push.key_order"])
        assert (await merchant.push(phone))[0] == 200
        running.process.send_signal(name)
        # An open prompt does not keep it from leaving.
        assert await asyncio.wait_for(running.process.wait(), PATIENCE_SECONDS) == 0
    assert json.loads(report.read_text())["quirks"]["push.key_order"] == 1


async def test_the_certificate_is_there_when_it_serves_and_the_initiator_is_the_named_one(tmp_path: Path) -> None:
    certificate = tmp_path / "initiator.pem"
    flags = ["--certificate-file", str(certificate), "--initiator-name", "clerk", "--initiator-password", "s3cret"]
    flags += ["--callback-delay", "0.01", "--quirks", "off"]
    async with as_process(tmp_path, *flags) as running, merchant_of(running.url) as merchant:
        assert await merchant.control("certificate", method="GET") == {"certificate": certificate.read_text()}
        credential = await merchant.credential("s3cret")
        await merchant.ask_status("TAH0000000", Initiator="clerk", SecurityCredential=credential)
        await merchant.ask_status("TAH0000000")
        codes = {posted.status["ResultCode"] for posted in await merchant.callbacks(2)}
    assert codes == {2032, 2001}


async def test_a_taken_port_ends_with_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await create_subprocess_exec(
            sys.executable, "-m", "daraja_simulator", "serve", "--port", str(port), stderr=PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 1
    assert said.decode() == f"Port {port} on 127.0.0.1 is taken; choose another with --port (0 takes a free one).\n"


async def test_quirks_of_a_running_simulator_are_listed(tmp_path: Path) -> None:
    async with as_process(tmp_path) as running:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["quirks", "--url", running.url])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == len(QUIRKS)


def test_reports_are_summed_and_a_quirk_that_was_never_hit_fails(tmp_path: Path) -> None:
    everything = {quirk.id: 1 for quirk in QUIRKS}
    (tmp_path / "a.json").write_text(json.dumps({"quirks": everything}))
    (tmp_path / "b.json").write_text(json.dumps({"quirks": {"push.key_order": 4}}))
    passed = CliRunner().invoke(app, ["quirks", "--reports", str(tmp_path)])
    assert passed.exit_code == 0
    assert any(line.split()[:4] == ["push.key_order", "10%", "assumed", "5"] for line in passed.output.splitlines())
    (tmp_path / "a.json").write_text(json.dumps({"quirks": {**everything, "callback.never": 0}}))
    failed = CliRunner().invoke(app, ["quirks", "--reports", str(tmp_path)])
    assert failed.exit_code == 1
    assert "Never hit: callback.never" in failed.output


def test_the_phones_are_listed_with_their_endings() -> None:
    output = CliRunner().invoke(app, ["phones"]).output
    assert "2547000NN032" in output
    assert "254708374149" in output


@pytest.mark.parametrize(
    "flags",
    [["--latency", "soon"], ["--callback-delay", "-1"], ["--quirks", "some"], ["--shortcodes", "x"]],
)
def test_flags_that_cannot_be_read_are_refused(flags: list[str]) -> None:
    assert CliRunner().invoke(app, ["serve", "--port", "0", *flags]).exit_code == 2


def test_settings_are_read_as_documented() -> None:
    assert parse_seconds("recorded", recorded="recorded", none_word="none") is None
    assert parse_seconds("none", recorded="recorded", none_word="none") == 0
    assert parse_seconds("0.25", recorded="phone") == 0.25
    (till,) = parse_shortcodes("600584:300584=secret")
    assert (till.number, till.till, till.passkey) == ("600584", "300584", "secret")


def test_no_simulator_at_the_url_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    result = CliRunner().invoke(app, ["quirks", "--url", f"http://127.0.0.1:{port}"])
    assert result.exit_code == 1
    assert "No simulator answers" in result.output
