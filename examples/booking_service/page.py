"""The pages that passengers see: plain forms that need no script, and a script that looks for news.

A form that is sent twice does nothing twice: that for a seat carries the id that its booking will have, and that for
another attempt the payment after which it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.booking_service.as_json import ENGINE, HOLD_FOR, ROUTES
from examples.booking_service.bookings import SeatTaken, State, hold, new_booking_id, try_again
from examples.booking_service.language import LANGUAGES, words
from examples.booking_service.news import STREAMS_MAX, News
from examples.booking_service.standing import Standing, read_standing
from examples.booking_service.tables import bookings, issued_receipts, seats, trips
from payment_client import PaymentsClient, PaymentsError

BUSINESS: Final = web.AppKey("business", str)
LOOK_EVERY: Final = web.AppKey("look_every", timedelta)
NEWS: Final = web.AppKey("news", News)
PAYMENTS: Final = web.AppKey("payments", PaymentsClient)
"""Asked for nothing but receipts: see `asking`."""
NAIROBI: Final = timezone(timedelta(hours=3))

_FOLDER: Final = Path(__file__).parent
_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters["kes"] = lambda amount: f"KES {amount:,}"
_TEMPLATES.filters["hour"] = lambda moment: f"{moment.astimezone(NAIROBI):%H:%M:%S}"
_TEMPLATES.filters["iso"] = lambda moment: moment.isoformat()
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # The address of a booking is all that opens it: no other site is told. Our own forms say where they stand.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_FILES: Final = {"page.css": "text/css", "page.js": "text/javascript"}
_NUMBER: Final = re.compile(r"(?:\+?254|0)[17][0-9]{8}", re.ASCII)
_BOOKING_ID: Final = re.compile(r"B-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_COOKIE_SECONDS: Final = 86_400
_SILENCE_SECONDS: Final = 20
"""A stream says something at least as often: so no proxy cuts it, and a page that is gone is noticed."""
_RECEIPT_SECONDS: Final = 10.0

log = logging.getLogger("booking_service")


def application(
    engine: AsyncEngine,
    hold_for: timedelta,
    business: str = "",
    look_every: timedelta = timedelta(seconds=1),
    streams_max: int = STREAMS_MAX,
) -> web.Application:
    """The pages over a database; `business` is the name that the prompt shows, where it is known.

    A page that no stream tells of news looks for them as often as `look_every`.
    """
    app = web.Application(middlewares=[_only_from_our_pages])
    app[ENGINE], app[HOLD_FOR], app[BUSINESS] = engine, hold_for, business
    app[LOOK_EVERY], app[NEWS] = look_every, News(engine, streams_max)
    app.cleanup_ctx.append(_hearing_news)
    app.on_shutdown.append(_end_streams)
    app.add_routes(
        [
            web.get("/", show_seats),
            web.post("/", pay),
            web.get("/pay/{booking_id}", show_booking),
            web.post("/pay/{booking_id}", pay_again),
            web.get("/pay/{booking_id}/news", stream_news),
            web.get("/pay/{booking_id}/receipt", send_receipt),
            web.get("/static/{name}", send_file),
            *ROUTES,
        ]
    )
    return app


@web.middleware
async def _only_from_our_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A browser says with each form where it stands. What says nothing is no browser, and has no cookies of anybody."""
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin is not None and origin.partition("://")[2] != request.host:
        return web.Response(status=403, text=words(_language(request))["not_ours"], headers=_HEADERS)
    return await handler(request)


async def show_seats(request: web.Request) -> web.Response:
    """The form."""
    if (chosen := request.query.get("language")) in LANGUAGES:
        answer = web.HTTPSeeOther("/")
        _keep(answer, "language", str(chosen))
        raise answer
    return await _seats(request)


async def pay(request: web.Request) -> web.Response:
    """The form, sent: a seat is held and its payment asked for, once for the id that the form carries."""
    form = {name: str(value) for name, value in (await request.post()).items()}
    booking_id, typed = form.get("booking", ""), form.get("number", "")
    trip_id, _, seat = form.get("seat", "").rpartition("/")
    number = _number(typed)
    if _BOOKING_ID.fullmatch(booking_id) is None:
        booking_id = new_booking_id()
    wrong = {"number": "number_wrong"} if number is None else {}
    if not seat or "\0" in form["seat"]:
        wrong["seat"] = "seat_missing"
    if number is None or wrong:
        return await _seats(request, booking_id, typed, form.get("seat", ""), wrong)
    try:
        async with request.app[ENGINE].begin() as conn:
            await hold(
                conn,
                trip_id,
                seat,
                number,
                now=datetime.now(UTC),
                hold_for=request.app[HOLD_FOR],
                booking_id=booking_id,
                language=_language(request),
            )
    except SeatTaken:
        return await _seats(request, booking_id, typed, "", {"seat": "seat_taken"})
    answer = web.HTTPSeeOther(f"/pay/{booking_id}")
    _keep(answer, "booking", booking_id)
    raise answer


async def show_booking(request: web.Request) -> web.Response:
    """How it stands; with `?part`, only what changes, for the page's script."""
    if (chosen := request.query.get("language")) in LANGUAGES:
        answer = web.HTTPSeeOther(request.path)
        _keep(answer, "language", str(chosen))
        raise answer
    return _booking(request, await _standing(request))


async def pay_again(request: web.Request) -> web.Response:
    """Another attempt, on the same number or another one."""
    form = await request.post()
    typed, standing = str(form.get("number", "")).strip(), await _standing(request)
    number = _number(typed) if typed else ""
    if number is None:
        return _booking(request, standing, typed, "number_wrong")
    async with request.app[ENGINE].begin() as conn:
        # Where nothing is offered, the page says how the booking stands.
        await try_again(conn, standing.booking_id, after=str(form.get("payment", "")), phone_number=number)
    raise web.HTTPSeeOther(request.path)


async def stream_news(request: web.Request) -> web.StreamResponse:
    """A line for each change (Server-Sent Events), whereupon the page's script asks how the booking stands."""
    standing = await _standing(request)
    with request.app[NEWS].of(standing.booking_id) as changed:
        if changed is None:
            return web.Response(status=503, headers=_HEADERS)
        answer = web.StreamResponse(headers={**_HEADERS, "X-Accel-Buffering": "no"})
        answer.content_type = "text/event-stream"
        await answer.prepare(request)
        # A browser that has left is nobody's fault.
        with contextlib.suppress(ConnectionError):
            # The page looks when the stream has begun, and from here on it is told.
            await answer.write(b":\n\n")
            while not request.app[NEWS].has_ended:
                try:
                    await asyncio.wait_for(changed.wait(), _SILENCE_SECONDS)
                    changed.clear()
                    await answer.write(b"data: changed\n\n")
                except TimeoutError:
                    await answer.write(b":\n\n")
    return answer


async def send_receipt(request: web.Request) -> web.Response:
    """The receipt as it stands, as a PDF; what was printed before may be of an earlier revision."""
    standing = await _standing(request)
    async with request.app[ENGINE].connect() as conn:
        of_it = select(issued_receipts.c.payment_id).where(issued_receipts.c.booking_id == standing.booking_id)
        payment_id = await conn.scalar(of_it)
    said = words(_language(request))
    if payment_id is None:
        raise web.HTTPNotFound(text=said["no_receipt"], headers=_HEADERS)
    try:
        answer = await request.app[PAYMENTS].get_receipt(payment_id, timeout=_RECEIPT_SECONDS)
    except PaymentsError as error:
        log.warning("the receipt of %s does not come: %s", standing.booking_id, error)
        raise web.HTTPServiceUnavailable(text=said["receipt_later"], headers=_HEADERS) from error
    name = f"receipt-{answer.receipt.receipt_number}.pdf"
    headers = {**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=answer.pdf, content_type="application/pdf", headers=headers)


async def _hearing_news(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[NEWS].keep_listening())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _end_streams(app: web.Application) -> None:
    """Or the server would wait for pages that stay open."""
    app[NEWS].end()


async def send_file(request: web.Request) -> web.Response:
    """The style or the script."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    text = (_FOLDER / "static" / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=_FILES[name], headers={**_HEADERS, "Cache-Control": "no-cache"})


async def _seats(
    request: web.Request,
    booking_id: str = "",
    typed: str = "",
    chosen: str = "",
    wrong: dict[str, str] | None = None,
) -> web.Response:
    async with request.app[ENGINE].connect() as conn:
        every_trip = (await conn.execute(select(trips).order_by(trips.c.trip_id))).all()
        every_seat = (await conn.execute(select(seats).order_by(seats.c.trip_id, seats.c.seat))).all()
        mine = select(bookings.c.booking_id, bookings.c.seat)
        mine = mine.where(bookings.c.booking_id == request.cookies.get("booking", ""), bookings.c.state == State.HELD)
        under_way = (await conn.execute(mine)).one_or_none()
    return _page(
        request,
        "seats.html",
        400 if wrong else 200,
        trips=[(trip, [seat for seat in every_seat if seat.trip_id == trip.trip_id]) for trip in every_trip],
        booking_id=booking_id or new_booking_id(),
        typed=typed,
        chosen=chosen,
        wrong=wrong or {},
        under_way=under_way,
    )


async def _standing(request: web.Request) -> Standing:
    async with request.app[ENGINE].connect() as conn:
        booking_id = request.match_info["booking_id"]
        # PostgreSQL keeps no NUL in a text, and would not look for one.
        found = None if "\0" in booking_id else await read_standing(conn, booking_id, datetime.now(UTC))
    if found is None:
        raise web.HTTPNotFound(text=words(_language(request))["not_found"], headers=_HEADERS)
    return found


def _booking(request: web.Request, standing: Standing, typed: str = "", wrong: str = "") -> web.Response:
    look = int(request.app[LOOK_EVERY] / timedelta(milliseconds=1))
    shown = {"one": standing, "typed": typed, "wrong": wrong, "business": request.app[BUSINESS], "look": look}
    version = f'"{hashlib.sha256(repr(standing).encode()).hexdigest()[:16]}"'
    if "part" not in request.query:
        return _page(request, "booking.html", 400 if wrong else 200, version=version, **shown)
    if request.headers.get("If-None-Match") == version:
        return web.Response(status=304, headers=_HEADERS)
    answer = _page(request, "standing.html", 200, **shown)
    answer.headers["ETag"] = version
    return answer


def _page(request: web.Request, template: str, status: int, **shown: object) -> web.Response:
    language = _language(request)
    common = {"language": language, "languages": LANGUAGES, "word": words(language), "path": request.path}
    text = _TEMPLATES.get_template(template).render(**common, **shown)
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)


def _number(typed: str) -> str | None:
    """As the payment service takes it, from what people type; None where it is no Kenyan mobile number."""
    number = re.sub(r"[\s().-]", "", typed)
    return number if _NUMBER.fullmatch(number) else None


def _language(request: web.Request) -> str:
    kept = request.cookies.get("language", "")
    return kept if kept in LANGUAGES else next(iter(LANGUAGES))


def _keep(answer: web.HTTPSeeOther, name: str, value: str) -> None:
    answer.set_cookie(name, value, max_age=_COOKIE_SECONDS, httponly=True, samesite="Lax")
