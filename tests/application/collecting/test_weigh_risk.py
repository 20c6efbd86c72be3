"""The rules against prompts that nobody wants, where payments are made: exact from any process, and kept.

The counters are of the database, so what races here are the real writers of two processes.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.errors import RequestIdReused, RiskRefused
from payment_service.domain.facts import PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import CancelRequest, Payment, PaymentRequest
from payment_service.domain.reasons import Reason
from payment_service.domain.risk import Limit, Mode, Policy, Rule, RulePolicy
from payment_service.store.engines import connect_reader
from payment_service.store.payments import PHONE_INDEX
from payment_service.store.risk import phone_key
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.writers import Writers, a_request, running_writers, withdraw

CALLER = "development"
HOUR = timedelta(hours=1)
LOG_LOCK = 7885070564180913007
LOOK_SECONDS = 0.02
N = 7
CALLS = 100


def policy(rule: Rule, most: int, mode: Mode = Mode.ENFORCE) -> Policy:
    return {rule: RulePolicy(mode, (Limit(most, HOUR),))}


UNANSWERED = policy(Rule.PHONE_UNANSWERED, 3)


async def asked(writers: Writers, request: PaymentRequest | None = None, caller: str = CALLER) -> Payment:
    return (await writers.create(caller, request or a_request(), None, None)).payment


async def ended(writers: Writers, payment: Payment, **result: Any) -> None:
    """The prompt reached the phone, and this came of it."""
    claim = uuid4()
    for fact in (
        SendClaimed(claim),
        PromptAccepted(claim, f"m-{claim}", f"ws_CO_{claim}"),
        ResultReported(f"callback:{claim}", Source.CALLBACK, **result),
    ):
        await writers.facts.submit(Submission(fact, payment.payment_id))


@pytest.mark.parametrize("rule", [Rule.PHONE_UNANSWERED, Rule.PHONE_UNPAID, Rule.PHONE_AMOUNT, Rule.CALLER_PROMPTS])
async def test_of_a_hundred_calls_at_once_from_two_processes_exactly_so_many_are_let_through(
    database: Database, tmp_path: Path, rule: Rule, record_property: Callable[[str, object], None]
) -> None:
    rules = policy(rule, 500 * N if rule is Rule.PHONE_AMOUNT else N)
    async with (
        running_writers(database.application_url, tmp_path, risk=rules) as one,
        running_writers(database.application_url, tmp_path, risk=rules) as other,
    ):
        answers = await asyncio.gather(
            *(asked((one, other)[number % 2]) for number in range(CALLS)), return_exceptions=True
        )
    refused = [answer for answer in answers if isinstance(answer, RiskRefused)]
    assert len(refused) == CALLS - N, [answer for answer in answers if not isinstance(answer, RiskRefused)]
    assert {answer.rule for answer in refused} == {rule}
    assert await count(database, "payment_transactions") == N
    assert await count(database, f"risk_decisions WHERE rule = '{rule}' AND payment_id IS NULL") == CALLS - N
    record_property("figure", f"{rule}: {CALLS} calls at once, {N} let through")


@pytest.mark.parametrize("rule", [Rule.PHONE_UNANSWERED, Rule.CALLER_PROMPTS])
async def test_of_two_processes_that_meet_at_the_limit_one_is_refused(
    database: Database, tmp_path: Path, rule: Rule
) -> None:
    async with (
        running_writers(database.application_url, tmp_path, risk=policy(rule, 1)) as one,
        running_writers(database.application_url, tmp_path, risk=policy(rule, 1)) as other,
        await psycopg.AsyncConnection.connect(database.owner_url) as stopping,
    ):
        # The lock of the log is the last thing that is waited for: a first payment is written then, and not committed.
        await stopping.execute(f"SELECT pg_advisory_xact_lock({LOG_LOCK})")
        first = asyncio.ensure_future(asked(one))
        await waiting_for_locks(database, 1)
        # In one group: what is asked of another phone comes as far as the lock of the log.
        second = asyncio.ensure_future(asked(other))
        third = asyncio.ensure_future(asked(other, a_request(phone_number="254722000001"), caller="another"))
        await waiting_for_locks(database, 2)
        await stopping.rollback()
        answers = await asyncio.gather(first, second, return_exceptions=True)
        await third
    assert sorted(type(answer).__name__ for answer in answers) == ["Payment", "RiskRefused"], answers
    assert await count(database, "payment_transactions") == 2


async def test_a_phone_that_another_process_rings_holds_up_no_other_phone(database: Database, tmp_path: Path) -> None:
    async with (
        running_writers(database.application_url, tmp_path, risk=UNANSWERED) as writers,
        await psycopg.AsyncConnection.connect(database.owner_url) as another,
    ):
        request = a_request()
        key = phone_key(writers.sealer.index(PHONE_INDEX, request.phone_number))
        await another.execute("SELECT pg_advisory_xact_lock(1919512167, %s)", (key,))
        held_up = asyncio.ensure_future(asked(writers, request))
        await asked(writers, a_request(phone_number="254722000001"))
        assert not held_up.done()
        await another.rollback()
        await held_up


async def waiting_for_locks(database: Database, writers_waiting: int) -> None:
    """Until so many writers wait for a lock, of whatever kind."""
    query = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname ="
    query += " current_database())"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await rows_of(database, query)) < writers_waiting:
            await asyncio.sleep(LOOK_SECONDS)


async def test_a_fourth_prompt_that_nobody_would_answer_is_refused_whoever_asks(
    database: Database, tmp_path: Path
) -> None:
    async with running_writers(database.application_url, tmp_path, risk=UNANSWERED) as writers:
        first, *_ = [await asked(writers, caller=f"caller-{number}") for number in range(3)]
        with pytest.raises(RiskRefused) as refused:
            await asked(writers)
        assert refused.value.retry_at == first.created_at + HOUR
        assert not (await writers.create(CALLER, a_request(phone_number="254722000001"), None, None)).replayed
        writers.clock.move(HOUR.total_seconds())
        assert (await asked(writers)).created_at >= refused.value.retry_at


async def test_a_phone_that_pays_rings_again(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path, risk=UNANSWERED) as writers:
        for _ in range(5):
            payment, receipt = await asked(writers), f"R{uuid4().hex[:9]}".upper()
            await ended(writers, payment, verdict=Verdict.PAID, code="0", amount=500, receipt=receipt)
        await asked(writers)


async def test_a_repeat_is_answered_as_before_and_counts_nothing(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path, risk=UNANSWERED) as writers:
        requests = [a_request() for _ in range(3)]
        made = [await asked(writers, request) for request in requests]
        # One after the other, and all in one group.
        for _ in range(2):
            assert [await asked(writers, request) for request in requests] == made
        assert await asyncio.gather(*(asked(writers, request) for request in requests * 10)) == made * 10
        changed = a_request(request_id=requests[0].request_id, booking_id=requests[0].booking_id, amount=501)
        with pytest.raises(RequestIdReused):
            await asked(writers, changed)
    assert await count(database, "risk_decisions") == 0


async def test_repeats_in_one_group_are_one_payment_up_to_the_limit(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path, risk=policy(Rule.PHONE_UNPAID, 1)) as writers:
        request = a_request()
        made = await asyncio.gather(*(asked(writers, request) for _ in range(20)))
        assert len({payment.payment_id for payment in made}) == 1
        assert await count(database, "risk_decisions") == 0, "none of them was one prompt too many"
        with pytest.raises(RiskRefused):
            await asked(writers)


async def test_a_refused_request_leaves_its_id_free_and_is_kept_once(database: Database, tmp_path: Path) -> None:
    request = a_request()
    async with running_writers(database.application_url, tmp_path, risk=policy(Rule.PHONE_UNPAID, 1)) as writers:
        first = await asked(writers)
        answers = await asyncio.gather(*(asked(writers, request) for _ in range(30)), return_exceptions=True)
        assert all(isinstance(answer, RiskRefused) for answer in answers), answers
        await withdraw(writers, CALLER, CancelRequest("c-1", first.payment_id))
        assert (await asked(writers, request)).booking_id == request.booking_id
        with pytest.raises(RequestIdReused):
            await asked(writers, a_request(request_id="c-1"))
    ((rule, mode, counted, most, within_s, payment_id),) = await rows_of(
        database, "SELECT rule, mode, counted, most, within_s, payment_id FROM risk_decisions"
    )
    assert (rule, mode, counted, most, within_s, payment_id) == ("PHONE_UNPAID", "enforce", 2, 1, 3600, None)


async def test_a_rule_in_shadow_lets_through_and_keeps_what_it_would_have_refused(
    database: Database, tmp_path: Path
) -> None:
    shadow = {rule: RulePolicy(Mode.SHADOW, (Limit(1, HOUR),)) for rule in (Rule.PHONE_UNANSWERED, Rule.CALLER_PROMPTS)}
    async with running_writers(database.application_url, tmp_path, risk=shadow) as writers:
        await asked(writers)
        second = await asked(writers)
    kept = await rows_of(database, "SELECT rule, mode, payment_id FROM risk_decisions ORDER BY rule")
    assert kept == [(rule, "shadow", second.payment_id) for rule in ("CALLER_PROMPTS", "PHONE_UNANSWERED")]


@pytest.mark.parametrize("rule", [Rule.BOOKING_UNPAID, Rule.BOOKING_PHONES])
async def test_a_booking_is_asked_for_so_often_and_of_so_many_phones(
    database: Database, tmp_path: Path, rule: Rule
) -> None:
    async with running_writers(database.application_url, tmp_path, risk=policy(rule, 2)) as writers:
        for number in range(2):
            payment = await asked(writers, a_request(booking_id="BK-1", phone_number=f"25472200000{number}"))
            await ended(writers, payment, verdict=Verdict.FAILED, code="2001", reason=Reason.WRONG_PIN)
        with pytest.raises(RiskRefused) as refused:
            await asked(writers, a_request(booking_id="BK-1", phone_number="254722000009"))
        assert refused.value.rule is rule
        await asked(writers, a_request(booking_id="BK-2", phone_number="254722000009"))


async def test_a_phone_is_counted_without_its_number(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path, risk=policy(Rule.PHONE_UNPAID, 1)) as writers:
        await asked(writers, a_request(phone_number="254711222333"))
        with pytest.raises(RiskRefused):
            await asked(writers, a_request(phone_number="254711222333"))
    ((kept,),) = await rows_of(database, "SELECT d::text FROM risk_decisions d")
    assert "711222333" not in kept
    assert b"711222333".hex() not in kept


async def test_what_rules_had_against_a_payment_is_explained(database: Database, tmp_path: Path) -> None:
    request = a_request()
    rules = {
        Rule.PHONE_UNPAID: RulePolicy(Mode.ENFORCE, (Limit(1, HOUR),)),
        Rule.PHONE_BOOKINGS: RulePolicy(Mode.SHADOW, (Limit(1, 2 * HOUR),)),
    }
    async with running_writers(database.application_url, tmp_path, risk=rules) as writers:
        await asked(writers)
        with pytest.raises(RiskRefused):
            await asked(writers, request)
        writers.clock.move(HOUR.total_seconds())
        payment = await asked(writers, request)
        async with await connect_reader(database.application_url) as reader:
            story = await explain_payment(writers.sealer, reader, payment.payment_id)
    told = [(moment.what, moment.details[0]) for moment in story.moments if moment.what.startswith("rule ")]
    assert told == [
        ("rule PHONE_BOOKINGS refused the request", "counted 2; 1 in 7200 s are let through"),
        ("rule PHONE_UNPAID refused the request", "counted 2; 1 in 3600 s are let through"),
    ]
