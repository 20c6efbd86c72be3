"""The simulator's phones in a browser: a person answers the prompt, by mouse, by keyboard, and without JavaScript."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, expect

from tests.browsing import Picture, accessibility_faults, new_page
from tests.daraja_simulator.merchant import Merchant, new_phone


async def phone_in_hand(browser: Browser, merchant: Merchant, phone: str, **context: Any) -> Page:
    """The page of a phone, opened by typing its number as people do."""
    page = await new_page(browser, **context)
    await page.goto(f"{merchant.url}/phones")
    await page.get_by_label("Phone number").fill(f"0{phone[3:6]} {phone[6:]}")
    await press(page, "Take it in hand")
    await expect(page.get_by_role("heading", name=f"Phone {phone}")).to_be_visible()
    return page


async def press(page: Page, button: str) -> None:
    """Press a button, and see the page that it leads to."""
    async with page.expect_navigation():
        await page.get_by_role("button", name=button).click()


async def result_of(merchant: Merchant, number: int = 1) -> dict[str, Any]:
    return (await merchant.callbacks(number))[-1].result


async def test_a_person_sees_the_prompt_enters_the_pin_and_gets_the_sms(
    browser: Browser, merchant: Merchant, picture: Picture
) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone, viewport={"width": 420, "height": 760})
    await expect(page.get_by_text("No prompt yet.")).to_be_visible()
    await merchant.push(phone, Amount=1500)
    prompt = page.get_by_role("alertdialog")
    asked = "Do you want to pay Ksh 1500.00 to PAYBILL 174379 Account no. SEAT12? Enter M-PESA PIN:"
    await expect(prompt).to_contain_text(asked)
    await expect(prompt).to_contain_text("Bus fare")
    assert await accessibility_faults(page) == []
    await picture.keep(page, "phone-prompt")
    # Nobody has answered, so nothing is paid, whatever the number would do by itself.
    assert (await merchant.ledger(phone=phone))["totals"]["payments"] == 0

    await page.get_by_label("M-PESA PIN").fill("1234")
    await press(page, "Send")
    sms = page.get_by_role("listitem")
    await expect(sms).to_contain_text("Confirmed. Ksh1,500.00 sent to PAYBILL 174379 for account SEAT12 on")
    await expect(sms).to_contain_text("New M-PESA balance is Ksh18,500.00.")
    result = await result_of(merchant)
    assert result["ResultCode"] == 0
    await expect(sms).to_contain_text(merchant.received[0].items["MpesaReceiptNumber"])
    await expect(prompt).to_have_count(0)
    assert await accessibility_faults(page) == []
    await picture.keep(page, "phone-message")


async def test_cancel_ends_the_prompt_and_no_money_moves(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    await merchant.push(phone)
    await press(page, "Cancel")
    assert (await result_of(merchant))["ResultCode"] == 1032
    await expect(page.get_by_role("status")).to_contain_text("cancelled (1032")
    await expect(page.get_by_text("None yet.")).to_be_visible()
    assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == 0


async def test_too_little_money_on_the_phone_and_a_wrong_pin_are_failures(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    await page.get_by_label("Balance in shillings").fill("149")
    await press(page, "Set the balance")
    await expect(page.get_by_text("Balance Ksh 149.00")).to_be_visible()
    await merchant.push(phone)
    await page.get_by_label("M-PESA PIN").fill("1234")
    await press(page, "Send")
    await expect(page.get_by_role("listitem")).to_contain_text("You do not have enough money")
    assert (await result_of(merchant))["ResultCode"] == 1

    await page.get_by_label("Balance in shillings").fill("500")
    await press(page, "Set the balance")
    await merchant.push(phone)
    await page.get_by_label("M-PESA PIN").fill("0000")
    await press(page, "Send")
    await expect(page.get_by_role("listitem").first).to_contain_text("wrong PIN")
    assert (await result_of(merchant, 2))["ResultCode"] == 2001
    await expect(page.get_by_text("Balance Ksh 500.00")).to_be_visible()


async def test_a_prompt_that_is_left_alone_ends_without_an_answer(browser: Browser, merchant: Merchant) -> None:
    await merchant.control("settings", {"prompt_seconds": 0.2})
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    await merchant.push(phone)
    assert (await result_of(merchant))["ResultCode"] == 1037
    await expect(page.get_by_role("status")).to_contain_text("(1037, No response from user.)")


async def test_the_keyboard_alone_pays_and_cancels(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    for keys, code in (("1234", 0), (None, 1032)):
        before = len(merchant.received)
        await merchant.push(phone)
        # The prompt takes the focus to its PIN.
        await expect(page.get_by_label("M-PESA PIN")).to_be_focused()
        if keys is not None:
            await page.keyboard.type(keys)
        else:
            await page.keyboard.press("Tab")
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        async with page.expect_navigation():
            await page.keyboard.press("Enter")
        assert (await result_of(merchant, before + 1))["ResultCode"] == code


async def test_a_bill_is_paid_in_the_menu_without_any_prompt(browser: Browser, merchant: Merchant) -> None:
    await merchant.register_pull()
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    for label, typed in (("Business", "174379"), ("Account", "SEAT9"), ("Amount", "320"), ("PIN for", "0000")):
        await page.get_by_label(label).fill(typed)
    await press(page, "Pay the bill")
    await expect(page.get_by_role("alert")).to_contain_text("wrong PIN")
    assert await accessibility_faults(page) == []
    await page.get_by_label("PIN for").fill("1234")
    await press(page, "Pay the bill")
    sms = page.get_by_role("listitem")
    await expect(sms).to_contain_text("Confirmed. Ksh320.00 sent to PAYBILL 174379 for account SEAT9 on")
    await expect(page.get_by_text("Balance Ksh 19,680.00")).to_be_visible()
    (((row,),),) = [(await merchant.pull())[1]["Response"]]
    await expect(sms).to_contain_text(row["transactionId"])
    assert (row["billreference"], row["amount"], row["transactiontype"]) == ("SEAT9", "320.00", "c2b-pay-bill-debit")
    # As every receipt, it can be asked about, and sent back.
    assert (await merchant.ledger(phone=phone))["totals"]["pushes"] == 0
    await merchant.reverse(row["transactionId"], 320)
    await expect(sms.first).to_contain_text(f"Transaction {row['transactionId']} has been reversed")


@pytest.mark.parametrize(
    ("typed", "why_not"),
    [
        ({"business": "600584"}, "no PayBill with this business number"),
        ({"business": "999999"}, "no PayBill with this business number"),
        ({"account": ""}, "1 to 20 characters"),
        ({"amount": "1.5"}, "whole number of shillings"),
        ({"amount": "20001"}, "do not have enough money"),
        ({"pin": "12"}, "four digits"),
    ],
)
async def test_what_the_menu_refuses_moves_no_money(merchant: Merchant, typed: dict[str, str], why_not: str) -> None:
    phone = new_phone()
    form = {"business": "174379", "account": "SEAT9", "amount": "320", "pin": "1234", **typed}
    url = f"{merchant.url}/phones/{phone}"
    async with merchant.session.get(url):
        pass
    async with merchant.session.post(f"{url}/pay-bill", data=form, headers={"Origin": merchant.url}) as answer:
        assert answer.status == 400
        assert why_not in await answer.text()
    assert (await merchant.ledger(phone=phone))["totals"]["debited_kes"] == 0


async def test_without_javascript_the_page_works_by_reloading(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone, java_script_enabled=False)
    await merchant.push(phone)
    await page.get_by_role("link", name="Look again").click()
    await page.get_by_label("M-PESA PIN").fill("12")
    await press(page, "Send")
    await expect(page.get_by_role("alert")).to_contain_text("A PIN has four digits.")
    await page.get_by_label("M-PESA PIN").fill("1234")
    await press(page, "Send")
    assert (await result_of(merchant))["ResultCode"] == 0
    await page.get_by_role("link", name="Look again").click()
    await expect(page.get_by_role("listitem")).to_contain_text("Confirmed. Ksh150.00")


async def test_a_refund_is_a_message_too(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    await merchant.push(phone)
    await page.get_by_label("M-PESA PIN").fill("1234")
    await press(page, "Send")
    await result_of(merchant)
    receipt = merchant.received[0].items["MpesaReceiptNumber"]
    await merchant.reverse(receipt)
    await expect(page.get_by_role("listitem").first).to_contain_text(f"Transaction {receipt} has been reversed")
    await expect(page.get_by_text("Balance Ksh 20,000.00")).to_be_visible()
    await merchant.pay_out("part-1", phone, 40)
    await expect(page.get_by_role("listitem").first).to_contain_text("You have received Ksh40.00 from 174379")


async def test_a_phone_that_is_put_down_answers_by_itself_again(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    await press(page, "Put the phone down")
    await expect(page.get_by_role("heading", name="Phones", exact=True)).to_be_visible()
    await merchant.push(phone)
    assert (await result_of(merchant))["ResultCode"] == 0


async def test_a_phone_can_be_taken_while_its_prompt_is_open(browser: Browser, merchant: Merchant) -> None:
    await merchant.control("settings", {"callback_delay_seconds": 3600})
    phone = new_phone()
    await merchant.push(phone)
    page = await phone_in_hand(browser, merchant, phone)
    await press(page, "Cancel")
    assert (await result_of(merchant))["ResultCode"] == 1032


async def test_what_was_scripted_for_a_push_goes_before_the_person(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    await phone_in_hand(browser, merchant, phone)
    await merchant.script(phone, ending="expired")
    await merchant.push(phone)
    assert (await result_of(merchant))["ResultCode"] == 1019


async def test_a_number_in_any_other_form_is_refused_or_led_to_its_phone(browser: Browser, merchant: Merchant) -> None:
    page = await new_page(browser, viewport={"width": 320, "height": 640})
    await page.goto(f"{merchant.url}/phones")
    await page.get_by_label("Phone number").fill("<b>12</b>")
    await press(page, "Take it in hand")
    await expect(page.get_by_role("alert")).to_contain_text("no number of a phone in Kenya")
    assert await accessibility_faults(page) == []
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 320
    await page.goto(f"{merchant.url}/phones/0722000001")
    await expect(page.get_by_role("heading", name="Phone 254722000001")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320


async def test_what_a_merchant_writes_is_text_and_never_markup(browser: Browser, merchant: Merchant) -> None:
    phone = new_phone()
    page = await phone_in_hand(browser, merchant, phone)
    await merchant.push(phone, AccountReference="<i>{x}</i>", TransactionDesc="<b>fare</b>")
    await expect(page.get_by_role("alertdialog")).to_contain_text("Account no. <i>{x}</i>?")
    await page.get_by_label("M-PESA PIN").fill("1234")
    await press(page, "Send")
    await expect(page.get_by_role("listitem")).to_contain_text("for account <i>{x}</i> on")


@pytest.mark.parametrize(
    ("headers", "method", "path"),
    [
        ({"Host": "evil.example:80"}, "GET", ""),
        ({"Host": "127.0.0.1.evil.example"}, "GET", "/screen"),
        ({}, "POST", "/prompt"),
        ({"Origin": "null"}, "POST", "/prompt"),
        ({"Origin": "http://evil.example"}, "POST", "/balance"),
        ({"Origin": "http://evil.example"}, "POST", "/pay-bill"),
        ({"Origin": "http://127.0.0.1:1"}, "POST", "/put-down"),
    ],
)
async def test_other_sites_can_neither_read_a_phone_nor_answer_for_it(
    merchant: Merchant, headers: dict[str, str], method: str, path: str
) -> None:
    url = f"{merchant.url}/phones/254722000001{path}"
    async with merchant.session.request(method, url, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_link_of_another_site_or_port_takes_no_phone_in_hand(merchant: Merchant, site: str) -> None:
    phone = new_phone()
    async with merchant.session.get(f"{merchant.url}/phones/{phone}", headers={"Sec-Fetch-Site": site}) as answer:
        assert answer.status == 200
        assert "Nobody holds this phone" in await answer.text()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
    await merchant.push(phone)
    assert (await result_of(merchant))["ResultCode"] == 0


@pytest.mark.parametrize("script", [True, False])
async def test_who_comes_by_a_link_of_another_port_takes_the_phone_by_a_button(
    browser: Browser, merchant: Merchant, script: bool
) -> None:
    phone = new_phone()

    async def show_link(_: web.Request) -> web.Response:
        return web.Response(text=f'<a href="{merchant.url}/phones/{phone}">The phone</a>', content_type="text/html")

    elsewhere = web.Application()
    elsewhere.router.add_get("/", show_link)
    async with TestServer(elsewhere) as booking:
        page = await new_page(browser, java_script_enabled=script)
        await page.goto(str(booking.make_url("/")))
        await page.get_by_role("link", name="The phone").click()
        await expect(page.get_by_role("status")).to_contain_text("Nobody holds this phone.")
        # Without a script a page in hand reloads itself, and a reload is the page's own: it would take the phone.
        assert "refresh" not in await page.content()
        assert not script or await accessibility_faults(page) == []
        await press(page, "Take this phone")
        await expect(page.get_by_role("status")).to_contain_text("No prompt yet.")
        await expect(page.get_by_role("button", name="Take this phone")).to_have_count(0)
        await page.close()


async def test_a_phone_is_taken_only_with_what_its_page_says(merchant: Merchant) -> None:
    url = f"{merchant.url}/phones/{new_phone()}/take"
    async with merchant.session.post(url, data={"token": "guessed"}, headers={"Origin": merchant.url}) as answer:
        assert answer.status == 403
        assert "Nobody holds this phone" in await answer.text()
