"""A receipt as a PDF: one page of A5, which prints on a counter's printer and can be read on a phone.

It is drawn anew each time from what the revision says, and beside that only who paid and when, and whether M-Pesa has
confirmed the money: so the same revision gives the same page, until M-Pesa tells more. The fonts are those that every
reader has, and the codes are drawn as shapes: nothing on it is blurred when it is enlarged.
"""

import io
from collections.abc import Iterator
from typing import Final

import segno
from fpdf import FPDF
from fpdf.enums import WrapMode

from payment_service.application.receipting import receipt_words as words
from payment_service.domain.receipt import UNPROVEN, Receipt, ReceiptStanding, ShownReceipt

WIDTH, HEIGHT, MARGIN = 148.0, 210.0, 13.0
"""In millimetres, as all lengths here."""
INNER: Final = WIDTH - 2 * MARGIN
LOGO_WIDTH, LOGO_HEIGHT = 34.0, 17.0
CODE_SIZE: Final = 27.0
CODES_TOP: Final = HEIGHT - MARGIN - 35
PARTS_SHOWN: Final = 3
"""Refunds that have a line each; with more, the last line is for all others."""
LONG_VALUE: Final = 34
"""Characters: what is longer is written smaller."""
QUIET_MODULES: Final = 4
"""The white border that a reader of QR codes needs."""
FONT: Final = "helvetica"
INK, PALE, LINE = (24, 32, 44), (100, 110, 124), (214, 219, 226)
GREEN, RED = (12, 92, 62), (156, 28, 34)

Line = tuple[str, str]


def receipt_pdf(shown: ShownReceipt, logo: bytes | None) -> bytes:
    """The page."""
    receipt, language = shown.receipt, shown.language_code
    page = FPDF(unit="mm", format=(WIDTH, HEIGHT))
    page.set_margin(MARGIN)
    page.set_auto_page_break(auto=False)
    _describe(page, shown)
    page.add_page()
    _head(page, receipt, logo, language)
    _amount(page, receipt, language)
    _lines(page, _facts_of(shown), top_gap=5)
    if receipt.returned or receipt.standing not in (ReceiptStanding.PAID, ReceiptStanding.UNDER_REVIEW):
        last_is_sum = receipt.standing is not ReceiptStanding.UNDER_REVIEW
        _lines(page, _returned(receipt, language), top_gap=2.5, last_is_sum=last_is_sum)
    _codes(page, shown)
    return bytes(page.output())


def code_modules(url: str) -> list[list[bool]]:
    """The QR code of a link, row by row, without its border; True is dark."""
    return [[bool(module) for module in row] for row in segno.make_qr(url, error="m", boost_error=False).matrix]


def _describe(page: FPDF, shown: ShownReceipt) -> None:
    receipt, language = shown.receipt, shown.language_code
    page.set_title(f"{words.RECEIPT.spoken(language)} {receipt.number}")
    page.set_author(receipt.issuer.name)
    page.set_subject(f"{words.BOOKING.spoken(language)} {shown.booking_id}")
    page.set_keywords(f"{receipt.number} {words.REVISION.spoken(language)} {receipt.revision}")
    page.set_creator("M-Pesa payment service")
    page.set_lang("sw-KE" if language == "sw" else "en-KE")
    page.set_creation_date(receipt.issued_at)


def _head(page: FPDF, receipt: Receipt, logo: bytes | None, language: str) -> None:
    left, room = MARGIN, INNER
    if logo is not None:
        page.image(io.BytesIO(logo), MARGIN, MARGIN, LOGO_WIDTH, LOGO_HEIGHT, keep_aspect_ratio=True)
        left, room = MARGIN + LOGO_WIDTH + 5, INNER - LOGO_WIDTH - 5
    page.set_xy(left, MARGIN)
    _write(page, room, 5.6, receipt.issuer.name, size=13, bold=True)
    for text in (
        receipt.issuer.address,
        receipt.issuer.contact,
        f"{words.KRA_PIN.spoken(language)} {receipt.issuer.kra_pin}",
    ):
        page.set_x(left)
        _write(page, room, 4.1, text, size=8.5, colour=PALE)
    page.set_y(max(page.get_y(), MARGIN + (LOGO_HEIGHT if logo is not None else 0)) + 3)
    page.set_draw_color(*LINE)
    page.line(MARGIN, page.get_y(), WIDTH - MARGIN, page.get_y())
    page.set_y(page.get_y() + 3.5)
    top = page.get_y()
    _write(page, INNER / 2, 5, words.RECEIPT.spoken(language).upper(), size=10, bold=True, colour=PALE)
    page.set_xy(MARGIN, top + 5)
    _write(page, INNER, 6.4, receipt.number, size=14, bold=True)
    page.set_xy(MARGIN + INNER / 2, top)
    revision = f"{words.REVISION.spoken(language)} {receipt.revision}"
    _write(page, INNER / 2, 5, revision, size=9, colour=PALE, align="R")
    page.set_y(top + 14)


def _amount(page: FPDF, receipt: Receipt, language: str) -> None:
    """The amount, large, on the colour of what became of it."""
    colour = GREEN if receipt.standing in (ReceiptStanding.PAID, ReceiptStanding.PART_REFUNDED) else RED
    top, white = page.get_y(), (255, 255, 255)
    page.set_fill_color(*colour)
    page.rect(MARGIN, top, INNER, 25, style="F", round_corners=True, corner_radius=2)
    page.set_xy(MARGIN + 5, top + 3.5)
    label = words.AMOUNT_REPORTED if receipt.standing in UNPROVEN else words.AMOUNT
    _write(page, INNER - 10, 4.5, label.spoken(language), size=9, colour=white)
    page.set_xy(MARGIN + 5, top + 9)
    _write(page, 66, 12, words.shillings(receipt.amount), size=25, bold=True, colour=white)
    page.set_xy(MARGIN + 66, top + 9)
    standing = words.STANDINGS[receipt.standing].spoken(language).upper()
    size = _size_that_fits(page, standing, INNER - 71, 15)
    _write(page, INNER - 71, 12, standing, size=size, bold=True, colour=white, align="R")
    page.set_y(top + 25)


def _facts_of(shown: ShownReceipt) -> list[Line]:
    receipt, language = shown.receipt, shown.language_code
    facts = [
        (words.BOOKING, shown.booking_id),
        (words.ACCOUNT, shown.account_reference),
        (words.PAID_BY, shown.masked_phone),
        (words.MPESA, receipt.mpesa_receipt_number),
        (words.PAID_ON, words.time_in_nairobi(shown.paid_at, language)),
        (words.ISSUED, words.time_in_nairobi(receipt.issued_at, language)),
    ]
    return [(label.spoken(language), value) for label, value in facts if value]


def _returned(receipt: Receipt, language: str) -> list[Line]:
    """What has gone back, and last what is left. Of many parts, those that do not fit stand in one line."""
    lines = [
        (
            f"{words.RETURNED_ON.spoken(language)} {words.time_in_nairobi(part.returned_at, language)}",
            f"- {words.shillings(part.amount)}",
        )
        for part in receipt.returned
    ]
    if len(lines) > PARTS_SHOWN:
        shown, others = PARTS_SHOWN - 1, receipt.returned[PARTS_SHOWN - 1 :]
        label = words.OTHER_PARTS.spoken(language).format(count=len(others))
        lines = [*lines[:shown], (label, f"- {words.shillings(sum(part.amount for part in others))}")]
    if receipt.standing is ReceiptStanding.TAKEN_BACK:
        # After refunds of parts M-Pesa may have taken all of it or the rest, and the revision does not tell which.
        taken = "" if receipt.returned else f"- {words.shillings(receipt.amount)}"
        lines.append((words.TAKEN_BACK.spoken(language), taken))
    if receipt.standing is not ReceiptStanding.UNDER_REVIEW:
        lines.append((words.LEFT.spoken(language), words.shillings(receipt.left)))
    return lines


def _lines(page: FPDF, lines: list[Line], *, top_gap: float, last_is_sum: bool = False) -> None:
    """A table of two columns: what it is, and what it is here. A value that is too long goes on in a line below."""
    page.set_y(page.get_y() + top_gap)
    labels = INNER * (0.62 if last_is_sum else 0.36)
    for place, (label, value) in enumerate(lines):
        top, is_sum = page.get_y(), last_is_sum and place == len(lines) - 1
        page.set_xy(MARGIN, top + 1.2)
        _write(page, labels, 4.2, label, size=9, bold=is_sum, colour=INK if is_sum else PALE)
        below = page.get_y()
        page.set_xy(MARGIN + labels, top + 1.2)
        size = 9.5 if len(value) <= LONG_VALUE else 7.5
        _write(page, INNER - labels, 4.2, value, size=size, bold=True, align="R")
        page.set_y(max(below, page.get_y()) + 1.2)
        page.set_draw_color(*LINE)
        page.line(MARGIN, page.get_y(), WIDTH - MARGIN, page.get_y())


def _codes(page: FPDF, shown: ShownReceipt) -> None:
    """At the foot: the code that proves the receipt, and that of the tax invoice beside it."""
    invoice, language, half = shown.receipt.tax_invoice, shown.language_code, INNER / 2
    if shown.verification_url:
        _code(page, shown.verification_url, MARGIN)
        page.set_xy(MARGIN + CODE_SIZE + 1, CODES_TOP + 3)
        why = words.ONLY_REPORTED if shown.only_reported else words.LATER
        _caption(page, half - CODE_SIZE - 3, words.CHECK.spoken(language), why.spoken(language))
    if invoice is not None:
        left = MARGIN + half + 1
        _code(page, invoice.verification_url, left)
        page.set_xy(left + CODE_SIZE + 1, CODES_TOP + 3)
        unit = f"{words.CONTROL_UNIT.spoken(language)} {invoice.control_unit_number}"
        issued = words.time_in_nairobi(invoice.issued_at, language)
        known_as = f"{invoice.invoice_number}\n{unit}\n{issued}"
        _caption(page, half - CODE_SIZE - 2, words.TAX_INVOICE.spoken(language), known_as)
    else:
        page.set_xy(MARGIN + half + 3, CODES_TOP + 3)
        _write(page, half - 3, 3.6, words.NO_TAX_INVOICE.spoken(language), size=8, colour=PALE)
    page.set_xy(MARGIN, CODES_TOP + CODE_SIZE + 5)
    page.set_font(FONT, size=6.5)
    page.set_text_color(*PALE)
    if shown.verification_url:
        page.multi_cell(INNER, 3, shown.verification_url, wrapmode=WrapMode.CHAR, link=shown.verification_url)


def _caption(page: FPDF, width: float, title: str, text: str) -> None:
    left = page.get_x()
    _write(page, width, 3.8, title, size=8.5, bold=True)
    page.set_x(left)
    _write(page, width, 3.1, text, size=6.8, colour=PALE)


def _code(page: FPDF, url: str, left: float) -> None:
    """The code of a link, as dark stretches of its rows; it leads there when it is touched as well."""
    modules = code_modules(url)
    side = CODE_SIZE / (len(modules) + 2 * QUIET_MODULES)
    page.set_fill_color(0, 0, 0)
    for row, stretch, length in _stretches(modules):
        x, y = left + (QUIET_MODULES + stretch) * side, CODES_TOP + (QUIET_MODULES + row) * side
        page.rect(x, y, length * side, side, style="F")
    page.link(left, CODES_TOP, CODE_SIZE, CODE_SIZE, url)


def _stretches(modules: list[list[bool]]) -> Iterator[tuple[int, int, int]]:
    """(row, first, length) of all dark stretches."""
    for row, line in enumerate(modules):
        first = None
        for place, dark in enumerate([*line, False]):
            if dark and first is None:
                first = place
            elif not dark and first is not None:
                yield row, first, place - first
                first = None


def _size_that_fits(page: FPDF, text: str, width: float, size: float) -> float:
    page.set_font(FONT, "B", size)
    return min(size, size * width / max(page.get_string_width(text) + 3, 1))


def _write(
    page: FPDF,
    width: float,
    height: float,
    text: str,
    *,
    size: float,
    bold: bool = False,
    colour: tuple[int, int, int] = INK,
    align: str = "L",
) -> None:
    """Text in a column. A word that is too long for it is broken anywhere, so nothing runs over an edge."""
    page.set_font(FONT, "B" if bold else "", size)
    page.set_text_color(*colour)
    longest = max((page.get_string_width(word) for word in text.split()), default=0)
    page.multi_cell(
        width,
        height,
        text,
        align=align,
        wrapmode=WrapMode.CHAR if longest > width - 2 else WrapMode.WORD,
        new_x="LMARGIN",
        new_y="NEXT",
    )
