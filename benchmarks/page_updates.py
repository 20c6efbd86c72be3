"""From a callback to what a passenger sees: the example's booking page in Chromium, one payment after the other.

The page is opened, the seat is paid for, and the callback is held back until the page shows the prompt. Then it is let
go. The time counts from the gateway's answer to the callback until the page's own script has changed the page, by a
clock that both read: one machine's. Nothing else is done meanwhile: it is the service at rest.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from playwright.async_api import Page, async_playwright

from benchmarks.latency import control, percentiles
from development.system import System

CALL_WAIT_SECONDS = 60.0
PHONES_FROM = 710_000_000
TRIP = "MEASURED"
PAID = "Your seat is booked"
# Tells when the heading is another one than now.
WATCH = """() => {
  const shown = document.getElementById("standing");
  const now = shown.querySelector("h1").textContent;
  window.changed = new Promise((tell) => {
    new MutationObserver(() => {
      const heading = shown.querySelector("h1")?.textContent;
      if (heading !== now) tell([heading, Date.now()]);
    }).observe(shown, { childList: true, subtree: true });
  });
}"""


async def measure_pages(system: System, chromium: str, samples: int) -> Mapping[str, Any]:
    """So many payments."""
    url = system.examples.booking_url
    assert url is not None, f"the booking page does not run: {system.examples.notice}"
    await _offer_seats(system.house.data_dir / "booking-database-url", samples)
    from_answer, from_sending = [], []
    timeout = aiohttp.ClientTimeout(CALL_WAIT_SECONDS)
    async with async_playwright() as playwright, aiohttp.ClientSession(system.daraja_url, timeout=timeout) as simulator:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        page.set_default_timeout(CALL_WAIT_SECONDS * 1_000)
        await control(simulator, "faults", {"behaviour": {"callback": "held"}, "count": samples})
        for number in range(samples):
            sent, answered, changed = await _paid(page, simulator, url, number)
            from_answer.append(changed - answered)
            from_sending.append(changed - sent)
        await browser.close()
    return {
        "samples": samples,
        "answer_to_page_ms": percentiles(from_answer),
        "callback_to_page_ms": percentiles(from_sending),
    }


async def _paid(page: Page, simulator: aiohttp.ClientSession, url: str, number: int) -> tuple[float, float, float]:
    """When the callback was sent and answered, and when the page had changed."""
    phone = PHONES_FROM + number
    await page.goto(url)
    await page.locator(f'input[value="{TRIP}/{number:03}"]').check()
    await page.locator("#number").fill(f"0{phone}")
    await page.locator("form button").click()
    await page.get_by_role("heading", name="Check your phone").wait_for()
    await page.evaluate(WATCH)
    sent = time.time()
    told = await control(simulator, "callbacks/resend", {"phone": f"254{phone}"})
    answered = time.time()
    assert told["callbacks"][0]["status"] == 200, "the gateway has not taken the callback"
    heading, changed = await page.evaluate("() => window.changed")
    assert heading == PAID, heading
    return sent, answered, changed / 1_000


async def _offer_seats(database_url_file: Path, seats: int) -> None:
    """A trip with a seat for each payment, beside the one that the example sells."""
    url = database_url_file.read_text(encoding="utf-8").strip()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("INSERT INTO trips VALUES (%s, 'Nairobi to Kisumu', 1200)", (TRIP,))
        await connection.execute(
            "INSERT INTO seats (trip_id, seat) SELECT %s, lpad(n::text, 3, '0') FROM generate_series(0, %s) n",
            (TRIP, seats - 1),
        )
