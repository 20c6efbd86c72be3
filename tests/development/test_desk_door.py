"""The door before the case desk of development: whom it lets in, and what it tells the desk of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientSession, CookieJar, web

from development.desk_door import COOKIE, running_door
from development.postgres import HOST
from runtime.serving import Address

SECRET = "p" * 40
LINKS = {"operator": "o" * 40, "approver": "a" * 40}


@dataclass
class Heard:
    """A server in the desk's place, and the requests that reached it."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.raw_path, dict(request.headers), await request.text()))
        return web.Response(status=303, headers={"Location": "/cases", "Content-Security-Policy": "default-src 'none'"})


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    """Behind a door."""
    heard = Heard()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", heard.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, HOST, 0).start()
        desk = str(Address(*runner.addresses[0][:2]))
        heard.url = f"http://{await stack.enter_async_context(running_door(Address(HOST, 0), desk, SECRET, LINKS))}"
        yield heard


def browser() -> ClientSession:
    """One that keeps its cookies."""
    return ClientSession(cookie_jar=CookieJar(unsafe=True))


async def test_whoever_opens_their_link_is_named_to_the_desk_and_nothing_else_is_told(heard: Heard) -> None:
    for person, secret in LINKS.items():
        async with browser() as session:
            async with session.get(f"{heard.url}/log-in/{secret}", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/")
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie
                assert answer.headers["Referrer-Policy"] == "no-referrer"
            claimed = {"X-Forwarded-User": "somebody", "X-Desk-Secret": "x", "Origin": heard.url, "X-Other": "1"}
            async with session.post(
                f"{heard.url}/cases/1?page=2", data={"reason": "mine"}, headers=claimed, allow_redirects=False
            ) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/cases")
                assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
        path, headers, body = heard.requests.pop()
        assert (path, body) == ("/cases/1?page=2", "reason=mine")
        assert (headers["X-Forwarded-User"], headers["X-Desk-Secret"]) == (person, SECRET)
        assert headers["Origin"] == heard.url
        assert not {"Cookie", "X-Other"} & headers.keys()


async def test_nobody_else_reaches_the_desk(heard: Heard) -> None:
    for path, cookie in (
        ("/", ""),
        ("/", "x" * 40),
        ("/", "\u00e9"),
        ("/", SECRET),
        ("/log-in/", ""),
        ("/log-in/x", ""),
    ):
        async with ClientSession() as session:
            headers = {"Cookie": f"{COOKIE}={cookie}", "X-Forwarded-User": "operator", "X-Desk-Secret": SECRET}
            async with session.get(f"{heard.url}{path}", headers=headers, allow_redirects=False) as answer:
                assert (answer.status, "Set-Cookie" in answer.headers) == (403, False), (path, cookie)
    assert heard.requests == []


@pytest.mark.parametrize(
    ("target", "status"), [("//elsewhere.example/x", b"303"), ("http://elsewhere.example/x", b"404")]
)
async def test_no_address_leads_the_secret_elsewhere(heard: Heard, target: str, status: bytes) -> None:
    reader, writer = await asyncio.open_connection(*heard.url.removeprefix("http://").split(":"))
    cookie = f"Cookie: {COOKIE}={LINKS['operator']}"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n{cookie}\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == status
    writer.close()
    assert [path for path, _, _ in heard.requests] == ([target] if status == b"303" else [])
