"""An operator who asks for money to be moved or returned, and one who agrees, at a process without certificates."""

from __future__ import annotations

from uuid import UUID

from payment_service.application.approving.ask_second_person import ApprovalTools, resolve_or_ask
from payment_service.application.approving.decide_approval import ApprovalDecision, Decision, decide_approval
from payment_service.application.casework.resolve_case import CaseDecision
from payment_service.application.casework.show_cases import get_case, marks_of
from payment_service.domain.case_rules import Resolution
from payment_service.domain.consent import Person
from payment_service.domain.payment import Payment
from payment_service.store.approvals import Approval
from tests.application.casework.casefiles import only_case
from tests.rpc.processes import Process

BRIAN = Person("brian", "brian", "seen the message")


def _tools(process: Process) -> ApprovalTools:
    return ApprovalTools(process.core.reads, process.core.facts, process.core.refund_shortcodes)


async def ask_to_move(process: Process, target: Payment, case_id: UUID | None = None) -> Approval:
    """The money of this case, or of the one that is open, waits for a second person."""
    return await _ask(process, Resolution.MOVE, target, case_id)


async def ask_to_return(process: Process) -> Approval:
    """The same, of money that is to go back to its payer."""
    return await _ask(process, Resolution.RETURN, None)


async def _ask(
    process: Process, resolution: Resolution, target: Payment | None, case_id: UUID | None = None
) -> Approval:
    file = await get_case(process.core.reads, case_id) if case_id is not None else await only_case(process)
    asked = CaseDecision(
        case_id=file.case.case_id,
        seen=marks_of(file.case),
        resolution=resolution,
        operator="amina",
        why="meant for the other booking",
        receipt=None,
        to_payment_id=target.payment_id if target is not None else None,
    )
    _, approval = await resolve_or_ask(_tools(process), asked, "amina", process.writers.clock.now)
    assert approval is not None
    return approval


async def agree(process: Process, approval: Approval) -> str:
    """The second person agrees at this process; what has become of it."""
    said = ApprovalDecision(approval.approval_id, approval.seen, Decision.APPROVE, BRIAN)
    return (await decide_approval(_tools(process), said, process.writers.clock.now)).approval.state
