"""Settling cases with the real writer and the real database: what is written, and what is refused."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from payment_service.application.casework.show_cases import get_case
from payment_service.application.casework.take_case import take_case
from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.inspecting.invariants import Instruments, Invariant
from payment_service.application.settling.accept_callbacks import CallbackOutcome, ReceivedCallback, accept_callbacks
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.case_rules import CaseMarks, Resolution
from payment_service.domain.errors import (
    CaseAlreadySettled,
    CaseChanged,
    CaseNotFound,
    InvalidRequest,
    ResolutionRefused,
)
from payment_service.domain.facts import RefundRequested, Unreadable, WatchEnded
from payment_service.domain.payment import BookingAction, State
from payment_service.domain.refund_ends import RefundDone
from payment_service.store.engines import connect_reader
from runtime.callback_tokens import callback_token
from tests.application.casework.casefiles import (
    OPERATOR,
    WHY,
    attempt,
    expired,
    late,
    only_case,
    open_cases,
    pulled,
    settle,
)
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.processes import Process, paid, sent
from tests.sending import CALLBACK_KEYS

ACTS = "SELECT act, operator, reason, mpesa_receipt_number, case_version FROM case_acts ORDER BY acted_at, case_version"


async def broken(process: Process, database: Database) -> list[str]:
    """What the check finds in all that is stored."""
    tools = Instruments(process.writers.sealer, process.writers.keys)
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(tools, conn)
    return [f"{invariant.value}: {one.what}" for invariant, tally in tallies.items() for one in tally.shown]


async def test_late_money_that_is_accepted_confirms_the_booking_and_is_kept_with_who_and_why(
    process: Process, database: Database
) -> None:
    payment = await late(process, 1, "RCPT000001")
    file = await only_case(process)
    assert (file.case.kind, attempt(file)) == ("LATE_PAYMENT", "REVIEW")
    settled = await settle(process, file)
    assert (attempt(settled), settled.case.resolution) == ("CONFIRM", "ACCEPT")
    assert settled.case.settled_at == process.writers.clock.now
    assert await rows_of(database, ACTS) == [("ACCEPT", OPERATOR, WHY, "RCPT000001", 2)]
    events = await rows_of(
        database, "SELECT version, fact_kind, fact_id, booking_action FROM payment_events ORDER BY version DESC LIMIT 1"
    )
    assert events == [(payment.version + 1, "CaseAccepted", settled.case.settled_by, "CONFIRM")]
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_money_of_the_books_that_is_accepted_completes_the_payment_and_counts_once(
    process: Process, database: Database
) -> None:
    payment = await expired(process, 1)
    file = await only_case(process, payment, pulled("RCPT000001"))
    settled = await settle(process, file)
    assert attempt(settled) == "CONFIRM"
    (view,) = settled.attempts
    assert (view.status.value, view.receipt, view.paid_late) == ("COMPLETED", "RCPT000001", True)
    counted = "SELECT receipt, payment_id, amount, counted FROM mpesa_receipts"
    assert await rows_of(database, counted) == [("RCPT000001", payment.payment_id, 500, True)]
    # The same money told again, by callback, is no news.
    again = await process.tell(payment, paid("RCPT000001"))
    assert (again.state, again.receipt, again.version) == (State.COMPLETED, "RCPT000001", view.version)
    assert await broken(process, database) == []


async def test_a_wrong_amount_that_is_accepted_counts_from_then_on(process: Process, database: Database) -> None:
    payment = await process.tell(await process.create(), *sent(1))
    file = await only_case(process, payment, paid("RCPT000001", 499))
    assert await rows_of(database, "SELECT counted FROM mpesa_receipts") == [(False,)]
    settled = await settle(process, file)
    assert attempt(settled) == "CONFIRM"
    assert await rows_of(database, "SELECT counted, amount FROM mpesa_receipts") == [(True, 499)]
    assert await broken(process, database) == []


async def test_a_dismissal_lifts_the_bar_and_confirms_nothing(process: Process, database: Database) -> None:
    payment = await expired(process, 1)
    file = await only_case(process, payment, pulled("RCPT000001"))
    assert attempt(file) == "REVIEW"
    settled = await settle(process, file, Resolution.DISMISS, why="the money is of another passenger")
    assert (attempt(settled), settled.case.resolution) == ("OFFER_RETRY", "DISMISS")
    assert await count(database, "mpesa_receipts") == 0
    kinds = "SELECT fact_kind FROM payment_events ORDER BY version DESC LIMIT 1"
    assert await rows_of(database, kinds) == [("CaseDismissed",)]
    assert await broken(process, database) == []


async def test_a_dismissal_that_changes_no_payment_is_kept_on_the_case_alone(
    process: Process, database: Database
) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid("RCPT000001"))
    file = await only_case(process, payment, paid("RCPT000002"))
    assert (file.case.kind, attempt(file)) == ("SECOND_RECEIPT", "CONFIRM")
    events = await count(database, "payment_events")
    settled = await settle(process, file, Resolution.DISMISS, why="sent back by hand, ticket 17")
    assert settled.case.resolution == "DISMISS"
    assert await rows_of(database, ACTS) == [("DISMISS", OPERATOR, "sent back by hand, ticket 17", None, 2)]
    # That money is in doubt no more is a field of the row, and the log tells of it.
    assert await count(database, "payment_events") == events + 1
    assert await broken(process, database) == []


async def test_what_a_person_looked_up_makes_the_end_certain(process: Process, database: Database) -> None:
    payment = await expired(process, 1)
    process.writers.clock.move(49 * 3600)
    file = await only_case(process, payment, WatchEnded())
    assert file.case.kind == "OUTCOME_UNKNOWN"
    settled = await settle(process, file, Resolution.DISMISS, why="not in the portal")
    assert settled.attempts[0].outcome_certain
    assert await rows_of(database, "SELECT unpaid_proof FROM payment_transactions") == [("PERSON",)]
    assert await broken(process, database) == []


async def test_an_unread_callback_is_settled_by_what_a_person_reads_in_it(process: Process, database: Database) -> None:
    payment = await expired(process, 1)
    file = await only_case(process, payment, Unreadable("unread:callback:1", "not JSON"))
    settled = await settle(process, file, receipt="RCPT000001")
    assert attempt(settled) == "CONFIRM"
    assert await rows_of(database, "SELECT unread_callback FROM payment_transactions") == [(False,)]
    assert await broken(process, database) == []


async def test_money_that_has_provably_gone_back_leaves_nothing_to_settle(process: Process, database: Database) -> None:
    payment, refund = await late(process, 1, "RCPT000001"), uuid4()
    asked = await process.tell(payment, RefundRequested(refund))
    assert (asked.booking_action, len(await open_cases(process))) == (BookingAction.RELEASE, 1)
    done = await process.tell(payment, RefundDone(refund, 500))
    assert (done.state, done.money_case_open) == (State.REFUNDED, False)
    assert await open_cases(process) == []
    ended = "SELECT kind, settled_by, resolution FROM cases"
    assert await rows_of(database, ended) == [("LATE_PAYMENT", f"refund-done:{refund}", None)]


# Refused, and nothing changed.


async def test_of_two_operators_at_once_one_settles_and_the_other_hears_who_did(
    process: Process, database: Database
) -> None:
    await late(process, 1, "RCPT000001")
    file = await only_case(process)
    told = await asyncio.gather(
        settle(process, file, operator="amina"),
        settle(process, file, operator="brian"),
        return_exceptions=True,
    )
    (refusal,) = (one for one in told if isinstance(one, Exception))
    assert isinstance(refusal, CaseAlreadySettled)
    ((_, winner, *_),) = await rows_of(database, ACTS)
    assert (refusal.how, refusal.by) == ("ACCEPT", winner)
    assert await broken(process, database) == []


async def test_a_case_is_settled_once_and_the_same_act_again_is_no_error(process: Process, database: Database) -> None:
    await late(process, 1, "RCPT000001")
    file = await only_case(process)
    settled = await settle(process, file)
    assert (await settle(process, file)).case == settled.case
    for operator, why in (("brian", WHY), (OPERATOR, "another reason")):
        for seen in (file, settled):
            with pytest.raises(CaseAlreadySettled) as refusal:
                await settle(process, seen, operator=operator, why=why)
            assert refusal.value.by == OPERATOR
    assert await count(database, "case_acts") == 1


async def test_a_decision_on_an_old_picture_is_refused_with_what_changed(process: Process, database: Database) -> None:
    payment = await expired(process, 1)
    file = await only_case(process, payment, pulled("RCPT000001"))
    await process.tell(payment, paid("RCPT000009"))
    with pytest.raises(CaseChanged) as refusal:
        await settle(process, file)
    assert f"payment {payment.payment_id}, which is COMPLETED (REVIEW) now" in str(refusal.value)
    assert await count(database, "case_acts") == 0
    case = await get_case(process.core.reads, file.case.case_id)
    assert (case.case.settled_at, case.case.resolution) == (None, None)


async def test_an_attempt_that_is_paid_meanwhile_is_a_change(process: Process) -> None:
    first = await expired(process, 1, booking_id="BK-1")
    file = await only_case(process, first, pulled("RCPT000001"))
    # The same booking is paid by a second attempt, which was under way.
    process.writers.clock.move(200)
    await settle(process, file, Resolution.DISMISS)
    second = await process.tell(await process.create(booking_id="BK-1"), *sent(2))
    again = await only_case(process, first, pulled("RCPT000002"))
    await process.tell(second, paid("RCPT000003"))
    with pytest.raises(CaseChanged) as refusal:
        await settle(process, again)
    assert "the attempts of its booking" in str(refusal.value)


async def test_a_case_that_another_operator_has_taken_is_a_change_and_can_be_taken_over(process: Process) -> None:
    await late(process, 1, "RCPT000001")
    file = await only_case(process)
    reads, clock = process.core.reads, process.core.clock
    seen = CaseMarks(file.case.version, file.case.payments_version, file.case.open_cases)
    taken = await take_case(reads, clock, file.case.case_id, seen, "brian", "mine today")
    assert (taken.case.owner, taken.case.taken_at) == ("brian", process.writers.clock.now)
    with pytest.raises(CaseChanged) as refusal:
        await settle(process, file)
    assert (refusal.value.owner, "brian has now" in str(refusal.value)) == ("brian", True)
    with pytest.raises(CaseChanged):
        await take_case(reads, clock, file.case.case_id, seen, "amina", "me, too")
    settled = await settle(process, taken)
    assert [(act.act, act.operator, act.case_version) for act in settled.acts] == [
        ("TAKE", "brian", 2),
        ("ACCEPT", "amina", 3),
    ]
    with pytest.raises(CaseAlreadySettled):
        await take_case(reads, clock, file.case.case_id, seen, "amina", "after all")


async def test_a_receipt_that_is_anothers_is_not_accepted(process: Process, database: Database) -> None:
    await process.tell(await process.create(), *sent(1), paid("RCPT000001"))
    payment = await expired(process, 2)
    process.writers.clock.move(49 * 3600)
    file = await only_case(process, payment, WatchEnded())
    with pytest.raises(ResolutionRefused) as refusal:
        await settle(process, file, receipt="RCPT000001")
    assert "recorded on another payment" in str(refusal.value)
    assert await count(database, "case_acts") == 0
    assert attempt(await settle(process, file, receipt="RCPT000002")) == "CONFIRM"


async def test_what_the_kind_or_the_receipt_does_not_allow_is_refused_by_its_field(process: Process) -> None:
    payment = await late(process, 1, "RCPT000001")
    file = await only_case(process)
    with pytest.raises(ResolutionRefused) as refusal:
        await settle(process, file, Resolution.DISMISS)
    assert refusal.value.allowed == (Resolution.ACCEPT, Resolution.RETURN)
    assert "stands on this money" in str(refusal.value)
    with pytest.raises(InvalidRequest, match="the receipt that the case is about"):
        await settle(process, file, receipt="RCPT000002")
    assert (await process.tell(payment)).booking_action is BookingAction.REVIEW
    await settle(process, file)
    other = await expired(process, 2)
    process.writers.clock.move(49 * 3600)
    unknown = await only_case(process, other, WatchEnded())
    with pytest.raises(InvalidRequest, match="does not name one"):
        await settle(process, unknown)
    with pytest.raises(InvalidRequest, match="no money is accepted"):
        await settle(process, unknown, Resolution.DISMISS, receipt="RCPT000003")


async def test_a_case_that_does_not_exist_is_not_found(process: Process) -> None:
    with pytest.raises(CaseNotFound):
        await get_case(process.core.reads, uuid4())


async def test_a_case_about_no_payment_is_settled_without_one(process: Process, database: Database) -> None:
    reference = "bcdfghjknprt"
    token = callback_token(CALLBACK_KEYS, "stk", reference)
    body = json.dumps({"Body": {"stkCallback": {"ResultCode": 1032, "ResultDesc": "Request cancelled by user"}}})
    received = ReceivedCallback(
        CallbackKind.STK, reference, token, body.encode(), "196.201.214.200", process.writers.clock.now
    )
    assert await accept_callbacks(process.core.callbacks, [received]) == [CallbackOutcome.STORED]
    file = await only_case(process)
    assert (file.case.kind, file.case.payment_id, file.attempts) == ("UNKNOWN_PAYMENT", None, [])
    assert "Request cancelled by user" in file.evidence[0].body
    with pytest.raises(ResolutionRefused):
        await settle(process, file, receipt="RCPT000001")
    settled = await settle(process, file, Resolution.DISMISS, why="a test of ours")
    assert (settled.case.resolution, await open_cases(process)) == ("DISMISS", [])
    with pytest.raises(CaseAlreadySettled):
        await settle(process, settled, Resolution.DISMISS, why="again")
    assert await broken(process, database) == []


async def test_two_accepted_duplicates_confirm_once(process: Process, database: Database) -> None:
    first = await expired(process, 1, booking_id="BK-1")
    process.writers.clock.move(200)
    second = await expired(process, 2, booking_id="BK-1")
    await process.tell(first, paid("RCPT000001"))
    await process.tell(second, paid("RCPT000002"))
    files = [await get_case(process.core.reads, case.case_id) for case in await open_cases(process)]
    kinds = {file.case.payment_id: file.case.kind for file in files}
    assert kinds == {first.payment_id: "LATE_PAYMENT", second.payment_id: "DUPLICATE_PAYMENT"}
    mine, duplicate = sorted(files, key=lambda file: file.case.kind, reverse=True)
    assert attempt(await settle(process, mine)) == "CONFIRM"
    with pytest.raises(CaseChanged):
        await settle(process, duplicate)
    seen = await get_case(process.core.reads, duplicate.case.case_id)
    with pytest.raises(ResolutionRefused, match="Another attempt has confirmed the booking"):
        await settle(process, seen)
    settled = await settle(process, seen, Resolution.DISMISS, why="sent back by hand")
    assert attempt(settled) == "FOLLOW_SIBLING"
    confirms = "SELECT count(*) FROM payment_transactions WHERE said_confirm"
    assert await rows_of(database, confirms) == [(1,)]
    assert await open_cases(process) == []
    assert await broken(process, database) == []


async def test_the_story_of_a_payment_says_who_settled_its_case_and_why(process: Process, database: Database) -> None:
    payment = await late(process, 1, "RCPT000001")
    await settle(process, await only_case(process))
    async with await connect_reader(database.application_url) as conn:
        story = await explain_payment(process.writers.sealer, conn, payment.payment_id)
    (settled,) = (moment for moment in story.moments if "settled" in moment.what)
    assert (settled.what, settled.by) == ("money case LATE_PAYMENT settled", f"operator {OPERATOR}")
    assert settled.details[0] == f"ACCEPT, receipt RCPT000001: {WHY}"
    assert [moment.by for moment in story.moments if moment.what.startswith("version 6")] == [
        "an operator, deciding about a case"
    ]


async def test_the_check_notices_who_or_why_that_was_altered(process: Process, database: Database) -> None:
    await late(process, 1, "RCPT000001")
    await settle(process, await only_case(process))
    await rows_of(database, "UPDATE case_acts SET operator = 'brian' RETURNING act_id")
    (found,) = await broken(process, database)
    assert found.startswith(Invariant.ACTS.value)
