"""`payment-service dev` with the example services beside it, as `make run` starts them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

import development.examples
from development.credentials import SHORTCODES
from development.examples import ExampleServices, start_examples
from development.parts import make_house, take_lock, write_secret
from tests.browsing import Picture, new_page
from tests.development.dev_programs import running_dev
from tests.patience import PATIENCE_SECONDS

NUMBER = "0712345678"
CREDENTIALS = ("PAYMENTS_DARAJA_CONSUMER_KEY_FILE", "PAYMENTS_DARAJA_CONSUMER_SECRET_FILE")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_seat_is_booked_in_one_window_and_paid_on_the_phone_in_another(
    tmp_path: Path, browser: Browser, picture: Picture
) -> None:
    async with running_dev(tmp_path, examples=True) as dev:
        ready = await dev.ready()
        for name in ("booking_url", "phones_url", "window_url"):
            assert ready[name] in dev.output
        killed = ready["processes"]["booking-service"]
        os.kill(killed, signal.SIGKILL)
        again = await dev.ready_when(lambda now: now["processes"]["booking-service"] != killed)
        assert again["booking_url"] == ready["booking_url"]

        phone = await new_page(browser)
        await phone.goto(f"{ready['phones_url']}/{NUMBER}")
        passenger = await new_page(browser)
        await passenger.goto(ready["booking_url"])
        await book(passenger, "01")
        # Both name the same business.
        await expect(passenger.get_by_role("main")).to_contain_text("PAYBILL 174379")
        await expect(phone.get_by_role("main")).to_contain_text("PAYBILL 174379")
        await phone.get_by_label("M-PESA PIN").fill("1234")
        await phone.get_by_role("button", name="Send").click()
        sms = phone.get_by_role("listitem").first
        await expect(sms).to_contain_text("Confirmed.")
        receipt = (await sms.inner_text()).split(" Confirmed.")[0].split()[-1]
        await expect(passenger.get_by_text(receipt).first).to_be_visible()

        await passenger.goto(ready["booking_url"])
        await book(passenger, "02")
        await phone.get_by_role("button", name="Cancel").click()
        typed = passenger.locator(".typed dd")
        await expect(typed).to_have_count(3)
        bill = await typed.all_text_contents()
        for label, text in zip(("Business", "Account", "Amount"), bill, strict=True):
            await phone.get_by_label(label).fill(text)
        await phone.get_by_label("PIN for").fill("1234")
        await phone.get_by_role("button", name="Pay the bill").click()
        await expect(passenger.get_by_role("heading", name="Your seat is booked")).to_be_visible()
        await expect(phone.get_by_role("listitem")).to_have_count(2)

        for label, text in zip(("Business", "Account", "Amount"), bill, strict=True):
            await phone.get_by_label(label).fill(text)
        await phone.get_by_label("PIN for").fill("1234")
        await phone.get_by_role("button", name="Pay the bill").click()
        await settle_the_case(await new_page(browser), ready["desk_log_in"]["operator"])

        window = await new_page(browser, viewport={"width": 960, "height": 540})
        await window.goto(ready["window_url"])
        events = window.get_by_role("list", name="Events")
        await expect(events).to_contain_text("COMPLETED, the booking may: confirm")
        await expect(window.get_by_role("list", name="Requests")).to_contain_text("/mpesa/stkpush/v1/processrequest")
        assert NUMBER[1:] not in await window.content()
        await picture.keep(window, "developer-window")

        told = Path(ready["messages"]) / "sms.txt"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not told.exists() or receipt not in told.read_text(encoding="utf-8"):
                await asyncio.sleep(0.05)
        dev.process.send_signal(signal.SIGTERM)
        assert await dev.end() == 0, dev.output
        await dev.until_nothing_runs()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_before_a_daraja_that_may_ring_real_phones_no_booking_page_is_opened(tmp_path: Path) -> None:
    shortcodes = tmp_path / "shortcodes.json"
    secret = write_secret(tmp_path / "secret", "a-secret-of-the-test")
    write_secret(shortcodes, json.dumps(SHORTCODES))
    own = {"PAYMENTS_SHORTCODES_FILE": shortcodes, **dict.fromkeys(CREDENTIALS, secret)}
    async with running_dev(
        tmp_path,
        "--daraja-url=http://127.0.0.1:9",
        settings={name: str(path) for name, path in own.items()},
        examples=True,
    ) as dev:
        ready = await dev.ready()
        assert set(ready["processes"]) == {"callback-gateway", "payment-service", "window", "case-desk", "desk-door"}
        assert ready["booking_url"] is None
        assert "The example services are not started: a Daraja other than the simulator is used" in dev.output


async def settle_the_case(page: Page, link: str) -> None:
    """As the operator does it whom this link logs in at the desk."""
    await page.goto(link)
    await expect(page.get_by_text("You are operator")).to_be_visible()
    case = page.get_by_role("link", name=re.compile("Second receipt"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await case.count():
            await asyncio.sleep(0.2)
            await page.reload()
    await case.click()
    await page.get_by_label("Dismiss:").check()
    await page.get_by_role("textbox", name="Why", exact=True).fill("tried out")
    await page.get_by_role("button", name="Settle the case").click()
    await page.get_by_role("button", name="Yes, do it").click()
    await expect(page.get_by_role("status")).to_contain_text("It was settled: dismiss")


async def book(page: Page, seat: str) -> None:
    """As a passenger does it; on a page with a form, the button is what sends it."""
    await page.get_by_label(re.compile("number", re.IGNORECASE)).fill(NUMBER)
    await page.get_by_text(seat, exact=True).click()
    if await page.locator("form").count():
        await page.get_by_role("button", name=re.compile("^Pay")).click()


@pytest.mark.parametrize(
    ("clone", "simulated", "why_not"),
    [
        (None, True, "in a PostgreSQL of yours none is made"),
        ("elsewhere", True, "this is an installation without it"),
        (None, False, "a Daraja other than the simulator is used"),
    ],
)
async def test_where_the_examples_cannot_run_a_sentence_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: str | None, simulated: bool, why_not: str
) -> None:
    if clone is not None:
        monkeypatch.setattr(development.examples, "CLONE", tmp_path / clone)
    with await take_lock(tmp_path) as lock:
        house = make_house(tmp_path, lock, inherit_settings=False)
        started = await start_examples(house, None, "127.0.0.1:1", None, 0, [], simulated=simulated)
    assert started == ExampleServices(notice=started.notice)
    assert why_not in (started.notice or "")
