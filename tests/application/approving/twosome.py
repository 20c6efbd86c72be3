"""Two operators, each with a certificate of their own, at one service where a second person agrees above KES 400."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.operations_service_pb2_grpc import OperationsServiceStub

from development.certificates import APPROVER, BOOKING, OPERATOR, Certificates
from development.system import channel_to
from payment_service.domain.payment import Payment
from tests.application.receipting.offices import ISSUER
from tests.certificates import certificates_in, door_of
from tests.databases import Database
from tests.rpc.processes import Process, paid, running_process, sent

ABOVE = 400
WHY = "the bus broke down, ticket 17"
AGREED = "seen the ticket"
APPROVE = pb.DecideApprovalRequest.DECISION_APPROVE
REFUSE = pb.DecideApprovalRequest.DECISION_REFUSE
WITHDRAW = pb.DecideApprovalRequest.DECISION_WITHDRAW


@dataclass(frozen=True)
class Twosome:
    """The service, and both operators' ways to it."""

    process: Process
    certificates: Certificates
    first: OperationsServiceStub
    second: OperationsServiceStub

    async def completed(self, number: int = 1, booking_id: str = "BK-1", caller: str = BOOKING) -> Payment:
        """A paid booking of KES 500."""
        made = await self.process.create(caller, booking_id=booking_id, request_id=f"p-{caller}-{number}")
        return await self.process.tell(made, *sent(number), paid(f"RCPT00000{number}"))

    async def the_case(self) -> pb.Case:
        """The one case that is open."""
        (case,) = (await self.first.ListCases(pb.ListCasesRequest())).cases
        return case

    async def waiting(self) -> list[pb.Approval]:
        return list((await self.first.ListApprovals(pb.ListApprovalsRequest())).approvals)


@contextlib.asynccontextmanager
async def two_operators(database: Database, folder: Path) -> AsyncIterator[Twosome]:
    """Both are connected."""
    certificates = certificates_in(folder)
    door = door_of(certificates)
    url = database.application_url
    async with running_process(url, folder, approval_above=ABOVE, door=door, issuer=ISSUER) as process:
        address = str(process.server.address)
        async with (
            channel_to(address, certificates, OPERATOR) as first,
            channel_to(address, certificates, APPROVER) as second,
        ):
            yield Twosome(process, certificates, OperationsServiceStub(first), OperationsServiceStub(second))


def refund(booking_id: str = "BK-1", **changed: Any) -> pb.RefundBookingRequest:
    fields: dict[str, Any] = {
        "booking_id": booking_id,
        "refund_reason": payment_pb2.REFUND_REASON_BOOKING_CANCELLED,
        "operator": "amina",
        "reason": WHY,
    }
    return pb.RefundBookingRequest(**(fields | changed))


def resolution(
    case: pb.Case, way: pb.CaseResolution.ValueType = pb.CASE_RESOLUTION_RETURN, **changed: Any
) -> pb.ResolveCaseRequest:
    fields: dict[str, Any] = {
        "case_id": case.case_id,
        "etag": case.etag,
        "resolution": way,
        "operator": "amina",
        "reason": WHY,
    }
    return pb.ResolveCaseRequest(**(fields | changed))


def decision(
    approval: pb.Approval, what: pb.DecideApprovalRequest.Decision.ValueType = APPROVE, **changed: Any
) -> pb.DecideApprovalRequest:
    fields: dict[str, Any] = {
        "approval_id": approval.approval_id,
        "etag": approval.etag,
        "decision": what,
        "operator": "brian",
        "reason": AGREED,
    }
    return pb.DecideApprovalRequest(**(fields | changed))
