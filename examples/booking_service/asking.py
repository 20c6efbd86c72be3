"""Asking the payment service for what the tables say is still to be asked: payments, second attempts, refunds.

A page never asks the payment service to do anything. It writes a row with a request id, and this loop asks, again and
again with the same id and the same content, until there is an answer. So a crash at any line costs a moment, and never
a second prompt or a second refund.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import NamedTuple, NoReturn

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.booking_service.bookings import Kind, State, give_up
from examples.booking_service.language import words
from examples.booking_service.news import announce
from examples.booking_service.tables import BOOKED_PRICE, agreed_prices, bookings, requests, trips
from payment_client import (
    BookingAction,
    CallerNotAllowed,
    LatePaymentPolicy,
    PaymentsClient,
    PaymentsError,
    PromptsRefused,
    Purchase,
    RefundNotPossible,
    RefundReason,
    Refused,
)

LOOK_SECONDS = 0.5
AGAIN_AFTER = timedelta(seconds=2)
REFUND_AGAIN_AFTER = timedelta(seconds=30)
"""A receipt number may still be on its way."""
AT_ONCE = 20

log = logging.getLogger("booking_service")


class Due(NamedTuple):
    """What is to be asked for now."""

    request_id: str
    kind: str
    booking_id: str
    payment_id: str | None
    state: str
    phone_number: str
    other_number: str
    language: str
    hold_until: datetime
    price: int
    refused_with: str | None
    """When it was asked for before."""


async def keep_asking(engine: AsyncEngine, client: PaymentsClient) -> NoReturn:
    """Ask for whatever is due, for ever."""
    while True:
        try:
            while await ask_once(engine, client):
                pass
        except Exception as error:
            # The database was away, say: the rows are still there.
            log.warning("asking failed, and goes on", exc_info=error)
        await asyncio.sleep(LOOK_SECONDS)


async def ask_once(engine: AsyncEngine, client: PaymentsClient) -> int:
    """Ask for what is due now; how much that was."""
    due = (
        select(
            requests.c.request_id,
            requests.c.kind,
            requests.c.booking_id,
            requests.c.payment_id,
            bookings.c.state,
            bookings.c.phone_number,
            requests.c.phone_number.label("other_number"),
            bookings.c.language,
            bookings.c.hold_until,
            BOOKED_PRICE.label("price"),
            requests.c.refused_with,
        )
        .join(bookings, bookings.c.booking_id == requests.c.booking_id)
        .join(trips, trips.c.trip_id == bookings.c.trip_id)
        .outerjoin(agreed_prices, agreed_prices.c.booking_id == bookings.c.booking_id)
        .where(~requests.c.done, requests.c.due_at <= func.now())
        .order_by(requests.c.number)
        .limit(AT_ONCE)
    )
    async with engine.connect() as conn:
        rows = [Due._make(row) for row in await conn.execute(due)]
    await asyncio.gather(*(_ask(engine, client, row) for row in rows))
    return len(rows)


async def _ask(engine: AsyncEngine, client: PaymentsClient, due: Due) -> None:
    try:
        match Kind(due.kind):
            case Kind.INITIATE:
                await client.initiate(_purchase(due))
            case Kind.RETRY if due.state != State.HELD:
                # The hold has ended meanwhile: no phone rings for a seat that somebody else may have.
                log.info("no other attempt is asked for: %s is %s", due.booking_id, due.state)
            case Kind.RETRY:
                retried, number = due.payment_id or "", due.other_number
                await client.retry(retried, phone_number=number, request_id=due.request_id)
            case Kind.REFUND:
                reason = RefundReason.REFUND_REASON_CANNOT_DELIVER
                await client.refund(due.payment_id or "", reason, request_id=due.request_id)
        # What became of it comes by the event stream, like everything else.
        await _done(engine, due)
    except Refused as error:
        await _refused(engine, due, error)
    except PaymentsError as error:
        # Not answered. Whether it was done is known to the payment service, by the request id.
        log.info("%s of %s is asked for again: %s", due.kind, due.booking_id, error)
        await _later(engine, due, error.retry_after or AGAIN_AFTER, due.refused_with)


def _purchase(due: Due) -> Purchase:
    return Purchase(
        request_id=due.request_id,
        booking_id=due.booking_id,
        phone_number=due.phone_number,
        amount=due.price,
        language_code=due.language,
        # A hold that is over is refused, unless this very request was taken before: then its payment is the answer.
        hold_expire_time=due.hold_until,
        # However late the money is: what there is no seat for then, this service sends back.
        late_payment_policy=LatePaymentPolicy.LATE_PAYMENT_POLICY_CONFIRM,
    )


async def _refused(engine: AsyncEngine, due: Due, error: Refused) -> None:
    if error.retry_after is not None and not isinstance(error, PromptsRefused):
        await _later(engine, due, error.retry_after)
    elif isinstance(error, CallerNotAllowed) or not error.reason:
        # About this service's certificate, or said by something in between: nothing is known of the request itself.
        log.error("%s of %s is not answered, and asked for again: %s", due.kind, due.booking_id, error)
        await _later(engine, due, AGAIN_AFTER)
    elif isinstance(error, RefundNotPossible) and error.metadata.get("cause") == "RECEIPT_PENDING":
        await _later(engine, due, REFUND_AGAIN_AFTER)
    elif isinstance(error, RefundNotPossible) and error.metadata.get("cause") in ("REFUND_UNDER_WAY", "REFUNDED"):
        # The money goes back by somebody else's hand, an operator's say: the passenger reads of that one.
        await _done(engine, due)
    elif isinstance(error, RefundNotPossible) and error.metadata.get("cause") == "UNDER_REVIEW":
        # A person decides first whether there is money to send back: the page promises none until then.
        await _later(engine, due, REFUND_AGAIN_AFTER, words(due.language)["money_checked"])
    elif isinstance(error, RefundNotPossible) and error.metadata.get("cause") == "NOT_SET_UP":
        log.error("no money goes back before the operator of the payment service has set it up: %s", error)
        await _later(engine, due, REFUND_AGAIN_AFTER, error.customer_message)
    else:
        # Prompts that are refused for an hour, say: the passenger reads why, and may give another number at once.
        log.warning("%s of %s was refused: %s", due.kind, due.booking_id, error)
        await _done(engine, due, error.customer_message)


async def _later(engine: AsyncEngine, due: Due, wait: timedelta, refused_with: str | None = None) -> None:
    """Ask again; the passenger reads meanwhile why it was refused, where that is known."""
    async with engine.begin() as conn:
        this = and_(requests.c.request_id == due.request_id, ~requests.c.done)
        await conn.execute(update(requests).where(this).values(due_at=func.now() + wait, refused_with=refused_with))
        if refused_with != due.refused_with:
            await announce(conn, due.booking_id)


async def _done(engine: AsyncEngine, due: Due, refused_with: str | None = None) -> None:
    async with engine.begin() as conn:
        this_request = and_(requests.c.request_id == due.request_id, ~requests.c.done)
        done = update(requests).where(this_request).values(done=True, refused_with=refused_with)
        # Another instance may have had the same answer before, and the passenger may have gone on since.
        if (await conn.execute(done)).rowcount == 0 or refused_with is None:
            return
        if due.kind == Kind.INITIATE:
            await give_up(conn, due.booking_id, refused_with)
        elif (await conn.execute(update(bookings).where(_is_still_about(due)).values(message=refused_with))).rowcount:
            await announce(conn, due.booking_id)


def _is_still_about(due: Due) -> ColumnElement[bool]:
    """Whether what the page says is what was asked on: an event may have told of something newer meanwhile."""
    same = and_(bookings.c.booking_id == due.booking_id, bookings.c.payment_id == due.payment_id)
    if due.kind == Kind.REFUND:
        return same
    offered = BookingAction.Name(BookingAction.BOOKING_ACTION_OFFER_RETRY)
    return and_(same, bookings.c.state == State.HELD, bookings.c.booking_action == offered)
