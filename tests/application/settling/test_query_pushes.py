"""Payments that nobody hears of are settled by asking: against the simulator, over HTTP, on a real database."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import structlog
from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from daraja_simulator.world import World
from payment_service.application.settling import query_pushes as step_module
from payment_service.application.settling.query_pushes import Asked, query_pushes
from payment_service.application.settling.run_timers import run_timers
from payment_service.domain.facts import DeadlinePassed, ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.store.push_queries import claim_queries
from tests.application.settling.asking import PAYBILL, Asker, beside, running_asker
from tests.daraja_simulator.simulators import in_process
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, open_transactions, rows_of
from tests.writers import Clock

FAR_OFF = 10.0**9
"""Seconds by which the clocks may differ: the test's runs ahead by days."""


@pytest.fixture
async def simulator() -> AsyncIterator[tuple[World, str]]:
    async with in_process(clock_tolerance_seconds=FAR_OFF) as running:
        yield running


@pytest.fixture
async def asker(database: Database, tmp_path: Path, simulator: tuple[World, str]) -> AsyncIterator[Asker]:
    async with running_asker(database, tmp_path, simulator[1]) as running:
        yield running


async def standing(asker: Asker, payment: Payment) -> tuple[object, ...]:
    return await asker.row(payment, "state", "status_reason", "booking_action", "version")


async def test_a_payment_whose_callback_is_lost_is_found_paid_and_confirmed_at_the_second_look(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="paid")
    assert await query_pushes(asker.tools) == Asked(0, 0, 0, 0), "not yet: the callback has its chance"
    asker.clock.move(30)
    assert await query_pushes(asker.tools) == Asked(due=1, asked=1, told=1, skipped=0)
    assert await standing(asker, payment) == ("COMPLETED", "RECEIPT_PENDING", "WAIT", 4)
    asker.clock.move(14)
    assert (await query_pushes(asker.tools)).due == 0
    asker.clock.move(1)
    assert (await query_pushes(asker.tools)).told == 1
    assert await standing(asker, payment) == ("COMPLETED", "RECEIPT_PENDING", "CONFIRM", 5)
    assert await asker.row(payment, "query_at", "query_count") == (None, 2)
    assert await asker.answers(payment) == ["Told 0", "Told 0"]
    facts = await rows_of(asker.database, "SELECT fact_id FROM payment_events WHERE version > 3 ORDER BY version")
    kept = await rows_of(asker.database, "SELECT 'query:' || exchange_id FROM daraja_exchanges ORDER BY exchange_id")
    assert facts == [row for row in kept if row in facts], "an event names the answer that it follows from"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("no_funds", ("FAILED", "INSUFFICIENT_FUNDS", "OFFER_RETRY", 4)),
        ("wrong_pin", ("FAILED", "WRONG_PIN", "OFFER_RETRY", 4)),
        ("cancelled", ("CANCELLED", "DECLINED_BY_CUSTOMER", "OFFER_RETRY", 4)),
    ],
)
async def test_a_listed_failure_ends_the_payment_and_is_certain_once_the_prompt_is_gone(
    asker: Asker, ending: str, expected: tuple[object, ...]
) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending=ending)
    asker.clock.move(30)
    await query_pushes(asker.tools)
    assert await standing(asker, payment) == expected
    ends_at = asker.clock() + timedelta(seconds=150)
    assert await asker.row(payment, "outcome_certain", "retry_allowed_at", "query_at") == (False, ends_at, ends_at)
    asker.clock.move(150)
    assert (await query_pushes(asker.tools)).told == 1
    assert await asker.row(payment, "outcome_certain", "unpaid_proof", "query_at") == (True, "QUERY", None)
    assert await asker.cases(payment) == []


@pytest.mark.parametrize(
    "answer", ["being_processed", "4999", "empty_error", "invalid_checkout", "does_not_exist", "error_after_end"]
)
async def test_not_yet_changes_nothing_but_the_time_of_the_next_query(asker: Asker, answer: str) -> None:
    payment = await asker.prompted({"queries": [answer]})
    before = await asker.row(payment, "version", "updated_at", "chain_hash", "due_at", "state")
    asker.clock.move(30)
    assert (await query_pushes(asker.tools)).asked == 1
    assert await asker.row(payment, "version", "updated_at", "chain_hash", "due_at", "state") == before
    assert await asker.row(payment, "query_at", "query_count") == (asker.clock() + timedelta(seconds=15), 1)
    (understood,) = await asker.answers(payment)
    assert understood.startswith("NotYet")
    assert (await query_pushes(asker.tools)).due == 0
    asker.clock.move(15)
    assert (await query_pushes(asker.tools)).asked == 1


async def test_a_code_that_nobody_has_listed_keeps_asking_and_is_news_once(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, result_code=77777, pays=False)
    for wait in (30, 15, 30):
        asker.clock.move(wait)
        await query_pushes(asker.tools)
    assert await standing(asker, payment) == ("UNCERTAIN", "CONFIRMING", "WAIT", 4)
    assert await asker.answers(payment) == ["Told 77777"] * 3
    assert (await asker.row(payment, "query_at"))[0] is not None
    assert await asker.cases(payment) == []


async def test_a_code_in_doubt_is_settled_by_a_query_that_agrees_late_enough(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="unreachable")
    for wait, state in ((30, "UNCERTAIN"), (15, "UNCERTAIN"), (30, "EXPIRED")):
        asker.clock.move(wait)
        await query_pushes(asker.tools)
        assert (await asker.row(payment, "state"))[0] == state
    assert await asker.row(payment, "outcome_certain") == (False,)
    assert await asker.answers(payment) == ["Told 1037"] * 3


async def test_a_code_in_doubt_is_overruled_by_a_query_that_knows_better(asker: Asker) -> None:
    payment = await asker.prompted()
    doubted = ResultReported("callback:1", Source.CALLBACK, Verdict.UNCERTAIN, "1037")
    await asker.tell(payment, doubted)
    await asker.settled(payment, ending="paid")
    asker.clock.move(30)
    await query_pushes(asker.tools)
    assert (await standing(asker, payment))[:2] == ("COMPLETED", "RECEIPT_PENDING")


async def test_a_query_never_takes_a_success_back(asker: Asker) -> None:
    payment = await asker.prompted()
    paid = ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=500)
    await asker.tell(payment, paid)
    await asker.settled(payment, ending="no_funds")
    for _ in range(4):
        asker.clock.move(60)
        await query_pushes(asker.tools)
    assert await standing(asker, payment) == ("COMPLETED", "RECEIPT_PENDING", "WAIT", 4)
    assert await asker.cases(payment) == ["CONTRADICTION"]
    assert await asker.answers(payment) == ["Told 1"], "a person looks now"


async def test_an_expired_payment_is_watched_and_late_money_found(asker: Asker) -> None:
    payment = await asker.prompted()
    asker.clock.move(120)
    await asker.tell(payment, DeadlinePassed())
    await query_pushes(asker.tools)
    assert await asker.answers(payment) == ["NotYet 500.001.1001"]
    asker.clock.move(3_600)
    await asker.settled(payment, ending="paid")
    await query_pushes(asker.tools)
    assert await asker.row(payment, "state", "paid_late") == ("COMPLETED", True)
    assert await asker.cases(payment) == ["LATE_PAYMENT"]


async def test_money_with_a_receipt_is_not_asked_about(asker: Asker) -> None:
    payment = await asker.prompted()
    paid = ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt="TKA1B2C3D4")
    await asker.tell(payment, paid)
    asker.clock.move(600)
    assert (await query_pushes(asker.tools)).due == 0


# Turns.


async def test_without_a_turn_nothing_is_asked_and_it_is_counted(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider(metric_readers=[reader]).get_meter("test").create_counter("skipped")
    monkeypatch.setattr(step_module, "_skipped", counter)
    async with beside(asker, queries_per_minute=5) as poor:
        payments = [await asker.prompted() for _ in range(3)]
        asker.clock.move(30)
        assert await query_pushes(poor.tools) == Asked(due=3, asked=1, told=0, skipped=2)
        assert await query_pushes(poor.tools) == Asked(due=2, asked=0, told=0, skipped=2)
        asker.clock.move(12)
        assert (await query_pushes(poor.tools)).asked == 1
    assert sorted([len(await asker.answers(payment)) for payment in payments]) == [0, 1, 1]
    assert skipped_in(reader) == 2 + 2 + 1


async def test_those_who_wait_are_asked_about_first_by_when_somebody_gives_up(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short of turns: live payments, those that one more look settles, expired ones with a hold, and the rest."""
    monkeypatch.setattr(step_module, "BATCH", 1)
    begun = asker.clock()
    named = {
        "expired": await asker.prompted(hold_expire_at=begun + timedelta(seconds=30)),
        "expired, held until later": await asker.prompted(hold_expire_at=begun + timedelta(seconds=9_000)),
        "expired, held until sooner": await asker.prompted(hold_expire_at=begun + timedelta(seconds=7_000)),
    }
    asker.clock.move(121)
    assert await run_timers(asker.steps) == 3
    named["live, hold over"] = await asker.prompted(hold_expire_at=begun + timedelta(seconds=125))
    named["paid once"] = await asker.prompted()
    asker.clock.move(10)
    paid_once = ResultReported("query:1", Source.QUERY, Verdict.PAID, "0", asked_at=asker.clock())
    await asker.tell(named["paid once"], paid_once)
    named["live, hold ends first"] = await asker.prompted(hold_expire_at=begun + timedelta(seconds=200))
    asker.clock.move(30)
    order: list[str] = []
    while len(order) < len(named):
        assert (await query_pushes(asker.tools)).asked == 1
        order += [name for name, payment in named.items() if name not in order and await asker.answers(payment)]
    assert order == [
        "live, hold ends first",
        "live, hold over",
        "paid once",
        "expired, held until sooner",
        "expired, held until later",
        "expired",
    ]


async def test_two_processes_ask_once_about_each(asker: Asker) -> None:
    payments = [await asker.prompted() for _ in range(30)]
    asker.clock.move(30)
    async with beside(asker) as other:
        done = await asyncio.gather(*(query_pushes(one.tools) for one in (asker, other) * 3))
    assert sum(step.asked for step in done) == 30
    assert [len(await asker.answers(payment)) for payment in payments] == [1] * 30


async def test_a_process_that_dies_after_its_claim_only_delays_the_next_query(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="paid")
    asker.clock.move(30)
    async with asker.tools.engine.begin() as conn:
        again_at = asker.clock() + timedelta(seconds=15)
        (claimed,) = await claim_queries(conn, PAYBILL.number, asker.clock(), 5, lambda _: again_at)
    assert claimed.payment_id == payment.payment_id
    assert (await query_pushes(asker.tools)).due == 0
    asker.clock.move(15)
    await query_pushes(asker.tools)
    assert (await asker.row(payment, "state"))[0] == "COMPLETED"


async def test_news_that_comes_while_a_query_is_claimed_does_not_put_its_time_back(asker: Asker) -> None:
    payment = await asker.prompted()
    asker.clock.move(30)
    again_at = asker.clock() + timedelta(seconds=15)
    async with asker.tools.engine.connect() as conn:
        await claim_queries(conn, PAYBILL.number, asker.clock(), 5, lambda _: again_at)
        news = ResultReported("callback:1", Source.CALLBACK, Verdict.UNKNOWN, "77777")
        telling = asyncio.create_task(asker.tell(payment, news))
        done, _ = await asyncio.wait({telling}, timeout=0.1)
        assert not done, "the row is locked, so the news waits"
        await conn.commit()
    told = await telling
    assert (told.version, told.query_at) == (4, again_at)
    assert await asker.row(payment, "version", "query_at", "query_count") == (4, again_at, 1)


async def test_no_transaction_is_open_while_safaricom_is_asked(asker: Asker) -> None:
    payment = await asker.prompted()
    asker.clock.move(30)
    await asker.control("settings", {"latency_seconds": 3600})
    step = asyncio.create_task(query_pushes(asker.tools))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asker.row(payment, "query_count") != (1,) or await open_transactions(asker.database) > 0:
            await asyncio.sleep(0.01)
    assert not step.done(), "the claim is committed, nothing is open, and the answer is still to come"
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)


async def test_a_rate_limit_slows_all_processes_down(asker: Asker) -> None:
    refused = await asker.prompted({"queries": ["rate_limited"]})
    asker.clock.move(1)
    waiting = [await asker.prompted() for _ in range(2)]
    asker.clock.move(29)
    async with beside(asker) as other:
        await query_pushes(asker.tools)
        assert await asker.answers(refused) == ["TooFast policies.ratelimit.SpikeArrestViolation"]
        asker.clock.move(1.9)
        for one in (asker, other):
            assert await query_pushes(one.tools) == Asked(due=2, asked=0, told=0, skipped=2)
        asker.clock.move(0.2)
        assert [(await query_pushes(one.tools)).asked for one in (other, asker)] == [1, 0], "then a few at a time"
        asker.clock.move(0.1)
        assert (await query_pushes(asker.tools)).asked == 1
    assert [len(await asker.answers(payment)) for payment in waiting] == [1, 1]


async def test_a_token_that_died_is_renewed_once_and_the_same_asked_again(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="paid")
    await asker.control("tokens/expire", {})
    asker.clock.move(30)
    await query_pushes(asker.tools)
    assert await asker.answers(payment) == ["TokenRefused 404.001.03", "Told 0"]
    assert (await asker.row(payment, "state", "query_count")) == ("COMPLETED", 1)


async def test_tokens_that_are_always_refused_do_not_loop(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.control("tokens/refuse", {"count": 50})
    asker.clock.move(30)
    await query_pushes(asker.tools)
    assert await asker.answers(payment) == ["TokenRefused 404.001.03"] * 2
    asker.clock.move(15)
    await query_pushes(asker.tools)
    assert len(await asker.answers(payment)) == 2, "the token is paused, and nothing is put off"
    assert await asker.row(payment, "query_count") == (1,)


# Nonsense.

NONSENSE: list[tuple[int, str, bytes]] = [
    (200, "text/html", b"<html><body>Welcome to nginx!</body></html>"),
    (200, "application/json", b""),
    (200, "application/json", b"null"),
    (200, "application/json", b'{"ResponseCode": "0", "ResultCode": false, "ResultDesc": "ok"}'),
    (200, "application/json", b'{"ResponseCode": 0, "ResultCode": "0", "CheckoutRequestID": "ws_CO_of_someone_else"}'),
    (200, "application/json", b'{"ResultCode": "0"}'),
    (200, "application/json", b'{"ResponseCode": "0", "ResultCode": [0]}'),
    (500, "application/json", b'{"errorCode": "500.003.1001", "errorMessage": "Internal Server Error"}'),
    (404, "application/json", b'{"errorCode": "404.001.01", "errorMessage": "Resource not found"}'),
    (503, "text/plain", b"Service is currently unreachable"),
    (418, "application/octet-stream", b"\xff\xfe\x00"),
    (302, "text/plain", b"elsewhere"),
]


@pytest.mark.usefixtures("untraced")
async def test_an_hour_of_nonsense_changes_nothing_and_the_timers_go_on(database: Database, tmp_path: Path) -> None:
    clock = Clock(datetime(2026, 3, 1, 9, tzinfo=UTC))
    answered: list[datetime] = []
    states = "SELECT state, count(*) FROM payment_transactions GROUP BY state"
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(talking_nonsense(clock, answered))
        asker = await stack.enter_async_context(
            running_asker(database, tmp_path, url, clock=clock, queries_per_minute=5)
        )
        payments = [await asker.prompted() for _ in range(8)]
        clock.move(-2)
        for seconds in range(2, 3_602, 4):
            clock.move(4)
            await query_pushes(asker.tools)
            await run_timers(asker.steps)
            if seconds in (118, 130):
                assert await rows_of(database, states) == [("PROMPTED" if seconds == 118 else "EXPIRED", 8)]
        for payment in payments:
            assert await standing(asker, payment) == ("EXPIRED", "NO_ANSWER", "OFFER_RETRY", 4)
            assert {text.partition(":")[0] for text in await asker.answers(payment)} == {"NothingLearned"}
            assert (await asker.row(payment, "query_at"))[0] is not None
        assert (await count(database, "cases"), await count(database, "payment_events")) == (0, 8 * 4)
        assert len(answered) > 8 * 4
        assert all(sixth - first >= timedelta(seconds=60) for first, sixth in zip(answered, answered[5:], strict=False))
        clock.move(48 * 3_600)
        await run_timers(asker.steps)
        ended = await rows_of(database, "SELECT DISTINCT outcome_certain, query_at FROM payment_transactions")
        assert ended == [(False, None)], "an hour in which nobody answered proves nothing"
        assert await rows_of(database, "SELECT DISTINCT kind FROM cases") == [("OUTCOME_UNKNOWN",)]


@contextlib.asynccontextmanager
async def talking_nonsense(clock: Clock, answered: list[datetime]) -> AsyncIterator[str]:
    """A Daraja that takes pushes as it should, and answers every query with something else that is no answer."""
    shapes, numbers = itertools.cycle(NONSENSE), itertools.count(1)

    async def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/oauth"):
            return web.json_response({"access_token": "a-token-of-28-characters-000", "expires_in": "999999"})
        if "stkpushquery" in request.path:
            answered.append(clock())
            status, content_type, body = next(shapes)
            return web.Response(status=status, content_type=content_type, body=body)
        ids = {"MerchantRequestID": f"m-{next(numbers)}", "CheckoutRequestID": f"ws_CO_{next(numbers)}"}
        return web.json_response(ids | {"ResponseCode": "0"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def skipped_in(reader: InMemoryMetricReader) -> int:
    collected = json.loads(reader.get_metrics_data().to_json())  # type: ignore[union-attr]  # there is one after an add
    (metric,) = collected["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    return sum(int(point["value"]) for point in metric["data"]["data_points"])


# Money that only a callback has told of.


def told_by_callback(receipt: str = "TKA1B2C3D4") -> ResultReported:
    return ResultReported("callback:paid", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)


async def test_a_success_that_only_a_callback_told_is_backed_by_a_query(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="paid")
    confirmed = await asker.tell(payment, told_by_callback())
    assert await asker.row(payment, "backing", "booking_action") == ("AWAITED", "CONFIRM")
    asker.clock.move(14 * 60)
    assert (await query_pushes(asker.tools)).due == 0, "the books have their chance"
    asker.clock.move(60)
    assert await query_pushes(asker.tools) == Asked(due=1, asked=1, told=1, skipped=0)
    assert await asker.row(payment, "backing", "back_at", "due_at") == ("QUERY", None, None)
    assert await asker.row(payment, "version") == (confirmed.version,), "nobody has to hear of it"
    assert await asker.cases(payment) == []
    assert (await query_pushes(asker.tools)).due == 0


async def test_a_forged_success_that_a_query_denies_is_a_money_case_and_an_alarm(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="cancelled")
    await asker.tell(payment, told_by_callback())
    asker.clock.move(15 * 60)
    with structlog.testing.capture_logs() as lines:
        await query_pushes(asker.tools)
    assert await asker.row(payment, "state", "backing", "money_case_open") == ("COMPLETED", "DOUBTED", True)
    assert await asker.cases(payment) == ["UNBACKED_MONEY"]
    assert [line["reference"] for line in lines if line.get("alarm") == "success_unbacked"] == [payment.reference]
    asker.clock.move(86_400)
    assert (await query_pushes(asker.tools)).due == 0, "a person looks now"


async def test_a_success_that_nothing_backs_in_time_is_a_money_case(asker: Asker) -> None:
    payment = await asker.prompted({"queries": ["4999"] * 20})
    await asker.tell(payment, told_by_callback())
    for _ in range(8):
        (back_at,) = await asker.row(payment, "back_at")
        if back_at is None:
            break
        assert isinstance(back_at, datetime)
        asker.clock.now = back_at
        assert (await query_pushes(asker.tools)).asked == 1
        await run_timers(asker.steps)
        assert await asker.cases(payment) == []
    asker.clock.move(5)
    await run_timers(asker.steps)
    assert await asker.cases(payment) == ["UNBACKED_MONEY"]
    assert await asker.row(payment, "backing", "due_at", "back_at") == ("DOUBTED", None, None)


async def test_whoever_waits_for_an_outcome_is_asked_about_before_money_is_backed(asker: Asker) -> None:
    paid = await asker.prompted()
    await asker.settled(paid, ending="paid")
    await asker.tell(paid, told_by_callback())
    asker.clock.move(15 * 60 - 30)
    waiting = await asker.prompted(booking_id="BK-WAITING", request_id="waiting")
    asker.clock.move(30)
    async with beside(asker, queries_per_minute=1) as slow:
        assert await query_pushes(slow.tools) == Asked(due=1, asked=1, told=0, skipped=0)
        assert len(await asker.answers(waiting)) == 1
        asker.clock.move(10)
        assert await query_pushes(slow.tools) == Asked(0, 0, 0, 0), "the next turn is wanted within its minute"
    assert await asker.answers(paid) == []


async def test_a_booking_that_waits_for_the_backing_is_confirmed_by_the_first_query(asker: Asker) -> None:
    payment = await asker.prompted()
    with psycopg.connect(asker.database.owner_url) as owner:
        owner.execute("UPDATE payment_transactions SET back_first = true")
    await asker.settled(payment, ending="paid")
    waits = await asker.tell(payment, told_by_callback())
    assert (waits.booking_action.value, waits.outcome_certain) == ("WAIT", False)
    assert await query_pushes(asker.tools) == Asked(due=1, asked=1, told=1, skipped=0)
    assert await asker.row(payment, "booking_action", "backing", "status_reason") == ("CONFIRM", "QUERY", None)
