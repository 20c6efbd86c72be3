"""How a booking stands, as its passenger sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from examples.booking_service.bookings import Kind, State
from examples.booking_service.tables import (
    BOOKED_PRICE,
    agreed_prices,
    bookings,
    issued_receipts,
    pay_bills,
    requests,
    trips,
)
from payment_client import BookingAction, NextStep


class Stage(StrEnum):
    """What the page is about; each has a heading of its name in `language`."""

    STARTING = "starting"
    ENTER_PIN = "enter_pin"
    WAITING = "waiting"
    FAILED = "failed"
    PAID = "paid"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class ByHand:
    """What the passenger may type in the M-Pesa menu now, and until when."""

    business_number: str
    account_number: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Read at one moment."""

    booking_id: str
    route: str
    price: int
    seat: str
    stage: Stage
    said: str
    """The payment service's sentence, in the booking's language; empty where a word of the page's own says it."""
    own_word: str
    language: str
    payment_id: str
    reference: str
    receipt: str
    """M-Pesa's number of it."""
    has_receipt: bool
    """One that the passenger may see is issued."""
    hold_until: datetime | None
    again_at: datetime | None
    """In the future: the passenger waits until then."""
    may_try_again: bool
    by_hand: ByHand | None
    refund: str
    refund_amount: int

    @property
    def is_awaited(self) -> bool:
        """Whether it goes on without the passenger: a page without a script reloads itself then."""
        unfinished = self.stage in (Stage.STARTING, Stage.ENTER_PIN, Stage.WAITING) or self.again_at is not None
        return unfinished or self.refund == "PENDING" or self.own_word == "seat_gone"


async def read_standing(conn: AsyncConnection, booking_id: str, now: datetime) -> Standing | None:
    """None where there is no such booking."""
    row = (await conn.execute(_all_about(booking_id))).one_or_none()
    if row is None:
        return None
    offered = row.state == State.HELD and row.booking_action == _action(BookingAction.BOOKING_ACTION_OFFER_RETRY)
    is_asked_again = offered and row.retry is not None and row.refused_with is None
    stage = Stage.STARTING if is_asked_again else _stage(row.state, offered, row.payment_id, row.next_step)
    # Money that goes back after all, as an operator can send it, is what counts.
    refund_refused = "" if row.refund_status else row.refund_refused
    own_word = "" if refund_refused else _own_word(stage, row.message, row.booking_action)
    # Where another attempt may begin only when the seat is no longer held, none is offered.
    in_time = row.retry_allowed_at is None or row.retry_allowed_at < row.hold_until
    may_retry = offered and not is_asked_again and in_time and now < row.hold_until
    must_wait = may_retry and row.retry_allowed_at is not None and row.retry_allowed_at > now
    # Not while another prompt is on its way: whoever sees both pays twice.
    by_hand = None
    if offered and not is_asked_again and row.pay_until is not None and (row.pay_from or now) <= now < row.pay_until:
        by_hand = ByHand(row.business_number, row.account_number, row.pay_until)
    return Standing(
        booking_id=row.booking_id,
        route=row.route,
        price=row.price,
        seat=row.seat,
        stage=stage,
        # Why no money goes back now is what the passenger has to know, whatever else is told of the payment since.
        said=refund_refused or ("" if own_word else row.message),
        own_word=own_word,
        language=row.language,
        payment_id=row.payment_id or "",
        reference=row.reference,
        receipt=row.mpesa_receipt_number,
        has_receipt=row.receipt_of is not None,
        hold_until=row.hold_until if row.state == State.HELD else None,
        again_at=row.retry_allowed_at if must_wait else None,
        may_try_again=may_retry and not must_wait,
        by_hand=by_hand,
        refund=row.refund_status.removeprefix("REFUND_STATUS_"),
        refund_amount=row.refund_amount,
    )


def _all_about(booking_id: str) -> Select[Any]:
    retried = and_(
        requests.c.booking_id == bookings.c.booking_id,
        requests.c.payment_id == bookings.c.payment_id,
        requests.c.kind == Kind.RETRY,
    )
    refund = requests.alias()
    sent_back = and_(
        refund.c.booking_id == bookings.c.booking_id,
        refund.c.payment_id == bookings.c.payment_id,
        refund.c.kind == Kind.REFUND,
    )
    return (
        select(
            bookings,
            trips.c.route,
            BOOKED_PRICE.label("price"),
            requests.c.request_id.label("retry"),
            requests.c.refused_with,
            select(refund.c.refused_with).where(sent_back).scalar_subquery().label("refund_refused"),
            issued_receipts.c.payment_id.label("receipt_of"),
            *(pay_bills.c[name] for name in ("business_number", "account_number", "pay_from", "pay_until")),
        )
        .join(trips, trips.c.trip_id == bookings.c.trip_id)
        .outerjoin(agreed_prices, agreed_prices.c.booking_id == bookings.c.booking_id)
        .outerjoin(issued_receipts, issued_receipts.c.booking_id == bookings.c.booking_id)
        .outerjoin(requests, retried)
        .outerjoin(pay_bills, pay_bills.c.booking_id == bookings.c.booking_id)
        .where(bookings.c.booking_id == booking_id)
    )


def _stage(state: str, offered: bool, payment_id: str | None, next_step: str) -> Stage:
    if state == State.CONFIRMED:
        return Stage.PAID
    if state == State.RELEASED:
        return Stage.RELEASED
    if offered:
        return Stage.FAILED
    if payment_id is None:
        return Stage.STARTING
    return Stage.ENTER_PIN if next_step == NextStep.Name(NextStep.NEXT_STEP_ENTER_PIN) else Stage.WAITING


def _own_word(stage: Stage, message: str, booking_action: str) -> str:
    """For what the payment service cannot know: its sentence is about a payment, and this about a seat."""
    if stage == Stage.STARTING:
        return "starting"
    if stage == Stage.RELEASED:
        if booking_action == _action(BookingAction.BOOKING_ACTION_CONFIRM):
            return "seat_gone"
        if booking_action == _action(BookingAction.BOOKING_ACTION_OFFER_RETRY) or not message:
            return "hold_over"
    return ""


def _action(action: BookingAction.ValueType) -> str:
    return BookingAction.Name(action)
