"""The passenger's receipt, as the fake issues and amends it: its fields, and a PDF that says them in a few lines.

The service's own PDF is another one, with the codes and in the language of the payment. This one is as real, so that a
team can store it, send it and open it in its tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from payment_client.contract import payment_pb2, receipt_pb2
from payment_client.contract import payment_service_pb2 as pb
from payment_client.requests import shillings

ISSUER: Final = receipt_pb2.ReceiptIssuer(
    name="The fake's coaches", address="Nairobi", kra_pin="P000000000X", contact="tickets@fake.example"
)
_Standing = receipt_pb2.ReceiptStanding
_Status = payment_pb2.PaymentStatus
_PAGE: Final = (420, 595)
"""A5, in points."""


def next_receipt(
    payment: payment_pb2.Payment,
    last: receipt_pb2.Receipt | None,
    asked: pb.InitiatePaymentRequest,
    issuer: receipt_pb2.ReceiptIssuer,
    now: datetime,
) -> receipt_pb2.Receipt | None:
    """The revision that says what the last one does not say yet; None where there is nothing to add."""
    if not payment.mpesa_receipt_number:
        return None
    back = payment.refunded_amount.units
    if payment.status == _Status.PAYMENT_STATUS_REFUNDED:
        standing = _Standing.RECEIPT_STANDING_REFUNDED
    else:
        standing = _Standing.RECEIPT_STANDING_PART_REFUNDED if back else _Standing.RECEIPT_STANDING_PAID
    if last is not None and (last.standing, last.refunded_amount.units) == (standing, back):
        return None
    number = payment.reference.upper()
    receipt = receipt_pb2.Receipt(
        receipt_number="-".join(number[place : place + 4] for place in range(0, len(number), 4)),
        revision=last.revision + 1 if last is not None else 1,
        standing=standing,
        payment_id=payment.payment_id,
        booking_id=payment.booking_id,
        account_reference=asked.account_reference or payment.reference,
        amount=payment.amount,
        refunded_amount=shillings(back),
        amount_left=shillings(payment.amount.units - back),
        mpesa_receipt_number=payment.mpesa_receipt_number,
        masked_phone=payment.masked_phone,
        pay_time=payment.complete_time,
        issuer=issuer,
        # Of a name that nobody has: the fake has no page that proves a receipt.
        verification_url=f"https://fake.example/receipts/{payment.reference}",
    )
    for refund in payment.refunds:
        if refund.status == payment_pb2.REFUND_STATUS_DONE:
            receipt.refunds.add(amount=refund.amount, return_time=refund.end_time)
    receipt.issue_time.FromDatetime(now)
    return receipt


def receipt_pdf(receipt: receipt_pb2.Receipt) -> bytes:
    """A page with what the receipt says."""
    standing = _Standing.Name(receipt.standing).removeprefix("RECEIPT_STANDING_").replace("_", " ")
    return _pdf(
        [
            receipt.issuer.name,
            f"Receipt {receipt.receipt_number}, revision {receipt.revision}",
            f"KES {receipt.amount.units}, {standing}; left: KES {receipt.amount_left.units}",
            f"Booking {receipt.booking_id}, paid by {receipt.masked_phone}",
            f"M-Pesa {receipt.mpesa_receipt_number}",
        ]
    )


def _pdf(lines: Sequence[str]) -> bytes:
    """The least that every reader opens: five objects, and where in the file each begins."""
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
    shown = "".join(f"({line}) Tj T* " for line in escaped).encode("latin-1", "replace")
    text = b"BT /F1 11 Tf 16 TL 36 540 Td " + shown + b"ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>" % _PAGE,
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    file, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(file))
    return file + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + trailer
