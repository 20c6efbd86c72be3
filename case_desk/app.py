"""The desk's parts put together: who is let in, which page is where, and what every answer carries."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc.aio
import structlog
from aiohttp import web

from case_desk import approvals, casework, finding
from case_desk.alarms import CERTIFICATE_EXPIRES, PROGRAM_FAULT, TLS_FILES_UNUSABLE
from case_desk.config import DeskSettings
from case_desk.desk import DESK, PERSON, CoreChannel, Desk, KeptNoMore, TooSlow, page, show_question
from case_desk.forms import FormRefused
from case_desk.persons import NotLoggedIn, person_of
from case_desk.refusals import refusal_of
from runtime.alarms import LastingAlarm, raise_alarm
from runtime.connections import BoundedConnection, Connections
from runtime.followed_channel import CertificateAlarms, followed_channel
from runtime.renewed_site import bound_socket, renewed_site
from runtime.serving import Address, stop_requested, write_ready_file
from runtime.tls import FollowedFiles, TlsFiles, read_tls, server_context

FORM_MAX_BYTES: Final = 16_384
HEADER_TIME_S: Final = 10.0
IDLE_TIME_S: Final = 75.0
CONNECTIONS_MAX: Final = 500
"""A desk is for tens of people, whose browsers open six each; their proxy opens fewer."""
SHUTDOWN_S: Final = 35.0
"""Longer than any call to the service: what a person has asked for is answered."""
STYLE: Final = Path(__file__).with_name("desk.css")
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    # With no referrer at all, browsers would not say either that a form comes from a page of the desk.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_WHO_ARE_YOU: Final = (
    "This desk does not know who you are. Log in, then try again.",
    "If you have logged in, tell whoever runs the desk: its log says what is missing.",
)
_NOT_YOUR_FORM: Final = (
    "This form is too old, or it was not shown to you by this desk.",
    "Open the page again, and send the form from there.",
)
_NO_SUCH_PAGE: Final = ("There is no such page", "Begin at the open cases.")
_REFUSED: Final = {
    405: ("That address takes another kind of request", "Open the page again, and send the form from there."),
    413: ("That is too long", "Nothing was done. Go back, and write less."),
}
_LOOK_AGAIN: Final = ("Look again before you repeat anything.", "Whoever runs the desk has been told.")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


async def serve(settings: DeskSettings, ready_file: Path | None) -> None:
    """Serve until told to stop, then finish what is in hand."""
    stop = stop_requested()
    async with run_desk(settings) as address:
        write_ready_file(ready_file, {"address": str(address), "core_address": str(settings.core_address)})
        log.info("desk serves", address=str(address), core_address=str(settings.core_address))
        await stop.wait()
        log.info("desk drains")
    log.info("desk stopped")


@contextlib.asynccontextmanager
async def run_desk(settings: DeskSettings, bounds: Connections | None = None) -> AsyncIterator[Address]:
    """A serving desk at the address."""
    core = CoreChannel()
    bounds = bounds or Connections(HEADER_TIME_S, IDLE_TIME_S, CONNECTIONS_MAX, "case-desk", PROGRAM_FAULT)
    alarms = CertificateAlarms(TLS_FILES_UNUSABLE, CERTIFICATE_EXPIRES)
    async with followed_channel(settings.core_address, settings.core_tls, alarms, core.take):
        # No access log: the log tells what people did, and not where they looked.
        runner = web.AppRunner(application(Desk(settings, core)), access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            async with _listening(runner, settings, bounds) as address:
                yield address
        finally:
            bounds.draining = True
            bounds.close_waiting()
            await runner.cleanup()


@contextlib.asynccontextmanager
async def _listening(runner: web.AppRunner, settings: DeskSettings, bounds: Connections) -> AsyncIterator[Address]:
    shown = None
    if (files := settings.tls) is not None:
        shown = FollowedFiles(files, read_tls(files, datetime.now(UTC)), TLS_FILES_UNUSABLE)
    listening = bound_socket(settings.listen_address, "--listen or DESK_LISTEN_ADDRESS")
    try:
        host, port = listening.getsockname()[:2]
        expires = LastingAlarm(CERTIFICATE_EXPIRES)
        async with renewed_site(runner, listening, shown, _context_of, expires, bounds):
            yield Address(host, port)
    finally:
        listening.close()


def application(desk: Desk) -> web.Application:
    """Which page is where."""
    app = web.Application(middlewares=[_guarded], client_max_size=FORM_MAX_BYTES)
    app[DESK] = desk
    app.add_routes(
        [
            web.get("/", finding.show_cases),
            web.get("/desk.css", show_style),
            web.post("/search", finding.search),
            web.get("/found/{search}", finding.show_found),
            web.get("/payments/{reference}", finding.show_payment),
            web.get("/sure/{question}", show_question),
            web.get("/cases/{case}", casework.show_case),
            web.post("/cases/{case}/take", casework.take_case),
            web.post("/cases/{case}/resolve", casework.resolve_case),
            web.get("/approvals", approvals.list_approvals),
            web.get("/approvals/{approval}", approvals.show_approval),
            web.post("/approvals/{approval}/decide", approvals.decide),
        ]
    )
    return app


async def show_style(_request: web.Request) -> web.FileResponse:
    """How the pages look."""
    return web.FileResponse(STYLE)


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing without a name; and whatever goes wrong is a page that says what to do."""
    try:
        response = await _answer(request, handler)
    except web.HTTPRedirection as redirect:
        redirect.headers.update(HEADERS)
        raise
    finally:
        if isinstance(request.protocol, BoundedConnection):
            request.protocol.answered(request.content)
    response.headers.update(HEADERS)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        request[PERSON] = person_of(request, request.app[DESK].settings)
        return await handler(request)
    except NotLoggedIn as why:
        request.app[DESK].strangers.refused(why)
        return _message(request, 403, "You are not logged in", *_WHO_ARE_YOU)
    except TooSlow:
        response = _message(request, 408, "Your form did not arrive", "Nothing was done. Go back, and send it again.")
        response.force_close()
        return response
    except KeptNoMore:
        return _message(request, 404, "Begin again", "What you sent there is not kept any more.")
    except FormRefused:
        return _message(request, 403, "Nothing was done", *_NOT_YOUR_FORM)
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        expected = [f"{name}: {what}" for name, what in refusal.fields.items()]
        return _message(request, refusal.status, "That cannot be shown", *(expected or [refusal.sentence]))
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        return _message(request, error.status, *_REFUSED.get(error.status, _NO_SUCH_PAGE))
    except UnicodeError:
        # An address that is no text names nothing, and could not be asked for.
        return _message(request, 404, *_NO_SUCH_PAGE)
    except Exception:
        raise_alarm(PROGRAM_FAULT, exc_info=True)
        return _message(request, 500, "The desk has failed", *_LOOK_AGAIN)


def _message(request: web.Request, status: int, title: str, *sentences: str) -> web.Response:
    return page(request, "message", status, title=title, sentences=sentences)


def _context_of(files: TlsFiles) -> ssl.SSLContext:
    context = server_context(files)
    # Who shows no certificate is told so by a page; a certificate that is shown has to be good.
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
