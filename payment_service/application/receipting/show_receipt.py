"""The receipt of a payment as it stands, and its PDF, which is not stored: it is made when it is asked for."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

from payment_service.application.following.read_payments import PaymentReads, get_payment, reading
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.domain.errors import PaymentNotFound, ReceiptNotIssued
from payment_service.domain.facts import ReceiptDue
from payment_service.domain.payment import Status
from payment_service.domain.receipt import (
    NO_ISSUER,
    NOT_ISSUED_YET,
    ShownReceipt,
    as_it_stands,
    money_only_reported,
    paid_at,
    why_no_receipt,
)
from payment_service.domain.views import PaymentView
from payment_service.security.receipt_tokens import payment_proven, receipt_token
from payment_service.store.issued_receipts import latest_receipt, return_doubted
from payment_service.store.reads import request_of
from runtime.key_rings import KeyRing

DRAWN_AT_ONCE = 2
"""PDFs: each takes some tens of milliseconds of a processor, which payments need as well."""


@dataclass(frozen=True, slots=True)
class ReceiptTools:
    """What showing receipts takes. Those that were issued once are shown and proven when nobody issues any more."""

    reads: PaymentReads
    keys: KeyRing
    """Of the links: those that are kept as long as the log is, so that a printed receipt can be proven for ever."""
    base_url: str
    """Where passengers reach the edge, without a slash at its end; empty where it is not set."""
    logo: bytes | None
    """A PNG."""
    issues: bool
    """Whether this service issues receipts, so that one that lacks is to be waited for."""
    invoice_hosts: Sequence[str]
    """Where links of tax invoices may lead: to these hosts and those below them."""
    drawing: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(DRAWN_AT_ONCE, thread_name_prefix="receipts")
    )


async def show_receipt(
    facts: GroupCommit[Submission, Recorded], tools: ReceiptTools, caller: str | None, payment_id: UUID
) -> ShownReceipt:
    """The receipt of a payment that the caller sees, issued now where it lacks and its money is here.

    So it comes before the step that issues receipts, and for a payment that was completed before there was an issuer.
    Raises PaymentNotFound, ReceiptNotIssued, Overloaded or StoreUnavailable.
    """
    view, _ = await get_payment(tools.reads, caller, payment_id)
    try:
        return await _shown(tools, view)
    except ReceiptNotIssued:
        if not tools.issues or view.status not in (Status.COMPLETED, Status.REFUNDED):
            raise
    recorded = await facts.submit(Submission(ReceiptDue(), payment_id))
    if recorded.payment is None:
        raise PaymentNotFound
    try:
        return await _shown(tools, view)
    except ReceiptNotIssued as error:
        async with reading(tools.reads) as connection:
            doubted = await return_doubted(connection, payment_id)
        raise ReceiptNotIssued(why_no_receipt(recorded.payment, return_doubted=doubted)) from error


async def prove_receipt(tools: ReceiptTools, token: str) -> ShownReceipt | None:
    """The receipt that the token of a link is for; None where it proves none. Raises StoreUnavailable."""
    reference = payment_proven(tools.keys, token)
    if reference is None:
        return None
    try:
        view, _ = await get_payment(tools.reads, None, reference)
        return await _shown(tools, view)
    except (PaymentNotFound, ReceiptNotIssued):
        # As in a database that is restored to before it was issued.
        return None


async def _shown(tools: ReceiptTools, view: PaymentView) -> ShownReceipt:
    async with reading(tools.reads) as connection:
        held = await latest_receipt(connection, view.payment_id)
        asked = await request_of(connection, view.caller, view.payment_id)
    if asked is None:
        raise PaymentNotFound
    if held is None:
        raise ReceiptNotIssued(NOT_ISSUED_YET if tools.issues else NO_ISSUER)
    token = receipt_token(tools.keys, view.reference)
    return ShownReceipt(
        receipt=as_it_stands(held.receipt, held.state, held.backing, return_doubted=held.return_doubted),
        booking_id=view.booking_id,
        account_reference=asked.account_reference,
        masked_phone=view.masked_phone,
        # The view may have been read before the money came.
        paid_at=paid_at(held.moved_at, held.completed_at or view.created_at, view.created_at),
        language_code=view.language_code,
        verification_url=f"{tools.base_url}/receipts/{token}" if tools.base_url else "",
        only_reported=money_only_reported(held.state, held.backing),
    )


async def draw_receipt(tools: ReceiptTools, shown: ShownReceipt) -> bytes:
    """Its PDF, drawn beside the event loop. A call that is cancelled leaves its thread the place that it has taken."""
    return await asyncio.get_running_loop().run_in_executor(tools.drawing, _drawn, shown, tools.logo)


def _drawn(shown: ShownReceipt, logo: bytes | None) -> bytes:
    # What draws is read with the first receipt: it would take each process a tenth of its start, and each command too.
    from payment_service.application.receipting.receipt_pdf import receipt_pdf

    return receipt_pdf(shown, logo)
