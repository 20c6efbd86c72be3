"""The booking service over a real payment service, within one process: from a held seat to a ticket, or to a refund."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aiohttp.test_utils import TestClient, TestServer
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from payment_client.testing import FakePayments
from sqlalchemy import func, select, update

from examples.booking_service.asking import ask_once
from examples.booking_service.bookings import HOLD, end_holds, hold, take_event, try_again
from examples.booking_service.page import PAYMENTS, application
from examples.booking_service.standing import Standing, read_standing
from examples.booking_service.tables import bookings, requests, seats, trips
from payment_client import PaymentsClient, Purchase
from tests.databases import Database
from tests.examples.shops import TRIP, Shop, an_event, tell, until
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.processes import Process, paid, refused, sent

PHONE = "0712345678"
RELEASE, OFFER_RETRY, CONFIRM = (
    payment_pb2.BOOKING_ACTION_RELEASE,
    payment_pb2.BOOKING_ACTION_OFFER_RETRY,
    payment_pb2.BOOKING_ACTION_CONFIRM,
)


@pytest.fixture
async def client(process: Process) -> AsyncIterator[PaymentsClient]:
    async with PaymentsClient(str(process.server.address), timeout=PATIENCE_SECONDS) as opened:
        yield opened


@contextlib.asynccontextmanager
async def consuming(shop: Shop, client: PaymentsClient) -> AsyncIterator[None]:
    task = asyncio.create_task(client.consume(shop.cursors, take_event))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def attempts(database: Database, booking_id: str) -> list[UUID]:
    query = "SELECT payment_id FROM payment_transactions WHERE booking_id = %s ORDER BY attempt"
    return [payment_id for (payment_id,) in await rows_of(database, query, (booking_id,))]


async def test_from_the_page_to_a_ticket_with_a_second_attempt(
    database: Database, process: Process, shop: Shop, client: PaymentsClient
) -> None:
    async with TestClient(TestServer(application(shop.engine, HOLD))) as page, consuming(shop, client):
        wanted = {"trip_id": TRIP, "seat": "01", "phone_number": PHONE}
        made = await page.post("/bookings", json=wanted)
        assert made.status == 201
        booking = (await made.json())["booking_id"]
        assert (await page.post("/bookings", json=wanted)).status == 409, "somebody has it"
        assert (await page.post("/bookings", json={"seat": "02"})).status == 400
        assert (await page.get("/")).status == 200

        async def shown() -> dict[str, Any]:
            found: dict[str, Any] = await (await page.get(f"/bookings/{booking}")).json()
            return found

        async def offered() -> bool:
            return (await shown())["may_try_again_at"] is not None

        async def sold() -> bool:
            return (await shown())["receipt"] is not None

        await ask_once(shop.engine, client)
        (first,) = await attempts(database, booking)
        await tell(process, first, *sent(1), refused())
        await until(offered, "another attempt is offered")
        assert (await shown())["message"] == "Not enough money in your M-Pesa. Top up and try again."
        (trip,) = await (await page.get("/trips")).json()
        assert trip["seats"] == {"01": False, "02": True, "03": True}, "the seat stays held"

        for _ in range(2):
            assert (await page.post(f"/bookings/{booking}/retry")).status == 202
        await ask_once(shop.engine, client)
        _, second = await attempts(database, booking)
        await tell(process, second, *sent(2), paid("SJ12345678"))
        await until(sold, "the seat is sold")
        assert (await shown()) == {
            "booking_id": booking,
            "trip_id": TRIP,
            "seat": "01",
            "state": "CONFIRMED",
            "message": "Payment received. Thank you.",
            "payment_id": str(second),
            "may_try_again_at": None,
            "receipt": "SJ12345678",
        }
        assert (await page.post(f"/bookings/{booking}/retry")).status == 409


async def test_money_without_a_seat_goes_back_as_what_cannot_be_delivered(
    database: Database, process: Process, shop: Shop, client: PaymentsClient
) -> None:
    async with consuming(shop, client):
        async with shop.engine.begin() as conn:
            late = await hold(conn, TRIP, "01", PHONE, now=datetime.now(UTC))
        await ask_once(shop.engine, client)
        (payment,) = await attempts(database, late)
        await tell(process, payment, *sent(1), refused())

        async def ended() -> bool:
            async with shop.engine.begin() as conn:
                return await end_holds(conn, datetime.now(UTC) + timedelta(days=1)) == 1

        await until(ended, "the hold is over, with nothing open")
        async with shop.engine.begin() as conn:
            await hold(conn, TRIP, "01", "0722000000", now=datetime.now(UTC))
        process.writers.clock.move(HOLD.total_seconds() + 60)
        await tell(process, payment, paid("SJ12345678"))

        async def sent_back() -> bool:
            await ask_once(shop.engine, client)
            return bool(await rows_of(database, "SELECT 1 FROM refunds"))

        await until(sent_back, "the refund is asked for")
        ((reason, paid_for),) = await rows_of(database, "SELECT reason, payment_id FROM refunds")
        assert (reason, paid_for) == ("CANNOT_DELIVER", payment)
        found = await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment)))
        assert found.payment.paid_late


async def test_no_phone_rings_for_a_seat_that_was_freed(
    database: Database, process: Process, shop: Shop, client: PaymentsClient
) -> None:
    async with consuming(shop, client):
        async with shop.engine.begin() as conn:
            booking = await hold(conn, TRIP, "01", PHONE, now=datetime.now(UTC))
        await ask_once(shop.engine, client)
        (payment,) = await attempts(database, booking)
        await tell(process, payment, *sent(1), refused())

        async def pressed() -> bool:
            async with shop.engine.begin() as conn:
                return await try_again(conn, booking)

        await until(pressed, "another attempt is offered")
        async with shop.engine.begin() as conn:
            assert await end_holds(conn, datetime.now(UTC) + timedelta(days=1)) == 0, "another attempt is asked for"
            await take_event(an_event(booking, RELEASE, payment_id=str(payment)), conn)
            await conn.execute(update(requests).values(due_at=func.now()))
        assert await ask_once(shop.engine, client) == 1
        assert await ask_once(shop.engine, client) == 0
        assert await attempts(database, booking) == [payment]


async def test_what_says_nothing_of_the_request_is_no_answer_to_it(shop: Shop) -> None:
    """A certificate that was changed, say, or a proxy: the first call may have been taken, and its payment paid."""
    with FakePayments() as fake:
        fake.fail("InitiatePayment", "CALLER_NOT_ALLOWED")
        async with shop.engine.begin() as conn:
            booking = await hold(conn, TRIP, "01", PHONE, now=datetime.now(UTC))
        async with fake.client() as client:
            assert await ask_once(shop.engine, client) == 1
            async with shop.engine.begin() as conn:
                await conn.execute(update(requests).values(due_at=func.now()))
            assert await ask_once(shop.engine, client) == 1
        assert [payment.booking_id for payment in fake.payments] == [booking]


async def test_a_request_that_is_refused_frees_the_seat_with_a_sentence(shop: Shop, client: PaymentsClient) -> None:
    async with TestClient(TestServer(application(shop.engine, HOLD))) as page:
        wanted = {"trip_id": TRIP, "seat": "01", "phone_number": "12"}
        booking = (await (await page.post("/bookings", json=wanted)).json())["booking_id"]
        assert await ask_once(shop.engine, client) == 1
        assert await ask_once(shop.engine, client) == 0
        shown = await (await page.get(f"/bookings/{booking}")).json()
        assert (shown["state"], shown["message"][-31:]) == ("RELEASED", "Please check your phone number.")
        assert (await page.post("/bookings", json={**wanted, "phone_number": PHONE})).status == 201


async def held(shop: Shop, language: str = "en") -> str:
    async with shop.engine.begin() as conn:
        return await hold(conn, TRIP, "01", PHONE, now=datetime.now(UTC), language=language)


async def happen(shop: Shop, event: payment_pb2.PaymentEvent) -> None:
    async with shop.engine.begin() as conn:
        await take_event(event, conn)


async def again(shop: Shop, booking: str) -> None:
    async with shop.engine.begin() as conn:
        assert await try_again(conn, booking)


async def stands(shop: Shop, booking: str) -> Standing:
    async with shop.engine.connect() as conn:
        standing = await read_standing(conn, booking, datetime.now(UTC))
    assert standing is not None
    return standing


async def test_prompts_that_are_refused_for_an_hour_hold_no_seat(shop: Shop) -> None:
    with FakePayments() as fake:
        async with fake.client() as client:
            booking = await held(shop)
            fake.fail("InitiatePayment", "TOO_MANY_PROMPTS", retry_after=timedelta(hours=1))
            await ask_once(shop.engine, client)
            assert ((await stands(shop, booking)).stage, await ask_once(shop.engine, client)) == ("released", 0)
            booking = await held(shop)
            await ask_once(shop.engine, client)
            await happen(shop, an_event(booking, OFFER_RETRY))
            await again(shop, booking)
            fake.fail("RetryPayment", "TOO_MANY_PROMPTS", retry_after=timedelta(hours=1))
            await ask_once(shop.engine, client)
            assert (await stands(shop, booking)).may_try_again, "by another number, say"


async def test_a_refusal_behind_newer_news_is_not_said(shop: Shop) -> None:
    booking = await held(shop)

    class PaidMeanwhile(PaymentsClient):
        async def retry(self, *asked: Any, **more: Any) -> Any:
            await happen(shop, an_event(booking, CONFIRM, receipt="SJ1"))
            return await super().retry(*asked, **more)

    with FakePayments() as fake:
        async with PaidMeanwhile(fake.address) as client:
            await ask_once(shop.engine, client)
            await happen(shop, an_event(booking, OFFER_RETRY))
            await again(shop, booking)
            fake.fail("RetryPayment", "PHONE_BLOCKED")
            assert await ask_once(shop.engine, client) == 1
    found = await stands(shop, booking)
    assert (found.stage, found.said) == ("paid", an_event(booking, CONFIRM).payment.customer_message)


async def test_a_passenger_whose_refund_is_refused_for_good_is_told(shop: Shop) -> None:
    late = await held(shop)
    with FakePayments() as fake:
        async with fake.client() as client:
            await ask_once(shop.engine, client)
            await happen(shop, an_event(late, OFFER_RETRY))
            async with shop.engine.begin() as conn:
                assert await end_holds(conn, datetime.now(UTC) + HOLD) == 1
            await held(shop)
            await happen(shop, an_event(late, CONFIRM, receipt="SJ1"))
            assert (await stands(shop, late)).own_word == "seat_gone"
            # The fake knows no such payment, and says so for good.
            await ask_once(shop.engine, client)
            found = await stands(shop, late)
            assert (found.own_word, found.is_awaited) == ("", False)
            assert found.said != an_event(late, CONFIRM).payment.customer_message


async def paid_too_late(database: Database, process: Process, shop: Shop, client: PaymentsClient, booking: str) -> UUID:
    """The payment of a booking whose seat is somebody else's when its money comes: it is to go back."""
    await ask_once(shop.engine, client)
    (payment,) = await attempts(database, booking)
    await tell(process, payment, *sent(1), refused())

    async def ended() -> bool:
        async with shop.engine.begin() as conn:
            return await end_holds(conn, datetime.now(UTC) + timedelta(days=1)) == 1

    await until(ended, "the hold is over")
    await held(shop)
    await tell(process, payment, paid("SJ12345678"))

    async def to_go_back() -> bool:
        return (await stands(shop, booking)).own_word == "seat_gone"

    await until(to_go_back, "the money is to go back")
    return payment


async def test_money_that_somebody_else_sends_back_already_is_not_said_to_stay(
    database: Database, process: Process, shop: Shop, client: PaymentsClient
) -> None:
    late = await held(shop)
    async with consuming(shop, client):
        payment = await paid_too_late(database, process, shop, client, late)
        await client.refund(str(payment), payment_pb2.REFUND_REASON_OTHER, request_id="by-hand")
        await ask_once(shop.engine, client)

        async def told() -> bool:
            return (await stands(shop, late)).refund == "PENDING"

        await until(told, "the page to hear of the refund")
        assert (await stands(shop, late)).said == "Your money is being returned."
    async with shop.engine.connect() as conn:
        assert await conn.scalar(select(func.count()).where(~requests.c.done, requests.c.kind == "REFUND")) == 0


async def test_no_money_is_said_to_go_back_where_refunds_are_not_set_up(
    database: Database, process: Process, shop: Shop, client: PaymentsClient
) -> None:
    possible = process.core.refund_shortcodes
    assert isinstance(possible, list)
    numbers = list(possible)
    possible.clear()
    late = await held(shop)
    async with consuming(shop, client):
        payment = await paid_too_late(database, process, shop, client, late)
        await ask_once(shop.engine, client)
        found = await stands(shop, late)
        assert (found.own_word, found.is_awaited) == ("", False)
        assert found.said == "The money cannot be sent back in this way. Please contact us."
        # Asked again and refused again, and told of something else: it still says what the passenger has to know.
        async with shop.engine.begin() as conn:
            await conn.execute(update(requests).values(due_at=func.now()))
        await ask_once(shop.engine, client)
        await happen(shop, an_event(late, CONFIRM, payment_id=str(payment), receipt="SJ12345678"))
        assert (await stands(shop, late)).said == found.said
        # So it does while nobody answers.
        async with shop.engine.begin() as conn:
            await conn.execute(update(requests).values(due_at=func.now()))
        with FakePayments() as away:
            away.fail("RefundPayment", "STORE_UNAVAILABLE", times=9)
            async with away.client() as unanswered:
                await ask_once(shop.engine, unanswered)
        assert (await stands(shop, late)).said == found.said
        possible.extend(numbers)
        async with shop.engine.begin() as conn:
            await conn.execute(update(requests).values(due_at=func.now()))
        await ask_once(shop.engine, client)

        async def on_its_way() -> bool:
            return (await stands(shop, late)).refund == "PENDING"

        await until(on_its_way, "the refund is told of")
        assert (await stands(shop, late)).said != found.said


@pytest.mark.parametrize(("language", "said"), [("en", "check this payment by hand"), ("sw", "Tunakagua malipo haya")])
async def test_no_money_is_said_to_go_back_while_a_person_looks_at_its_payment(
    database: Database, shop: Shop, process: Process, client: PaymentsClient, language: str, said: str
) -> None:
    late = await held(shop, language)
    await ask_once(shop.engine, client)
    (payment,) = await attempts(database, late)
    # More than was asked for: an operator decides what becomes of it.
    await tell(process, payment, *sent(1), paid("SJ12345678", amount=501))
    await happen(shop, an_event(late, OFFER_RETRY, payment_id=str(payment)))
    async with shop.engine.begin() as conn:
        assert await end_holds(conn, datetime.now(UTC) + HOLD) == 1
    await held(shop)
    await happen(shop, an_event(late, CONFIRM, payment_id=str(payment), receipt="SJ12345678"))
    assert (await stands(shop, late)).own_word == "seat_gone"
    await ask_once(shop.engine, client)
    found = await stands(shop, late)
    assert found.own_word == ""
    assert said in found.said
    async with shop.engine.connect() as conn:
        assert await conn.scalar(select(requests.c.done).where(requests.c.kind == "REFUND")) is False, "it asks again"
    # The operator sends it back.
    goes_back = an_event(late, RELEASE, payment_id=str(payment), receipt="SJ12345678")
    goes_back.payment.refund.status = payment_pb2.REFUND_STATUS_PENDING
    await happen(shop, goes_back)
    found = await stands(shop, late)
    assert (found.said, found.refund) == (goes_back.payment.customer_message, "PENDING")


async def test_a_seat_that_is_free_again_is_not_sold_for_money_that_waits_for_refunds_to_be_set_up(shop: Shop) -> None:
    late = await held(shop)
    await happen(shop, an_event(late, OFFER_RETRY))
    async with shop.engine.begin() as conn:
        assert await end_holds(conn, datetime.now(UTC) + timedelta(days=1)) == 1
    another = await held(shop)
    await happen(shop, an_event(late, CONFIRM, receipt="SJ1"))
    async with shop.engine.begin() as conn:
        await conn.execute(update(requests).where(requests.c.kind == "REFUND").values(refused_with="Not now."))
    await happen(shop, an_event(another, RELEASE, payment_id="payment-2"))
    await happen(shop, an_event(late, CONFIRM, receipt="SJ1"))
    async with shop.engine.connect() as conn:
        assert await conn.scalar(select(seats.c.booking_id).where(seats.c.seat == "01")) is None


async def test_a_booking_costs_what_it_cost_when_it_was_made(shop: Shop) -> None:
    booking = await held(shop)
    with FakePayments() as fake:
        async with fake.client() as client:
            fake.fail("InitiatePayment", "STORE_UNAVAILABLE", times=5)
            await ask_once(shop.engine, client)
            async with shop.engine.begin() as conn:
                await conn.execute(update(trips).values(price=900))
                await conn.execute(update(requests).values(due_at=func.now()))
            fake.fail("InitiatePayment", "STORE_UNAVAILABLE", times=0)
            await ask_once(shop.engine, client)
        assert [payment.amount.units for payment in fake.payments] == [500]
    assert (await stands(shop, booking)).price == 500


async def test_an_app_whose_answer_was_lost_gets_the_booking_that_it_made(shop: Shop) -> None:
    wanted = {"trip_id": TRIP, "seat": "01", "phone_number": PHONE}
    async with TestClient(TestServer(application(shop.engine, HOLD))) as page:

        async def book(key: str, **changed: str) -> tuple[int, dict[str, str]]:
            answer = await page.post("/bookings", json=wanted | changed, headers={"Idempotency-Key": key})
            return answer.status, await answer.json()

        mine, other = "8b7f3c52-6a0e-4d1b-9a53-1f6f0c2d7e11", "8b7f3c52-6a0e-4d1b-9a53-1f6f0c2d7e12"
        made, again = await book(mine), await book(f'"{mine}"')
        assert (made[0], again) == (201, (200, made[1]))
        assert [(await book(mine, seat="02"))[0], (await book(other))[0]] == [409, 409]
        assert (await book(other, seat="02"))[0] == 201, "what was refused has not used its key up"
        assert [(await book(key, seat="03"))[0] for key in ("", "1", "k" * 129, "n\u00e4chste-buchung-0001")] == [
            400
        ] * 4
    async with shop.engine.connect() as conn:
        assert await conn.scalar(select(func.count()).select_from(bookings)) == 2
        assert await conn.scalar(select(func.count()).select_from(requests)) == 2


async def test_an_app_that_comes_late_starts_no_attempt_after_a_later_one(shop: Shop) -> None:
    booking = await held(shop)
    await happen(shop, an_event(booking, OFFER_RETRY, payment_id="payment-2", attempt=2))
    async with TestClient(TestServer(application(shop.engine, HOLD))) as page:

        async def retry(content: object) -> int:
            return (await page.post(f"/bookings/{booking}/retry", json=content)).status

        assert (await (await page.get(f"/bookings/{booking}")).json())["payment_id"] == "payment-2"
        contents: list[object] = [{"after": "payment-1"}, {"after": 2}, [], {"after": "payment-2"}]
        assert [await retry(one) for one in contents] == [409, 400, 400, 202]


async def test_the_receipt_is_linked_once_it_is_issued_and_sent_as_it_stands(shop: Shop) -> None:
    booking = await held(shop)
    with FakePayments(issues_receipts=True) as fake:
        async with fake.client() as client:
            app = application(shop.engine, HOLD)
            app[PAYMENTS] = client
            purchase = Purchase(booking_id=booking, phone_number=PHONE, amount=500)
            payment = await client.pay_and_wait(purchase)
            fake.issue_receipts()
            async with TestClient(TestServer(app)) as page:
                await happen(shop, an_event(booking, CONFIRM, payment_id=payment.payment_id, receipt="SJ1"))
                link = f"/pay/{booking}/receipt"
                assert link not in await (await page.get(f"/pay/{booking}")).text()
                assert (await page.get(link)).status == 404
                issued = an_event(
                    booking,
                    CONFIRM,
                    payment_id=payment.payment_id,
                    receipt="SJ1",
                    kind=payment_pb2.PAYMENT_EVENT_TYPE_RECEIPT_ISSUED,
                )
                await happen(shop, issued)
                assert link in await (await page.get(f"/pay/{booking}")).text()
                sent_now = await page.get(link)
                assert (sent_now.status, sent_now.content_type) == (200, "application/pdf")
                assert await sent_now.read() == (await client.get_receipt(payment.payment_id)).pdf
                fake.fail("GetReceipt", "STORE_UNAVAILABLE", times=100)
                assert (await page.get(link)).status == 503


async def test_hostile_texts_are_refused_and_are_no_fault_of_the_page(shop: Shop) -> None:
    form = {"number": PHONE, "seat": f"{TRIP}\0/01"}
    wanted = {"trip_id": TRIP, "seat": "01", "phone_number": "\0"}
    async with TestClient(TestServer(application(shop.engine, HOLD))) as page:
        statuses = [
            (await answer).status
            for answer in (
                page.post("/", data=form),
                page.post("/", data=form, headers={"Origin": "http://["}),
                page.get("/pay/B-%00"),
                page.post("/bookings", json=wanted),
            )
        ]
    assert statuses == [400, 403, 404, 400]


async def test_two_instances_confirm_each_seat_once(
    database: Database, process: Process, shop: Shop, client: PaymentsClient
) -> None:
    async with consuming(shop, client), consuming(shop, client):
        for number in (1, 2, 3):
            async with shop.engine.begin() as conn:
                booking = await hold(conn, TRIP, f"0{number}", PHONE, now=datetime.now(UTC))
            await ask_once(shop.engine, client)
            (payment,) = await attempts(database, booking)
            await tell(process, payment, *sent(number), paid(f"SJ1234567{number}"))

        async def sold() -> bool:
            async with shop.engine.connect() as conn:
                return len((await conn.exec_driver_sql("SELECT 1 FROM tickets")).all()) == 3

        await until(sold, "all three are sold")
