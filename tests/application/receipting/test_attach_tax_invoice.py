"""A tax invoice is put on a receipt once, by whoever asked for the payment, and replaced only by its number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.store.engines import connect_reader
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
from tests.rows import count, rows_of
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


async def test_a_wrong_tax_invoice_is_replaced_by_its_number_and_what_was_issued_stays(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    await issue(process)
    await process.payments.AttachTaxInvoice(a_tax_invoice(payment))
    right = a_tax_invoice(payment, request_id="tax-2", invoice_number="KRAMW0000001/13")
    right.replaces.invoice_number, right.replaces.why = "KRAMW0000001/99", "the invoice was for another trip"
    refusal = await refused(process.payments.AttachTaxInvoice(right))
    assert (refusal.reason, refusal.metadata["invoice_number"]) == ("TAX_INVOICE_DIFFERS", "KRAMW0000001/12")
    right.replaces.invoice_number = "KRAMW0000001/12"
    answer = await process.payments.AttachTaxInvoice(right)
    assert (answer.receipt.revision, answer.receipt.tax_invoice) == (3, right.tax_invoice)
    again = await process.payments.AttachTaxInvoice(right)
    assert (again.receipt, again.replayed) == (answer.receipt, True)
    numbers = await rows_of(database, "SELECT tax_invoice ->> 'invoice_number' FROM issued_receipts ORDER BY revision")
    assert [row[0] for row in numbers] == [None, "KRAMW0000001/12", "KRAMW0000001/13"]
    assert await violations(process, database) == {}
    async with await connect_reader(database.application_url) as conn:
        story = await explain_payment(process.writers.sealer, conn, payment.payment_id)
    (told,) = [one for one in story.moments if one.what == "tax invoice KRAMW0000001/13 handed in"]
    assert told.by == payment.caller
    assert told.details == ("it replaces KRAMW0000001/12: the invoice was for another trip",)


@pytest.mark.parametrize("number", ["", "KRAMW0000001/12"])
async def test_a_tax_invoice_is_replaced_only_with_a_number_and_a_reason(process: Process, number: str) -> None:
    asking = a_tax_invoice(await process.create())
    asking.replaces.invoice_number, asking.replaces.why = number, "" if number else "w" * 201
    refusal = await refused(process.payments.AttachTaxInvoice(asking))
    assert set(refusal.fields) == {"replaces.why", *([] if number else ["replaces.invoice_number"])}


async def test_a_link_that_is_refused_names_the_setting_and_the_hosts(process: Process) -> None:
    asking = a_tax_invoice(await process.create(), verification_url="https://foreign.example/check")
    refusal = await refused(process.payments.AttachTaxInvoice(asking))
    assert "PAYMENTS_TAX_INVOICE_HOSTS allows: etims.example" in refusal.fields["tax_invoice.verification_url"]


async def test_a_link_to_a_host_below_an_allowed_one_is_taken(process: Process) -> None:
    payment = await completed(process)
    link = "https://Sandbox.etims.example:443/check"
    answer = await process.payments.AttachTaxInvoice(a_tax_invoice(payment, verification_url=link))
    assert answer.receipt.tax_invoice.verification_url == link


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
        ("verification_url", "https://foreign.example/check"),
        ("verification_url", "https://etims.example.foreign.example/"),
        ("verification_url", "https://fetims.example/"),
        ("verification_url", "https://foreign.example\\.etims.example/"),
        ("verification_url", "https://etims.example:8443/"),
        ("verification_url", "https://etims.example:x/"),
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
