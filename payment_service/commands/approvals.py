"""`payment-service approvals`: what one operator has asked for, and a second one decides. A client of the service.

Who decides is who their certificate names. The service is told how everything stood when it was shown.
"""

from typing import Annotated, Any

import typer
from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.commands import case_screens as screens
from payment_service.commands.account import account
from payment_service.commands.asking import CALL_SECONDS, As, Name, Output, Reason, Service, ask, confirm

approvals = typer.Typer(
    no_args_is_help=True, help="Decide about money that another operator wants to move. Asks the running service."
)

ApprovalId = Annotated[str, typer.Argument(help="An approval's id.")]


@approvals.command("list")
def list_approvals(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many at most.")] = 100,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """List what waits for a second operator, the longest first."""
    asked = pb.ListApprovalsRequest(page_size=limit)
    ask(service, lambda stub: stub.ListApprovals(asked, timeout=CALL_SECONDS), output, screens.show_approvals)


@approvals.command("show")
def show_approval(approval: ApprovalId, service: Service = None, output: As = Output.TEXT) -> None:
    """Show what is asked for, by whom and why, the payment, and what has changed since."""
    asked = pb.GetApprovalRequest(approval_id=approval)
    ask(service, lambda stub: stub.GetApproval(asked, timeout=CALL_SECONDS), output, screens.show_approval)


@approvals.command("approve")
def approve(
    approval: ApprovalId,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    etag: Annotated[
        str | None, typer.Option(help="As shown by `approvals show --output json`: nothing else then.")
    ] = None,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Agree, and have it done at once. Refused for the one who has asked, and where anything has changed since."""

    async def decide(stub: Any) -> pb.DecideApprovalResponse:
        seen = await stub.GetApproval(pb.GetApprovalRequest(approval_id=approval), timeout=CALL_SECONDS)
        if not yes:
            confirm(screens.approval_question(seen.approval))
        asked = pb.DecideApprovalRequest(
            approval_id=approval,
            etag=etag or seen.approval.etag,
            decision=pb.DecideApprovalRequest.DECISION_APPROVE,
            operator=operator or account(),
            reason=reason,
        )
        decided: pb.DecideApprovalResponse = await stub.DecideApproval(asked, timeout=CALL_SECONDS)
        return decided

    ask(service, decide, output, screens.show_approval)


@approvals.command("refuse")
def refuse(
    approval: ApprovalId, reason: Reason, operator: Name = None, service: Service = None, output: As = Output.TEXT
) -> None:
    """Do not agree: it is not done. For the one who has asked there is withdraw."""
    _end(approval, pb.DecideApprovalRequest.DECISION_REFUSE, reason, operator, service, output)


@approvals.command("withdraw")
def withdraw(
    approval: ApprovalId, reason: Reason, operator: Name = None, service: Service = None, output: As = Output.TEXT
) -> None:
    """Take back what you have asked for."""
    _end(approval, pb.DecideApprovalRequest.DECISION_WITHDRAW, reason, operator, service, output)


def _end(
    approval: str,
    decision: "pb.DecideApprovalRequest.Decision.ValueType",
    reason: str,
    operator: str | None,
    service: str | None,
    output: Output,
) -> None:
    async def decide(stub: Any) -> pb.DecideApprovalResponse:
        seen = await stub.GetApproval(pb.GetApprovalRequest(approval_id=approval), timeout=CALL_SECONDS)
        asked = pb.DecideApprovalRequest(
            approval_id=approval,
            etag=seen.approval.etag,
            decision=decision,
            operator=operator or account(),
            reason=reason,
        )
        decided: pb.DecideApprovalResponse = await stub.DecideApproval(asked, timeout=CALL_SECONDS)
        return decided

    ask(service, decide, output, screens.show_approval)
