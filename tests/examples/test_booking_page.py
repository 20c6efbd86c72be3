"""The booking page, in a browser."""

from __future__ import annotations

from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from examples.booking_service.bookings import HOLD
from examples.booking_service.page import application
from tests.browsing import accessibility_faults
from tests.examples.shops import Shop


async def test_a_passenger_holds_a_seat_with_two_clicks(browser: Browser, shop: Shop) -> None:
    async with TestServer(application(shop.engine, HOLD)) as server:
        page = await browser.new_page()
        await page.goto(str(server.make_url("/")))
        await page.get_by_label("M-Pesa number").fill("0712345678")
        seat = page.get_by_role("button", name="01", exact=True)
        await seat.click()
        await expect(page.get_by_role("status")).to_contain_text("We are starting your M-Pesa payment.")
        await expect(seat).to_be_disabled()
        assert await accessibility_faults(page) == []
