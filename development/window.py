"""The developer's window: what every subscriber is told, beside what the service said to Daraja, as it happens.

A program of its own, `python -m development.window`, and a caller like any other: the events have travelled the whole
way through log, stream and network, as a notification service gets them, and the requests are those that the simulator
heard. It decides nothing but how they read. It shows the page to this machine only, and changes nothing anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import ipaddress
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import aiohttp
import grpc
import jinja2
from aiohttp import web
from mpesa_payments.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc

from development.certificates import NOTIFICATION, Certificates
from development.system import channel_to
from development.view import Source, action_words, status_name
from runtime.enum_names import short
from runtime.serving import AddressTaken, parse_address, run, stop_requested, write_ready_file

EVENTS_MAX: Final = 200
REQUESTS_SHOWN_MAX: Final = 100
RECONNECT_SECONDS: Final = 1.0
SIMULATOR_TIMEOUT_SECONDS: Final = 5.0

_FOLDER: Final = Path(__file__).parent
_FILES: Final = {"window.css": "text/css", "window.js": "text/javascript"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
# A cursor that the service does not know is one of another database, before that was made anew or restored.
_START_ANEW: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)
_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


@dataclass(slots=True)
class Stream:
    """What has come of the stream, the newest first, and whether more can come."""

    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    number: int = 0
    trouble: str = "not connected yet"

    def take(self, event: payment_pb2.PaymentEvent) -> None:
        self.number += 1
        self.events.appendleft(_shown(event, self.number))

    def forget(self) -> None:
        self.events.clear()
        self.number = 0


@dataclass(frozen=True, slots=True)
class Window:
    """The page's two sides. Without a simulator there is only one."""

    stream: Stream
    simulator_url: str | None
    session: aiohttp.ClientSession

    async def lists(self) -> str:
        requests, trouble = await self._requests()
        return _TEMPLATES.get_template("window_lists.html").render(
            events=self.stream.events,
            stream_trouble=self.stream.trouble,
            requests=requests,
            requests_trouble=trouble,
        )

    async def _requests(self) -> tuple[list[dict[str, Any]], str]:
        if self.simulator_url is None:
            return [], "a Daraja of your own is used, and what it heard is not seen here"
        try:
            async with self.session.get(f"{self.simulator_url}/control/requests") as answer:
                listed = (await answer.json())["requests"][:REQUESTS_SHOWN_MAX]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return [], "the simulator does not answer"
        return [
            {**one, "clock": _clock(one["time"]), "body": _text(one["body"]), "answer": _text(one["answer"])}
            for one in listed
        ], ""


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m development.window", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8091", metavar="HOST:PORT", help="where the page is")
    parser.add_argument("--payments", required=True, metavar="HOST:PORT", help="the payment service")
    parser.add_argument("--certificates", type=Path, help="folder of the development certificates; else plaintext")
    parser.add_argument("--simulator", metavar="URL", help="the simulated Daraja, such as http://127.0.0.1:8070")
    parser.add_argument("--ready-file", type=Path, help="written as JSON once the page is served")
    options = parser.parse_args()
    certificates = None if options.certificates is None else Certificates(options.certificates)
    run(_serve(options.listen, Source(options.payments, certificates), options.simulator, options.ready_file))


async def _serve(listen: str, source: Source, simulator_url: str | None, ready_file: Path | None) -> None:
    stop, stream, address = stop_requested(), Stream(), parse_address(listen)
    timeout = aiohttp.ClientTimeout(total=SIMULATOR_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        runner = web.AppRunner(application(Window(stream, simulator_url, session)), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError:
            raise AddressTaken(address, "--listen") from None
        port = runner.addresses[0][1]
        write_ready_file(ready_file, {"address": f"{address.host}:{port}"})
        following = asyncio.create_task(follow(source, stream))
        await stop.wait()
        following.cancel()
        await runner.cleanup()


async def follow(source: Source, stream: Stream) -> NoReturn:
    """Take every event there is, and each that comes, for ever; cut off, go on from where it was."""
    cursor = ""
    while True:
        request = payment_service_pb2.WatchPaymentsRequest(cursor=cursor)
        if not cursor:
            request.position = payment_service_pb2.WatchPaymentsRequest.POSITION_EARLIEST
        try:
            async with channel_to(source.address, source.certificates, NOTIFICATION) as channel:
                async for message in payment_service_pb2_grpc.PaymentServiceStub(channel).WatchPayments(request):
                    stream.trouble = ""
                    for event in message.events:
                        stream.take(event)
                    cursor = message.cursor
            stream.trouble = "the service has ended the stream, and it is opened again"
        except grpc.aio.AioRpcError as error:
            stream.trouble = f"the stream is cut off, and is opened again: {error.details()}"
            if error.code() in _START_ANEW:
                stream.forget()
                cursor = ""
        await asyncio.sleep(RECONNECT_SECONDS)


def application(window: Window) -> web.Application:
    """The page, its two lists for its script, and its files."""

    async def page(_: web.Request) -> web.Response:
        lists = await window.lists()
        return _answer(_TEMPLATES.get_template("window.html").render(lists=lists, state=_state(lists)))

    async def lists(_: web.Request) -> web.Response:
        text = await window.lists()
        return _answer(text, state=_state(text))

    async def send_file(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _FILES:
            raise web.HTTPNotFound
        return _answer((_FOLDER / name).read_text(encoding="utf-8"), content_type=_FILES[name])

    app = web.Application(middlewares=[_only_here])
    app.add_routes([web.get("/", page), web.get("/lists", lists), web.get("/files/{name}", send_file)])
    return app


@web.middleware
async def _only_here(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer this machine only, by a name of this machine: somebody else's name may lead here too."""
    host = urlsplit(f"//{request.host}").hostname or ""
    if not all(part == "localhost" or _is_loopback(part) for part in (request.remote or "", host)):
        return _answer("The window is shown to this machine only, at 127.0.0.1 or localhost.", 403, "text/plain")
    response: web.StreamResponse = await handler(request)
    return response


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _shown(event: payment_pb2.PaymentEvent, number: int) -> dict[str, Any]:
    payment = event.payment
    return {
        "number": number,
        "clock": _clock(event.event_time.ToNanoseconds() / 1e9),
        "type": short("PAYMENT_EVENT_TYPE_", payment_pb2.PaymentEventType.DESCRIPTOR, event.type),
        "status": status_name(payment.status),
        "booking_action": action_words(payment.booking_action),
        "booking": payment.booking_id,
        "reference": payment.reference,
        "version": payment.version,
        "message": payment.customer_message,
    }


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}.{int(at % 1 * 1000):03d}"


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, indent=1, ensure_ascii=False)


def _state(lists: str) -> str:
    return hashlib.sha256(lists.encode()).hexdigest()[:16]


def _answer(text: str, status: int = 200, content_type: str = "text/html", state: str = "") -> web.Response:
    headers = {**_HEADERS, **({"X-Lists-State": state} if state else {})}
    return web.Response(text=text, status=status, content_type=content_type, charset="utf-8", headers=headers)


if __name__ == "__main__":
    main()
