"""Putting a tax invoice on the receipt of a payment, or another one in place of a wrong one: a new revision, once."""

from uuid_utils.compat import uuid7

from payment_service.application.receipting.show_receipt import ReceiptTools, show_receipt
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.domain.errors import PaymentNotFound, ReceiptNotIssued, TaxInvoiceDiffers
from payment_service.domain.facts import ReceiptDue
from payment_service.domain.receipt import NOT_ISSUED_YET, ShownReceipt
from payment_service.domain.tax_invoices import TaxInvoiceRequest


async def attach_tax_invoice(
    facts: GroupCommit[Submission, Recorded], tools: ReceiptTools, caller: str, asked: TaxInvoiceRequest
) -> tuple[ShownReceipt, bool]:
    """The receipt as it stands by now, and whether an earlier call had done it.

    Raises PaymentNotFound, ReceiptNotIssued, TaxInvoiceDiffers, RequestIdReused, Overloaded or StoreUnavailable; none
    of them leaves a row.
    """
    kept = KeptRequest(uuid7(), caller, asked)
    due = ReceiptDue(asked.tax_invoice, asked.replaces)
    recorded = await facts.submit(Submission(due, asked.payment_id, request=kept))
    if recorded.reused is not None:
        raise recorded.reused
    if recorded.payment is None:
        raise PaymentNotFound
    if not recorded.refused:
        return await show_receipt(facts, tools, caller, asked.payment_id), recorded.replayed
    held = (await show_receipt(facts, tools, caller, asked.payment_id)).receipt.tax_invoice
    if held is None:
        # Its money has come since.
        raise ReceiptNotIssued(NOT_ISSUED_YET)
    raise TaxInvoiceDiffers(held.invoice_number)
