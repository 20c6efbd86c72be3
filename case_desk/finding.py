"""The first page: what waits for somebody, and payments found by what a passenger can say on the phone."""

from typing import Final

import grpc.aio
from aiohttp import web
from mpesa_payments.v1 import operations_service_pb2 as pb

from case_desk.desk import CALL_SECONDS, DESK, PERSON, page, sent_form
from case_desk.refusals import Refusal, refusal_of

CASES_SHOWN: Final = 50
PAYMENTS_SHOWN: Final = 20
KNOWN: Final = {
    "phone_number": "Phone number",
    "mpesa_receipt_number": "M-Pesa receipt",
    "booking_id": "Booking",
    "reference": "Reference of a payment",
}
"""What a payment is found by, as the service calls it and as people do."""


async def show_cases(request: web.Request) -> web.Response:
    """The open cases, those that are due first at the front, and the search."""
    return await _first_page(request)


async def search(request: web.Request) -> web.Response:
    """Look for payments; a single one is shown at once. What is looked for stays out of the address."""
    sent, desk = await sent_form(request), request.app[DESK]
    known = sent["known"] if sent["known"] in KNOWN else "phone_number"
    wanted = pb.FindPaymentsRequest(page_size=PAYMENTS_SHOWN)
    setattr(wanted, known, sent["value"])
    try:
        found = await desk.core.operations.FindPayments(wanted, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return await _first_page(request, refusal_of(error), known)
    if len(found.payments) == 1 and {case.payment_id for case in found.cases} <= {found.payments[0].payment.payment_id}:
        raise web.HTTPSeeOther(f"/payments/{found.payments[0].payment.reference}")
    raise web.HTTPSeeOther(f"/found/{desk.searches.keep(request[PERSON], wanted)}")


async def show_found(request: web.Request) -> web.Response:
    """The payments that were looked for, each with its cases."""
    desk = request.app[DESK]
    wanted = desk.searches.of(request[PERSON], request.match_info["search"])
    found = await desk.core.operations.FindPayments(wanted, timeout=CALL_SECONDS)
    return page(request, "found", title="Payments", found=found)


async def show_payment(request: web.Request) -> web.Response:
    """One payment with its cases, and all that happened to it."""
    operations, reference = request.app[DESK].core.operations, request.match_info["reference"]
    story = await operations.ExplainPayment(pb.ExplainPaymentRequest(reference=reference), timeout=CALL_SECONDS)
    found = await operations.FindPayments(pb.FindPaymentsRequest(reference=reference), timeout=CALL_SECONDS)
    return page(request, "payment", title=f"Payment {reference}", story=story, cases=found.cases)


async def _first_page(
    request: web.Request, refusal: Refusal | None = None, known: str = "phone_number"
) -> web.Response:
    query = request.query
    asked = pb.ListCasesRequest(
        page_size=CASES_SHOWN,
        page_token=query.get("page", ""),
        overdue="overdue" in query,
        owner=request[PERSON] if "mine" in query else "",
    )
    kinds = {name.removeprefix("CASE_KIND_"): number for name, number in pb.CaseKind.items() if number}
    asked.kind = kinds.get(query.get("kind", ""), pb.CASE_KIND_UNSPECIFIED)
    listed = await request.app[DESK].core.operations.ListCases(asked, timeout=CALL_SECONDS)
    return page(
        request,
        "desk",
        refusal.status if refusal is not None else 200,
        title="Open cases",
        cases=listed.cases,
        more=listed.next_page_token,
        query=query,
        kinds=kinds,
        known=KNOWN,
        known_is=known,
        refusal=refusal,
    )
