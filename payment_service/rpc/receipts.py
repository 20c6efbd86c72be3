"""The methods about receipts that passengers hold, with their requests and replies."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from mpesa_payments.v1 import passenger_service_pb2 as passenger_pb
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1 import receipt_pb2

from payment_service.application.receipting.attach_tax_invoice import attach_tax_invoice as attaching
from payment_service.application.receipting.show_receipt import draw_receipt, show_receipt
from payment_service.domain.receipt import Issuer, ReceiptStanding, ReturnedPart, ShownReceipt
from payment_service.domain.tax_invoices import TaxInvoice, TaxInvoiceRequest
from payment_service.rpc.calls import Call, Unary
from payment_service.rpc.fields import Fields, moment_in, payment_id_in, request_id_in
from payment_service.rpc.methods import Core
from payment_service.rpc.replies import money_message, timestamp

URL_MAX: Final = 300
WHY_MAX: Final = 200
_HOST: Final = re.compile(r"[a-z0-9.-]+", re.ASCII)
_INVOICE_NUMBER: Final = re.compile(r"[A-Za-z0-9_/.:-]{1,64}", re.ASCII)
_NUMBER_EXPECTED: Final = 'expected 1 to 64 letters, digits or "-_/.:"'
_PRINTABLE: Final = re.compile(r"[!-~]+")
_STANDING = {s: receipt_pb2.ReceiptStanding.Value(f"RECEIPT_STANDING_{s.value}") for s in ReceiptStanding}


async def get_receipt(core: Core, call: Call, message: pb.GetReceiptRequest) -> pb.GetReceiptResponse:
    """GetReceipt."""
    shown = await show_receipt(core.facts, core.receipts, call.sees, _payment_of(message))
    return pb.GetReceiptResponse(receipt=receipt_message(shown), pdf=await draw_receipt(core.receipts, shown))


async def attach_tax_invoice(
    core: Core, call: Call, message: pb.AttachTaxInvoiceRequest
) -> pb.AttachTaxInvoiceResponse:
    """AttachTaxInvoice."""
    asked = parse_tax_invoice(message, core.receipts.invoice_hosts, core.clock())
    shown, replayed = await attaching(core.facts, core.receipts, call.caller, asked)
    return pb.AttachTaxInvoiceResponse(receipt=receipt_message(shown), replayed=replayed)


def parse_tax_invoice(message: pb.AttachTaxInvoiceRequest, hosts: Collection[str], now: datetime) -> TaxInvoiceRequest:
    """The tax invoice, or InvalidRequest with all that is wrong."""
    fields, told = Fields(), message.tax_invoice
    request_id_in(fields, message.request_id)
    payment_id = payment_id_in(fields, message.payment_id)
    for name, number in (
        ("invoice_number", told.invoice_number),
        ("control_unit_number", told.control_unit_number),
    ):
        fields.require(f"tax_invoice.{name}", _INVOICE_NUMBER.fullmatch(number), _NUMBER_EXPECTED)
    expected = (
        f"expected an https URL of at most {URL_MAX} printable ASCII characters, at a host that the service's setting"
        f" PAYMENTS_TAX_INVOICE_HOSTS allows: {', '.join(hosts)}"
    )
    fields.require("tax_invoice.verification_url", _may_be_followed(told.verification_url, hosts), expected)
    field = "tax_invoice.issue_time"
    issued_at = moment_in(fields, field, told.issue_time) if told.HasField("issue_time") else None
    if not told.HasField("issue_time"):
        fields.refuse(field, "expected when the invoice was issued")
    elif issued_at is not None:
        fields.require(field, issued_at <= now, "expected a time that is not in the future")
    replaced = message.replaces
    if message.HasField("replaces"):
        named = _INVOICE_NUMBER.fullmatch(replaced.invoice_number)
        fields.require("replaces.invoice_number", named, _NUMBER_EXPECTED)
        fields.require("replaces.why", _said(replaced.why), f"expected 1 to {WHY_MAX} printable characters")
    fields.end()
    assert payment_id is not None, "anything else has been refused"
    assert issued_at is not None, "anything else has been refused"
    invoice = TaxInvoice(told.invoice_number, told.control_unit_number, told.verification_url, issued_at)
    return TaxInvoiceRequest(message.request_id, payment_id, invoice, replaced.invoice_number, replaced.why.strip())


def receipt_message(shown: ShownReceipt) -> receipt_pb2.Receipt:
    """A receipt."""
    receipt = shown.receipt
    message = receipt_pb2.Receipt(
        receipt_number=receipt.number,
        revision=receipt.revision,
        standing=_STANDING[receipt.standing],
        payment_id=str(receipt.payment_id),
        booking_id=shown.booking_id,
        account_reference=shown.account_reference,
        amount=money_message(receipt.amount),
        refunded_amount=money_message(receipt.refunded_amount),
        amount_left=money_message(receipt.left),
        refunds=map(_returned, receipt.returned),
        mpesa_receipt_number=receipt.mpesa_receipt_number,
        masked_phone=shown.masked_phone,
        pay_time=timestamp(shown.paid_at),
        issue_time=timestamp(receipt.issued_at),
        issuer=issuer_message(receipt.issuer),
        verification_url=shown.verification_url,
        only_reported=shown.only_reported,
    )
    if receipt.tax_invoice is not None:
        message.tax_invoice.CopyFrom(tax_invoice_message(receipt.tax_invoice))
    return message


def issuer_message(issuer: Issuer) -> receipt_pb2.ReceiptIssuer:
    """Who issues receipts."""
    return receipt_pb2.ReceiptIssuer(
        name=issuer.name, address=issuer.address, kra_pin=issuer.kra_pin, contact=issuer.contact
    )


def tax_invoice_message(invoice: TaxInvoice) -> receipt_pb2.TaxInvoice:
    """A tax invoice."""
    return receipt_pb2.TaxInvoice(
        invoice_number=invoice.invoice_number,
        control_unit_number=invoice.control_unit_number,
        verification_url=invoice.verification_url,
        issue_time=timestamp(invoice.issued_at),
    )


def proof_message(shown: ShownReceipt) -> passenger_pb.ReceiptProof:
    """A receipt as anyone may see it: nothing that names a person."""
    receipt = shown.receipt
    message = passenger_pb.ReceiptProof(
        receipt_number=receipt.number,
        revision=receipt.revision,
        standing=_STANDING[receipt.standing],
        amount=money_message(receipt.amount),
        refunded_amount=money_message(receipt.refunded_amount),
        amount_left=money_message(receipt.left),
        pay_time=timestamp(shown.paid_at),
        issue_time=timestamp(receipt.issued_at),
        issuer=issuer_message(receipt.issuer),
        language_code=shown.language_code,
        only_reported=shown.only_reported,
    )
    if receipt.tax_invoice is not None:
        message.tax_invoice.CopyFrom(tax_invoice_message(receipt.tax_invoice))
    return message


def _returned(part: ReturnedPart) -> receipt_pb2.ReturnedPart:
    return receipt_pb2.ReturnedPart(amount=money_message(part.amount), return_time=timestamp(part.returned_at))


def _payment_of(message: pb.GetReceiptRequest) -> UUID:
    fields = Fields()
    payment_id = payment_id_in(fields, message.payment_id)
    fields.end()
    assert payment_id is not None, "anything else has been refused"
    return payment_id


def _said(why: str) -> bool:
    return why.isprintable() and len(why.strip()) > 0 and len(why) <= WHY_MAX


def _may_be_followed(url: str, hosts: Collection[str]) -> bool:
    """Whether passengers may be led there: a link of the tax authority's, and of nobody who is named like it."""
    if len(url) > URL_MAX or not _PRINTABLE.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    # What browsers read as the end of a host stands in none: "https://foreign.example\\.kra.go.ke/" leads elsewhere.
    plain = parts.scheme == "https" and _HOST.fullmatch(host) and port in (None, 443) and parts.username is None
    return bool(plain) and any(host == one or host.endswith(f".{one}") for one in hosts)


RECEIPTS: Final[Mapping[str, Unary]] = {
    "mpesa_payments.v1.PaymentService/GetReceipt": Unary(get_receipt),
    "mpesa_payments.v1.PaymentService/AttachTaxInvoice": Unary(attach_tax_invoice),
}
"""Beside the other methods of payments. The server refuses to start when one is missing."""
