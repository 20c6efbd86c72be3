"""A process that issues receipts, and what a test asks of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import money_pb2, payment_pb2, receipt_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.receipting.issue_receipts import IssuingTools, issue_receipts
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.domain.reasons import Reason
from payment_service.domain.receipt import Issuer
from payment_service.domain.refund_facts import RefundAccepted, RefundClaimed, RefundReported, RefundVerdict
from payment_service.store.engines import connect_reader
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import Process, listed, paid, running_process, sent

ISSUER = Issuer("Lakeside Coaches Ltd", "P.O. Box 12-00100, Nairobi", "P051234567X", "tickets@coaches.example")
RECEIPT = "TKA1B2C3D4"
DENIED = ResultReported("query:1", Source.QUERY, Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER)
"""M-Pesa says, when it is asked, that the payer has cancelled."""


@contextlib.asynccontextmanager
async def office(database: Database, folder: Path, issuer: Issuer | None = ISSUER) -> AsyncIterator[Process]:
    """One more process on the database."""
    async with running_process(database.application_url, folder, issuer=issuer) as running:
        yield running


def issuing(process: Process) -> IssuingTools:
    # The reads of this engine open no transaction, and the step needs one.
    engine = process.core.reads.engine.execution_options(isolation_level="READ COMMITTED")
    return IssuingTools(engine, process.writers.facts, process.writers.clock)


async def issue(process: Process) -> int:
    """The step, as a process takes it now and then."""
    return await issue_receipts(issuing(process))


async def completed(process: Process, receipt: str = RECEIPT, claim: int = 1, **changed: str) -> Payment:
    """A payment whose money is here, as a second source says as well."""
    return await process.tell(await process.create(**changed), *sent(claim), paid(receipt), listed(receipt))


async def reported(process: Process) -> Payment:
    """A payment whose money only a callback has told of."""
    return await process.tell(await process.create(), *sent(1), paid(RECEIPT))


async def returned(process: Process, payment: Payment, amount: int | None = None) -> None:
    """All of a payment's money goes back, or a part of it."""
    request = pb.RefundPaymentRequest(
        request_id=str(uuid4()), payment_id=str(payment.payment_id), reason=payment_pb2.REFUND_REASON_OTHER
    )
    if amount is not None:
        request.amount.CopyFrom(money_pb2.Money(currency_code="KES", units=amount))
    answer = await process.payments.RefundPayment(request)
    refund_id, claim = UUID(answer.payment.refund.refund_id), uuid4()
    named = str(refund_id) if amount is not None else f"originator-{claim}"
    for fact in (
        RefundClaimed(claim),
        RefundAccepted(claim, named, f"AG_{claim}"),
        RefundReported(f"callback:{claim}", RefundVerdict.DONE, "0", RECEIPT),
    ):
        await process.writers.facts.submit(Submission(fact, payment.payment_id, refund_id=refund_id))


async def shown(process: Process, payment: Payment) -> receipt_pb2.Receipt:
    answer = await process.payments.GetReceipt(pb.GetReceiptRequest(payment_id=str(payment.payment_id)))
    return answer.receipt


def a_tax_invoice(payment: Payment, **changed: object) -> pb.AttachTaxInvoiceRequest:
    """The request of a caller whose eTIMS has made an invoice."""
    fields: dict[str, object] = {
        "invoice_number": "KRAMW0000001/12",
        "control_unit_number": "KRAMW0000001",
        "verification_url": "https://etims.example/check?Data=P05",
        "issue_time": Timestamp(seconds=1_700_000_000),
    }
    request_id = changed.pop("request_id", "tax-1")
    return pb.AttachTaxInvoiceRequest(
        request_id=str(request_id),
        payment_id=str(payment.payment_id),
        tax_invoice=receipt_pb2.TaxInvoice(**(fields | changed)),  # type: ignore[arg-type]  # the fields of the message
    )


async def written(database: Database) -> list[tuple[int, str, int]]:
    """Revision, standing and refunded amount of all receipts, in order."""
    query = "SELECT revision, standing, refunded_amount::int FROM issued_receipts ORDER BY payment_id, revision"
    return [(row[0], row[1], row[2]) for row in await rows_of(database, query)]


async def violations(process: Process, database: Database) -> dict[str, object]:
    """What the checker finds."""
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(Instruments(process.writers.sealer, process.writers.keys), conn)
    return {invariant.name: tally.shown for invariant, tally in tallies.items() if tally.violations}
