"""The page that a passenger holds: its words, its codes, and that nothing on it runs over an edge."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pypdf
import pypdfium2
import pytest
import segno
from PIL import Image

from payment_service.application.receipting.receipt_pdf import (
    CODE_SIZE,
    CODES_TOP,
    HEIGHT,
    MARGIN,
    QUIET_MODULES,
    WIDTH,
    receipt_pdf,
)
from payment_service.application.receipting.show_receipt import DRAWN_AT_ONCE, ReceiptTools, draw_receipt
from payment_service.domain.receipt import NOTHING_LEFT, Receipt, ReceiptStanding, ReturnedPart, ShownReceipt
from payment_service.domain.tax_invoices import TaxInvoice
from tests.application.receipting.offices import ISSUER
from tests.browsing import Picture
from tests.patience import PATIENCE_SECONDS

PAID_AT = datetime(2026, 11, 29, 14, 5, tzinfo=UTC)
LINK = "https://pay.coaches.example/receipts/7k3d9qxm2p4w0123456789abcdef0123456789abcdef"
TAX_INVOICE = TaxInvoice("KRAMW0000001/12", "KRAMW0000001", "https://etims.example/check?Data=P051234567X00", PAID_AT)
PIXELS_PER_MM = 12


def a_receipt(
    standing: ReceiptStanding = ReceiptStanding.PAID,
    *parts: int,
    booking_id: str = "BK-2026-0417",
    language: str = "en",
    tax_invoice: TaxInvoice | None = TAX_INVOICE,
    amount: int = 1_500,
) -> ShownReceipt:
    receipt = Receipt(
        payment_id=UUID(int=1),
        revision=1 + len(parts),
        number="7K3D-9QXM-2P4W",
        issued_at=PAID_AT,
        standing=standing,
        amount=amount,
        mpesa_receipt_number="TKA1B2C3D4",
        refunded_amount=sum(parts),
        returned=tuple(ReturnedPart(part, PAID_AT) for part in parts),
        issuer=ISSUER,
        tax_invoice=tax_invoice,
    )
    return ShownReceipt(receipt, booking_id, "BK0417A01", "2547*****678", PAID_AT, language, LINK)


def a_logo(width: int = 400, height: int = 200) -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(drawn, "PNG")
    return drawn.getvalue()


def words_of(shown: ShownReceipt, logo: bytes | None = None) -> str:
    """All text of its one page, with every space taken for one."""
    reader = pypdf.PdfReader(io.BytesIO(receipt_pdf(shown, logo)))
    (page,) = reader.pages
    return " ".join(page.extract_text().split())


def seen(shown: ShownReceipt, logo: bytes | None = None) -> Image.Image:
    """The page as a reader shows it."""
    document = pypdfium2.PdfDocument(receipt_pdf(shown, logo))
    bitmap = document[0].render(scale=PIXELS_PER_MM * 25.4 / 72)
    image: Image.Image = bitmap.to_pil().convert("L")
    return image


def test_the_page_says_all_that_the_receipt_says(picture: Picture) -> None:
    words = words_of(a_receipt())
    if picture.folder is not None:
        drawn = receipt_pdf(a_receipt(ReceiptStanding.PART_REFUNDED, 300), None)
        pypdfium2.PdfDocument(drawn)[0].render(scale=1.6).to_pil().save(picture.folder / "receipt.png")
    for text in (
        *("Lakeside Coaches Ltd", "P.O. Box 12-00100, Nairobi", "KRA PIN P051234567X", "tickets@coaches.example"),
        *("7K3D-9QXM-2P4W", "Revision 1", "KES 1,500", "PAID", "BK-2026-0417", "BK0417A01", "2547*****678"),
        *("TKA1B2C3D4", "29 November 2026, 17:05", "KRAMW0000001/12", "Control unit KRAMW0000001"),
    ):
        assert text in words, text
    assert "not a tax invoice" not in words
    assert "not a tax invoice" in words_of(a_receipt(tax_invoice=None))


def test_a_passenger_who_reads_swahili_reads_swahili() -> None:
    words = words_of(a_receipt(ReceiptStanding.PART_REFUNDED, 300, language="sw"))
    for text in ("RISITI", "SEHEMU IMERUDISHWA", "Kilichobaki", "29 Novemba 2026, 17:05", "- KES 300", "KES 1,200"):
        assert text in words, text
    assert "Receipt" not in words


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (ReceiptStanding.REFUNDED, "REFUNDED"),
        (ReceiptStanding.TAKEN_BACK, "TAKEN BACK"),
        (ReceiptStanding.VOID, "VOID: NO MONEY CAME"),
    ],
)
def test_that_nothing_is_left_is_shown_plainly(standing: ReceiptStanding, said: str) -> None:
    assert standing in NOTHING_LEFT
    words = words_of(a_receipt(standing, *((1_500,) if standing is ReceiptStanding.REFUNDED else ())))
    assert said in words
    assert "Remaining KES 0" in words


def test_money_in_doubt_is_not_called_received() -> None:
    words = words_of(a_receipt(ReceiptStanding.UNDER_REVIEW))
    assert "NOT CONFIRMED: UNDER REVIEW" in words
    assert "Amount reported" in words
    assert "Amount received" not in words
    assert "Remaining" not in words


def test_money_that_only_a_callback_told_of_is_said_to_await_a_second_word() -> None:
    words = words_of(replace(a_receipt(), only_reported=True))
    assert "PAID" in words
    assert "still to confirm this money a second time" in words
    assert "still to confirm" not in words_of(a_receipt())


def test_what_m_pesa_took_after_a_refund_of_a_part_is_not_guessed() -> None:
    words = words_of(a_receipt(ReceiptStanding.TAKEN_BACK, 300))
    assert "Returned by M-Pesa Remaining KES 0" in words
    assert "1,200" not in words


def test_refunds_have_a_line_each_with_their_date_and_of_many_the_rest_has_one() -> None:
    few = words_of(a_receipt(ReceiptStanding.PART_REFUNDED, 300, 200))
    assert few.count("Returned on 29 November 2026, 17:05") == 2
    assert "Remaining KES 1,000" in few
    many = words_of(a_receipt(ReceiptStanding.PART_REFUNDED, *[100] * 10))
    assert many.count("Returned on 29 November 2026, 17:05") == 2
    assert "8 other refunds - KES 800" in many
    assert "Remaining KES 500" in many


def test_who_made_it_and_what_it_is_stands_in_the_file_itself() -> None:
    content = receipt_pdf(a_receipt(), None)
    reader = pypdf.PdfReader(io.BytesIO(content))
    told = reader.metadata
    assert told is not None
    assert (told.title, told.author) == ("Receipt 7K3D-9QXM-2P4W", "Lakeside Coaches Ltd")
    assert (told.subject, told.creation_date) == ("Booking BK-2026-0417", PAID_AT)
    assert b"/Lang (en-KE)" in content
    assert all(f"/URI ({url})".encode() in content for url in (LINK, TAX_INVOICE.verification_url))


def test_the_same_revision_gives_the_same_file() -> None:
    assert receipt_pdf(a_receipt(), a_logo()) == receipt_pdf(a_receipt(), a_logo())


@pytest.mark.parametrize(
    ("url", "left"), [(LINK, MARGIN), (TAX_INVOICE.verification_url, MARGIN + (WIDTH - 2 * MARGIN) / 2 + 1)]
)
def test_each_code_on_the_page_is_that_of_its_link(url: str, left: float) -> None:
    page = seen(a_receipt())
    expected = [[bool(module) for module in row] for row in segno.make_qr(url, error="m", boost_error=False).matrix]
    side = CODE_SIZE / (len(expected) + 2 * QUIET_MODULES)

    def dark(row: int, column: int) -> bool:
        x = left + (QUIET_MODULES + column + 0.5) * side
        y = CODES_TOP + (QUIET_MODULES + row + 0.5) * side
        level = page.getpixel((int(x * PIXELS_PER_MM), int(y * PIXELS_PER_MM)))
        assert isinstance(level, int | float)
        return level < 128

    size = len(expected)
    assert [[dark(row, column) for column in range(size)] for row in range(size)] == expected
    edges = (-1, -QUIET_MODULES, size, size + QUIET_MODULES - 1)
    assert not any(dark(place, edge) for place in range(size) for edge in edges), "a reader needs a white border"


@pytest.mark.parametrize("language", ["en", "sw"])
@pytest.mark.parametrize("logo", [None, a_logo(), a_logo(1, 2_000), a_logo(2_000, 1)])
@pytest.mark.usefixtures("untraced")
def test_the_longest_of_everything_fits_and_touches_nothing(language: str, logo: bytes | None) -> None:
    longest = a_receipt(
        ReceiptStanding.PART_REFUNDED, *[1] * 50, booking_id="W" * 64, language=language, amount=250_000
    )
    # The letters of a booking that is too long for its line go on below.
    assert words_of(longest, logo).replace(" ", "").count("W" * 20) >= 3
    page = seen(longest, logo)
    width, height = page.size
    edges = (int((MARGIN - 3) * PIXELS_PER_MM), int((MARGIN - 1) * PIXELS_PER_MM))
    for box in (
        (0, 0, edges[0], height),
        (width - edges[0], 0, width, height),
        (0, height - edges[1], width, height),
        # Between the table and the codes.
        (0, int((CODES_TOP - 1.5) * PIXELS_PER_MM), width, int(CODES_TOP * PIXELS_PER_MM)),
    ):
        assert page.crop(box).getextrema() == (255, 255), box
    assert HEIGHT > CODES_TOP + CODE_SIZE


class SlowlyRead:
    """A receipt that a thread cannot finish drawing before it is let go; it notes how many threads are at it."""

    def __init__(self) -> None:
        self.let_go, self.begun = threading.Event(), 0

    @property
    def receipt(self) -> Receipt:
        self.begun += 1
        self.let_go.wait(PATIENCE_SECONDS)
        return a_receipt().receipt

    def __getattr__(self, name: str) -> object:
        return getattr(a_receipt(), name)


async def test_a_call_that_is_cancelled_gives_no_place_away_while_its_thread_draws() -> None:
    tools = cast("ReceiptTools", SimpleNamespace(logo=None, drawing=ThreadPoolExecutor(DRAWN_AT_ONCE)))
    slow = SlowlyRead()
    calls = [asyncio.create_task(draw_receipt(tools, cast("ShownReceipt", slow))) for _ in range(DRAWN_AT_ONCE + 1)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while slow.begun < DRAWN_AT_ONCE:
            await asyncio.sleep(0.01)
    for call in calls[:-1]:
        call.cancel()
    await asyncio.gather(*calls[:-1], return_exceptions=True)
    try:
        with contextlib.suppress(TimeoutError):
            # Long enough for a thread to begin, if it may: too short a wait would only overlook one.
            await asyncio.wait_for(asyncio.shield(calls[-1]), 0.2)
        assert slow.begun == DRAWN_AT_ONCE
    finally:
        slow.let_go.set()
    assert (await calls[-1]).startswith(b"%PDF")
