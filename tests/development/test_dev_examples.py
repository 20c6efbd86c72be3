"""`payment-service dev` with the example services beside it, as `make run` starts them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

import development.examples
from development.examples import ExampleServices, start_examples
from development.parts import make_house, take_lock
from tests.development.dev_programs import START_SECONDS, running_dev, shell, until_nothing_runs


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_example_services_run_beside_it_and_hear_of_every_payment(tmp_path: Path) -> None:
    async with running_dev(tmp_path, examples=True) as dev:
        ready = await dev.ready()
        assert ready["booking_url"] in dev.output
        await is_served(ready["booking_url"])

        killed = ready["processes"]["booking-service"]
        os.kill(killed, signal.SIGKILL)
        again = await dev.ready_when(lambda now: now["processes"]["booking-service"] != killed)
        assert again["booking_url"] == ready["booking_url"]
        await is_served(ready["booking_url"])

        await shell(next(line for line in dev.output.splitlines() if "InitiatePayment" in line))
        sms = Path(ready["messages"]) / "sms.txt"
        async with asyncio.timeout(START_SECONDS):
            while not sms.exists() or "Receipt" not in sms.read_text(encoding="utf-8"):
                await asyncio.sleep(0.05)

        dev.process.send_signal(signal.SIGTERM)
        assert await dev.end() == 0, dev.output
        await until_nothing_runs(tmp_path)


@pytest.mark.parametrize(
    ("clone", "why_not"),
    [
        (None, "in a PostgreSQL of yours none is made"),
        ("elsewhere", "this is an installation without it"),
    ],
)
async def test_where_the_examples_cannot_run_a_sentence_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: str | None, why_not: str
) -> None:
    if clone is not None:
        monkeypatch.setattr(development.examples, "CLONE", tmp_path / clone)
    with await take_lock(tmp_path) as lock:
        house = make_house(tmp_path, lock, inherit_settings=False)
        started = await start_examples(house, None, "127.0.0.1:1", None, 0, [])
    assert started == ExampleServices(notice=started.notice)
    assert why_not in (started.notice or "")


async def is_served(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
