"""The way in to the case desk on a developer's machine: `python -m development.desk_door`, where people log in.

In production a proxy of the company's says who is logged in. Here a person is whoever opens their link, which stands in
a file that only the owner of the data folder can read, and on that owner's screen. The link is exchanged for a cookie,
and each request that brings one is handed to the desk beside the person's name and the proxy's secret. Nothing else
reaches the desk, and what the desk itself checks, such as where a form comes from, it checks as in production.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import aiohttp
from aiohttp import web
from yarl import URL

from runtime.serving import (
    Address,
    AddressTaken,
    is_address_taken,
    parse_address,
    run,
    stop_requested,
    write_ready_file,
)

COOKIE: Final = "case-desk"
LOG_IN: Final = "/log-in/"
DESK_SECONDS: Final = 40.0
"""Longer than the desk takes for any page."""
_TO_THE_DESK: Final = ("Content-Type", "Origin")
"""All that the desk asks of a browser. Who is logged in, a browser cannot say."""
_OF_A_CONNECTION: Final = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})
_LOG_IN_FIRST: Final = "You are not logged in: open the link of the case desk that `make run` has printed.\n"
_NO_DESK: Final = "The case desk does not answer now. Look again before you repeat anything.\n"


@dataclass(frozen=True, slots=True)
class Door:
    """Where the desk is, and who may go there."""

    desk: str
    proxy_secret: str
    links: Mapping[str, str]
    """The secret of each person's link."""
    session: aiohttp.ClientSession

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Log somebody in, or hand the request on for whoever is."""
        if request.path.startswith(LOG_IN):
            return self._log_in(request.path.removeprefix(LOG_IN))
        person = self._person(request.cookies.get(COOKIE, ""))
        if person is None:
            return web.Response(status=403, text=_LOG_IN_FIRST)
        sent = {name: request.headers[name] for name in _TO_THE_DESK if name in request.headers}
        sent |= {"X-Forwarded-User": person, "X-Desk-Secret": self.proxy_secret}
        if not request.raw_path.startswith("/"):
            # A target with a host of its own could lead the secret elsewhere.
            return web.Response(status=404)
        url = URL(f"http://{self.desk}{request.raw_path}", encoded=True)
        try:
            async with self.session.request(
                request.method, url, headers=sent, data=await request.read(), allow_redirects=False
            ) as told:
                kept = [(name, value) for name, value in told.headers.items() if name.lower() not in _OF_A_CONNECTION]
                return web.Response(status=told.status, headers=kept, body=await told.read())
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=502, text=_NO_DESK)

    def _log_in(self, secret: str) -> web.Response:
        if self._person(secret) is None:
            return web.Response(status=403, text=_LOG_IN_FIRST)
        # The address holds the secret: nothing that is loaded next may be told of it.
        headers = {"Location": "/", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        answer = web.Response(status=303, headers=headers)
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="Strict")
        return answer

    def _person(self, secret: str) -> str | None:
        shown = secret.encode("utf-8", "surrogateescape")
        return next((who for who, kept in self.links.items() if hmac.compare_digest(kept.encode(), shown)), None)


async def serve(listen: str, desk: str, keys_file: Path, ready_file: Path | None) -> None:
    """Serve until told to stop."""
    stop = stop_requested()
    keys = json.loads(keys_file.read_text(encoding="utf-8"))
    async with running_door(parse_address(listen), desk, keys["proxy_secret"], keys["links"]) as address:
        write_ready_file(ready_file, {"address": str(address)})
        await stop.wait()


@contextlib.asynccontextmanager
async def running_door(
    listen: Address, desk: str, proxy_secret: str, links: Mapping[str, str]
) -> AsyncIterator[Address]:
    """A door at the address, before the desk at HOST:PORT."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DESK_SECONDS), auto_decompress=False) as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", Door(desk, proxy_secret, links, session).answer)
        # No access log: it would hold the links.
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, listen.host, listen.port).start()
            yield Address(*runner.addresses[0][:2])
        except OSError as error:
            if is_address_taken(error):
                raise AddressTaken(listen, "--desk-port") from error
            raise
        finally:
            await runner.cleanup()


def main() -> NoReturn:
    """The program."""
    parser = argparse.ArgumentParser(prog="development.desk_door", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listen", required=True, help="HOST:PORT for browsers")
    parser.add_argument("--desk", required=True, help="HOST:PORT of the case desk")
    parser.add_argument("--keys-file", type=Path, required=True, help="the proxy's secret and the links, as JSON")
    parser.add_argument("--ready-file", type=Path, default=None, help="written as JSON once it serves")
    asked = parser.parse_args()
    run(serve(asked.listen, asked.desk, asked.keys_file, asked.ready_file))
    raise SystemExit(0)


if __name__ == "__main__":
    main()
