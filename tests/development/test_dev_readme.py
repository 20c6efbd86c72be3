"""What README.md tells a newcomer to type works as written, but for the address and the place of the environment."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from development.postgres import EmbeddedServer
from development.slowness import slowness
from tests.development.dev_programs import running_dev, shell, url_in_a_file

ROOT = Path(__file__).resolve().parents[2]
BIN = shlex.quote(str(Path(sys.executable).parent))
# The passenger takes up to 18 s to pay, as recorded; this is a bound.
WATCH_SECONDS = 90 * slowness()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_examples_of_the_readme_run(tmp_path: Path, empty_database: tuple[EmbeddedServer, str]) -> None:
    curls = [block for block in blocks("sh") if "buf curl" in block]
    (snippet,) = blocks("python")
    assert [line.count("127.0.0.1:50051") for line in (*curls, snippet)] == [1, 1, 1, 1]
    async with running_dev(tmp_path, url_in_a_file(tmp_path, empty_database[1])) as dev:
        address = (await dev.ready())["address"]
        here = {"127.0.0.1:50051": address, ".venv/bin": BIN, ".dev/": f"{shlex.quote(str(dev.data_dir))}/"}
        ask, watch, refund = (as_typed_here(curl, here) for curl in curls)

        first, second = json.loads(await shell(ask)), json.loads(await shell(ask))
        assert first["payment"]["paymentId"] == second["payment"]["paymentId"]
        assert second["replayed"] is True

        script = tmp_path / "pay.py"
        script.write_text(as_typed_here(snippet, {**here, ".dev/": f"{dev.data_dir}/"}), encoding="utf-8")
        printed, watched = await asyncio.gather(
            shell(f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"), read_until_completed(watch)
        )
        assert "PAYMENT_STATUS_COMPLETED Payment received" in printed
        assert re.search(r"Confirm the booking; receipt [A-Z0-9]{10}$", printed)
        assert first["payment"]["paymentId"] in watched

        refund = refund.replace("PAYMENT-ID", first["payment"]["paymentId"])
        asked, again = json.loads(await shell(refund)), json.loads(await shell(refund))
        assert asked["payment"]["bookingAction"] == "BOOKING_ACTION_RELEASE"
        assert asked["payment"]["refund"]["refundId"] == again["payment"]["refund"]["refundId"]
        assert again["replayed"] is True


def as_typed_here(text: str, places: Mapping[str, str]) -> str:
    for place, here in places.items():
        text = text.replace(place, here)
    return text


async def read_until_completed(line: str) -> str:
    """A booking's watch never ends by itself, so it is ended here."""
    process = await asyncio.create_subprocess_shell(
        f"exec {line}", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    text = ""
    try:
        async with asyncio.timeout(WATCH_SECONDS):
            while "PAYMENT_STATUS_COMPLETED" not in text:
                some = await process.stdout.readline()
                assert some, text
                text += some.decode()
    finally:
        process.terminate()
        await process.wait()
    return text
