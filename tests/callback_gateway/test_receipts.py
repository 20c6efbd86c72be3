"""The page that the code on a receipt leads to, from the real gateway before a real core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from playwright.async_api import Browser, expect
from structlog.testing import capture_logs

from payment_service.domain.payment import Payment
from tests.application.receipting.offices import (
    DENIED,
    RECEIPT,
    a_tax_invoice,
    completed,
    issue,
    office,
    reported,
    returned,
    shown,
)
from tests.browsing import Picture, accessibility_faults, new_page
from tests.callback_gateway.edges import gateway
from tests.callback_gateway.test_passengers import browsing
from tests.databases import Database
from tests.rpc.processes import Process, listed

NARROW = {"width": 320, "height": 640}


@pytest.fixture
async def process(database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    async with office(database, tmp_path) as running:
        yield running


@pytest.fixture
async def session(process: Process) -> AsyncIterator[ClientSession]:
    async with browsing(process.server.address) as one:
        yield one


async def link_of(process: Process, payment: Payment) -> str:
    """The path that the code on the payment's receipt leads to."""
    return urlsplit((await shown(process, payment)).verification_url).path


async def test_the_page_proves_the_receipt_and_names_no_person(process: Process, session: ClientSession) -> None:
    payment = await completed(process, booking_id="BK-secret-17")
    await issue(process)
    await process.payments.AttachTaxInvoice(a_tax_invoice(payment))
    receipt = await shown(process, payment)
    answer = await session.get(await link_of(process, payment))
    page = await answer.text()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for text in ("This receipt is genuine", receipt.receipt_number, "KES 500", "Lakeside Coaches Ltd", "Paid"):
        assert text in page, text
    assert "KRAMW0000001/12" in page
    assert 'href="https://etims.example/check?Data=P05"' in page
    for secret in ("2547", "678", "BK-secret-17", receipt.mpesa_receipt_number, str(payment.payment_id)):
        assert secret not in page, secret
    assert not answer.cookies
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")


async def test_a_refund_shows_at_once_under_the_address_that_was_printed(
    process: Process, session: ClientSession
) -> None:
    payment = await completed(process, language_code="sw")
    await issue(process)
    path = await link_of(process, payment)
    await returned(process, payment)
    await issue(process)
    assert await link_of(process, payment) == path
    page = await (await session.get(path)).text()
    assert 'lang="sw"' in page
    assert "<h1>Imerudishwa: hakuna pesa zilizobaki</h1>" in page, "who looks at many tickets reads the heading alone"


async def test_the_page_says_whether_m_pesa_has_confirmed_the_money(process: Process, session: ClientSession) -> None:
    payment = await reported(process)
    await issue(process)
    path = await link_of(process, payment)
    page = await (await session.get(path)).text()
    assert "still to confirm it a second time" in page
    assert "Amount received" in page
    await process.tell(payment, DENIED)
    page = await (await session.get(path)).text()
    assert "Not confirmed: it is being found out whether the money is here" in page
    assert 'class="bad"' in page
    for proven in ("Amount received", "Remaining", ">Paid<"):
        assert proven not in page, proven
    await process.tell(payment, listed(RECEIPT))
    await issue(process)
    page = await (await session.get(path)).text()
    assert ">Paid<" in page
    assert "still to confirm" not in page


async def test_an_address_that_was_altered_by_one_character_proves_nothing(
    process: Process, session: ClientSession
) -> None:
    payment, other = await completed(process), await completed(process, "TKA1B2C3D5", claim=2)
    await issue(process)
    path, others = await link_of(process, payment), await link_of(process, other)
    token = path.removeprefix("/receipts/")
    altered = {f"{token[:place]}{'b' if one != 'b' else 'a'}{token[place + 1 :]}" for place, one in enumerate(token)}
    altered |= {token.upper(), token[:-1], f"{token}0", f"{token[:12]}{others[-32:]}", "%00", "a" * 128, "é"}
    pages = set()
    for wrong in altered:
        answer = await session.get(f"/receipts/{wrong}")
        assert answer.status == 404, wrong
        pages.add(await answer.text())
    (page,) = pages
    assert "This receipt cannot be confirmed" in page
    assert "Risiti hii haiwezi kuthibitishwa" in page
    assert token[:12] not in page
    assert (await session.get(path)).status == 200


async def test_no_log_holds_the_address_of_a_receipt(process: Process, session: ClientSession) -> None:
    payment = await completed(process)
    await issue(process)
    path = await link_of(process, payment)
    with capture_logs() as lines:
        assert (await session.get(path)).status == 200
        assert (await session.get(f"{path[:-1]}x")).status == 404
    assert path.removeprefix("/receipts/")[12:-1] not in str(lines)


async def test_while_the_service_is_away_nothing_is_said_about_the_receipt() -> None:
    async with gateway("127.0.0.1:9") as address, ClientSession(f"http://{address}") as session:
        answer = await session.get(f"/receipts/{'0' * 44}")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "Nothing is said about the receipt" in await answer.text()


async def test_the_page_is_read_on_a_narrow_phone_and_by_a_screen_reader(
    process: Process, browser: Browser, picture: Picture
) -> None:
    payment = await completed(process)
    await issue(process)
    path = await link_of(process, payment)
    async with gateway(str(process.server.address)) as address:
        page = await new_page(browser, viewport={"width": 320, "height": 640})
        blocked: list[str] = []
        page.on("console", lambda message: blocked.append(message.text))
        await page.goto(f"http://{address}{path}")
        await picture.keep(page, "receipt-proven")
        await process.payments.AttachTaxInvoice(a_tax_invoice(payment, invoice_number="K" * 64))
        await page.reload()
        await expect(page.get_by_role("heading", name="This receipt is genuine")).to_be_visible()
        await expect(page.get_by_role("link", name="Check the tax invoice")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        colour = await page.evaluate("getComputedStyle(document.querySelector('.standing')).color")
        assert colour == "rgb(255, 255, 255)", "the style is not blocked"
        assert await accessibility_faults(page) == []
        assert [text for text in blocked if "Security" in text] == []
        await page.goto(f"http://{address}{path[:-1]}x")
        await expect(page.get_by_role("heading", name="This receipt cannot be confirmed")).to_be_visible()
        assert await accessibility_faults(page) == []
