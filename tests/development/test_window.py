"""The developer's window in a browser: the events of a real stream beside the requests that a simulator heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from development.view import Source
from development.window import Stream, Window, application, follow
from tests.browsing import accessibility_faults, new_page
from tests.daraja_simulator.merchant import merchant_of, new_phone
from tests.daraja_simulator.simulators import in_process
from tests.rpc.processes import Process


@contextlib.asynccontextmanager
async def open_window(process: Process, simulator_url: str | None) -> AsyncIterator[str]:
    stream = Stream()
    following = asyncio.create_task(follow(Source(str(process.server.address), None), stream))
    async with (
        aiohttp.ClientSession() as session,
        TestServer(application(Window(stream, simulator_url, session))) as server,
    ):
        yield str(server.make_url("/"))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_an_event_and_a_request_of_a_payment_stand_side_by_side(browser: Browser, process: Process) -> None:
    async with (
        in_process() as (_, simulator),
        merchant_of(simulator) as merchant,
        open_window(process, simulator) as url,
    ):
        page = await new_page(browser, viewport={"width": 1200, "height": 800})
        await page.goto(url)
        events, requests = page.get_by_role("list", name="Events"), page.get_by_role("list", name="Requests")
        await expect(page.get_by_text("None yet.")).to_have_count(2)

        payment = await process.create(booking_id="TRIP-<b>7</b>")
        await expect(events.get_by_role("listitem").first).to_contain_text("CREATED")
        await expect(events).to_contain_text("PENDING, the booking may: wait")
        await expect(events).to_contain_text(f"TRIP-<b>7</b>, reference {payment.reference}, version 1")

        phone = new_phone()
        await merchant.push(phone, AccountReference=payment.reference)
        request = requests.get_by_role("listitem").first
        await expect(request).to_contain_text("POST /mpesa/stkpush/v1/processrequest")
        await expect(request).to_contain_text(f'"AccountReference": "{payment.reference}"')
        await expect(request).to_contain_text("answered 200")
        assert phone[3:] not in await page.content()
        assert await accessibility_faults(page) == []

        narrow = await new_page(browser, viewport={"width": 320, "height": 640}, java_script_enabled=False)
        await narrow.goto(url)
        await expect(narrow.get_by_role("list", name="Events")).to_contain_text("CREATED")


async def test_where_one_side_has_nothing_to_show_a_sentence_says_why(browser: Browser, process: Process) -> None:
    for simulator, why in ((None, "a Daraja of your own is used"), ("http://127.0.0.1:1", "does not answer")):
        async with open_window(process, simulator) as url:
            page = await new_page(browser)
            await page.goto(url)
            await expect(page.get_by_text(why)).to_be_visible()


async def test_the_window_is_shown_to_this_machine_only(process: Process) -> None:
    async with open_window(process, None) as url, aiohttp.ClientSession() as session:
        async with session.get(url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with session.get(url) as answer:
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
