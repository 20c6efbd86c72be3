"""Persons whom the case desk names: two logins are two persons, and a login and a certificate may be one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1.operations_service_pb2_grpc import OperationsServiceStub

from development.certificates import DESK, OPERATOR
from development.system import channel_to
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.rpc.identity import DEVELOPMENT, RULES, Party, allowed
from payment_service.store.engines import connect_reader
from tests.application.approving.twosome import AGREED, REFUSE, WITHDRAW, Twosome, decision, resolution, two_operators
from tests.application.casework.casefiles import late
from tests.application.casework.test_resolve_case import broken
from tests.databases import Database
from tests.rpc.answers import refused

DECIDE = "mpesa_payments.v1.OperationsService/DecideApproval"


@pytest.fixture
async def two(database: Database, tmp_path: Path) -> AsyncIterator[Twosome]:
    async with two_operators(database, tmp_path) as running:
        yield running


@pytest.fixture
async def desk(two: Twosome) -> AsyncIterator[OperationsServiceStub]:
    async with channel_to(str(two.process.server.address), two.certificates, DESK) as channel:
        yield OperationsServiceStub(channel)


async def test_whom_the_desk_names_is_who_asks_and_only_another_name_agrees(
    two: Twosome, desk: OperationsServiceStub, database: Database
) -> None:
    payment = await late(two.process, 1, "RCPT000001")
    waits = (await desk.ResolveCase(resolution(await two.the_case()))).approval
    assert (waits.asked_by, waits.asker) == ("desk:amina", "amina")
    for amina in ("amina", "Amina", "AMINA"):
        refusal = await refused(desk.DecideApproval(decision(waits, operator=amina)))
        assert refusal.reason == "SECOND_PERSON_NEEDED"
        assert refusal.message.startswith("desk:amina has asked for this, and you are desk:amina: another operator")
    assert (await refused(desk.DecideApproval(decision(waits, WITHDRAW)))).reason == "NOT_THE_ASKER"
    agreed = (await desk.DecideApproval(decision(waits, operator="brian"))).approval
    assert (agreed.state, agreed.decided_by, agreed.decider) == (pb.Approval.STATE_APPROVED, "desk:brian", "brian")
    async with await connect_reader(database.application_url) as conn:
        story = await explain_payment(two.process.core.reads.sealer, conn, payment.payment_id)
    people = {moment.by for moment in story.moments if moment.by.startswith("operator ")}
    assert "operator desk:brian as a desk names them, brian by name" in people
    assert await broken(two.process, database) == []


async def test_a_login_and_a_certificate_may_be_one_person_and_are_not_taken_for_two(
    two: Twosome, desk: OperationsServiceStub
) -> None:
    await late(two.process, 1, "RCPT000001")
    at_desk = (await desk.ResolveCase(resolution(await two.the_case()))).approval
    for what in (decision(at_desk), decision(at_desk, REFUSE)):
        refusal = await refused(two.second.DecideApproval(what))
        assert refusal.reason == "SECOND_PERSON_NEEDED"
        assert "nothing proves that you, approver, are somebody else" in refusal.message
    await desk.DecideApproval(decision(at_desk, WITHDRAW, operator="amina"))
    by_certificate = (await two.first.ResolveCase(resolution(await two.the_case()))).approval
    refusal = await refused(desk.DecideApproval(decision(by_certificate)))
    assert (refusal.reason, refusal.metadata["asked_by"]) == ("SECOND_PERSON_NEEDED", OPERATOR)
    await two.second.DecideApproval(decision(by_certificate, reason=AGREED))


def test_nobody_but_a_desk_names_the_person_who_acts() -> None:
    for caller in (DEVELOPMENT, *(DEVELOPMENT.__class__(one.lower(), frozenset({one})) for one in Party)):
        if any(party in RULES[DECIDE] for party in caller.parties):
            assert allowed(DECIDE, caller).names_person is (caller.parties == {Party.DESK}), caller
    methods = {name.rpartition("/")[2] for name, rule in RULES.items() if Party.DESK in rule and "grpc." not in name}
    cases = {"ListCases", "GetCase", "TakeCase", "ResolveCase", "FindPayments", "ExplainPayment"}
    assert methods == cases | {"ListApprovals", "GetApproval", "DecideApproval"}
