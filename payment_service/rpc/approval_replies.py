"""What waits for a second person, as wire messages."""

from collections.abc import Sequence

from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.application.approving.show_approvals import ApprovalFile, changed_since
from payment_service.domain.approvals import ApprovalAct, ApprovalState
from payment_service.rpc.operations_requests import etag_of
from payment_service.rpc.replies import CURRENCY, payment_message, timestamp
from payment_service.store.approvals import Approval

_ACT = {one.value: pb.Approval.Act.Value(f"ACT_{one.value}") for one in ApprovalAct}
_STATE = {one.value: pb.Approval.State.Value(f"STATE_{one.value}") for one in ApprovalState}


def approvals_listed(approvals: Sequence[Approval], next_page_token: str) -> pb.ListApprovalsResponse:
    """One page of ListApprovals."""
    return pb.ListApprovalsResponse(
        approvals=[approval_message(one) for one in approvals], next_page_token=next_page_token
    )


def approval_found(file: ApprovalFile) -> pb.GetApprovalResponse:
    """The answer to GetApproval."""
    return pb.GetApprovalResponse(approval=_shown(file), attempts=_attempts(file))


def approval_decided(file: ApprovalFile) -> pb.DecideApprovalResponse:
    """The answer to DecideApproval."""
    return pb.DecideApprovalResponse(approval=_shown(file), attempts=_attempts(file))


def approval_message(approval: Approval) -> pb.Approval:
    """One approval."""
    message = pb.Approval(
        approval_id=str(approval.approval_id),
        act=_ACT.get(approval.act, pb.Approval.ACT_UNSPECIFIED),
        state=_STATE.get(approval.state, pb.Approval.STATE_UNSPECIFIED),
        payment_id=str(approval.payment_id),
        caller=approval.caller,
        booking_id=approval.booking_id,
        case_id=str(approval.case_id) if approval.case_id is not None else "",
        amount=money_pb2.Money(currency_code=CURRENCY, units=int(approval.amount)),
        mpesa_receipt_number=approval.mpesa_receipt_number or "",
        asked_by=approval.asked_by,
        asker=approval.asked_as,
        ask_reason=approval.asked_why,
        ask_time=timestamp(approval.asked_at),
        decided_by=approval.decided_by or "",
        decider=approval.decided_as or "",
        decide_reason=approval.decided_why or "",
        etag=etag_of(approval.seen),
        to_payment_id=str(approval.to_payment_id) if approval.to_payment_id is not None else "",
        to_booking_id=approval.to_booking_id or "",
    )
    if approval.decided_at is not None:
        message.decide_time.CopyFrom(timestamp(approval.decided_at))
    return message


def _shown(file: ApprovalFile) -> pb.Approval:
    message = approval_message(file.approval)
    if file.approval.state == ApprovalState.WAITING:
        message.changed.extend(changed_since(file))
    return message


def _attempts(file: ApprovalFile) -> list[pb.FoundPayment]:
    return [pb.FoundPayment(caller=one.caller, payment=payment_message(one)) for one in file.attempts]
