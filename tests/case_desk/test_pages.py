"""The case desk in a browser: what somebody who answers passengers' calls does there."""

from __future__ import annotations

import re

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from playwright.async_api import Browser, Page, expect

from development.certificates import BOOKING
from payment_service.domain.facts import DeadlinePassed
from tests.application.casework.casefiles import expired, late
from tests.application.casework.test_resolve_case import broken
from tests.browsing import Picture, accessibility_faults
from tests.case_desk.desks import Served
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import paid, sent

NARROW = 320


async def find(page: Page, what: str, known: str = "Phone number") -> None:
    await page.get_by_label("What is known").select_option(label=known)
    await page.get_by_label("Number or name").fill(what)
    await page.get_by_role("button", name="Find").click()


async def settle(page: Page, way: str, why: str) -> None:
    await page.get_by_label(way).check()
    await page.get_by_role("textbox", name="Why", exact=True).fill(why)
    await page.get_by_role("button", name="Settle the case").click()


async def agree(page: Page, why: str) -> None:
    await page.get_by_label("Agree:").check()
    await page.get_by_role("textbox", name="Why", exact=True).fill(why)
    await page.get_by_role("button", name="Decide").click()
    await expect(page.get_by_text("This is done at once.")).to_be_visible()
    await page.get_by_role("button", name="Yes, do it").click()


async def paid_twice(desk: Served) -> None:
    """Two attempts of one booking, and both are paid."""
    process = desk.two.process
    first = await expired(process, 1, "BK-1")
    process.writers.clock.move(61)
    second = await process.create(booking_id="BK-1", request_id="again")
    await process.tell(second, *sent(2), paid("RCPT000001"))
    await process.tell(first, paid("RCPT000002"))


async def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled to the side."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("width", [900, NARROW])
async def test_from_a_phone_number_to_a_settled_case_on_three_pages(
    browser: Browser, desk: Served, database: Database, picture: Picture, width: int
) -> None:
    payment = await late(desk.two.process, 1, "RCPT000001")
    faults: list[str] = []
    async with desk.page_of(browser, "amina", width=width, script=width == NARROW) as page:

        async def looked_at(name: str) -> None:
            if width == NARROW:
                faults.extend(await accessibility_faults(page))
                assert await fits(page), name
            else:
                await picture.keep(page, f"case-desk-{name}")

        await looked_at("cases")
        await find(page, "0712 345 678")
        await expect(page.get_by_text("completed (paid late), certain, paid late")).to_be_visible()
        await expect(page.get_by_text("2547*****678")).to_be_visible()
        assert "712345678" not in page.url + await page.content()
        await expect(page.get_by_text("version 5: EXPIRED → COMPLETED")).to_be_visible()
        await looked_at("story")
        await page.get_by_role("link", name="Late payment, booking BK-1").click()
        await expect(page.get_by_text("The money came after the hold. Accept it if")).to_be_visible()
        await expect(page.get_by_text("(suggested)")).to_have_count(1)
        await expect(page.get_by_text("Accept: ").locator("..")).to_contain_text("(suggested)")
        await looked_at("case")
        await page.get_by_label("Why you take it").fill("I have her on the phone")
        await page.get_by_role("button", name="Take the case").click()
        await expect(page.get_by_role("status")).to_contain_text("amina has it.")
        await settle(page, "Accept", "she has the message, the seat is free")
        await expect(page.get_by_text("booking BK-1 is told to confirm its seat")).to_be_visible()
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_role("status")).to_contain_text("It was settled: accept")
        await expect(page.get_by_text("amina: accept")).to_be_visible()
        await looked_at("settled")
        await page.go_back()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert faults == []
    acts = "SELECT act, operator, reason FROM case_acts ORDER BY acted_at"
    assert await rows_of(database, acts) == [
        ("TAKE", "amina", "I have her on the phone"),
        ("ACCEPT", "amina", "she has the message, the seat is free"),
    ]
    found = await desk.two.first.FindPayments(pb.FindPaymentsRequest(booking_id=payment.booking_id))
    assert found.payments[0].payment.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM
    assert await broken(desk.two.process, database) == []


async def test_a_payment_is_found_by_its_receipt_and_by_its_reference(browser: Browser, desk: Served) -> None:
    await paid_twice(desk)
    paid_late = await late(desk.two.process, 3, "RCPT000003")
    async with desk.page_of(browser, "amina") as page:
        for known, what in (("M-Pesa receipt", "RCPT000003"), ("Reference of a payment", paid_late.reference)):
            await page.goto(desk.url)
            await find(page, what, known)
            await expect(page.get_by_role("heading", level=1)).to_have_text(f"Payment {paid_late.reference}")
            await expect(page.get_by_role("link", name="Late payment, booking BK-3")).to_be_visible()
            assert "RCPT000003" not in page.url


async def test_several_payments_are_listed_each_with_its_cases(browser: Browser, desk: Served) -> None:
    await paid_twice(desk)
    async with desk.page_of(browser, "amina") as page:
        await find(page, "BK-1", "Booking")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Payments")
        for receipt in ("RCPT000001", "RCPT000002"):
            await expect(page.get_by_text(receipt, exact=True)).to_be_visible()
        await expect(page.get_by_role("link", name="Duplicate payment, booking BK-1")).to_have_count(1)
        assert await accessibility_faults(page) == []


async def test_what_cannot_be_shown_says_so_on_a_page_that_anybody_can_read(browser: Browser, desk: Served) -> None:
    async with desk.page_of(browser, "amina") as page:
        await page.goto(f"{desk.url}/cases/nothing")
        await expect(page.get_by_role("heading", level=1)).to_have_text("That cannot be shown")
        assert await accessibility_faults(page) == []
        await page.get_by_role("link", name="To the open cases").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Open cases")


async def test_a_double_payment_goes_back_once_a_second_person_has_agreed(
    browser: Browser, desk: Served, database: Database, picture: Picture
) -> None:
    await paid_twice(desk)
    async with desk.page_of(browser, "amina") as page:
        await page.get_by_role("link", name="Duplicate payment, booking BK-1").click()
        await settle(page, "Return", "paid twice")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Is this right?")
        await expect(
            page.get_by_text("KES 500, receipt RCPT000002, goes back to its payer, 2547*****678.")
        ).to_be_visible()
        assert await accessibility_faults(page) == []
        await picture.keep(page, "case-desk-sure")
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_role("status")).to_have_text("It waits for a second person. Nothing was done yet.")
        await expect(page.get_by_text("You have asked for this: another person decides.")).to_be_visible()
        await expect(page.get_by_label("Agree:")).to_have_count(0)
    assert await rows_of(database, "SELECT count(*) FROM refunds") == [(0,)]
    async with desk.page_of(browser, "brian") as page:
        await page.get_by_role("link", name="Second person", exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Waiting for a second person")
        assert await accessibility_faults(page) == []
        await page.get_by_role("link", name=re.compile("Send KES 500, receipt RCPT000002")).click()
        await expect(page.get_by_label("Agree:")).to_be_visible()
        assert await accessibility_faults(page) == []
        await agree(page, "seen both messages")
        await expect(page.get_by_role("status")).to_contain_text("It is approved, by brian (desk:brian)")
    assert await rows_of(database, "SELECT amount, state FROM refunds") == [(500, "REQUESTED")]
    assert await broken(desk.two.process, database) == []


async def test_a_case_is_settled_by_the_keyboard_alone(browser: Browser, desk: Served) -> None:
    await late(desk.two.process, 1, "RCPT000001")
    async with desk.page_of(browser, "amina") as page:

        async def tab_to(name: str) -> None:
            for _ in range(60):
                await page.keyboard.press("Tab")
                if name in await page.evaluate(
                    "(document.activeElement.labels?.[0] ?? document.activeElement).textContent"
                ):
                    return
            raise AssertionError(f"{name} is not reached")

        await tab_to("Number or name")
        await page.keyboard.type("BK-1")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.type("Booking")
        await tab_to("Find")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Payment ")
        await tab_to("Late payment")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Settle it")).to_be_visible()
        await tab_to("Accept")
        await page.keyboard.press("Space")
        await tab_to("Why")
        await page.keyboard.type("has the message")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Is this right?")
        await tab_to("Yes, do it")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("It was settled: accept")


async def test_script_in_what_others_wrote_is_text(browser: Browser, desk: Served) -> None:
    payment = await late(desk.two.process, 1, "RCPT000001")
    case = await desk.two.the_case()
    script = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    await desk.two.first.TakeCase(
        pb.TakeCaseRequest(case_id=case.case_id, etag=case.etag, operator="amina", reason=script)
    )
    async with desk.page_of(browser, "brian") as page:
        await page.goto(f"{desk.url}/cases/{case.case_id}")
        await expect(page.get_by_text(script)).to_be_visible()
        await expect(page).to_have_title(f"Late payment, booking {payment.booking_id} – case desk")
        await page.goto(f"{desk.url}/?kind={script}")
        await find(page, script, "Booking")
        await expect(page.get_by_role("alert")).to_contain_text("booking_id: ")
        await expect(page).to_have_title("Open cases – case desk")


async def test_money_moves_once_a_second_person_agrees_and_the_asker_cannot(
    browser: Browser, desk: Served, database: Database
) -> None:
    process = desk.two.process
    await process.tell(await desk.two.completed(), paid("RCPT000009"))
    target = await process.tell(await process.create(BOOKING, booking_id="BK-2", request_id="r-2"), *sent(2))
    process.writers.clock.move(121)
    await process.tell(target, DeadlinePassed())
    async with desk.page_of(browser, "amina") as page:
        await page.get_by_role("link", name="Second receipt, booking BK-1").click()
        await page.get_by_label("Payment that the money belongs to").fill("BK-2")
        await settle(page, "Move", "typed the wrong booking")
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_role("alert")).to_contain_text("to_payment_id: expected the id of a payment")
        await expect(page.get_by_role("textbox", name="Why", exact=True)).to_have_value("typed the wrong booking")
        await expect(page.get_by_label("Payment that the money belongs to")).to_have_attribute("aria-invalid", "true")
        assert await rows_of(database, "SELECT count(*) FROM approvals") == [(0,)]

        await page.get_by_label("Payment that the money belongs to").fill(str(target.payment_id))
        await settle(page, "Move", "typed the wrong booking")
        words = f"KES 500, receipt RCPT000009, is to move from booking BK-1 to payment {target.payment_id}."
        await expect(page.get_by_text(words)).to_be_visible()
        await expect(page.get_by_text("Nothing moves before a second person agrees.")).to_be_visible()
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_text("You have asked for this: another person decides.")).to_be_visible()
        waits = page.url
    async with desk.page_of(browser, "brian") as page:
        await page.goto(waits)
        await agree(page, "the passenger has the message")
        await expect(page.get_by_role("status")).to_contain_text("It is approved, by brian (desk:brian)")
        await page.go_back()
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_role("status")).to_contain_text("It is approved, by brian (desk:brian)")
        await expect(page.get_by_role("button", name="Decide")).to_have_count(0)
    (moved,) = await rows_of(database, "SELECT payment_id FROM mpesa_receipts WHERE receipt = 'RCPT000009'")
    assert moved == (target.payment_id,)
    assert await broken(process, database) == []
