"""One case: what is known of it, who looks after it, and how it is settled."""

from typing import Final

import grpc.aio
import structlog
from aiohttp import web
from mpesa_payments.v1 import operations_service_pb2 as pb

from case_desk import sentences
from case_desk.desk import CALL_SECONDS, DESK, PERSON, Sent, ask_once, page, sent_form
from case_desk.refusals import Refusal, refusal_of

_WAYS: Final = {pb.CaseResolution.Name(way).removeprefix("CASE_RESOLUTION_"): way for way in sentences.WAYS}

log = structlog.get_logger()


async def show_case(request: web.Request) -> web.Response:
    """All that is needed to decide."""
    return await _case_page(request)


async def take_case(request: web.Request) -> web.Response:
    """Make the person the one who looks after the case."""
    sent, desk = await sent_form(request), request.app[DESK]
    case_id, person = request.match_info["case"], request[PERSON]
    asked = pb.TakeCaseRequest(case_id=case_id, etag=sent["etag"], operator=person, reason=sent["reason"])

    async def take() -> str:
        await desk.core.operations.TakeCase(asked, timeout=CALL_SECONDS)
        log.info("case taken", case=case_id, person=person)
        return f"/cases/{case_id}"

    try:
        raise web.HTTPSeeOther(await desk.forms.once(sent.request_id, sent.fields, take))
    except grpc.aio.AioRpcError as error:
        return await _case_page(request, refusal_of(error), sent, "take")


async def resolve_case(request: web.Request) -> web.Response:
    """Settle the case, which is for ever: what follows is said in words first, and asked once."""
    sent, desk = await sent_form(request), request.app[DESK]
    case_id, person = request.match_info["case"], request[PERSON]
    asked = pb.ResolveCaseRequest(
        case_id=case_id,
        etag=sent["etag"],
        resolution=_WAYS.get(sent["resolution"], pb.CASE_RESOLUTION_UNSPECIFIED),
        operator=person,
        reason=sent["reason"],
        mpesa_receipt_number=sent["mpesa_receipt_number"],
        to_payment_id=sent["to_payment_id"],
    )
    if asked.resolution in sentences.WAYS and not sent["sure"]:
        file = await desk.core.operations.GetCase(pb.GetCaseRequest(case_id=case_id), timeout=CALL_SECONDS)
        words = sentences.what_will_happen(file, asked)
        ask_once(request, sent, words, back=f"/cases/{case_id}")

    async def resolve() -> str:
        done = await desk.core.operations.ResolveCase(asked, timeout=CALL_SECONDS)
        log.info("case decided", case=case_id, person=person, way=sent["resolution"])
        return f"/approvals/{done.approval.approval_id}" if done.HasField("approval") else f"/cases/{case_id}"

    try:
        raise web.HTTPSeeOther(await desk.forms.once(sent.request_id, sent.fields, resolve))
    except grpc.aio.AioRpcError as error:
        return await _case_page(request, refusal_of(error), sent, "resolve")


async def _case_page(
    request: web.Request, refusal: Refusal | None = None, sent: Sent | None = None, form: str = ""
) -> web.Response:
    """The case as it stands now; after a refusal with what was sent, so that nothing is typed twice."""
    asked = pb.GetCaseRequest(case_id=request.match_info["case"])
    file = await request.app[DESK].core.operations.GetCase(asked, timeout=CALL_SECONDS)
    names = {way: name for name, way in _WAYS.items()}
    ways = {names[way]: way for way in file.case.allowed_resolutions if way in names}
    return page(
        request,
        "case",
        refusal.status if refusal is not None else 200,
        title=f"{sentences.kind(file.case)}, booking {file.case.booking_id or 'not known'}",
        file=file,
        case=file.case,
        ways={name: sentences.choice(file.case, way) for name, way in ways.items()},
        open_ways=not file.case.HasField("settle_time") and not sentences.is_under_way(file.case),
        refusal=refusal,
        sent=sent.fields if sent is not None else {},
        form=form,
    )
