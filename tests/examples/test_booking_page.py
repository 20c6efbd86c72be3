"""The booking pages in a browser, over a real payment service: what a passenger sees, with JavaScript and without."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect
from sqlalchemy import func, insert, select, update

from examples.booking_service.asking import keep_asking
from examples.booking_service.bookings import HOLD, end_holds, give_up, hold, new_booking_id, take_event, try_again
from examples.booking_service.news import STREAMS_OF_A_BOOKING_MAX, announce
from examples.booking_service.page import application
from examples.booking_service.tables import bookings, issued_receipts, requests, trips
from payment_client import PaymentsClient
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.reasons import Reason
from tests.browsing import Picture, accessibility_faults
from tests.databases import Database
from tests.examples.counters import Counter, visiting
from tests.examples.shops import TRIP, Shop, until
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import Process, listed, paid, refused

BYTES_MAX = 50_000
WAIT = timedelta(minutes=5)
PRESSES_MAX = 20
"""Of the Tab key, until the first seat is reached."""


@pytest.fixture
async def counter(database: Database, process: Process, shop: Shop) -> AsyncIterator[Counter]:
    async with (
        PaymentsClient(str(process.server.address), timeout=PATIENCE_SECONDS) as client,
        # So rarely that whatever a page shows in a test, it was told of.
        TestServer(application(shop.engine, HOLD, "MATATU LTD", look_every=timedelta(hours=1))) as server,
    ):
        work = [
            asyncio.create_task(client.consume(shop.cursors, take_event)),
            asyncio.create_task(keep_asking(shop.engine, client)),
        ]
        try:
            yield Counter(database, process, shop, str(server.make_url("/")))
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


def cancelled() -> ResultReported:
    return ResultReported(
        "callback:1032", Source.CALLBACK, Verdict.CANCELLED, "1032", reason=Reason.DECLINED_BY_CUSTOMER
    )


async def test_a_passenger_sees_each_step_up_to_the_receipt(
    browser: Browser, counter: Counter, picture: Picture
) -> None:
    async with visiting(browser) as page:
        await page.goto(counter.address)
        assert await accessibility_faults(page) == []
        await picture.keep(page, "booking-seat")
        await counter.open(page)
        payment = await counter.prompt()
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text("MATATU LTD")
        await expect(page.get_by_role("main")).to_contain_text("KES 500")
        await expect(page.get_by_role("status").first).to_contain_text("enter your M-Pesa PIN")
        # The minutes and seconds that are left, until the hold ends.
        held = page.locator("p", has_text="The seat is held until")
        await expect(held).to_have_text(re.compile(r"\((\d+):[0-5]\d\)$"))
        before = await held.text_content()
        await expect(held).not_to_have_text(str(before))
        assert await accessibility_faults(page) == []
        await picture.keep(page, "booking-waiting")
        await counter.tell(payment, paid("SJ12345678"))
        await expect(page.get_by_role("heading", name="Your seat is booked")).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text("SJ12345678")
        async with counter.shop.engine.begin() as conn:
            booking = page.url.rpartition("/")[2]
            await conn.execute(insert(issued_receipts).values(booking_id=booking, payment_id=str(payment)))
            await announce(conn, booking)
        await expect(page.get_by_role("link", name="Receipt (PDF)")).to_be_visible()
        assert await accessibility_faults(page) == []
        await picture.keep(page, "booking-paid")


async def test_the_page_comes_over_2g_in_few_bytes(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        wire = await page.context.new_cdp_session(page)
        await wire.send("Network.enable")
        await wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
        slow = {"offline": False, "latency": 800, "downloadThroughput": 31_250, "uploadThroughput": 31_250}
        await wire.send("Network.emulateNetworkConditions", slow)
        names: dict[str, str] = {}
        sizes: dict[str, float] = {}
        wire.on("Network.requestWillBeSent", lambda sent: names.update({sent["requestId"]: sent["request"]["url"]}))
        wire.on("Network.loadingFinished", lambda got: sizes.update({got["requestId"]: got["encodedDataLength"]}))
        parts = {page.url, *(f"{counter.address}static/{name}" for name in ("page.css", "page.js"))}
        await page.reload()
        await expect(page.get_by_text("The seat is held until")).to_be_visible()

        async def all_came() -> bool:
            return parts <= {names[came] for came in sizes if came in names}

        await until(all_came, "page, style and script have come")
        assert 0 < sum(size for came, size in sizes.items() if names.get(came) in parts) <= BYTES_MAX


async def test_a_page_without_a_stream_looks_by_itself(browser: Browser, shop: Shop) -> None:
    async with shop.engine.begin() as conn:
        booking = await hold(conn, TRIP, "01", "0712345678", now=datetime.now(UTC))
    async with TestServer(application(shop.engine, HOLD, streams_max=0)) as server, visiting(browser) as page:
        await page.goto(str(server.make_url(f"/pay/{booking}")))
        await expect(page.get_by_role("main")).to_contain_text("We are starting your M-Pesa payment.")
        async with shop.engine.begin() as conn:
            await give_up(conn, booking, "It was refused.")
        await expect(page.get_by_role("main")).to_contain_text("It was refused.")


async def test_streams_are_few_and_end_with_the_server(shop: Shop) -> None:
    async with shop.engine.begin() as conn:
        booking = await hold(conn, TRIP, "01", "0712345678", now=datetime.now(UTC))
    server = TestServer(application(shop.engine, HOLD, streams_max=1))
    await server.start_server()
    async with aiohttp.ClientSession() as session:
        path = server.make_url(f"/pay/{booking}/news")
        async with session.get(path) as stream:
            assert await stream.content.readline() == b":\n"
            async with session.get(path) as another:
                assert another.status == 503
            await server.close()
            # To its end: a stream that is cut off in the middle raises here.
            await stream.read()


async def test_a_browser_that_leaves_is_no_fault_of_the_page(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    async with shop.engine.begin() as conn:
        booking = await hold(conn, TRIP, "01", "0712345678", now=datetime.now(UTC))
    async with TestServer(application(shop.engine, HOLD, streams_max=1)) as server, aiohttp.ClientSession() as session:
        path = server.make_url(f"/pay/{booking}/news")
        async with session.get(path) as stream:
            assert await stream.content.readline() == b":\n"
            stream.close()

        async def has_left() -> bool:
            async with shop.engine.begin() as conn:
                await announce(conn, booking)
            async with session.get(path) as another:
                return another.status == 200

        await until(has_left, "the place of the browser that left is free")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_one_booking_takes_no_streams_of_others(shop: Shop) -> None:
    async with shop.engine.begin() as conn:
        greedy, other = [await hold(conn, TRIP, seat, "0712345678", now=datetime.now(UTC)) for seat in ("01", "02")]
    async with (
        TestServer(application(shop.engine, HOLD)) as server,
        aiohttp.ClientSession() as session,
        contextlib.AsyncExitStack() as stack,
    ):
        path = server.make_url(f"/pay/{greedy}/news")
        wanted = [await stack.enter_async_context(session.get(path)) for _ in range(STREAMS_OF_A_BOOKING_MAX + 1)]
        assert [one.status for one in wanted] == [*([200] * STREAMS_OF_A_BOOKING_MAX), 503]
        left = await stack.enter_async_context(session.get(server.make_url(f"/pay/{other}/news")))
        assert await left.content.readline() == b":\n"


async def test_money_after_no_answer_gets_its_seat_while_it_is_free(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        payment = await counter.prompt()
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()
        await counter.expire(payment)
        await expect(page.get_by_role("heading", name="Check your phone")).to_have_count(0)
        await counter.tell(payment, paid("SJ12345678"))
        await expect(page.get_by_role("heading", name="Your seat is booked")).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text("SJ12345678")


async def test_the_back_button_after_pay_starts_no_second_payment(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        paid_at = page.url
        await counter.prompt()
        await page.go_back()
        await expect(page.get_by_role("link", name="Your booking of seat 01")).to_be_visible()
        await page.get_by_role("link", name="Your booking of seat 01").click()
        await page.wait_for_url(paid_at)
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()
        assert len(await counter.attempts()) == 1


async def test_without_a_script_it_pays_and_says_so_after_a_reload(browser: Browser, counter: Counter) -> None:
    async with visiting(browser, script=False) as page:
        await counter.open(page, number="+254 712-345 678")
        assert 'http-equiv="refresh"' in await page.content()
        payment = await counter.prompt()
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()
        await counter.tell(payment, refused())
        await expect(page.get_by_role("heading", name="Not paid yet")).to_be_visible()
        await page.get_by_role("button", name="Try again").click()
        await counter.tell(await counter.prompt(2), paid("SJ12345678"))
        await expect(page.get_by_role("heading", name="Your seat is booked")).to_be_visible()
        await page.reload()
        assert 'http-equiv="refresh"' not in await page.content()


async def test_who_cancelled_tries_again_with_another_number(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        await counter.tell(await counter.prompt(), cancelled())
        await expect(page.get_by_text("You can try again at")).to_be_visible()
        await expect(page.get_by_role("button")).to_have_count(0)
        await counter.pass_time(WAIT)
        number = page.get_by_label("M-Pesa number, if another")
        await number.fill("12")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("alert")).to_contain_text("This is not a Kenyan mobile number.")
        await expect(number).to_have_attribute("aria-invalid", "true")
        assert await accessibility_faults(page) == []
        await number.fill("0722000111")
        await page.get_by_role("button", name="Try again").click()
        second = await counter.prompt(2)
        await counter.tell(second, paid("SJ12345678"))
        await expect(page.get_by_role("heading", name="Your seat is booked")).to_be_visible()


async def test_after_a_refused_number_the_passenger_pays_with_another_one(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        await counter.tell(await counter.prompt(), refused())
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        async with counter.shop.engine.begin() as conn:
            # The payment service refuses it, as it would a number that the page knows nothing against.
            assert await try_again(conn, page.url.rpartition("/")[2], phone_number="12")
        await expect(page.get_by_role("main")).to_contain_text("Please check your phone number.")
        assert len(await counter.attempts()) == 1
        await page.get_by_label("M-Pesa number, if another").fill("0722000111")
        await page.get_by_role("button", name="Try again").dblclick()
        await counter.tell(await counter.prompt(2), paid("SJ12345678"))
        await expect(page.get_by_role("heading", name="Your seat is booked")).to_be_visible()
        assert len(await counter.attempts()) == 2


async def test_what_is_being_typed_outlives_news(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        await counter.tell(await counter.prompt(), refused())
        number = page.get_by_label("M-Pesa number, if another")
        await number.press_sequentially("0722")
        async with counter.shop.engine.begin() as conn:
            assert await try_again(conn, page.url.rpartition("/")[2], phone_number="12")
            await conn.execute(update(requests).where(requests.c.kind == "RETRY").values(done=True, refused_with="No."))
            await conn.execute(update(bookings).values(message="This number is refused."))
            await announce(conn, page.url.rpartition("/")[2])
        await expect(page.get_by_role("main")).to_contain_text("This number is refused.")
        await expect(number).to_be_focused()
        await page.keyboard.type("000111")
        await expect(number).to_have_value("0722000111")


async def test_two_tabs_that_follow_one_payment_both_show_its_end(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        payment = await counter.prompt()
        other = await page.context.new_page()
        await other.goto(page.url)
        for tab in (page, other):
            await expect(tab.get_by_role("heading", name="Check your phone")).to_be_visible()
        await counter.tell(payment, paid("SJ12345678"))
        for tab in (page, other):
            await expect(tab.get_by_role("heading", name="Your seat is booked")).to_be_visible()
            await expect(tab.get_by_role("main")).to_contain_text("SJ12345678")


async def test_an_old_tab_starts_no_attempt_after_a_later_one(browser: Browser, counter: Counter) -> None:
    async with visiting(browser, script=False) as page:
        await counter.open(page)
        await counter.tell(await counter.prompt(), refused())
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        old = await page.context.new_page()
        await old.goto(page.url)
        await page.get_by_role("button", name="Try again").click()
        await counter.tell(await counter.prompt(2), refused("1"))
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        await old.get_by_role("button", name="Try again").click()
        await expect(old.get_by_role("heading", name="Not paid yet")).to_be_visible()
        async with counter.shop.engine.connect() as conn:
            retries = await conn.scalar(func.count(requests.c.number).select().where(requests.c.kind == "RETRY"))
        assert retries == 1


async def test_a_form_that_is_sent_again_is_one_booking_and_one_payment(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await page.goto(counter.address)
        await page.get_by_role("radio", name="01").check()
        await page.get_by_label("M-Pesa number").fill("254712345678")
        token = await page.locator("input[name=booking]").input_value()
        await page.get_by_role("button", name="Pay").dblclick()
        await page.wait_for_url("**/pay/B-*")
        form = {"booking": token, "seat": f"{TRIP}/02", "number": "0712345678"}
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(counter.address, data=form) as answer:
                    assert str(answer.url) == page.url
        await counter.prompt()
        await page.reload()
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()
        async with counter.shop.engine.connect() as conn:
            assert await conn.scalar(func.count(bookings.c.booking_id).select()) == 1
        assert len(await counter.attempts()) == 1
        await page.goto(counter.address)
        await page.get_by_role("link", name="Your booking of seat 01").click()
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()


@pytest.mark.parametrize("script", [True, False])
async def test_after_a_failed_prompt_the_page_says_how_to_pay_by_hand(
    browser: Browser, counter: Counter, script: bool, picture: Picture
) -> None:
    async with visiting(browser, script=script) as page:
        await page.set_viewport_size({"width": 390, "height": 1000})
        await counter.open(page)
        payment = await counter.prompt()
        by_hand = page.get_by_role("region", name="Or pay in the M-Pesa menu")
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()
        await expect(by_hand).to_have_count(0)
        await counter.tell(payment, refused())
        await expect(page.get_by_role("main")).to_contain_text("Not enough money in your M-Pesa. Top up and try again.")
        await expect(by_hand).to_contain_text("174379")
        async with counter.shop.engine.connect() as conn:
            account = str(await conn.scalar(select(bookings.c.reference)))
        assert await by_hand.locator("dd").all_text_contents() == ["174379", account, "500"]
        await expect(by_hand).to_contain_text("It can take some minutes until we see the money")
        assert script or 'http-equiv="refresh" content="60"' in await page.content()
        assert not script or await accessibility_faults(page) == []
        if script:
            await picture.keep(page, "booking-pay-bill")
        # Of two ways at once, both are paid.
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("heading", name="Not paid yet")).to_have_count(0)
        await expect(by_hand).to_have_count(0)
        await counter.tell(payment, listed("SJ12345678"))
        if not script:
            await page.reload()
        await expect(page.get_by_role("heading", name="Your seat is booked")).to_be_visible()


async def test_late_money_and_its_refund_are_shown(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await counter.open(page)
        payment = await counter.prompt()
        await counter.tell(payment, refused())
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        async with counter.shop.engine.begin() as conn:
            assert await end_holds(conn, datetime.now(UTC) + timedelta(days=1)) == 1
            await hold(conn, TRIP, "01", "0722000000", now=datetime.now(UTC))
        await expect(page.get_by_role("main")).to_contain_text("The seat was not paid in time")
        assert await accessibility_faults(page) == []
        await counter.tell(payment, paid("SJ12345678"))
        await expect(page.get_by_text("KES 500, on its way back to you")).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text("SJ12345678")
        assert await accessibility_faults(page) == []
        await counter.tell(payment, listed("SJ12345678"))
        await counter.send_back(payment)
        await expect(page.get_by_text("KES 500, sent back to you")).to_be_visible()
        assert await accessibility_faults(page) == []


async def test_the_keyboard_alone_chooses_a_seat_and_pays(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await page.goto(counter.address)
        # By the order in which the page is read; a group of seats is one stop.
        for _ in range(PRESSES_MAX):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.type") == "radio":
                break
        await page.keyboard.press("Space")
        await expect(page.get_by_role("radio", name="01")).to_be_checked()
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("M-Pesa number")).to_be_focused()
        await page.keyboard.type("0712 345 678")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Pay")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/pay/B-*")
        await counter.prompt()
        await expect(page.get_by_role("heading", name="Check your phone")).to_be_visible()


async def test_swahili_is_spoken_by_the_page_and_by_the_payment_service(browser: Browser, counter: Counter) -> None:
    async with visiting(browser) as page:
        await page.goto(counter.address)
        await page.get_by_role("link", name="Kiswahili").click()
        await expect(page.locator("html")).to_have_attribute("lang", "sw")
        await counter.open(page, pay="Lipa")
        payment = await counter.prompt()
        await expect(page.get_by_role("main")).to_contain_text("Angalia simu yako na uweke PIN yako ya M-Pesa.")
        assert await accessibility_faults(page) == []
        await counter.tell(payment, refused())
        await expect(page.get_by_role("region", name="Au lipa kwenye menyu ya M-Pesa")).to_contain_text("174379")
        assert await accessibility_faults(page) == []


async def test_a_narrow_page_holds_hostile_names_and_wrong_numbers(browser: Browser, counter: Counter) -> None:
    async with counter.shop.engine.begin() as conn:
        await conn.execute(update(trips).values(route="<script>document.title='ran'</script>" + "x" * 80))
    async with visiting(browser) as page:
        await page.set_viewport_size({"width": 320, "height": 640})
        await page.goto(counter.address)
        await page.get_by_role("radio", name="01").check()
        number = page.get_by_label("M-Pesa number")
        await number.fill('"><script>1</script>')
        await page.get_by_role("button", name="Pay").click()
        await expect(page.get_by_role("alert")).to_contain_text("Type one such as 0712 345 678.")
        await expect(number).to_be_focused()
        await expect(number).to_have_value('"><script>1</script>')
        await expect(page.get_by_role("radio", name="01")).to_be_checked()
        assert await page.title() == "Error: Book a seat"
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320
        assert await accessibility_faults(page) == []


async def test_another_site_sends_no_form_and_guesses_no_booking(counter: Counter) -> None:
    form = {"booking": new_booking_id(), "seat": f"{TRIP}/01", "number": "0712345678"}
    async with aiohttp.ClientSession() as session:
        for origin in ("https://elsewhere.example", "null"):
            async with session.post(counter.address, data=form, headers={"Origin": origin}) as answer:
                assert answer.status == 403
        async with session.get(f"{counter.address}pay/{new_booking_id()}") as answer:
            assert answer.status == 404
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        async with session.post(counter.address, data={**form, "seat": f"{TRIP}/99"}) as answer:
            assert (answer.status, "This seat is not free." in await answer.text()) == (400, True)
    assert await counter.attempts() == []
