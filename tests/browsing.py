"""A real browser for the tests of pages: the system's headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
# The machine has no display and no graphics, tests run as root, and nothing outside this machine is to be asked.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)
SERIOUS = ("serious", "critical")


@contextlib.asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser; each of its contexts is a person with cookies of their own."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: `scripts/install_browser.sh` installs one")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        await browser.close()


async def accessibility_faults(page: Page) -> list[str]:
    """The serious faults that axe finds on the page, each with the first element that has it."""
    found = await Axe().run(page)
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}"
        for fault in found.response["violations"]
        if fault["impact"] in SERIOUS
    ]
