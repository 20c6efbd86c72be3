"""Money that a second person has to agree to: asked for, agreed to, refused, withdrawn; over TLS, as operators call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from structlog.testing import capture_logs

from development.certificates import APPROVER, BOOKING, OPERATOR
from payment_service.alarms import APPROVALS_WAIT
from payment_service.application.approving.watch_approvals import WAITS_LONG, ApprovalWatch, watch_approvals
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.refunding.refund_payment import Agreed, NotAsSeen, refund_payment
from payment_service.domain.consent import Consent, Person
from payment_service.domain.refund import RefundReason, RefundRequest
from payment_service.domain.refund_facts import RefundClaimed, RefundReported, RefundVerdict
from payment_service.store.approvals import Approval, approval_by_id
from payment_service.store.engines import connect_reader
from tests.application.approving.twosome import (
    AGREED,
    APPROVE,
    REFUSE,
    WHY,
    WITHDRAW,
    Twosome,
    decision,
    refund,
    resolution,
    two_operators,
)
from tests.application.casework.casefiles import late
from tests.application.casework.test_resolve_case import broken
from tests.application.receipting.offices import issue
from tests.application.refunding.test_recorded_refunds import tell
from tests.commands.started import command
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import listed, paid, running_process

APPROVED, WAITING = pb.Approval.STATE_APPROVED, pb.Approval.STATE_WAITING
RELEASE = payment_pb2.BOOKING_ACTION_RELEASE


@pytest.fixture
async def two(database: Database, tmp_path: Path) -> AsyncIterator[Twosome]:
    async with two_operators(database, tmp_path) as running:
        yield running


async def test_a_refund_above_the_amount_is_done_once_another_certificate_agrees(
    two: Twosome, database: Database
) -> None:
    payment = await two.completed()
    asked = await two.first.RefundBooking(refund())
    waits = asked.approval
    assert (waits.state, waits.act, waits.amount.units) == (WAITING, pb.Approval.ACT_REFUND, 500)
    assert (waits.asked_by, waits.asker, waits.ask_reason) == (OPERATOR, "amina", WHY)
    assert asked.payment.payment.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM, "the seat is not given up yet"
    assert (await count(database, "refunds"), await count(database, "caller_requests")) == (0, 0)
    looked = await two.first.RefundBooking(refund(validate_only=True))
    assert looked.approval.approval_id == waits.approval_id, "who only looks is told that it waits"
    again = await two.first.RefundBooking(refund())
    assert [again.approval.approval_id] == [one.approval_id for one in await two.waiting()]

    agreed = await two.second.DecideApproval(decision(waits))
    assert (agreed.approval.state, agreed.approval.decided_by, agreed.approval.decider) == (APPROVED, APPROVER, "brian")
    assert agreed.attempts[0].payment.booking_action == RELEASE
    assert await two.waiting() == []
    assert await rows_of(database, "SELECT payment_id, amount, state FROM refunds") == [
        (payment.payment_id, 500, "REQUESTED")
    ]
    async with await connect_reader(database.application_url) as conn:
        story = await explain_payment(two.process.writers.sealer, conn, payment.payment_id)
    by = {moment.what: moment.by for moment in story.moments if "REFUND of 500" in moment.what}
    assert by == {
        "REFUND of 500 asked for, which waits for a second operator": "operator operator by certificate, amina by name",
        "REFUND of 500 is APPROVED": "operator approver by certificate, brian by name",
    }
    repeated = await two.second.DecideApproval(decision(waits))
    assert (repeated.approval.state, await count(database, "refunds")) == (APPROVED, 1)
    looked = await two.first.RefundBooking(refund())
    assert (looked.refund.status, looked.HasField("approval")) == (payment_pb2.REFUND_STATUS_PENDING, False)
    assert await broken(two.process, database) == []


async def test_the_money_of_a_case_is_returned_once_another_certificate_agrees(
    two: Twosome, database: Database
) -> None:
    payment = await late(two.process, 1, "RCPT000001")
    case = await two.the_case()
    settled = await two.first.ResolveCase(resolution(case))
    assert settled.approval.act == pb.Approval.ACT_RETURN
    assert settled.attempts[0].payment.booking_action == payment_pb2.BOOKING_ACTION_REVIEW
    listed = await two.the_case()
    assert (listed.approval_id, listed.approval_asked_by) == (settled.approval.approval_id, OPERATOR)
    await two.second.DecideApproval(decision(settled.approval))
    (refund_id,) = [row[0] for row in await rows_of(database, "SELECT refund_id FROM refunds")]
    assert await rows_of(database, "SELECT act, operator, reason FROM case_acts") == [("RETURN", "amina", WHY)]
    done = RefundReported("callback:done", RefundVerdict.DONE, "0", "RCPT000001", 500)
    await tell(two.process, payment, refund_id, RefundClaimed(uuid4()), done)
    assert list((await two.first.ListCases(pb.ListCasesRequest())).cases) == []
    assert await broken(two.process, database) == []


async def test_up_to_the_amount_one_operator_is_enough(two: Twosome, database: Database) -> None:
    await two.completed()
    answer = await two.first.RefundBooking(refund(fee_percent=20))
    assert (answer.HasField("approval"), answer.refund.amount.units) == (False, 400)
    assert await count(database, "approvals") == 0


@pytest.mark.parametrize("called", ["amina", "brian"])
async def test_the_one_who_asked_agrees_under_no_name(two: Twosome, database: Database, called: str) -> None:
    await two.completed()
    waits = (await two.first.RefundBooking(refund())).approval
    for what in (APPROVE, REFUSE):
        refusal = await refused(two.first.DecideApproval(decision(waits, what, operator=called)))
        assert (refusal.reason, refusal.metadata["asked_by"]) == ("SECOND_PERSON_NEEDED", OPERATOR)
    assert (await count(database, "refunds"), len(await two.waiting())) == (0, 1)


async def test_in_plaintext_nobody_is_a_second_person(database: Database, tmp_path: Path) -> None:
    async with running_process(database.application_url, tmp_path, approval_above=400) as process:
        await late(process, 1, "RCPT000001")
        (case,) = (await process.operations.ListCases(pb.ListCasesRequest())).cases
        waits = (await process.operations.ResolveCase(resolution(case))).approval
        refusal = await refused(process.operations.DecideApproval(decision(waits)))
    assert refusal.reason == "SECOND_PERSON_NEEDED"
    assert await count(database, "refunds") == 0


async def test_what_was_asked_for_on_other_facts_is_not_agreed_to(two: Twosome, database: Database) -> None:
    await late(two.process, 1, "RCPT000001")
    case = await two.the_case()
    waits = (await two.first.ResolveCase(resolution(case))).approval
    await two.first.TakeCase(pb.TakeCaseRequest(case_id=case.case_id, etag=case.etag, operator="chege", reason="mine"))
    shown = (await two.second.GetApproval(pb.GetApprovalRequest(approval_id=waits.approval_id))).approval
    assert list(shown.changed) == ["the case"]
    refusal = await refused(two.second.DecideApproval(decision(shown)))
    assert (refusal.reason, refusal.metadata["changed"]) == ("APPROVAL_OUTDATED", "the case")
    assert await count(database, "refunds") == 0
    anew = (await two.first.ResolveCase(resolution(await two.the_case()))).approval
    assert anew.approval_id != waits.approval_id
    states = "SELECT state FROM approvals ORDER BY asked_at, approval_id"
    assert await rows_of(database, states) == [("OVERTAKEN",), ("WAITING",)]
    assert (await two.second.DecideApproval(decision(anew))).approval.state == APPROVED
    assert await broken(two.process, database) == []


async def test_a_refund_is_not_agreed_to_after_the_payment_has_changed(two: Twosome, database: Database) -> None:
    payment = await two.completed()
    waits = (await two.first.RefundBooking(refund())).approval
    await two.process.tell(payment, paid("RCPT000009"))
    refusal = await refused(two.second.DecideApproval(decision(waits)))
    assert refusal.reason == "APPROVAL_OUTDATED"
    assert "which is COMPLETED (CONFIRM) now" in refusal.metadata["changed"]
    assert await count(database, "refunds") == 0


async def test_a_receipt_that_comes_meanwhile_outdates_nothing(two: Twosome, database: Database) -> None:
    payment = await two.completed()
    await two.process.tell(payment, listed("RCPT000001"))
    waits = (await two.first.RefundBooking(refund())).approval
    await issue(two.process)
    assert await count(database, "issued_receipts") == 1
    assert (await two.second.DecideApproval(decision(waits))).approval.state == APPROVED
    assert await rows_of(database, "SELECT payment_id, amount FROM refunds") == [(payment.payment_id, 500)]
    assert await broken(two.process, database) == []


async def test_an_etag_of_another_picture_agrees_to_nothing(two: Twosome, database: Database) -> None:
    await two.completed()
    waits = (await two.first.RefundBooking(refund())).approval
    refusal = await refused(two.second.DecideApproval(decision(waits, etag="0.1.0")))
    assert refusal.reason == "APPROVAL_OUTDATED"
    assert await count(database, "refunds") == 0


async def test_what_is_refused_or_withdrawn_is_not_done_and_may_be_asked_for_again(
    two: Twosome, database: Database
) -> None:
    await two.completed()
    first = (await two.first.RefundBooking(refund())).approval
    assert (await refused(two.second.DecideApproval(decision(first, WITHDRAW)))).reason == "NOT_THE_ASKER"
    ended = await two.second.DecideApproval(decision(first, REFUSE, reason="no ticket"))
    assert ended.approval.state == pb.Approval.STATE_REFUSED
    late_yes = await refused(two.second.DecideApproval(decision(first)))
    assert (late_yes.reason, late_yes.metadata["how"]) == ("APPROVAL_DECIDED", "REFUSED")
    second = (await two.first.RefundBooking(refund())).approval
    await two.first.DecideApproval(decision(second, WITHDRAW, operator="amina", reason="mistaken"))
    assert await count(database, "refunds") == 0
    acts = "SELECT state, asked_by, decided_by, decided_as, decided_why FROM approvals ORDER BY approval_id"
    assert await rows_of(database, acts) == [
        ("REFUSED", OPERATOR, APPROVER, "brian", "no ticket"),
        ("WITHDRAWN", OPERATOR, OPERATOR, "amina", "mistaken"),
    ]
    assert await broken(two.process, database) == []


async def test_something_else_about_the_payment_waits_until_the_first_is_decided(
    two: Twosome, database: Database
) -> None:
    await late(two.process, 1, "RCPT000001")
    case = await two.the_case()
    waits = (await two.first.ResolveCase(resolution(case))).approval
    refusal = await refused(two.second.RefundBooking(refund(fee_percent=10)))
    assert (refusal.reason, refusal.metadata["approval_id"]) == ("APPROVAL_WAITS", waits.approval_id)
    assert await count(database, "approvals") == 1


async def test_of_many_who_decide_at_once_one_is_heard(two: Twosome, database: Database) -> None:
    await two.completed()
    waits = (await two.first.RefundBooking(refund())).approval
    told = await asyncio.gather(
        *(two.second.DecideApproval(decision(waits, reason=f"seen {n}")) for n in range(4)),
        two.second.DecideApproval(decision(waits, REFUSE)),
        two.first.DecideApproval(decision(waits, WITHDRAW)),
        return_exceptions=True,
    )
    assert sum(not isinstance(one, BaseException) for one in told) == 1
    (state,) = [row[0] for row in await rows_of(database, "SELECT state FROM approvals")]
    assert await count(database, "refunds") == (1 if state == "APPROVED" else 0)
    assert await broken(two.process, database) == []


async def test_the_table_takes_no_approval_by_the_asker(two: Twosome, database: Database) -> None:
    await two.completed()
    await two.first.RefundBooking(refund())
    with psycopg.connect(database.owner_url) as owner, pytest.raises(psycopg.errors.CheckViolation):
        owner.execute("UPDATE approvals SET state = 'APPROVED', decided_by = asked_by, decided_at = now()")
    with psycopg.connect(database.application_url) as served, pytest.raises(psycopg.errors.InsufficientPrivilege):
        served.execute("UPDATE approvals SET asked_by = 'approver'")


@pytest.mark.parametrize("column", ["decided_by", "decided_why", "asked_by"])
async def test_who_agreed_is_what_the_log_vouches_for(two: Twosome, database: Database, column: str) -> None:
    await two.completed()
    await two.second.DecideApproval(decision((await two.first.RefundBooking(refund())).approval))
    assert await broken(two.process, database) == []
    with psycopg.connect(database.owner_url) as owner:
        owner.execute(f"UPDATE approvals SET {column} = 'somebody'")
    said = await broken(two.process, database)
    assert any("was given by another person, or for another reason, than is kept" in one for one in said)


async def test_what_waits_long_is_an_alarm(two: Twosome, database: Database) -> None:
    await two.completed()
    waits = (await two.first.RefundBooking(refund())).approval
    watch = ApprovalWatch(two.process.core.reads.engine, two.process.writers.clock)

    async def told() -> list[tuple[str, str]]:
        with capture_logs() as lines:
            await watch_approvals(watch)
        return [(line["event"], line["alarm"]) for line in lines]

    assert await told() == []
    two.process.writers.clock.move(WAITS_LONG / timedelta(seconds=1))
    assert await told() == [("alarm", APPROVALS_WAIT.name)]
    await two.first.DecideApproval(decision(waits, WITHDRAW))
    assert await told() == [("alarm is over", APPROVALS_WAIT.name)]


async def agreed_by(two: Twosome, approval: pb.Approval, by: str, payment_id: UUID | None = None) -> None:
    """Straight to the writer, past all that looks before it."""
    core, row = two.process.core, await stored(two, approval)
    assert row is not None
    asked = RefundRequest(
        row.request_id or "", payment_id or row.payment_id, RefundReason.BOOKING_CANCELLED, None, row.asked_as, WHY
    )
    agreed = Agreed(Consent(row.approval_id, row.asked_by, Person(by, "brian", AGREED)), row.seen)
    await refund_payment(core.facts, core.reads, core.refund_shortcodes, BOOKING, asked, agreed)


async def stored(two: Twosome, approval: pb.Approval) -> Approval | None:
    async with two.process.core.reads.engine.connect() as conn:
        return await approval_by_id(conn, UUID(approval.approval_id))


async def test_the_writer_takes_no_consent_of_the_asker_or_to_other_money(two: Twosome, database: Database) -> None:
    await two.completed()
    other = await two.completed(2, booking_id="BK-2")
    waits = (await two.first.RefundBooking(refund())).approval
    with pytest.raises(NotAsSeen):
        await agreed_by(two, waits, OPERATOR)
    with pytest.raises(NotAsSeen):
        await agreed_by(two, waits, APPROVER, other.payment_id)
    assert await count(database, "refunds") == 0
    await agreed_by(two, waits, APPROVER)
    assert await count(database, "refunds") == 1


async def test_what_changes_between_the_look_and_the_lock_is_not_agreed_to(two: Twosome, database: Database) -> None:
    payment = await two.completed()
    waits = (await two.first.RefundBooking(refund())).approval
    await two.process.tell(payment, paid("RCPT000009"))
    with pytest.raises(NotAsSeen):
        await agreed_by(two, waits, APPROVER)
    assert (await count(database, "refunds"), len(await two.waiting())) == (0, 1)


async def test_an_operator_sees_and_approves_by_three_commands(two: Twosome) -> None:
    await two.completed()
    here = {"PAYMENTS_GRPC_ADDRESS": str(two.process.server.address)}
    amina, brian = ({**here, **two.certificates.operator_settings_of(name)} for name in (OPERATOR, APPROVER))
    waits = (await two.first.RefundBooking(refund())).approval
    _, listed, _ = await command(brian, "approvals", "list")
    assert f"{waits.approval_id}  WAITING  REFUND of KES 500, receipt RCPT000001, booking BK-1 of booking" in listed
    words = (waits.approval_id, "--reason", "seen the ticket", "--yes")
    code, _, errors = await command(amina, "approvals", "approve", *words)
    assert (code, errors.startswith("operator has asked for this, and you are operator: another")) == (1, True)
    code, done, errors = await command(brian, "approvals", "approve", *words)
    assert (code, errors) == (0, "")
    assert f"{waits.approval_id}  APPROVED  REFUND of KES 500" in done
    assert "booking action RELEASE" in done
    assert (await command(amina, "approvals", "list"))[1] == "Nothing waits for a second operator.\n"
