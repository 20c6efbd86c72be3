"""What one person has asked for, and a second one decides."""

from typing import Final

import grpc.aio
import structlog
from aiohttp import web
from mpesa_payments.v1 import operations_service_pb2 as pb

from case_desk import sentences
from case_desk.desk import CALL_SECONDS, DESK, PERSON, Sent, ask_once, page, sent_form
from case_desk.refusals import Refusal, refusal_of

_DECISIONS: Final = {
    "APPROVE": pb.DecideApprovalRequest.DECISION_APPROVE,
    "REFUSE": pb.DecideApprovalRequest.DECISION_REFUSE,
    "WITHDRAW": pb.DecideApprovalRequest.DECISION_WITHDRAW,
}

log = structlog.get_logger()


async def list_approvals(request: web.Request) -> web.Response:
    """What waits for a second person, the longest first."""
    asked = pb.ListApprovalsRequest(page_token=request.query.get("page", ""))
    listed = await request.app[DESK].core.operations.ListApprovals(asked, timeout=CALL_SECONDS)
    title = "Waiting for a second person"
    return page(request, "approvals", title=title, approvals=listed.approvals, more=listed.next_page_token)


async def show_approval(request: web.Request) -> web.Response:
    """What is asked for, by whom and why, the payment, and what has changed since."""
    return await _approval_page(request)


async def decide(request: web.Request) -> web.Response:
    """Approve, refuse or withdraw; what moves money is said in words first, and asked once."""
    sent, desk = await sent_form(request), request.app[DESK]
    approval_id, person = request.match_info["approval"], request[PERSON]
    asked = pb.DecideApprovalRequest(
        approval_id=approval_id,
        etag=sent["etag"],
        decision=_DECISIONS.get(sent["decision"], pb.DecideApprovalRequest.DECISION_UNSPECIFIED),
        operator=person,
        reason=sent["reason"],
    )
    if asked.decision == pb.DecideApprovalRequest.DECISION_APPROVE and not sent["sure"]:
        wanted = pb.GetApprovalRequest(approval_id=approval_id)
        one = (await desk.core.operations.GetApproval(wanted, timeout=CALL_SECONDS)).approval
        words = [f"{sentences.what_was_asked(one)}, as {one.asker} has asked for: {one.ask_reason}"]
        words.append("This is done at once.")
        ask_once(request, sent, words, back=f"/approvals/{approval_id}")

    async def do() -> str:
        await desk.core.operations.DecideApproval(asked, timeout=CALL_SECONDS)
        log.info("approval decided", approval=approval_id, person=person, decision=sent["decision"])
        return f"/approvals/{approval_id}"

    try:
        raise web.HTTPSeeOther(await desk.forms.once(sent.request_id, sent.fields, do))
    except grpc.aio.AioRpcError as error:
        return await _approval_page(request, refusal_of(error), sent)


async def _approval_page(
    request: web.Request, refusal: Refusal | None = None, sent: Sent | None = None
) -> web.Response:
    asked = pb.GetApprovalRequest(approval_id=request.match_info["approval"])
    file = await request.app[DESK].core.operations.GetApproval(asked, timeout=CALL_SECONDS)
    return page(
        request,
        "approval",
        refusal.status if refusal is not None else 200,
        title=sentences.what_was_asked(file.approval),
        file=file,
        one=file.approval,
        waits=file.approval.state == pb.Approval.STATE_WAITING,
        # A desk's persons are proven as "desk:amina"; who has asked by a command has no such name, whatever it claims.
        is_of_desk=":" in file.approval.asked_by,
        is_asker=file.approval.asked_by.partition(":")[2] == request[PERSON],
        refusal=refusal,
        sent=sent.fields if sent is not None else {},
    )
