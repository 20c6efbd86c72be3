"""Seats whose payments are gone after a restore of the payment service, played by a second service that is empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from mpesa_payments.v1 import payment_pb2 as pb
from payment_client.testing import FakePayments, Outcome
from sqlalchemy import func, update

from examples.booking_service.asking import ask_once
from examples.booking_service.bookings import HOLD, end_holds, hold, take_event, try_again
from examples.booking_service.standing import Standing, read_standing
from examples.booking_service.tables import requests
from examples.booking_service.vanished import LOOK_AFTER, free_vanished
from tests.databases import Database
from tests.examples.shops import TRIP, Shop, an_event, open_shop
from tests.examples.test_bookings import CONFIRM, OFFER_RETRY, REVIEW, WAIT


def after_the_hold(wait: timedelta = LOOK_AFTER + timedelta(minutes=1)) -> datetime:
    """A moment so long after the hold of a booking that is made in this test: the service's clock is the real one."""
    return datetime.now(UTC) + HOLD + wait


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    async with open_shop(database, number_of_seats=1) as opened:
        yield opened


async def asked(shop: Shop, service: FakePayments) -> None:
    async with shop.engine.begin() as conn:
        await conn.execute(update(requests).values(due_at=func.now()))
    async with service.client() as client:
        await ask_once(shop.engine, client)


async def held(shop: Shop, service: FakePayments) -> str:
    async with shop.engine.begin() as conn:
        booking = await hold(conn, TRIP, "01", "0712345678", now=datetime.now(UTC))
    await asked(shop, service)
    return booking


async def told(shop: Shop, booking: str, action: pb.BookingAction.ValueType, payment_id: str) -> None:
    async with shop.engine.begin() as conn:
        await take_event(an_event(booking, action, payment_id=payment_id), conn)


async def freed(shop: Shop, service: FakePayments, now: datetime | None = None) -> int:
    async with service.client() as client:
        return await free_vanished(shop.engine, client, now or after_the_hold())


async def stands(shop: Shop, booking: str) -> Standing:
    async with shop.engine.connect() as conn:
        standing = await read_standing(conn, booking, after_the_hold())
    assert standing is not None
    return standing


async def test_a_seat_whose_second_attempt_is_gone_is_not_held_for_ever(shop: Shop) -> None:
    with FakePayments() as service, FakePayments() as restored:
        service.script(Outcome.DECLINES, phone_number="0712345678")
        booking = await held(shop, service)
        (payment,) = service.payments
        await told(shop, booking, OFFER_RETRY, payment.payment_id)
        async with shop.engine.begin() as conn:
            assert await try_again(conn, booking)
        service.advance(timedelta(minutes=4))
        await asked(shop, service)
        assert len(service.payments) == 2
        async with shop.engine.begin() as conn:
            assert await end_holds(conn, after_the_hold()) == 0
        assert await freed(shop, service) == 0, "there is such an attempt, and its events are still to come"
        assert await freed(shop, restored, after_the_hold(timedelta(0))) == 0, "not as soon as the hold is over"
        assert await freed(shop, restored) == 1
    standing = await stands(shop, booking)
    assert (standing.stage, standing.own_word) == ("released", "hold_over")


async def test_a_seat_whose_first_attempt_is_gone_is_not_held_for_ever(shop: Shop) -> None:
    with FakePayments() as service, FakePayments() as restored:
        booking = await held(shop, service)
        assert await freed(shop, service) == 0
        assert await freed(shop, restored) == 1
        # Told all the same, as money that is found later: the seat is this passenger's again where it is free.
        await told(shop, booking, CONFIRM, "payment-1")
    assert (await stands(shop, booking)).stage == "paid"


async def test_a_passenger_is_not_told_to_wait_for_a_payment_that_is_gone(shop: Shop) -> None:
    with FakePayments() as service, FakePayments() as restored:
        booking = await held(shop, service)
        await told(shop, booking, WAIT, "payment-1")
        assert await freed(shop, restored) == 1
    standing = await stands(shop, booking)
    assert (standing.own_word, standing.said) == ("hold_over", "")


async def test_money_that_a_person_looks_at_keeps_its_seat(shop: Shop) -> None:
    with FakePayments() as service, FakePayments() as restored:
        booking = await held(shop, service)
        await told(shop, booking, REVIEW, "payment-1")
        assert await freed(shop, restored) == 0


async def test_a_request_that_has_no_answer_yet_is_not_gone(shop: Shop) -> None:
    with FakePayments() as service, FakePayments() as restored:
        service.fail("InitiatePayment", "STORE_UNAVAILABLE", times=9)
        await held(shop, service)
        assert await freed(shop, restored) == 0
