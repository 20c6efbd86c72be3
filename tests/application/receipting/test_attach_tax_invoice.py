"""A tax invoice is put on a receipt once, by whoever asked for the payment, and never exchanged for another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import payment_service_pb2 as pb

from tests.application.receipting.offices import (
    a_tax_invoice,
    completed,
    issue,
    office,
    returned,
    shown,
    violations,
    written,
)
from tests.databases import Database
from tests.rows import count
from tests.rpc.answers import refused
from tests.rpc.processes import Process


@pytest.fixture
async def process(database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    async with office(database, tmp_path) as running:
        yield running


async def test_a_tax_invoice_makes_a_new_revision_and_its_repetition_none(process: Process, database: Database) -> None:
    payment = await completed(process)
    await issue(process)
    first = await process.payments.AttachTaxInvoice(a_tax_invoice(payment))
    assert (first.receipt.revision, first.replayed) == (2, False)
    assert first.receipt.tax_invoice == a_tax_invoice(payment).tax_invoice
    again = await process.payments.AttachTaxInvoice(a_tax_invoice(payment))
    assert (again.receipt, again.replayed) == (first.receipt, True)
    same = await process.payments.AttachTaxInvoice(a_tax_invoice(payment, request_id="tax-2"))
    assert (same.receipt, same.replayed) == (first.receipt, False)
    assert await written(database) == [(1, "PAID", 0), (2, "PAID", 0)]
    await returned(process, payment)
    await issue(process)
    amended = await shown(process, payment)
    assert (amended.revision, amended.tax_invoice) == (3, first.receipt.tax_invoice)
    assert await violations(process, database) == {}


async def test_a_tax_invoice_that_comes_before_the_step_issues_the_receipt(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    answer = await process.payments.AttachTaxInvoice(a_tax_invoice(payment))
    assert answer.receipt.revision == 1
    assert await issue(process) == 0
    assert await written(database) == [(1, "PAID", 0)]


async def test_another_tax_invoice_is_refused_and_leaves_its_request_id_free(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    await issue(process)
    await process.payments.AttachTaxInvoice(a_tax_invoice(payment))
    other = a_tax_invoice(payment, request_id="tax-2", invoice_number="KRAMW0000001/13")
    refusal = await refused(process.payments.AttachTaxInvoice(other))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TAX_INVOICE_DIFFERS")
    assert refusal.metadata == {"invoice_number": "KRAMW0000001/12"}
    reused = a_tax_invoice(payment, invoice_number="KRAMW0000001/13")
    refusal = await refused(process.payments.AttachTaxInvoice(reused))
    assert (refusal.reason, refusal.metadata["fields"]) == ("REQUEST_ID_REUSED", "invoice_number")
    assert await count(database, "caller_requests") == 1
    assert await written(database) == [(1, "PAID", 0), (2, "PAID", 0)]


async def test_no_tax_invoice_is_taken_for_what_has_no_receipt(process: Process, database: Database) -> None:
    unpaid = await process.create()
    refusal = await refused(process.payments.AttachTaxInvoice(a_tax_invoice(unpaid)))
    assert (refusal.reason, refusal.metadata) == ("RECEIPT_NOT_ISSUED", {"cause": "NOT_ISSUED_YET"})
    others = await process.create(caller="another")
    refusal = await refused(process.payments.AttachTaxInvoice(a_tax_invoice(others)))
    assert refusal.reason == "PAYMENT_NOT_FOUND"
    assert (await count(database, "caller_requests"), await count(database, "issued_receipts")) == (0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("invoice_number", ""),
        ("invoice_number", "1" * 65),
        ("invoice_number", "12\n34"),
        ("invoice_number", "١٢"),
        ("control_unit_number", "KRA 1"),
        ("verification_url", "http://etims.example/check"),
        ("verification_url", "javascript:alert(1)"),
        ("verification_url", "https://"),
        ("verification_url", "https://user:secret@etims.example/"),
        ("verification_url", "https://etims.example/a b"),
        ("verification_url", "https://[etims/"),
        ("verification_url", "https://etims.example/" + "a" * 300),
        ("issue_time", Timestamp(seconds=4_000_000_000)),
        ("issue_time", Timestamp(seconds=1, nanos=-1)),
        ("issue_time", None),
    ],
)
async def test_a_tax_invoice_that_cannot_be_right_is_refused_by_its_field(
    process: Process, field: str, value: object
) -> None:
    payment = await process.create()
    refusal = await refused(process.payments.AttachTaxInvoice(a_tax_invoice(payment, **{field: value})))
    assert (refusal.reason, set(refusal.fields)) == ("INVALID_REQUEST", {f"tax_invoice.{field}"})


async def test_all_that_is_wrong_is_told_at_once(process: Process) -> None:
    refusal = await refused(process.payments.AttachTaxInvoice(pb.AttachTaxInvoiceRequest()))
    assert {field.removeprefix("tax_invoice.") for field in refusal.fields} == {
        "request_id", "payment_id", "invoice_number", "control_unit_number", "verification_url", "issue_time",
    }  # fmt: skip
