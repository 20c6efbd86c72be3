"""`payment-service dev`, run as a developer runs it: it serves, it can be killed, and it says what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest
from mpesa_payments.v1 import payment_pb2

from development.parts import lives
from development.postgres import EmbeddedServer, find_free_port
from development.system import STOP_ORDER
from tests.commands.started import command
from tests.development.dev_programs import (
    START_SECONDS,
    first_end,
    machine,
    refused,
    running_dev,
    running_dev_by_command_line,
    shell,
    still_running,
    url_in_a_file,
    words_of,
)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_printed_line_takes_a_payment_and_a_killed_dev_starts_again(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces, é"
    folder.mkdir(mode=0o700)
    async with running_dev_by_command_line(folder, examples=True) as dev:
        ready = await dev.ready()
        # Every part there is by its own command line.
        assert set(ready["processes"]) == set(STOP_ORDER)
        line = next(line for line in dev.output.splitlines() if "InitiatePayment" in line)
        answer = json.loads(await shell(line))
        booking_id = answer["payment"]["bookingId"]
        again = json.loads(await shell(line))
        assert again["payment"]["paymentId"] == answer["payment"]["paymentId"]
        assert again["replayed"] is True
        assert (await first_end(ready, booking_id)).status == payment_pb2.PAYMENT_STATUS_COMPLETED
        for path in (dev.data_dir, *dev.data_dir.glob("*"), *dev.data_dir.glob("certificates/*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert "2547" not in (dev.data_dir / "logs" / "payment-service.log").read_text()

        dev.process.kill()
        await dev.end()
        # Nobody but the killed process knew of them, and all of them noticed.
        await dev.until_nothing_runs()

    # This one is ended as Ctrl-C ends it.
    async with running_dev_by_command_line(folder, name="again") as dev:
        ready = await dev.ready()
        assert (await first_end(ready, booking_id)).booking_id == booking_id
        dev.process.send_signal(signal.SIGINT)
        assert await dev.end() == 0, dev.output
        assert still_running(folder) == []
        assert not any(lives(process_id) for process_id in ready["processes"].values())
        assert not dev.ready_file.exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_part_that_is_killed_is_started_again_at_its_address(
    tmp_path: Path, empty_database: tuple[EmbeddedServer, str]
) -> None:
    """And beside it no second one is, until a part cannot be started again: it is named, and everything ends."""
    database = url_in_a_file(tmp_path, empty_database[1])
    async with running_dev_by_command_line(tmp_path, database) as dev:
        ready = await dev.ready()
        code, _, errors = await command(machine(), *words_of(tmp_path / ".", examples=False), database)
        assert code == 1
        assert re.search(r"Another process is using .*data", errors)

        killed = ready["processes"]["callback-gateway"]
        os.kill(killed, signal.SIGKILL)
        again = await dev.ready_when(lambda now: now["processes"]["callback-gateway"] != killed)
        assert again["gateway_url"] == ready["gateway_url"]
        assert "callback-gateway ended with exit code 137" in dev.output
        assert f"callback-gateway serves again, as process {again['processes']['callback-gateway']}." in dev.output
        # Nor does a part outlive the watchdog that stands between it and `dev`.
        service = psutil.Process(ready["processes"]["payment-service"])
        watchdog = service.parent()
        assert watchdog is not None
        assert "part_watchdog.py" in " ".join(watchdog.cmdline())
        watchdog.kill()
        again = await dev.ready_when(lambda now: now["processes"]["payment-service"] != service.pid)
        assert not service.is_running() or service.status() == psutil.STATUS_ZOMBIE

        Path(ready["callback_keys_file"]).write_text("damaged")
        os.kill(again["processes"]["callback-gateway"], signal.SIGKILL)
        assert await dev.end() == 1
        assert "callback-gateway ended before it served, with exit code 1." in dev.output
        assert "callback-keys.json" in dev.output.splitlines()[-1]
        assert still_running(tmp_path / "data") == []


async def test_a_password_in_the_arguments_is_refused(tmp_path: Path) -> None:
    for url in ("postgresql://owner:secret@127.0.0.1/payments", "postgresql://127.0.0.1/payments?password=secret"):
        said = await refused(tmp_path, f"--database-url={url}")
        assert "--database-url-file" in said
        assert "secret" not in said
    word = url_in_a_file(tmp_path, "postgresql://owner:secret@127.0.0.1/payments")
    (tmp_path / "owner-url").chmod(0o644)
    assert "chmod 600" in await refused(tmp_path, word)


async def test_a_taken_port_is_one_sentence_with_the_port_and_the_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        flags = (
            "--grpc-port",
            "--gateway-port",
            "--simulator-port",
            "--metrics-port",
            "--booking-port",
            "--window-port",
            "--desk-port",
        )
        for flag in flags:
            last = (await refused(tmp_path, f"{flag}={port}", examples=True)).splitlines()[-1]
            assert f"Port {port} on 127.0.0.1 is taken" in last
            assert flag in last


async def test_a_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    assert "chmod 700" in await refused(tmp_path)


async def test_a_daraja_of_ones_own_needs_its_credentials_named(
    tmp_path: Path, empty_database: tuple[EmbeddedServer, str]
) -> None:
    said = await refused(tmp_path, url_in_a_file(tmp_path, empty_database[1]), "--daraja-url=http://127.0.0.1:9")
    # It comes first: an entry of that file may name credentials of its own, and the default ones may not be needed.
    assert "PAYMENTS_SHORTCODES_FILE is not set" in said


async def test_safaricom_is_not_given_an_address_that_it_cannot_call(tmp_path: Path) -> None:
    async with running_dev(tmp_path, "--daraja-url=https://sandbox.safaricom.co.ke") as dev:
        assert await dev.end() == 1
        assert "set PAYMENTS_CALLBACK_BASE_URL to the https://HOST" in dev.output
        assert "Traceback" not in dev.output
        # Nothing was started.
        assert not (dev.data_dir / "postgres").exists()
        assert list((dev.data_dir / "logs").iterdir()) == []


async def test_a_database_that_does_not_answer_is_said_in_a_sentence(tmp_path: Path) -> None:
    url = f"postgresql://owner@127.0.0.1:{find_free_port()}/payments"
    said = await refused(tmp_path, f"--database-url={url}")
    assert "The database of PAYMENTS_OWNER_DATABASE_URL cannot be used" in said


@pytest.mark.slow
async def test_dev_can_be_stopped_while_it_is_still_starting(tmp_path: Path) -> None:
    async with running_dev_by_command_line(tmp_path) as dev:
        async with asyncio.timeout(START_SECONDS):
            while not (dev.data_dir / "postgres").exists():
                await asyncio.sleep(0.02)
        dev.process.send_signal(signal.SIGTERM)
        assert await dev.end() == 0, dev.output
        assert still_running(tmp_path) == []
