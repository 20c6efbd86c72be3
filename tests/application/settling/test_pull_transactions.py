"""Reading the provider's books: real money at a simulated Safaricom, and payments that nothing else would settle."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from daraja_simulator.menu import Typed, pay_bill
from payment_service.application.calling.access_token import get_token
from payment_service.application.recording import record_facts
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.recording_tools import RecordingTools
from payment_service.application.settling import pull_transactions as pull_module
from payment_service.application.settling.pull_transactions import PullTools, pull_transactions
from payment_service.application.settling.watch_pull import PullWatch, watch_pull
from payment_service.daraja.fields import NAIROBI
from payment_service.domain import pull_window
from payment_service.domain.errors import BookingLocked, StoreUnavailable
from payment_service.domain.facts import DeadlinePassed, ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.domain.pull_spans import Slice
from payment_service.domain.pull_window import Window
from payment_service.security.sealing import EXCHANGE_REQUEST
from payment_service.store import pull_progress as pulls
from payment_service.store.engines import connect_writer
from payment_service.store.pipeline import Connection
from payment_service.store.prompts import Prompt
from payment_service.store.pull_progress import Progress
from runtime.alarms import LastingAlarm
from tests.application.settling.bookkeeping import INTERVAL, TILL, Bookkeeping, bookkeeping, reading
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of

PHONE = "254712345678"


@pytest.fixture
async def books(database: Database, tmp_path: Path) -> AsyncIterator[Bookkeeping]:
    async with bookkeeping(database, tmp_path) as running:
        yield running


async def test_money_that_no_callback_and_no_id_can_find_completes_its_payment(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    assert (await books.row(payment))[0] == "UNCERTAIN"
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", books.paid[0], "CONFIRM")
    assert await books.cases() == []
    assert await rows_of(books.database, "SELECT receipt, payment_id, amount::int, counted FROM mpesa_receipts") == [
        (books.paid[0], payment.payment_id, 500, True)
    ]
    # The row it was settled by is kept beside it, and what was asked for on its own.
    assert await books.exchanges("pulled") == ["OURS"]
    assert await books.exchanges("register-pull") == ["Registered"]
    assert await books.exchanges("pull") == ["Page of 1", "Page of 0"]


async def test_reading_the_same_books_again_changes_nothing(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    await books.reader.read()
    before = await count(books.database, "payment_events")
    for _ in range(3):
        books.clock.move(3600)
        assert await books.reader.read() >= 2
    assert await count(books.database, "payment_events") == before
    assert await books.exchanges("pulled") == ["OURS"]
    assert (await books.row(payment))[1] == books.paid[0]


async def test_a_pending_receipt_is_filled_in(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    await books.push(prompt)
    await books.tell(payment, ResultReported("query:1", Source.QUERY, Verdict.PAID, "0"))
    assert await books.row(payment) == ("COMPLETED", None, "WAIT")
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", books.paid[0], "CONFIRM")


async def test_money_after_the_end_is_late_money_as_any_other(books: Bookkeeping) -> None:
    expired, _ = await books.lost()
    declined, prompt = await books.unpaid()
    await books.push(prompt)
    # Told after the money had moved: Safaricom contradicts itself.
    books.clock.move(60)
    await books.tell(declined, ResultReported("callback:1", Source.CALLBACK, Verdict.CANCELLED, "1032"))
    await books.reader.read()
    assert (await books.row(declined))[:2] == ("COMPLETED", books.paid[1])
    assert (await books.row(expired))[:2] == ("COMPLETED", books.paid[0])
    assert [(kind, money) for _, kind, money, _ in await books.cases()] == [("PAID_AFTER_FAILURE", False)]


async def typed_in(books: Bookkeeping, prompt: Prompt, **typed: str) -> str:
    """The payer pays by hand, in the menu of the phone; the receipt."""
    form = {"business": prompt.shortcode, "account": prompt.account_reference, "amount": "500", "pin": "1234", **typed}
    assert pay_bill(books.world, prompt.phone_number, Typed(**form)) == ""
    books.clock.now = max(books.clock.now, datetime.now(UTC)) + timedelta(seconds=1)
    return books.world.ledger.debits[-1].receipt


async def test_a_cancelled_prompt_that_is_paid_by_hand_is_a_payment_without_any_case(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    books.clock.move(-60)
    await books.tell(payment, ResultReported("callback:1", Source.CALLBACK, Verdict.CANCELLED, "1032"))
    receipt = await typed_in(books, prompt, account=f" {prompt.account_reference.upper()}")
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", receipt, "CONFIRM")
    assert await books.cases() == []


async def test_an_account_that_a_caller_has_written_in_small_letters_is_found_in_capitals(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid(account_reference="Nairobi7")
    books.clock.move(-60)
    await books.tell(payment, ResultReported("callback:1", Source.CALLBACK, Verdict.CANCELLED, "1032"))
    receipt = await typed_in(books, prompt, account=prompt.account_reference.upper())
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", receipt, "CONFIRM")


async def test_another_amount_that_is_paid_by_hand_is_a_money_case_and_no_payment(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    await books.tell(payment, ResultReported("callback:1", Source.CALLBACK, Verdict.CANCELLED, "1032"))
    receipt = await typed_in(books, prompt, amount="499")
    await books.reader.read()
    assert await books.row(payment) == ("CANCELLED", None, "REVIEW")
    assert await books.cases() == [(payment.reference, "WRONG_AMOUNT", True, receipt)]


async def test_another_account_that_is_paid_by_hand_is_nobodys_here(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    await books.tell(payment, ResultReported("callback:1", Source.CALLBACK, Verdict.CANCELLED, "1032"))
    await typed_in(books, prompt, account=prompt.account_reference[:-1])
    await books.reader.read()
    assert (await books.row(payment))[:2] == ("CANCELLED", None)
    assert await books.cases() == []


async def test_another_amount_than_asked_for_is_a_money_case_and_no_payment(books: Bookkeeping) -> None:
    payment, _ = await books.lost(paid={"amount": 499})
    await books.reader.read()
    assert await books.row(payment) == ("UNCERTAIN", None, "REVIEW")
    assert await books.cases() == [(payment.reference, "WRONG_AMOUNT", True, books.paid[0])]
    await books.reader.read_anew()
    assert len(await books.cases()) == 1


async def test_a_second_payment_under_one_reference_is_a_money_case(books: Bookkeeping) -> None:
    payment, prompt = await books.lost()
    await books.push(prompt)
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", books.paid[0], "CONFIRM")
    assert await books.cases() == [(payment.reference, "SECOND_RECEIPT", True, books.paid[1])]


def told_by_callback(receipt: str) -> ResultReported:
    return ResultReported("callback:paid", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)


async def backing(books: Bookkeeping, payment: Payment) -> tuple[Any, ...]:
    query = "SELECT backing, version, due_at IS NULL FROM payment_transactions WHERE payment_id = %s"
    return (await rows_of(books.database, query, (payment.payment_id,)))[0]


async def test_a_success_that_only_a_callback_told_is_backed_by_the_books(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    await books.push(prompt)
    payment = await books.tell(payment, told_by_callback(books.paid[0]))
    assert await backing(books, payment) == ("AWAITED", payment.version, False)
    await books.reader.read()
    assert await backing(books, payment) == ("BOOKS", payment.version, True)
    assert await books.exchanges("pulled") == ["KNOWN"], "the row that backs it is kept beside it"
    await books.reader.read_anew()
    assert await books.exchanges("pulled") == ["KNOWN"]
    assert await books.cases() == []


async def test_the_books_do_not_back_an_invented_receipt(books: Bookkeeping) -> None:
    forged, _ = await books.unpaid()
    paid, prompt = await books.unpaid()
    await books.push(prompt)
    for payment, invented in ((forged, "RCPTFORGE1"), (paid, "RCPTFORGE2")):
        await books.tell(payment, told_by_callback(invented))
    await books.reader.read()
    for payment in (forged, paid):
        assert (await backing(books, payment))[0] == "AWAITED"
    # The passenger did pay; the true receipt is money that a person has to look at.
    assert await books.cases() == [(paid.reference, "SECOND_RECEIPT", True, books.paid[0])]


async def test_the_books_do_not_back_a_receipt_of_somebody_elses_money(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    await books.push(prompt, account_reference="SHOP77")
    await books.tell(payment, told_by_callback(books.paid[0]))
    await books.reader.read()
    assert (await backing(books, payment))[0] == "AWAITED"


async def test_other_systems_money_is_left_alone(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid()
    await books.push(prompt, account_reference="SHOP77")
    await books.reader.read()
    assert (await books.row(payment))[0] == "PROMPTED"
    assert await books.cases() == []
    assert await books.exchanges("pulled") == []


async def test_two_payments_that_share_a_reference_are_never_guessed_between(books: Bookkeeping) -> None:
    one, prompt = await books.lost()
    other, _ = await books.unpaid()
    with psycopg.connect(books.database.owner_url) as owner:
        owner.execute(
            "UPDATE payment_transactions SET account_reference = %s WHERE payment_id = %s",
            (prompt.account_reference, other.payment_id),
        )
    await books.reader.read()
    await books.reader.read_anew()
    assert sorted(await books.cases()) == sorted(
        (payment.reference, "UNCLAIMED_MONEY", True, books.paid[0]) for payment in (one, other)
    )
    assert await count(books.database, "mpesa_receipts") == 0


async def test_a_receipt_that_is_recorded_elsewhere_is_no_second_payment(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    other, _ = await books.unpaid()
    wrongly = ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=books.paid[0])
    await books.tell(other, wrongly)
    await books.reader.read()
    assert (await books.row(payment))[:2] == ("UNCERTAIN", None)
    assert await books.cases() == [(payment.reference, "FOREIGN_IDS", True, books.paid[0])]


async def test_books_that_hold_another_amount_than_a_callback_said_are_a_money_case(books: Bookkeeping) -> None:
    payment, prompt = await books.unpaid(amount=5_000)
    await books.push(prompt, amount=1)
    forged = ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=5_000, receipt=books.paid[0])
    await books.tell(payment, forged)
    await books.reader.read()
    assert await books.cases() == [(payment.reference, "WRONG_AMOUNT", True, books.paid[0])]


@pytest.mark.parametrize("quirk", ["pull.date_false_zone", "pull.date_nairobi"])
async def test_a_time_that_lies_about_its_zone_is_understood(books: Bookkeeping, quirk: str) -> None:
    await books.script(PHONE, quirks=[quirk])
    payment, _ = await books.lost(phone_number=PHONE)
    await books.reader.read()
    assert (await books.row(payment))[:2] == ("COMPLETED", books.paid[0])
    query = "SELECT extract(epoch FROM transaction_date)::float FROM payment_transactions"
    assert await rows_of(books.database, query) == [(float(int(books.world.ledger.debits[0].debited_time)),)]


async def test_money_older_than_the_payment_is_in_doubt(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    books.world.ledger.debits[0].debited_time -= 20 * 60
    await books.reader.read()
    assert (await books.row(payment))[:2] == ("UNCERTAIN", None)
    assert await books.cases() == [(payment.reference, "UNCLAIMED_MONEY", True, books.paid[0])]


async def test_a_row_that_comes_twice_is_taken_once_and_one_that_is_missing_proves_nothing(books: Bookkeeping) -> None:
    await books.script(PHONE, pull="twice")
    twice, _ = await books.lost(phone_number=PHONE)
    another = "254712345679"
    await books.script(another, pull="never")
    missing, _ = await books.lost(phone_number=another)
    await books.reader.read()
    assert (await books.row(twice))[:2] == ("COMPLETED", books.paid[0])
    assert (await books.row(missing))[0] == "UNCERTAIN"
    assert await books.exchanges("pulled") == ["OURS"]
    assert await books.cases() == []


async def test_all_pages_of_a_window_are_read(books: Bookkeeping) -> None:
    await books.tell_simulator("settings", pull_page_rows=2)
    payments = [(await books.lost())[0] for _ in range(5)]
    assert await books.reader.read() == 1 + 4
    assert [(await books.row(payment))[:2] for payment in payments] == [("COMPLETED", r) for r in books.paid]
    assert await books.exchanges("pull") == ["Page of 2", "Page of 2", "Page of 1", "Page of 0"]


async def test_nobody_asks_before_the_time_and_every_span_is_looked_at_again(books: Bookkeeping) -> None:
    await books.lost()
    await books.reader.read()
    first = await books.read_until()
    assert first is not None
    assert await books.reader.read() == 0
    await books.reader.read_anew()
    until = await books.read_until()
    assert until is not None
    assert until > first
    asked = await slices(books)
    assert asked[-1][1] == until
    # The newest rows again, and a little of what was read before.
    assert timedelta(minutes=20) <= asked[-1][1] - asked[-1][0] < timedelta(minutes=21)
    books.clock.move(3600)
    await books.reader.read()
    again = (await slices(books))[len(asked) :]
    assert min(start for start, _ in again) <= asked[0][0], "all of it, an hour later"
    assert max(end - start for start, end in await slices(books)) <= timedelta(hours=1)


async def slices(books: Bookkeeping) -> list[tuple[datetime, datetime]]:
    """The slices that were asked for, each once, in order."""
    query = "SELECT exchange_id, request FROM daraja_exchanges WHERE operation = 'pull' ORDER BY exchange_id"
    asked: list[tuple[datetime, datetime]] = []
    for exchange_id, sealed in await rows_of(books.database, query):
        request = json.loads(books.reader.writers.sealer.open(EXCHANGE_REQUEST, exchange_id.bytes, sealed))
        start, end = (
            datetime.fromisoformat(request[name]).replace(tzinfo=NAIROBI) for name in ("StartDate", "EndDate")
        )
        if not asked or asked[-1] != (start, end):
            asked.append((start, end))
    return asked


async def test_a_slice_with_too_many_rows_is_halved_and_everything_is_read(
    books: Bookkeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_window, "SLICE_ROWS_MAX", 3)
    await books.tell_simulator("settings", pull_page_rows=1)
    payments = []
    for minutes_ago in (25, 20, 15, 10, 5, 0):
        payments.append((await books.lost())[0])
        books.world.ledger.debits[-1].debited_time -= minutes_ago * 60
    await books.reader.read()
    lengths = [end - start for start, end in await slices(books)]
    assert lengths[0] > timedelta(minutes=25)
    assert min(lengths) < lengths[0] / 2
    assert await books.spans("ENDLESS") == []
    assert (await covered_minutes(books)) >= 30
    found = {(await books.row(payment))[1] for payment in payments} | {receipt for *_, receipt in await books.cases()}
    assert found >= set(books.paid)


async def covered_minutes(books: Bookkeeping) -> float:
    return sum((end - start).total_seconds() for start, end in await books.spans()) / 60


async def test_a_minute_that_does_not_end_is_known_as_not_read(
    books: Bookkeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_window, "SLICE_ROWS_MAX", 2)
    await books.tell_simulator("settings", pull_page_rows=1)
    for _ in range(3):
        await books.lost()
    await books.reader.read()
    ((start, end),) = await books.spans("ENDLESS")
    assert end - start <= timedelta(minutes=1)
    monkeypatch.undo()
    await books.reader.read_anew()
    assert await books.spans("ENDLESS") == []


@pytest.mark.parametrize(
    "quirk", ["pull.date_offset", "pull.date_fraction", "pull.date_digits", "pull.type_cut", "pull.totals"]
)
async def test_money_is_found_however_its_row_is_written(books: Bookkeeping, quirk: str) -> None:
    payment, _ = await books.lost()
    await books.tell_simulator("pulls", behaviour={"quirks": [quirk]}, count=2)
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", books.paid[0], "CONFIRM")
    assert await books.cases() == []


async def test_a_row_of_another_type_with_a_reference_of_ours_is_never_dropped(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    await books.tell_simulator("pulls", behaviour={"quirks": ["pull.type_other"]}, count=2)
    await books.reader.read()
    assert await books.cases() == [(payment.reference, "UNCLAIMED_MONEY", True, books.paid[0])]
    assert (await books.row(payment))[::2] == ("UNCERTAIN", "REVIEW")
    assert await books.exchanges("pulled") == ["IN_DOUBT"]


async def test_a_row_with_a_reference_of_ours_and_no_readable_receipt_is_never_dropped(books: Bookkeeping) -> None:
    payment, prompt = await books.lost()
    row = {"transactionId": "yzlyrEsy0u", "billreference": prompt.account_reference, "amount": "500.00"}
    page = {"ResponseCode": "1000", "Response": [[row | {"trxDate": "2026-11-25T10:13:00Z"}]]}
    await books.tell_simulator("pulls", behaviour={"raw_answer": {"body": json.dumps(page)}})
    await books.reader.read()
    assert (payment.reference, "UNCLAIMED_MONEY", True, None) in await books.cases()


# Answers that look like the end of the books.


async def test_nothing_found_while_we_hold_receipts_is_a_contradiction_and_not_a_reading(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    brought = ResultReported(
        "callback:1",
        Source.CALLBACK,
        Verdict.PAID,
        "0",
        amount=500,
        receipt=books.paid[0],
        transaction_at=books.clock(),
    )
    await books.tell(payment, brought)
    await books.tell_simulator("pulls", behaviour={"quirks": ["pull.not_working"]}, count=1000)
    await books.reader.read()
    assert await books.spans("CONTRADICTED") == [], "its row may still be on the way"
    books.clock.move(3 * 3600 + 1200)
    await books.reader.read()
    assert len(await books.spans("CONTRADICTED")) == 1
    watch = watching(books)
    await watch_pull(watch)
    assert is_raised(watch.incomplete)
    await books.tell_simulator_to_pull_again()
    await books.reader.read_anew()
    assert await books.spans("CONTRADICTED") == []
    await watch_pull(watch)
    assert not is_raised(watch.incomplete)


async def test_a_shortcode_that_never_showed_a_row_proves_nothing_until_it_does(books: Bookkeeping) -> None:
    payment, _ = await books.unpaid()
    start = books.clock() - timedelta(minutes=1)
    await books.tell_simulator("pulls", behaviour={"quirks": ["pull.not_working"]}, count=1000)
    await books.reader.read()
    books.clock.move(3 * 3600)
    await books.reader.read()
    assert (await books.progress())["proved_at"] is None
    assert not await covers(books, start)
    await books.tell_simulator_to_pull_again()
    await books.tell_simulator("pulls", behaviour={"quirks": ["pull.empty_list"]}, count=1)
    await books.reader.read_anew()
    assert (await books.progress())["proved_at"] is not None
    assert await covers(books, start), "and what was read before is read again"
    assert (await books.row(payment))[0] == "PROMPTED"


async def covers(books: Bookkeeping, start: datetime) -> bool:
    async with books.reader.tools.engine.connect() as conn:
        return await pulls.books_cover(conn, "174379", start, start + timedelta(minutes=5))


@pytest.mark.parametrize(
    ("quirk", "reading"), [("pull.offset_ignored", "PAGE_REPEATED"), ("pull.totals_above", "ROWS_MISSING")]
)
async def test_pages_that_are_not_all_there_is_do_not_count_as_read(
    books: Bookkeeping, quirk: str, reading: str
) -> None:
    payment, _ = await books.lost()
    await books.tell_simulator("pulls", behaviour={"quirks": [quirk]}, count=2)
    await books.reader.read()
    assert (await books.row(payment))[0] == "COMPLETED", "its rows are evidence all the same"
    assert len(await books.spans(reading)) == 1
    assert await books.spans() == []
    await books.reader.read_anew()
    assert await books.spans(reading) == []
    assert await books.read_until() is not None


async def test_rows_that_are_said_to_be_there_and_do_not_come_are_missed(books: Bookkeeping) -> None:
    await books.unpaid()
    await books.tell_simulator("pulls", behaviour={"quirks": ["pull.totals_above", "pull.empty_list"]})
    await books.reader.read()
    assert len(await books.spans("ROWS_MISSING")) == 1


async def test_a_page_that_repeats_after_all_rows_that_were_told_is_the_end(books: Bookkeeping) -> None:
    await books.lost()
    await books.tell_simulator("pulls", behaviour={"quirks": ["pull.offset_ignored", "pull.totals"]}, count=2)
    await books.reader.read()
    assert await books.spans("PAGE_REPEATED") == []
    assert await books.read_until() is not None


async def test_books_that_are_behind_are_an_alarm_that_ends_by_itself(books: Bookkeeping) -> None:
    await books.lost()
    await books.reader.read()
    watch = watching(books)
    await watch_pull(watch)
    assert not is_raised(watch.behind)
    await books.tell_simulator("pulls", behaviour={"error": "internal_error"}, count=1000)
    books.clock.move(14 * 60)
    await books.reader.read()
    await watch_pull(watch)
    assert not is_raised(watch.behind)
    books.clock.move(61)
    await books.reader.read()
    await watch_pull(watch)
    assert is_raised(watch.behind), "what is read is a little more than a quarter of an hour old"
    await books.tell_simulator_to_pull_again()
    books.clock.move(1800)
    await books.reader.read()
    await watch_pull(watch)
    assert not is_raised(watch.behind)


def is_raised(alarm: LastingAlarm) -> bool:
    return alarm.raised


def moved_at(books: Bookkeeping) -> datetime:
    """When the latest money moved, by the provider's clock."""
    return datetime.fromtimestamp(int(books.world.ledger.debits[-1].debited_time), UTC)


def watching(books: Bookkeeping) -> PullWatch:
    return PullWatch(books.reader.tools.engine, ["174379"], INTERVAL, books.clock(), books.clock)


# Tills, whose rows name nobody.


@pytest.fixture
async def till(database: Database, tmp_path: Path) -> AsyncIterator[Bookkeeping]:
    async with bookkeeping(database, tmp_path, TILL) as running:
        yield running


@pytest.mark.parametrize("quirk", [None, "pull.msisdn_number", "pull.msisdn_text"])
async def test_money_at_a_till_is_in_doubt_once_its_payments_time_has_passed(
    till: Bookkeeping, quirk: str | None
) -> None:
    await till.script(PHONE, quirks=[quirk] if quirk else [])
    payment, _ = await till.lost(phone_number=PHONE)
    await till.reader.read()
    assert await till.cases() == [], "its callback may still come"
    till.clock.move(150)
    await till.tell(payment, DeadlinePassed())
    await till.reader.read_anew()
    await till.reader.read_anew()
    assert await till.row(payment) == ("EXPIRED", None, "REVIEW")
    assert await till.cases() == [(payment.reference, "UNCLAIMED_MONEY", True, till.paid[0])]
    till.clock.move(60)
    brought = ResultReported("callback:1", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=till.paid[0])
    await till.tell(payment, brought)
    assert (await till.row(payment))[:2] == ("COMPLETED", till.paid[0])


async def test_a_walk_in_customers_money_at_a_till_is_nobodys_here(till: Bookkeeping) -> None:
    payment, prompt = await till.unpaid(phone_number=PHONE)
    await till.push(prompt, phone_number="254722999888")
    await till.push(prompt, amount=501)
    till.clock.move(150)
    await till.tell(payment, DeadlinePassed())
    await till.reader.read_anew()
    assert (await till.row(payment))[::2] == ("EXPIRED", "OFFER_RETRY")
    assert await till.cases() == []


# What Daraja does instead of answering.


@pytest.mark.parametrize(
    "trouble",
    [
        {"error": "internal_error"},
        {"error": "apigee_429"},
        {"error": "incapsula_403"},
        {"error": "bad_gateway_502"},
        {"quirks": ["pull.failed_200"]},
        {"raw_answer": {"body": "{}"}},
        {"raw_answer": {"body": '{"ResponseCode": "1000", "Response": "soon"}'}},
        {"raw_answer": {"body": "<html>"}},
    ],
)
async def test_trouble_is_waited_out_and_settles_nothing(books: Bookkeeping, trouble: dict[str, Any]) -> None:
    payment, _ = await books.lost()
    await books.tell_simulator("pulls", behaviour=trouble, count=2)
    assert await books.reader.read() == 2
    first = await books.progress()
    assert (first["failures"], await books.read_until()) == (1, None)
    assert await books.reader.read() == 0, "not at once"
    books.clock.move(6)
    await books.reader.read()
    assert (await books.progress())["failures"] == 2
    assert (await books.row(payment))[0] == "UNCERTAIN"
    books.clock.move(11)
    await books.reader.read()
    assert (await books.progress())["failures"] == 0
    assert (await books.row(payment))[:2] == ("COMPLETED", books.paid[0])


@pytest.mark.parametrize(
    "quirk", ["pull.empty_nested", "pull.empty_text", "pull.empty_success", "pull.empty_500", "pull.empty_list"]
)
async def test_nothing_found_is_the_end_of_a_window_in_all_its_forms(books: Bookkeeping, quirk: str) -> None:
    await books.unpaid()
    await books.tell_simulator("pulls", behaviour={"quirks": [quirk]})
    await books.reader.read()
    assert await books.read_until() is not None
    assert await books.exchanges("pull") == ["Page of 0"]


async def test_a_shortcode_that_lost_its_registration_is_registered_again_once(books: Bookkeeping) -> None:
    payment, _ = await books.lost()
    await books.reader.read()
    books.world.pull_registrations.clear()
    await books.reader.read_anew()
    assert await books.exchanges("register-pull") == ["Registered"] * 2
    assert (await books.row(payment))[0] == "COMPLETED"
    await books.tell_simulator("pulls", behaviour={"error": "pull_invalid_shortcode"}, count=100)
    await books.reader.read_anew()
    assert await books.exchanges("register-pull") == ["Registered"] * 3, "and then in the measure of any failure"


@pytest.mark.parametrize("error", ["invalid_access_token_401_001", "invalid_access_token_400_003"])
async def test_a_dead_token_is_renewed_once_and_prompts_are_never_held_up(books: Bookkeeping, error: str) -> None:
    await books.lost()
    tokens = books.reader.tools.safaricom.tokens["174379"]
    first = await get_token(tokens)
    await books.tell_simulator("pulls", behaviour={"error": error}, count=2)
    await books.reader.read()
    assert (await get_token(tokens)).generation == first.generation + 1
    books.clock.move(6)
    await books.reader.read()
    assert (await books.progress())["failures"] == 2
    # The app may lack the product; then a new token every few seconds would only end the one that prompts are using.
    assert (await get_token(tokens)).generation == first.generation + 1
    books.clock.move(11)
    await books.reader.read()
    assert (await books.progress())["failures"] == 0


# Several processes, and what is left of one that was killed.


async def test_two_processes_at_once_read_and_record_everything_once(
    books: Bookkeeping, database: Database, tmp_path: Path
) -> None:
    await books.tell_simulator("settings", pull_page_rows=1)
    payments = [(await books.lost())[0] for _ in range(4)]
    async with reading(database, tmp_path, str(books.control.base_url), clock=books.clock) as other:
        steps = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await books.read_until() is None:
                steps += sum(
                    await asyncio.gather(*(pull_transactions(reader.tools) for reader in (books.reader, other)))
                )
    assert steps == 1 + 5, "no step was taken twice"
    assert [(await books.row(payment))[1] for payment in payments] == books.paid
    assert await books.exchanges("pulled") == ["OURS"] * 4
    assert await books.cases() == []


@pytest.mark.parametrize("place", ["keep_exchange", "record_rows", "_ended", "end_lease", "replace_spans"])
async def test_a_process_killed_at_any_point_leaves_nothing_undone_and_nothing_double(
    books: Bookkeeping, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    await books.reader.read()
    payment, _ = await books.lost(hold_expire_at=books.clock() + timedelta(hours=1))
    books.clock.move(INTERVAL.total_seconds() + 1)

    def killed(*_: object, **__: object) -> None:
        raise KilledHere

    with monkeypatch.context() as patched:
        patched.setattr(pulls if place in ("end_lease", "replace_spans") else pull_module, place, killed)
        with pytest.raises(KilledHere):
            await books.reader.read()
    assert await books.reader.read() == 0, "the lease is still the dead process's"
    books.clock.move(91)
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", books.paid[0], "CONFIRM")
    assert await count(books.database, "payment_events WHERE fact_id LIKE 'pull:%%'") == 1
    assert await count(books.database, "mpesa_receipts") == 1
    assert await books.cases() == []


class KilledHere(Exception):
    """The process ends here."""


@contextlib.asynccontextmanager
async def writing(books: Bookkeeping, fails: Callable[[Submission], Exception | None]) -> AsyncIterator[PullTools]:
    """The tools of the reader, with a writer of facts that fails for some of them."""
    writers = books.reader.writers
    recording = RecordingTools(
        writers.sealer, writers.keys.chain, writers.keys.fingerprint, writers.clock, writers.times
    )

    async def write(conn: Connection, group: Sequence[Submission]) -> Sequence[Recorded | BookingLocked]:
        for error in filter(None, map(fails, group)):
            raise error
        return await record_facts.record_facts(recording, conn, group)

    connect = partial(connect_writer, books.database.application_url, autocommit=True)
    facts = GroupCommit[Submission, Recorded]("facts", connect, write, lambda: None)
    running = asyncio.create_task(facts.run())
    yield replace(books.reader.tools, facts=facts)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_store_that_is_away_costs_no_row(books: Bookkeeping) -> None:
    await books.reader.read()
    payment, _ = await books.lost(hold_expire_at=books.clock() + timedelta(hours=1))
    books.clock.move(INTERVAL.total_seconds() + 1)
    async with writing(books, lambda _: OSError("the server is away")) as tools:
        with pytest.raises(StoreUnavailable):
            await pull_transactions(tools)
    assert (await books.progress())["page_offset"] == 0
    books.clock.move(91)
    await books.reader.read()
    assert await books.row(payment) == ("COMPLETED", books.paid[0], "CONFIRM")


async def test_a_row_that_cannot_be_recorded_stops_no_other(books: Bookkeeping) -> None:
    bad, _ = await books.lost()
    good, _ = await books.lost()
    async with writing(books, lambda s: RuntimeError("a fault") if s.payment_id == bad.payment_id else None) as tools:
        while await pull_transactions(tools):
            pass
    assert (await books.row(good))[0] == "COMPLETED"
    assert (await books.row(bad))[0] == "UNCERTAIN"
    await books.reader.read_anew()
    assert (await books.row(bad))[0] == "COMPLETED"


async def test_a_lease_that_was_lost_stores_no_progress(books: Bookkeeping) -> None:
    engine, now = books.reader.tools.engine, books.clock()
    async with engine.begin() as conn:
        first = await pulls.take_lease(conn, "174379", lease_id=UUID(int=1), now=now, until=now + timedelta(seconds=90))
        assert first is not None
    later = now + timedelta(seconds=91)
    async with engine.begin() as conn:
        second = await pulls.take_lease(conn, "174379", lease_id=UUID(int=2), now=later, until=later + INTERVAL)
        assert second is not None
        far = Progress(window=Window(Slice(now, later), began_at=now, offset=700))
        assert not await pulls.end_lease(conn, "174379", lease_id=UUID(int=1), progress=far, next_pull_at=later)
    assert (await books.progress())["page_offset"] == 0


async def test_a_payment_that_was_never_sent_is_completed_by_its_money(books: Bookkeeping) -> None:
    """As after a database that lost its last moments: the row knows of no send, and the phone was prompted."""
    payment, prompt = await books.payment()
    await books.push(prompt)
    await books.reader.read()
    assert (await books.row(payment))[:2] == ("COMPLETED", books.paid[0])
