"""A real browser for the tests of pages: the system's headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.patience import PATIENCE_SECONDS

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
    expect.set_options(timeout=PATIENCE_SECONDS * 1_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), timeout=PATIENCE_SECONDS * 1_000
        )
        yield browser
        await browser.close()


async def new_page(browser: Browser, **person: Any) -> Page:
    """A page of somebody with cookies of their own, which waits as long as any test does."""
    page = await browser.new_page(**person)
    page.set_default_timeout(PATIENCE_SECONDS * 1_000)
    return page


@dataclass(frozen=True, slots=True)
class Picture:
    """Pictures for the documentation, of which a test takes none unless somebody asks for them."""

    folder: Path | None

    async def keep(self, page: Page, name: str) -> None:
        """What the window shows now, as NAME.png."""
        if self.folder is not None:
            await page.screenshot(path=self.folder / f"{name}.png")


async def accessibility_faults(page: Page) -> list[str]:
    """The serious faults that axe finds on the page, each with the first element that has it."""
    found = await Axe().run(page)
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}"
        for fault in found.response["violations"]
        if fault["impact"] in SERIOUS
    ]
