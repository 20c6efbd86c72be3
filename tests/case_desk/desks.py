"""A desk in this process, before a real service, and people who are logged in at a proxy in front of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from playwright.async_api import Browser, Page

from case_desk.app import run_desk
from case_desk.config import DeskSettings
from development.postgres import find_free_port
from runtime.connections import Connections
from tests.application.approving.twosome import Twosome
from tests.patience import PATIENCE_SECONDS

SECRET = "s" * 40


@dataclass(frozen=True)
class Served:
    """The desk at its address."""

    two: Twosome
    address: str

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def headers(self, person: str) -> dict[str, str]:
        """What the proxy says."""
        return {"X-Forwarded-User": person, "X-Desk-Secret": SECRET}

    @contextlib.asynccontextmanager
    async def page_of(
        self, browser: Browser, person: str, *, width: int = 900, script: bool = True
    ) -> AsyncIterator[Page]:
        """The browser of somebody who is logged in."""
        context = await browser.new_context(
            extra_http_headers=self.headers(person),
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
        )
        try:
            context.set_default_timeout(PATIENCE_SECONDS * 1_000)
            page = await context.new_page()
            await page.goto(self.url)
            yield page
        finally:
            await context.close()

    async def get(self, path: str, person: str = "amina", **headers: str) -> tuple[int, str]:
        """A page as it is sent, and its status."""
        async with aiohttp.ClientSession() as session:
            sent = self.headers(person) | headers
            async with session.get(f"{self.url}{path}", headers=sent, allow_redirects=False) as response:
                return response.status, await response.text()

    async def post(self, path: str, fields: dict[str, str], person: str = "amina", **headers: str) -> tuple[int, str]:
        """A form sent by hand."""
        sent = self.headers(person) | {"Origin": self.url} | headers
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}{path}", data=fields, headers=sent, allow_redirects=False) as response,
        ):
            return response.status, await response.text()

    async def form(self, page: str, action: str, person: str = "amina") -> dict[str, str]:
        """The hidden fields of the form on a page that is sent to this action."""
        _, text = await self.get(page, person)
        body = text.partition(f'action="{action}"')[2].partition("</form>")[0]
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', body))


@contextlib.asynccontextmanager
async def desk_before(two: Twosome, **changed: object) -> AsyncIterator[Served]:
    """A desk that shows the service a certificate of its own."""
    async with bounded_desk(two, None, changed) as served:
        yield served


@contextlib.asynccontextmanager
async def bounded_desk(
    two: Twosome, bounds: Connections | None, changed: Mapping[str, object]
) -> AsyncIterator[Served]:
    """The same, with bounds of its own for connections."""
    settings = DeskSettings.load(**{**desk_settings(two), **changed})
    async with run_desk(settings, bounds) as address:
        yield Served(two, str(address))


def desk_settings(two: Twosome) -> dict[str, object]:
    """As keyword arguments."""
    names = {name.removeprefix("DESK_").lower(): path for name, path in two.certificates.desk_settings.items()}
    address = f"127.0.0.1:{find_free_port()}"
    return {
        **names,
        "listen_address": address,
        "origin": f"http://{address}",
        "core_address": str(two.process.server.address),
        "proxy_addresses": "127.0.0.1",
        "proxy_secret": SECRET,
    }
