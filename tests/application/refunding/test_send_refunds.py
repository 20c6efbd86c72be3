"""Sending money back through a simulated M-Pesa: what its books say in the end, and what ours say of it.

Every answer and every result may be lost, late, odd or untrue. The books of the simulator are the witness: however a
refund goes, its money goes back once or not at all, and we say that it did only if it did.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import structlog

from daraja_simulator.settings import DEVELOPMENT_INITIATOR_NAME
from payment_service.application.calling.access_token import get_token
from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.accept_callbacks import CallbackOutcome
from payment_service.daraja.initiator import load_initiator
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.refund_facts import RefundClaimed
from payment_service.domain.refunds import DOUBT_MAX
from tests.application.refunding.returning import Returning, returning
from tests.databases import Database
from tests.rows import count, rows_of

REFUNDED = ("REFUNDED", "RELEASE", 500)
STILL_HERE = ("COMPLETED", "RELEASE", 0)
UNDER_WAY = ("REFUNDING", "RELEASE", 0)


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


async def test_money_goes_back_once_and_the_payment_says_so(refunds: Returning) -> None:
    refund_id = await refunds.refunded()
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert await refunds.payment_of(refund_id) == REFUNDED
    assert [(one.kind, one.amount) for one in refunds.returns] == [("reversal", 500)]
    assert await refunds.cases() == []
    assert await refunds.send() == 0
    kept = await rows_of(refunds.enquiring.books.database, "SELECT kind, status FROM callback_inbox")
    assert kept == [("reversal", "APPLIED")]


async def test_a_refusal_leaves_the_money_here_with_a_case_and_an_alarm(refunds: Returning) -> None:
    payment = await refunds.paid()
    await refunds.enquiring.books.tell_simulator("balance", shortcode="174379", kes=100)
    refund_id = await refunds.ask(payment)
    with structlog.testing.capture_logs() as lines:
        await refunds.send()
        await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("FAILED", "1")
    assert await refunds.payment_of(refund_id) == STILL_HERE
    assert await refunds.cases() == [("REFUND", False)]
    assert refunds.returns == []
    assert "refund_refused" in [line.get("alarm") for line in lines]
    # Money is moved in, and the refund is asked for once more.
    await refunds.enquiring.books.tell_simulator("balance", shortcode="174379", kes=1_000)
    again = await refunds.ask(payment)
    await refunds.send()
    await refunds.enquiring.heard(2)
    assert await refunds.payment_of(again) == REFUNDED
    assert len(refunds.returns) == 1


@pytest.mark.parametrize("answer", ["lost", "reset", "cut_header", "cut_body"])
async def test_a_refund_whose_answer_and_result_are_lost_is_asked_about_and_never_sent_again(
    refunds: Returning, answer: str
) -> None:
    refund_id = await refunds.refunded(answer=answer, result="never")
    await refunds.ended()
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    assert await refunds.payment_of(refund_id) == UNDER_WAY
    assert await refunds.send() == 0
    await refunds.asked()
    assert await refunds.state(refund_id) == ("DONE", "R000001")
    assert await refunds.payment_of(refund_id) == REFUNDED
    assert (len(refunds.orders), len(refunds.returns)) == (1, 1)
    assert await refunds.cases() == []


async def test_the_word_that_nobody_knows_is_no_failure(refunds: Returning) -> None:
    """The post to the timeout address has code 1, which is "too little money" in a result."""
    refund_id = await refunds.refunded(result="queue_timeout")
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    await refunds.asked()
    assert await refunds.state(refund_id) == ("DONE", "0")
    assert (len(refunds.orders), len(refunds.returns)) == (1, 1)


async def test_a_receipt_that_was_reversed_by_somebody_else_is_returned_with_a_case(refunds: Returning) -> None:
    payment = await refunds.paid(phone_number="254722333444")
    await refunds.enquiring.books.tell_simulator("takebacks", phone="254722333444")
    refund_id = await refunds.ask(payment)
    await refunds.send()
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("DONE", "R000001")
    assert await refunds.payment_of(refund_id) == REFUNDED
    assert await refunds.cases() == [("REFUND", False)]
    assert [one.kind for one in refunds.returns] == ["taken_back"]


async def test_done_without_the_receipt_that_went_back_proves_nothing(refunds: Returning) -> None:
    refund_id = await refunds.refunded(quirks=["reversal.no_original"])
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    await refunds.asked()
    assert await refunds.state(refund_id) == ("DONE", "0")


async def test_a_refund_that_is_said_to_be_done_and_is_not_fails_by_what_its_conversation_says(
    refunds: Returning,
) -> None:
    refund_id = await refunds.refunded(carries_out=False)
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    await refunds.asked()
    assert await refunds.state(refund_id) == ("FAILED", "DECLINED")
    assert await refunds.payment_of(refund_id) == STILL_HERE
    assert await refunds.cases() == [("REFUND", False)]
    assert (len(refunds.orders), refunds.returns) == (1, [])


async def test_a_result_of_another_transaction_is_for_a_person(refunds: Returning) -> None:
    refund_id = await refunds.refunded(parameters={"OriginalTransactionID": "TKZ9Y8X7W6"})
    await refunds.enquiring.heard(1)
    assert await refunds.state(refund_id) == ("ACCEPTED", None)
    assert await refunds.cases() == [("REFUND", True)]


async def test_a_process_that_dies_after_its_claim_sends_nothing_twice(refunds: Returning) -> None:
    """It may have died before its first byte or after its last one: nobody can tell, so nobody sends."""
    refund_id = await refunds.ask(await refunds.paid())
    payment = refunds.payments[refund_id]
    claim = RefundClaimed(uuid4(), refunds.tools.operator.key)
    await refunds.tools.facts.submit(Submission(claim, payment.payment_id, refund_id=refund_id))
    assert await refunds.as_another_process().send() == 0
    await refunds.later(46)
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    assert await refunds.send() == 0
    await refunds.asked()
    await refunds.later(DOUBT_MAX.total_seconds())
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    assert await refunds.cases() == [("REFUND", False)]
    assert refunds.orders == []


async def test_an_accepted_refund_without_a_result_is_asked_about(refunds: Returning) -> None:
    refund_id = await refunds.refunded(result="never")
    await refunds.ended()
    assert await refunds.state(refund_id) == ("ACCEPTED", None)
    await refunds.later(119)
    assert await refunds.state(refund_id) == ("ACCEPTED", None)
    await refunds.later(2)
    assert await refunds.state(refund_id) == ("UNCERTAIN", None)
    await refunds.asked()
    assert await refunds.state(refund_id) == ("DONE", "0")


async def test_of_several_processes_one_sends_a_refund(refunds: Returning) -> None:
    await refunds.ask(await refunds.paid())
    processes = [refunds, *(refunds.as_another_process() for _ in range(4))]
    await asyncio.gather(*(process.send() for process in processes))
    await refunds.enquiring.heard(1)
    assert (len(refunds.orders), len(refunds.returns)) == (1, 1)


async def test_a_refund_that_reached_nobody_is_sent_again(refunds: Returning) -> None:
    refund_id = await refunds.refunded(error="spike_arrest")
    assert await refunds.state(refund_id) == ("REQUESTED", "500.003.02")
    assert await refunds.send() == 0
    refunds.enquiring.books.clock.move(60)
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await refunds.payment_of(refund_id) == REFUNDED
    assert len(refunds.returns) == 1


async def test_an_app_without_reversals_holds_up_no_prompt_and_a_person_hears_of_it(refunds: Returning) -> None:
    books = refunds.enquiring.books
    refund_id = await refunds.ask(await refunds.paid())
    tokens = refunds.tools.safaricom.tokens["174379"]
    with structlog.testing.capture_logs() as lines:
        for _ in range(4):
            await refunds.script(error="no_apiproduct_match")
            assert await refunds.send() == 1
            assert await refunds.state(refund_id) == ("REQUESTED", "401.002.01")
            books.clock.move(10)
            assert (await get_token(tokens)).value, "prompts have a token"
    alarms = [line["alarm"] for line in lines if "alarm" in line]
    assert set(alarms) == {"refund_held_up"}
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await refunds.payment_of(refund_id) == REFUNDED


async def test_a_refund_that_waits_long_is_told_to_a_person(refunds: Returning) -> None:
    refund_id = await refunds.ask(await refunds.paid())
    with structlog.testing.capture_logs() as lines:
        await refunds.script(error="spike_arrest")
        assert await refunds.send() == 1
        assert [line for line in lines if "alarm" in line] == []
        refunds.enquiring.books.clock.move(15 * 60)
        await refunds.script(error="spike_arrest")
        assert await refunds.send() == 1
    told = [(line["alarm"], line["refund_id"], line["code"]) for line in lines if "alarm" in line]
    assert told == [("refund_held_up", str(refund_id), "500.003.02")]


async def test_a_refused_initiator_is_tried_once_and_a_corrected_one_at_once(
    refunds: Returning, tmp_path: Path
) -> None:
    refused = with_wrong_password(refunds, tmp_path)
    first = await refused.refunded()
    await refunds.enquiring.heard(1)
    assert await refunds.state(first) == ("FAILED", "2001")
    second = await refused.ask(await refused.paid())
    assert await refused.send() == 0
    assert await refunds.state(second) == ("REQUESTED", None)
    assert await refunds.send() == 1
    await refunds.enquiring.heard(2)
    assert await refunds.payment_of(second) == REFUNDED


def with_wrong_password(refunds: Returning, folder: Path) -> Returning:
    wrong = load_initiator(DEVELOPMENT_INITIATOR_NAME, "expired", folder / "certificate.pem")
    operator = replace(refunds.tools.operator, initiator=wrong)
    asking = replace(refunds.enquiring.tools, operator=operator)
    return replace(
        refunds,
        enquiring=replace(refunds.enquiring, tools=asking),
        tools=replace(refunds.tools, operator=operator),
    )


async def test_a_wrong_password_is_tried_once_however_many_refunds_wait(refunds: Returning, tmp_path: Path) -> None:
    refused = with_wrong_password(refunds, tmp_path)
    paid = [await refunds.paid(phone_number=f"25471200000{number}") for number in range(4)]
    waiting = [await refused.ask(payment) for payment in paid]
    assert [await refused.send(), await refused.send()] == [1, 0]
    await refunds.enquiring.heard(1)
    assert await refused.send() == 0
    states = [await refunds.state(refund_id) for refund_id in waiting]
    assert sorted(states, key=str) == [("FAILED", "2001"), *[("REQUESTED", None)] * 3]
    await refunds.enquiring.pending()
    assert not await refused.enquiring.ask(), "a question would be the second wrong password"


async def test_refunds_leave_side_by_side_once_one_of_them_is_done(refunds: Returning) -> None:
    for number in range(4):
        await refunds.ask(await refunds.paid(phone_number=f"25471200000{number}"))
    assert await refunds.send() == 1
    await refunds.enquiring.heard(1)
    assert await refunds.send() == 3
    await refunds.enquiring.heard(4)


async def test_an_initiator_that_a_question_was_refused_sends_no_refund(refunds: Returning, tmp_path: Path) -> None:
    refused = with_wrong_password(refunds, tmp_path)
    refund_id = await refunds.ask(await refunds.paid(phone_number="254712000001"))
    await refunds.enquiring.pending()
    await refused.enquiring.ask_and_hear()
    refunds.enquiring.books.clock.move(61)
    assert not await refused.enquiring.ask()
    assert await refused.send() == 0
    assert await refunds.send() == 1
    await refunds.enquiring.heard(2)
    assert await refunds.payment_of(refund_id) == REFUNDED


async def test_the_token_of_one_address_is_worth_nothing_at_another(refunds: Returning) -> None:
    refund_id = await refunds.refunded(result="never")
    await refunds.ended()
    query = "SELECT reference, receipt FROM refunds WHERE refund_id = %s"
    ((reference, receipt),) = await rows_of(refunds.enquiring.books.database, query, (refund_id,))
    parameters = {"ResultParameter": [{"Key": "OriginalTransactionID", "Value": receipt}]}
    said = {"Result": {"ResultType": 0, "ResultCode": 0, "ResultParameters": parameters}}
    urls = [refunds.tools.operator.url(kind, reference) for kind in CallbackKind if kind is not CallbackKind.STK]
    assert len({url.rsplit("/", 1)[1] for url in urls}) == len(urls)
    assert {url.split("/callbacks/")[1].split("/")[0] for url in urls} == {"result"}
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        timeout_url = refunds.tools.operator.url(CallbackKind.REVERSAL_TIMEOUT, reference)
        await client.post(timeout_url, content=json.dumps(said))
        assert await refunds.state(refund_id) == ("UNCERTAIN", None), (
            "what comes there proves nothing, whatever it says"
        )
        forged = timeout_url[:-4] + "0000"
        await client.post(forged, content=json.dumps(said))
        assert refunds.enquiring.taken[-1] is CallbackOutcome.TOKEN_REFUSED


async def test_an_event_and_a_version_tell_of_each_step_a_caller_sees(refunds: Returning) -> None:
    refund_id = await refunds.refunded()
    await refunds.enquiring.heard(1)
    database = refunds.enquiring.books.database
    query = "SELECT event_type, refund_status, refunded_amount::int FROM payment_events WHERE refund_id = %s"
    told = await rows_of(database, query + " ORDER BY version", (refund_id,))
    assert told == [("REFUND_REQUESTED", "PENDING", 0), ("REFUNDED", "DONE", 500)]
    assert await count(database, "daraja_exchanges WHERE operation = 'reversal' AND classified_as = 'Accepted'") == 1


async def test_the_story_of_a_payment_tells_of_its_refund_and_nothing_stored_breaks_a_promise(
    refunds: Returning,
) -> None:
    refund_id = await refunds.refunded(answer="lost", result="never")
    await refunds.ended()
    await refunds.asked()
    writers = refunds.enquiring.books.reader.writers
    async with await psycopg.AsyncConnection.connect(refunds.enquiring.books.database.owner_url) as owner:
        story = await explain_payment(writers.sealer, owner, refunds.payments[refund_id].payment_id)
        broken = await check_invariants(Instruments(writers.sealer, writers.keys), owner)
    told = [moment.what for moment in story.moments]
    assert any(what.startswith(f"refund {refund_id} of 500 asked for, by reversal, OTHER: DONE now") for what in told)
    assert any(what.startswith("reversal: no answer") for what in told)
    assert any(what.startswith("callback") for what in told)
    assert [tally.shown for tally in broken.values() if tally.violations] == []


async def test_a_result_that_comes_after_a_day_ends_the_case_that_nobody_knew(refunds: Returning) -> None:
    refund_id = await refunds.refunded(result="held")
    await refunds.ended()
    await refunds.later(121)
    await refunds.later(DOUBT_MAX.total_seconds())
    open_cases = "cases WHERE settled_at IS NULL"
    assert await count(refunds.enquiring.books.database, open_cases) == 1
    await refunds.enquiring.books.tell_simulator("results/release")
    await refunds.enquiring.heard(1)
    assert await refunds.payment_of(refund_id) == REFUNDED
    assert await count(refunds.enquiring.books.database, open_cases) == 0
