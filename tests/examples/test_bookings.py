"""What becomes of a booking, event by event, judged by the booking service's own tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from mpesa_payments.v1 import payment_pb2 as pb
from sqlalchemy import delete, select, text, update

from examples.booking_service.bookings import (
    SeatTaken,
    State,
    end_holds,
    give_up,
    hold,
    hold_once,
    take_event,
    try_again,
)
from examples.booking_service.standing import ByHand, read_standing
from examples.booking_service.tables import agreed_prices, bookings, tickets, trips
from tests.databases import Database
from tests.examples.shops import TRIP, Shop, an_event, open_shop, until

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
LONG_AFTER = NOW + timedelta(days=2)
WAIT, CONFIRM, OFFER_RETRY = pb.BOOKING_ACTION_WAIT, pb.BOOKING_ACTION_CONFIRM, pb.BOOKING_ACTION_OFFER_RETRY
RELEASE, REVIEW, FOLLOW_SIBLING = (
    pb.BOOKING_ACTION_RELEASE,
    pb.BOOKING_ACTION_REVIEW,
    pb.BOOKING_ACTION_FOLLOW_SIBLING,
)


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    async with open_shop(database, number_of_seats=2) as opened:
        yield opened


async def held(shop: Shop, seat: str = "01") -> str:
    async with shop.engine.begin() as conn:
        return await hold(conn, TRIP, seat, "0712345678", now=NOW)


async def happen(shop: Shop, *events: pb.PaymentEvent) -> None:
    for event in events:
        async with shop.engine.begin() as conn:
            await take_event(event, conn)


async def state_of(shop: Shop, booking_id: str) -> str:
    async with shop.engine.connect() as conn:
        state = await conn.scalar(select(bookings.c.state).where(bookings.c.booking_id == booking_id))
    return str(state)


async def owner_of(shop: Shop, seat: str = "01") -> str | None:
    async with shop.engine.connect() as conn:
        found = await conn.execute(text("SELECT booking_id FROM seats WHERE seat = :seat"), {"seat": seat})
        owner: str | None = found.scalar_one()
    return owner


async def asked(shop: Shop) -> list[tuple[str, str | None]]:
    """What the payment service is asked for, in order."""
    async with shop.engine.connect() as conn:
        rows = await conn.execute(text("SELECT kind, payment_id FROM payment_requests ORDER BY number"))
        return [tuple(row) for row in rows]


async def receipts(shop: Shop) -> list[str]:
    async with shop.engine.connect() as conn:
        return list(await conn.scalars(select(tickets.c.mpesa_receipt_number).order_by(tickets.c.ticket)))


async def ended_holds(shop: Shop) -> int:
    async with shop.engine.begin() as conn:
        return await end_holds(conn, LONG_AFTER)


async def test_a_seat_is_held_for_one_booking_and_its_payment_is_asked_for_once(shop: Shop) -> None:
    booking = await held(shop)
    with pytest.raises(SeatTaken):
        await held(shop)
    with pytest.raises(SeatTaken):
        await held(shop, "99")
    assert await owner_of(shop) == booking
    assert await asked(shop) == [("INITIATE", None)]


async def test_a_paid_booking_gets_one_ticket_however_often_it_is_told(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, *[an_event(booking, CONFIRM, receipt="SJ1")] * 3)
    assert (await state_of(shop, booking), await receipts(shop)) == (State.CONFIRMED, ["SJ1"])


async def test_offer_retry_never_frees_a_seat_and_the_end_of_the_hold_does(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, OFFER_RETRY))
    assert (await state_of(shop, booking), await owner_of(shop)) == (State.HELD, booking)
    with pytest.raises(SeatTaken):
        await held(shop)
    assert await ended_holds(shop) == 1
    assert (await state_of(shop, booking), await owner_of(shop)) == (State.RELEASED, None)


@pytest.mark.parametrize("action", [WAIT, REVIEW])
async def test_no_hold_ends_while_a_prompt_is_open_or_a_person_decides(
    shop: Shop, action: pb.BookingAction.ValueType
) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, OFFER_RETRY), an_event(booking, action, payment_id="payment-2", attempt=2))
    # Late news of the attempt before it says nothing about this one.
    await happen(shop, an_event(booking, OFFER_RETRY))
    assert await ended_holds(shop) == 0
    assert await owner_of(shop) == booking


async def test_release_frees_the_seat_and_takes_the_ticket_back(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, CONFIRM, receipt="SJ1"), an_event(booking, RELEASE))
    assert (await state_of(shop, booking), await owner_of(shop), await receipts(shop)) == (State.RELEASED, None, [])


async def test_what_a_sibling_follows_changes_nothing(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, CONFIRM, receipt="SJ1"))
    await happen(shop, an_event(booking, FOLLOW_SIBLING, payment_id="payment-2", attempt=2))
    assert (await state_of(shop, booking), await receipts(shop)) == (State.CONFIRMED, ["SJ1"])


async def test_late_money_gets_its_seat_if_it_is_free_and_goes_back_if_it_is_not(shop: Shop) -> None:
    lucky, unlucky = await held(shop, "01"), await held(shop, "02")
    await happen(shop, an_event(lucky, OFFER_RETRY), an_event(unlucky, OFFER_RETRY, payment_id="payment-2"))
    assert await ended_holds(shop) == 2
    another = await held(shop, "02")
    late = an_event(unlucky, CONFIRM, payment_id="payment-2", receipt="SJ2")
    await happen(shop, an_event(lucky, CONFIRM, receipt="SJ1"), late, late)
    assert (await state_of(shop, lucky), await receipts(shop)) == (State.CONFIRMED, ["SJ1"])
    assert (await state_of(shop, unlucky), await owner_of(shop, "02")) == (State.RELEASED, another)
    assert (await asked(shop))[2:] == [("INITIATE", None), ("REFUND", "payment-2")]


async def test_a_button_that_is_pressed_twice_asks_for_one_attempt(shop: Shop) -> None:
    booking = await held(shop)

    async def press() -> bool:
        async with shop.engine.begin() as conn:
            return await try_again(conn, booking)

    assert not await press(), "nothing is offered yet"
    await happen(shop, an_event(booking, OFFER_RETRY, retry_allowed=NOW))
    assert [await press(), await press()] == [True, True]
    assert await asked(shop) == [("INITIATE", None), ("RETRY", "payment-1")]


async def test_no_hold_ends_while_another_attempt_is_asked_for(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, OFFER_RETRY))
    async with shop.engine.begin() as conn:
        assert await try_again(conn, booking)
    assert await ended_holds(shop) == 0, "its prompt may be on the phone before its first event is here"
    await happen(shop, an_event(booking, OFFER_RETRY, payment_id="payment-2", attempt=2))
    assert await ended_holds(shop) == 1


async def test_money_that_is_being_sent_back_takes_no_seat_that_becomes_free(shop: Shop) -> None:
    late = await held(shop)
    await happen(shop, an_event(late, OFFER_RETRY))
    await ended_holds(shop)
    another = await held(shop)
    await happen(shop, an_event(late, CONFIRM, receipt="SJ1"))
    await happen(shop, an_event(another, RELEASE, payment_id="payment-2"), an_event(late, CONFIRM, receipt="SJ1"))
    assert (await state_of(shop, late), await owner_of(shop), await receipts(shop)) == (State.RELEASED, None, [])


async def test_what_a_newer_payment_service_tells_stops_no_stream(shop: Shop) -> None:
    booking = await held(shop)
    newer = an_event(booking, WAIT)
    newer.payment.booking_action = newer.payment.next_step = 99  # type: ignore[assignment]  # of a newer release
    await happen(shop, newer)
    assert await state_of(shop, booking) == State.HELD


async def test_no_attempt_is_offered_for_after_the_end_of_the_hold(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, OFFER_RETRY, retry_allowed=LONG_AFTER))
    async with shop.engine.begin() as conn:
        assert not await try_again(conn, booking)
    assert await asked(shop) == [("INITIATE", None)]


async def test_a_refusal_that_comes_behind_the_news_of_a_payment_takes_nothing_away(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, CONFIRM, receipt="SJ1"))
    async with shop.engine.begin() as conn:
        await give_up(conn, booking, "The request was refused.")
    assert (await state_of(shop, booking), await owner_of(shop), await receipts(shop)) == (
        State.CONFIRMED, booking, ["SJ1"],
    )  # fmt: skip


@pytest.mark.parametrize("first", ["commits", "finds the seat taken"])
async def test_of_two_requests_with_one_key_at_once_one_makes_the_booking(shop: Shop, first: str) -> None:
    """The second request comes while the first one's transaction is open, and waits for what becomes of it."""
    key = "8b7f3c52-6a0e-4d1b-9a53-1f6f0c2d7e11"

    async def book() -> tuple[str, bool]:
        async with shop.engine.begin() as conn:
            return await hold_once(conn, key, TRIP, "01", "0712345678", now=NOW)

    async def waits() -> bool:
        mine = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        async with shop.engine.connect() as conn:
            waiting = await conn.execute(text(f"SELECT 1 FROM pg_locks WHERE NOT granted AND pid IN ({mine})"))
            return waiting.first() is not None

    async with shop.engine.connect() as conn:
        made, known = await hold_once(conn, key, TRIP, "01", "0712345678", now=NOW)
        second = asyncio.create_task(book())
        await until(waits, "the second request to wait for the first")
        await (conn.commit() if first == "commits" else conn.rollback())
    booking, repeated = await second
    assert (known, repeated, booking == made) == ((False, True, True) if first == "commits" else (False, False, False))
    assert (await owner_of(shop), await asked(shop)) == (booking, [("INITIATE", None)])


async def test_an_event_of_another_programs_booking_is_left_alone(shop: Shop) -> None:
    await happen(shop, an_event("BK-elsewhere", CONFIRM, receipt="SJ1"))
    assert await receipts(shop) == []


async def by_hand(shop: Shop, booking: str, after: timedelta) -> ByHand | None:
    async with shop.engine.connect() as conn:
        standing = await read_standing(conn, booking, NOW + after)
    assert standing is not None
    return standing.by_hand


def an_offer(booking: str, *, payment_id: str = "payment-1", attempt: int = 1) -> pb.PaymentEvent:
    """A prompt has failed, and from the third to the ninth minute it may be paid by hand."""
    offered = an_event(booking, OFFER_RETRY, payment_id=payment_id, attempt=attempt)
    offered.payment.pay_bill.business_number, offered.payment.pay_bill.account_number = "174379", "cgh2rrx3c9z4"
    offered.payment.pay_bill.pay_from_time.FromDatetime(NOW + timedelta(minutes=3))
    offered.payment.pay_bill.pay_until_time.FromDatetime(NOW + timedelta(minutes=9))
    return offered


async def test_nobody_is_invited_to_pay_by_hand_while_a_person_looks_at_money(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, OFFER_RETRY), an_offer(booking, payment_id="payment-2", attempt=2))
    assert await by_hand(shop, booking, timedelta(minutes=3)) is not None
    await happen(shop, an_event(booking, REVIEW))
    assert await by_hand(shop, booking, timedelta(minutes=3)) is None


async def test_paying_by_hand_is_shown_in_its_time_and_never_beside_another_attempt(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_offer(booking))
    assert await by_hand(shop, booking, timedelta(minutes=2)) is None
    shown = ByHand("174379", "cgh2rrx3c9z4", NOW + timedelta(minutes=9))
    assert await by_hand(shop, booking, timedelta(minutes=3)) == shown
    assert await by_hand(shop, booking, timedelta(minutes=9)) is None
    async with shop.engine.begin() as conn:
        assert await try_again(conn, booking)
    assert await by_hand(shop, booking, timedelta(minutes=3)) is None


async def test_what_is_paid_by_hand_is_what_the_payment_is_for(shop: Shop) -> None:
    booking = await held(shop)
    async with shop.engine.begin() as conn:
        # Of a booking that was made before prices were kept.
        await conn.execute(delete(agreed_prices))
        await conn.execute(update(trips).values(price=900))
    await happen(shop, an_offer(booking))
    async with shop.engine.connect() as conn:
        standing = await read_standing(conn, booking, NOW + timedelta(minutes=3))
    assert standing is not None
    assert standing.by_hand is not None
    assert standing.price == 500
