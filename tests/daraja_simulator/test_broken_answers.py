"""Answers that come late, broken or not at all, seen from the socket; the phone has its prompt all the same.

Run against the program as it is started for real, because closing, resetting and cutting depend on its event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from development.slowness import slowness
from tests.daraja_simulator.merchant import Merchant, merchant_of, new_phone
from tests.daraja_simulator.simulators import as_process
from tests.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
async def merchant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Merchant]:
    folder = tmp_path_factory.mktemp("simulator")
    flags = ("--callback-delay", "0.02", "--quirks", "off")
    async with as_process(folder, *flags) as running, merchant_of(running.url) as merchant:
        yield merchant


@pytest.mark.parametrize("answer", ["lost", "cut_header", "cut_body", "reset"])
async def test_the_prompt_is_shown_and_the_answer_is_not_whole(merchant: Merchant, answer: str) -> None:
    phone, before = new_phone(), len(merchant.received)
    await merchant.script(phone, answer=answer)
    if answer == "reset":
        with pytest.raises(ConnectionResetError):
            await raw_push(merchant, phone)
    else:
        received = await raw_push(merchant, phone)
        head, blank, body = received.partition(b"\r\n\r\n")
        assert (head == b"") == (answer == "lost")
        assert (blank == b"") == (answer != "cut_body")
        if answer == "cut_body":
            assert 0 < len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
    await merchant.callbacks(before + 1)
    totals = (await merchant.ledger(phone=phone))["totals"]
    assert (totals["prompted"], totals["debited_kes"]) == (1, 150)


async def test_a_late_answer_leaves_the_callback_in_front(merchant: Merchant) -> None:
    phone, before = new_phone(), len(merchant.received)
    await merchant.script(phone, answer_delay_seconds=0.5 * slowness(), callback_delay_seconds=0)
    pushing = asyncio.create_task(merchant.push(phone))
    await merchant.callbacks(before + 1)
    assert not pushing.done()
    assert (await pushing)[0] == 200


async def test_an_answer_of_arbitrary_bytes(merchant: Merchant) -> None:
    phone = new_phone()
    raw = {"status": 418, "headers": {"Content-Type": "text/plain"}, "body_base64": "/w=="}
    await merchant.script(phone, raw_answer=raw)
    answered = await merchant.post("/mpesa/stkpush/v1/processrequest", merchant.fields(phone))
    assert answered == (418, b"\xff")
    assert (await merchant.ledger(phone=phone))["totals"]["prompted"] == 0


async def test_a_push_closed_unread_is_in_no_ledger(merchant: Merchant) -> None:
    phone = new_phone()
    await merchant.control("faults", {"behaviour": {"answer": "closed_unread"}})
    assert await raw_push(merchant, phone) == b""
    assert (await merchant.ledger(phone=phone))["pushes"] == []
    assert (await merchant.ledger())["connections_closed_unread"] == 1
    assert (await merchant.push(phone))[0] == 200


@pytest.mark.parametrize("_", ["first", "second"])
async def test_during_an_outage_nobody_listens_and_afterwards_the_port_is_the_same(merchant: Merchant, _: str) -> None:
    await merchant.control("outage", {"seconds": 1.5})
    await until_listening(merchant, wanted=False)
    await until_listening(merchant, wanted=True)
    assert (await merchant.push(new_phone()))[0] == 200


async def until_listening(merchant: Merchant, *, wanted: bool) -> None:
    host, port = merchant.url.removeprefix("http://").split(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        listening = not wanted
        while listening != wanted:
            await asyncio.sleep(0.02)
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                listening = False
            else:
                writer.close()
                listening = True


async def raw_push(merchant: Merchant, phone: str) -> bytes:
    """Push over a socket of its own and read all that comes back until the other side closes."""
    if not merchant.token:
        await merchant.new_token()
    body = json.dumps(merchant.fields(phone)).encode()
    host, port = merchant.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /mpesa/stkpush/v1/processrequest HTTP/1.1\r\nHost: daraja\r\nContent-Type: application/json\r\n"
        + f"Authorization: Bearer {merchant.token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    finally:
        writer.close()
