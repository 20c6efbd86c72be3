"""What becomes of a booking: this file decides, from `booking_action` alone, and within one transaction of the caller.

    HELD ── CONFIRM ──> CONFIRMED        a ticket is written
    HELD ── RELEASE, or the hold is over ──> RELEASED
    CONFIRMED ── RELEASE ──> RELEASED    the money goes back
    RELEASED ── CONFIRM ──> CONFIRMED if the seat is still free; else the money is sent back

**OFFER_RETRY never frees a seat.** The passenger may try again for the same seat, and money of the attempt before may
still come: only RELEASE, or the end of the hold, frees it.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from google.protobuf.descriptor import EnumDescriptor
from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_unless_known
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from examples.booking_service.news import announce
from examples.booking_service.tables import (
    agreed_prices,
    booking_keys,
    bookings,
    issued_receipts,
    pay_bills,
    requests,
    seats,
    tickets,
    trips,
)
from payment_client import BookingAction, NextStep, Payment, PaymentEvent, PaymentEventType, RefundStatus

HOLD = timedelta(minutes=10)
TOLD_OF_RECEIPT = (
    PaymentEventType.PAYMENT_EVENT_TYPE_RECEIPT_ISSUED,
    PaymentEventType.PAYMENT_EVENT_TYPE_RECEIPT_AMENDED,
)


class State(StrEnum):
    """Of a booking."""

    HELD = "HELD"
    CONFIRMED = "CONFIRMED"
    RELEASED = "RELEASED"


class Kind(StrEnum):
    """Of a request to the payment service."""

    INITIATE = "INITIATE"
    RETRY = "RETRY"
    REFUND = "REFUND"


class Booking(NamedTuple):
    """What is looked at before anything is done to a booking."""

    booking_id: str
    trip_id: str
    seat: str
    state: str
    payment_id: str | None
    attempt: int
    booking_action: str
    hold_until: datetime
    retry_allowed_at: datetime | None


class SeatTaken(Exception):
    """Somebody else has this seat."""


class KeyUsed(Exception):
    """Another booking was made with this key."""


def new_booking_id() -> str:
    """An id that nobody guesses: whoever knows it sees the booking."""
    return f"B-{uuid.uuid4()}"


async def hold(
    conn: AsyncConnection,
    trip_id: str,
    seat: str,
    phone_number: str,
    *,
    now: datetime,
    hold_for: timedelta = HOLD,
    booking_id: str = "",
    language: str = "en",
) -> str:
    """Hold a free seat, and have its payment asked for; the booking's id.

    A form that is sent twice brings the same id twice, and is one booking.
    """
    booking_id = booking_id or new_booking_id()
    values = {"trip_id": trip_id, "seat": seat, "phone_number": phone_number, "hold_until": now + hold_for}
    made = insert_unless_known(bookings).values(booking_id=booking_id, state=State.HELD, language=language, **values)
    try:
        # A savepoint: a seat that does not exist leaves the transaction as it was.
        async with conn.begin_nested():
            fresh = made.on_conflict_do_nothing().returning(bookings.c.booking_id)
            if await conn.scalar(fresh) is None:
                return booking_id
            if not await _take_seat(conn, trip_id, seat, booking_id):
                raise SeatTaken
    except IntegrityError as error:
        raise SeatTaken from error
    agreed = select(literal(booking_id), trips.c.price).where(trips.c.trip_id == trip_id)
    await conn.execute(insert(agreed_prices).from_select(["booking_id", "price"], agreed))
    await _request(conn, Kind.INITIATE, booking_id)
    return booking_id


async def hold_once(
    conn: AsyncConnection,
    key: str,
    trip_id: str,
    seat: str,
    phone_number: str,
    *,
    now: datetime,
    hold_for: timedelta = HOLD,
) -> tuple[str, bool]:
    """As `hold`, once for a key: the booking's id, and whether an earlier request has made it.

    Raises SeatTaken, which leaves the key free, since the caller's transaction ends by it; and KeyUsed.
    """
    made = insert_unless_known(booking_keys).values(key=key, booking_id=new_booking_id())
    booking_id = await conn.scalar(made.on_conflict_do_nothing().returning(booking_keys.c.booking_id))
    if booking_id is not None:
        await hold(conn, trip_id, seat, phone_number, now=now, hold_for=hold_for, booking_id=booking_id)
        return booking_id, False
    earlier = select(bookings.c.booking_id, bookings.c.trip_id, bookings.c.seat, bookings.c.phone_number)
    earlier = earlier.join(booking_keys, booking_keys.c.booking_id == bookings.c.booking_id)
    known = (await conn.execute(earlier.where(booking_keys.c.key == key))).one()
    if tuple(known) != (known.booking_id, trip_id, seat, phone_number):
        raise KeyUsed
    return str(known.booking_id), True


async def try_again(
    conn: AsyncConnection, booking_id: str, *, after: str | None = None, phone_number: str = ""
) -> bool:
    """Have another attempt asked for, where the payment service offers one; pressed twice, it is still one.

    A press whose request was refused, for its number say, made no payment: the next one asks anew.
    `after` is the payment that the passenger has seen fail: an old page starts no attempt after a later one.
    """
    booking = await _locked(conn, booking_id)
    offered = BookingAction.Name(BookingAction.BOOKING_ACTION_OFFER_RETRY)
    if booking is None or booking.state != State.HELD or booking.booking_action != offered:
        return False
    if booking.retry_allowed_at is not None and booking.retry_allowed_at >= booking.hold_until:
        return False  # The seat would be somebody else's by then.
    if after is not None and after != booking.payment_id:
        return False
    await _request(conn, Kind.RETRY, booking_id, booking.payment_id, booking.retry_allowed_at, phone_number)
    await announce(conn, booking_id)
    return True


async def take_event(event: PaymentEvent, conn: AsyncConnection) -> None:
    """Do what the payment says. The cursor moves in the same transaction, so it happens once."""
    payment = event.payment
    booking = await _locked(conn, payment.booking_id)
    if booking is None:
        return  # Another program's, under the same name at the payment service.
    match payment.booking_action:
        case BookingAction.BOOKING_ACTION_CONFIRM:
            await _confirm(conn, booking, payment)
        case BookingAction.BOOKING_ACTION_RELEASE:
            await _release(conn, booking.booking_id)
        case BookingAction.BOOKING_ACTION_FOLLOW_SIBLING:
            return  # The attempt that is paid says what to do.
        case _:
            # WAIT, REVIEW and OFFER_RETRY: the seat stays held. What is told of an attempt before the last is no news,
            # but that a person looks at its money: nobody is invited to send more meanwhile.
            if payment.attempt < booking.attempt:
                if payment.booking_action == BookingAction.BOOKING_ACTION_REVIEW:
                    await _invite_nobody(conn, booking.booking_id)
                    await announce(conn, booking.booking_id)
                return
    if event.type in TOLD_OF_RECEIPT:
        told = insert_unless_known(issued_receipts).values(booking_id=booking.booking_id, payment_id=payment.payment_id)
        newer = {"payment_id": told.excluded.payment_id}
        await conn.execute(told.on_conflict_do_update(index_elements=["booking_id"], set_=newer))
    await _note(conn, payment)
    await announce(conn, booking.booking_id)


async def end_holds(conn: AsyncConnection, now: datetime) -> int:
    """Free the seats whose hold is over; how many.

    Not while a prompt may still be paid (WAIT) or a person decides (REVIEW): both end by themselves. Nor while another
    attempt is asked for: its prompt may be on the phone before its first event is here. See `vanished`.
    """
    offered = BookingAction.Name(BookingAction.BOOKING_ACTION_OFFER_RETRY)
    waits = and_(bookings.c.state == State.HELD, bookings.c.booking_action == offered, ~asked_again())
    over = and_(waits, bookings.c.hold_until < now)
    ended = (await conn.scalars(select(bookings.c.booking_id).where(over).with_for_update(skip_locked=True))).all()
    for booking_id in ended:
        await _release(conn, booking_id)
        await announce(conn, booking_id)
    return len(ended)


def asked_again() -> ColumnElement[bool]:
    """Whether an attempt after the one that a booking was told of last is asked for, and not refused."""
    return exists().where(
        requests.c.kind == Kind.RETRY,
        requests.c.booking_id == bookings.c.booking_id,
        requests.c.payment_id == bookings.c.payment_id,
        requests.c.refused_with.is_(None),
    )


async def free_unpaid(conn: AsyncConnection, booking_id: str, attempt: int) -> bool:
    """Free a seat whose payment is gone. Not where an event has told of a later attempt, or what to do."""
    booking = await _locked(conn, booking_id)
    if booking is None or booking.state != State.HELD or booking.attempt != attempt:
        return False
    if booking.booking_action == BookingAction.Name(BookingAction.BOOKING_ACTION_REVIEW):
        return False
    await _release(conn, booking_id)
    # What was told of the payment is of no use to the passenger: the page has a word of its own.
    await conn.execute(update(bookings).where(bookings.c.booking_id == booking_id).values(message=""))
    await announce(conn, booking_id)
    return True


async def give_up(conn: AsyncConnection, booking_id: str, message: str) -> None:
    """No payment was made, and none will be: free the seat at once. Not where an event has told of a payment."""
    booking = await _locked(conn, booking_id)
    if booking is None or booking.state != State.HELD or booking.payment_id is not None:
        return
    await _release(conn, booking_id)
    await conn.execute(update(bookings).where(bookings.c.booking_id == booking_id).values(message=message))
    await announce(conn, booking_id)


async def _confirm(conn: AsyncConnection, booking: Booking, payment: Payment) -> None:
    if booking.state == State.CONFIRMED or await _goes_back(conn, payment):
        return
    if not await _take_seat(conn, booking.trip_id, booking.seat, booking.booking_id):
        # Paid, and no seat: the hold was over, and somebody else has it.
        await _request(conn, Kind.REFUND, booking.booking_id, payment.payment_id)
        return
    await _move(conn, booking.booking_id, State.CONFIRMED)
    await conn.execute(
        insert(tickets).values(
            booking_id=booking.booking_id,
            trip_id=booking.trip_id,
            seat=booking.seat,
            payment_id=payment.payment_id,
            mpesa_receipt_number=payment.mpesa_receipt_number,
        )
    )


async def _goes_back(conn: AsyncConnection, payment: Payment) -> bool:
    """Whether the money of a payment is being sent back: then its seat is nobody's, even if it is free again."""
    asked = exists().where(
        requests.c.kind == Kind.REFUND,
        requests.c.booking_id == payment.booking_id,
        requests.c.payment_id == payment.payment_id,
        # What is refused for now is asked for again.
        or_(requests.c.refused_with.is_(None), ~requests.c.done),
    )
    return bool(await conn.scalar(select(asked)))


async def _release(conn: AsyncConnection, booking_id: str) -> None:
    await _move(conn, booking_id, State.RELEASED)
    await conn.execute(update(seats).where(seats.c.booking_id == booking_id).values(booking_id=None))
    await conn.execute(delete(tickets).where(tickets.c.booking_id == booking_id))


async def _take_seat(conn: AsyncConnection, trip_id: str, seat: str, booking_id: str) -> bool:
    """Whether the seat is this booking's now."""
    this = and_(seats.c.trip_id == trip_id, seats.c.seat == seat)
    free = or_(seats.c.booking_id.is_(None), seats.c.booking_id == booking_id)
    return (await conn.execute(update(seats).where(this, free).values(booking_id=booking_id))).rowcount == 1


async def _move(conn: AsyncConnection, booking_id: str, state: State) -> None:
    await conn.execute(update(bookings).where(bookings.c.booking_id == booking_id).values(state=state))


async def _note(conn: AsyncConnection, payment: Payment) -> None:
    """What the passenger's page shows, and what the next press of a button needs."""
    allowed = payment.retry_allowed_time.ToDatetime(UTC) if payment.HasField("retry_allowed_time") else None
    await conn.execute(
        update(bookings)
        .where(bookings.c.booking_id == payment.booking_id)
        .values(
            payment_id=payment.payment_id,
            attempt=payment.attempt,
            booking_action=_name(BookingAction.DESCRIPTOR, payment.booking_action),
            message=payment.customer_message,
            retry_allowed_at=allowed,
            next_step=_name(NextStep.DESCRIPTOR, payment.next_step),
            reference=payment.reference,
            mpesa_receipt_number=payment.mpesa_receipt_number,
            refund_status=_name(RefundStatus.DESCRIPTOR, payment.refund.status) if payment.HasField("refund") else "",
            refund_amount=payment.refund.amount.units,
        )
    )
    # Of a booking that is older than the table of prices.
    agreed = insert_unless_known(agreed_prices).values(booking_id=payment.booking_id, price=payment.amount.units)
    await conn.execute(agreed.on_conflict_do_nothing())
    await _invite_nobody(conn, payment.booking_id)
    if payment.HasField("pay_bill"):
        offer = payment.pay_bill
        since = offer.pay_from_time.ToDatetime(UTC) if offer.HasField("pay_from_time") else None
        await conn.execute(
            insert(pay_bills).values(
                booking_id=payment.booking_id,
                payment_id=payment.payment_id,
                business_number=offer.business_number,
                account_number=offer.account_number,
                pay_from=since,
                pay_until=offer.pay_until_time.ToDatetime(UTC),
            )
        )


async def _invite_nobody(conn: AsyncConnection, booking_id: str) -> None:
    """Show no way to pay by hand any more."""
    await conn.execute(delete(pay_bills).where(pay_bills.c.booking_id == booking_id))


def _name(enum: EnumDescriptor, value: int) -> str:
    """A value by its name; a number that a newer payment service tells stays a number, and stops no stream."""
    known = enum.values_by_number.get(value)
    return str(value) if known is None else str(known.name)


async def _request(
    conn: AsyncConnection,
    kind: Kind,
    booking_id: str,
    payment_id: str | None = None,
    due_at: datetime | None = None,
    phone_number: str = "",
) -> None:
    """Have something asked for, with an id of its own that outlives every restart. See `asking`."""
    new = insert_unless_known(requests).values(
        request_id=str(uuid.uuid4()),
        kind=kind,
        booking_id=booking_id,
        payment_id=payment_id,
        phone_number=phone_number,
        due_at=due_at or func.now(),
    )
    refused = and_(requests.c.kind == Kind.RETRY, requests.c.done, requests.c.refused_with.is_not(None))
    again = {name: new.excluded[name] for name in ("request_id", "phone_number", "due_at")}
    await conn.execute(
        new.on_conflict_do_update(
            constraint="one_request_of_a_kind", set_={**again, "done": False, "refused_with": None}, where=refused
        )
    )


async def _locked(conn: AsyncConnection, booking_id: str) -> Booking | None:
    columns = [bookings.c[name] for name in Booking._fields]
    named = select(*columns).where(bookings.c.booking_id == booking_id).with_for_update()
    row = (await conn.execute(named)).one_or_none()
    return None if row is None else Booking._make(row)
