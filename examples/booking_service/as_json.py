"""The same bookings as JSON, for an app or another program."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.booking_service.bookings import KeyUsed, SeatTaken, hold, hold_once, try_again
from examples.booking_service.tables import bookings, seats, tickets, trips

ENGINE: Final = web.AppKey("engine", AsyncEngine)
HOLD_FOR: Final = web.AppKey("hold_for", timedelta)
KEY_HEADER: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"[!-~]{16,128}")
"""Whoever sends a key again gets the booking: one that others could guess is refused."""


async def list_trips(request: web.Request) -> web.Response:
    """All trips with their seats."""
    async with request.app[ENGINE].connect() as conn:
        found = (await conn.execute(select(trips).order_by(trips.c.trip_id))).all()
        rows = (await conn.execute(select(seats).order_by(seats.c.trip_id, seats.c.seat))).all()
    return web.json_response(
        [
            {
                "trip_id": trip.trip_id,
                "route": trip.route,
                "price": trip.price,
                "seats": {row.seat: row.booking_id is None for row in rows if row.trip_id == trip.trip_id},
            }
            for trip in found
        ]
    )


async def make_booking(request: web.Request) -> web.Response:
    """Hold a seat and have its payment asked for: {"trip_id": …, "seat": …, "phone_number": …}.

    With an Idempotency-Key, a request that is sent again after a lost answer gets the booking that the first one made.
    """
    try:
        asked = await request.json()
        wanted = [str(asked[name]) for name in ("trip_id", "seat", "phone_number")]
        if "\0" in "".join(wanted):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        return _said("expected JSON with trip_id, seat and phone_number", 400)
    keys = [key.strip().removeprefix('"').removesuffix('"') for key in request.headers.getall(KEY_HEADER, [])]
    if len(keys) > 1 or any(_KEY.fullmatch(key) is None for key in keys):
        return _said(f"expected {KEY_HEADER} once, 16 to 128 printable characters that nobody guesses", 400)
    trip_id, seat, phone_number = wanted
    known, now, hold_for = False, datetime.now(UTC), request.app[HOLD_FOR]
    try:
        async with request.app[ENGINE].begin() as conn:
            if keys:
                once = hold_once(conn, keys[0], trip_id, seat, phone_number, now=now, hold_for=hold_for)
                booking_id, known = await once
            else:
                booking_id = await hold(conn, trip_id, seat, phone_number, now=now, hold_for=hold_for)
    except SeatTaken:
        return _said("This seat is not free. Please choose another one.", 409)
    except KeyUsed:
        return _said(f"This {KEY_HEADER} was used for another booking.", 409)
    return web.json_response({"booking_id": booking_id}, status=200 if known else 201)


async def show_booking(request: web.Request) -> web.Response:
    """How a booking stands."""
    booking_id = request.match_info["booking_id"]
    async with request.app[ENGINE].connect() as conn:
        found = (await conn.execute(select(bookings).where(bookings.c.booking_id == booking_id))).one_or_none()
        sold = (await conn.execute(select(tickets).where(tickets.c.booking_id == booking_id))).one_or_none()
    if found is None:
        return _said("There is no such booking.", 404)
    shown = {name: getattr(found, name) for name in ("booking_id", "trip_id", "seat", "state", "message", "payment_id")}
    shown["may_try_again_at"] = None
    if found.booking_action == "BOOKING_ACTION_OFFER_RETRY" and found.state == "HELD":
        shown["may_try_again_at"] = (found.retry_allowed_at or datetime.now(UTC)).isoformat()
    shown["receipt"] = sold.mpesa_receipt_number if sold is not None else None
    return web.json_response(shown)


async def retry_booking(request: web.Request) -> web.Response:
    """Have another attempt asked for: {"after": …}, the `payment_id` of the attempt that was seen to fail.

    So a request that comes late starts no attempt after a later one. Without it, after whichever is the last.
    """
    try:
        asked = await request.json() if request.can_read_body else {}
        after = asked.get("after")
        if not isinstance(after, str | None):
            raise TypeError
    except (ValueError, AttributeError, TypeError):
        return _said('expected no body, or JSON such as {"after": "the payment_id of the attempt before"}', 400)
    async with request.app[ENGINE].begin() as conn:
        if not await try_again(conn, request.match_info["booking_id"], after=after):
            return _said("No other attempt is offered for this booking now.", 409)
    return web.json_response({}, status=202)


def _said(sentence: str, status: int) -> web.Response:
    return web.json_response({"message": sentence}, status=status)


ROUTES: Final = (
    web.get("/trips", list_trips),
    web.post("/bookings", make_booking),
    web.get("/bookings/{booking_id}", show_booking),
    web.post("/bookings/{booking_id}/retry", retry_booking),
)
