"""The page that the code on a receipt leads to: whether the receipt is genuine, and what became of its money.

The token in the address is judged by the payment service, and this program could make none. An altered one, and one for
no receipt, get the same page. The page names no person, sets no cookie, runs no script and loads nothing.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta, timezone
from pathlib import Path
from typing import Final

import grpc
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from mpesa_payments.v1 import passenger_service_pb2 as pb
from mpesa_payments.v1 import receipt_pb2

from callback_gateway.passengers import ANSWER_TIME_S, RETRY_AFTER_S, Passengers
from runtime.enum_names import short

RECEIPT_PATH: Final = re.compile(r"/receipts/([^/?]{1,128})")
TOKEN: Final = re.compile(r"[0-9a-z]{44}", re.ASCII)
NAIROBI: Final = timezone(timedelta(hours=3))

_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "receipt.css").read_text(encoding="utf-8")
_PAGE: Final = Environment(loader=FileSystemLoader(_HERE), autoescape=True).get_template("receipt.html")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    "Server": "gateway",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
}

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "genuine": "This receipt is genuine",
        "not_confirmed": "This receipt cannot be confirmed",
        "not_confirmed_text": "The address is not one of a receipt of ours. Scan the code again, or type the address as"
        " it is printed. If it stays so, do not accept the receipt.",
        "later": "Please try again",
        "later_text": "We cannot look it up at this moment. Nothing is said about the receipt.",
        "compare": "Compare what stands here with the receipt you were shown.",
        "number": "Receipt number",
        "revision": "Latest revision",
        "issuer": "Issued by",
        "kra_pin": "KRA PIN",
        "amount": "Amount received",
        "reported": "Amount reported",
        "returned": "Returned",
        "left": "Remaining",
        "paid_on": "Paid on",
        "issued_on": "Last changed on",
        "tax_invoice": "Tax invoice (eTIMS)",
        "check_tax_invoice": "Check the tax invoice",
        "only_reported": "M-Pesa has reported this money, and is still to confirm it a second time.",
        "PAID": "Paid",
        "PART_REFUNDED": "Partly refunded",
        "REFUNDED": "Refunded: nothing of the money is left",
        "TAKEN_BACK": "Taken back by M-Pesa: nothing of the money is left",
        "UNDER_REVIEW": "Not confirmed: it is being found out whether the money is here",
        "VOID": "Void: no money came",
        "UNSPECIFIED": "Ask whoever issued it what became of the money",
        "months": "January February March April May June July August September October November December",
    },
    "sw": {
        "genuine": "Risiti hii ni halali",
        "not_confirmed": "Risiti hii haiwezi kuthibitishwa",
        "not_confirmed_text": "Anwani hii si ya risiti yetu. Skani msimbo tena, au andika anwani kama ilivyochapishwa."
        " Ikibaki hivyo, usiikubali risiti.",
        "later": "Tafadhali jaribu tena",
        "later_text": "Hatuwezi kuitafuta kwa sasa. Hakuna kinachosemwa kuhusu risiti.",
        "compare": "Linganisha yaliyo hapa na risiti uliyoonyeshwa.",
        "number": "Namba ya risiti",
        "revision": "Toleo la mwisho",
        "issuer": "Imetolewa na",
        "kra_pin": "PIN ya KRA",
        "amount": "Kiasi kilichopokelewa",
        "reported": "Kiasi kilichoripotiwa",
        "returned": "Kilichorudishwa",
        "left": "Kilichobaki",
        "paid_on": "Imelipwa tarehe",
        "issued_on": "Ilibadilishwa mwisho tarehe",
        "tax_invoice": "Ankara ya kodi (eTIMS)",
        "check_tax_invoice": "Hakiki ankara ya kodi",
        "only_reported": "M-Pesa imeripoti pesa hizi, na bado haijazithibitisha mara ya pili.",
        "PAID": "Imelipwa",
        "PART_REFUNDED": "Sehemu imerudishwa",
        "REFUNDED": "Imerudishwa: hakuna pesa zilizobaki",
        "TAKEN_BACK": "Imechukuliwa tena na M-Pesa: hakuna pesa zilizobaki",
        "UNDER_REVIEW": "Haijathibitishwa: inachunguzwa kama pesa zipo",
        "VOID": "Batili: hakuna pesa zilizofika",
        "UNSPECIFIED": "Muulize aliyeitoa pesa zimeenda wapi",
        "months": "Januari Februari Machi Aprili Mei Juni Julai Agosti Septemba Oktoba Novemba Desemba",
    },
}


async def answer_receipt(passengers: Passengers, token: str) -> web.Response:
    """The page about the receipt that a token is for."""
    if not TOKEN.fullmatch(token):
        passengers.counts["receipt_not_confirmed"] += 1
        return _said(404, "not_confirmed")
    if passengers.questions.locked():
        passengers.counts["passenger_turned_away"] += 1
        return _come_again()
    async with passengers.questions:
        try:
            question = pb.VerifyReceiptRequest(token=token)
            reply = await passengers.core.passengers.VerifyReceipt(question, timeout=ANSWER_TIME_S)
        except grpc.aio.AioRpcError:
            passengers.counts["passenger_unavailable"] += 1
            return _come_again()
    if not reply.HasField("receipt"):
        passengers.counts["receipt_not_confirmed"] += 1
        return _said(404, "not_confirmed")
    passengers.counts["receipt_shown"] += 1
    return _shown(reply.receipt)


def _shown(receipt: pb.ReceiptProof) -> web.Response:
    words = WORDS.get(receipt.language_code, WORDS["en"])
    named = short("RECEIPT_STANDING_", receipt_pb2.ReceiptStanding.DESCRIPTOR, receipt.standing)
    standing = named if named in words else "UNSPECIFIED"
    is_good = standing in ("PAID", "PART_REFUNDED")
    lines = [
        (words["number"], receipt.receipt_number),
        (words["revision"], str(receipt.revision)),
        (words["reported" if standing in ("UNDER_REVIEW", "VOID") else "amount"], _shillings(receipt.amount.units)),
        (words["returned"], _shillings(receipt.refunded_amount.units) if receipt.refunded_amount.units else ""),
        (words["left"], _shillings(receipt.amount_left.units) if standing not in ("PAID", "UNDER_REVIEW") else ""),
        (words["paid_on"], _day(receipt.pay_time, words)),
        (words["issued_on"], _day(receipt.issue_time, words)),
        (words["issuer"], receipt.issuer.name),
        (words["kra_pin"], receipt.issuer.kra_pin),
        (words["tax_invoice"], receipt.tax_invoice.invoice_number),
    ]
    page = _PAGE.render(
        language="sw" if words is WORDS["sw"] else "en",
        style=Markup(_STYLE),
        # Whoever looks at many tickets reads the heading alone.
        title=words["genuine" if is_good else standing],
        text=words["compare"],
        standing=words[standing if is_good else "genuine"],
        only_reported=words["only_reported"] if receipt.only_reported else "",
        kind="good" if is_good else "bad",
        lines=[line for line in lines if line[1]],
        tax_invoice=receipt.tax_invoice.verification_url,
        check_tax_invoice=words["check_tax_invoice"],
    )
    return _html(200, page)


def _said(status: int, what: str) -> web.Response:
    """A page without a receipt, in both languages: nobody knows who looks."""
    english, swahili = WORDS["en"], WORDS["sw"]
    page = _PAGE.render(
        language="en",
        style=Markup(_STYLE),
        title=english[what],
        text=english[f"{what}_text"],
        title_sw=swahili[what],
        text_sw=swahili[f"{what}_text"],
        kind="bad",
        lines=[],
    )
    return _html(status, page)


def _come_again() -> web.Response:
    response = _said(503, "later")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _html(status: int, page: str) -> web.Response:
    return web.Response(status=status, text=page, content_type="text/html", charset="utf-8", headers=HEADERS)


def _shillings(amount: int) -> str:
    return f"KES {amount:,}"


def _day(moment: Timestamp, words: Mapping[str, str]) -> str:
    there = moment.ToDatetime(tzinfo=NAIROBI)
    return f"{there.day} {words['months'].split()[there.month - 1]} {there.year}"
