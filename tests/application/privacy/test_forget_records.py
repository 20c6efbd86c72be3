"""What was kept long enough goes by itself, and nothing that anybody still needs does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.application.privacy.erase_person import empty_bodies
from payment_service.application.privacy.forget_records import Forgetting, forget_records
from payment_service.application.settling.accept_callbacks import BodyRemoved
from payment_service.application.settling.apply_kept_callbacks import InboxTools, replay_callback
from payment_service.domain.payment import Payment
from payment_service.security.sealing import EXCHANGE_ANSWER, EXCHANGE_REQUEST
from payment_service.store import erasure
from payment_service.store.engines import read_engine
from payment_service.store.evidence import ExchangeRow, insert_exchange
from payment_service.store.time_ordered_ids import first_id_at
from runtime.callback_tokens import new_reference
from tests.application.privacy.test_erase_person import erasing, in_clear, settled, violations
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.processes import Process
from tests.stories import PHONE, Stories

DAY = timedelta(days=1)
NOBODY_LISTED, OTHERS_INDEX = b"\x01" * 16, b"\x02" * 16
"""A phone that is blocked and has no payments, and one that stands nowhere."""


@pytest.fixture
def stories(process: Process, tmp_path: Path) -> Stories:
    return Stories(process.writers, tmp_path)


@pytest.fixture
async def tools(process: Process, database: Database) -> AsyncIterator[Forgetting]:
    engine = read_engine(database.application_url)
    kept = timedelta(days=90)
    yield Forgetting(engine, process.core.erasing, process.writers.clock, kept, kept, kept)
    await engine.dispose()


async def as_owner(database: Database, statement: str, *values: object) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        await owner.execute(statement, values)


async def exchanged(process: Process, tools: Forgetting, days_ago: int, payment: Payment | None) -> UUID:
    """An exchange of so many days ago."""
    began, sealer = process.writers.clock.now - days_ago * DAY, process.writers.sealer
    # Two of one moment need two ids.
    exchange_id = UUID(int=first_id_at(began).int + (payment.payment_id.int % 1_000 if payment is not None else 0))
    row = ExchangeRow(
        exchange_id=exchange_id,
        payment_id=payment.payment_id if payment is not None else None,
        operation="query",
        http_status=200,
        classified_as="Told",
        request=sealer.seal(EXCHANGE_REQUEST, exchange_id.bytes, b"{}"),
        answer=sealer.seal(EXCHANGE_ANSWER, exchange_id.bytes, b"{}"),
        started_at=began,
        duration_ms=80,
    )
    async with tools.engine.begin() as conn:
        await insert_exchange(conn, row)
    return exchange_id


async def test_old_exchanges_go_and_those_that_are_needed_stay(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    ended, live = await settled(process, stories, "RCPT000001"), await stories.prompted()
    gone = {await exchanged(process, tools, 91, ended), await exchanged(process, tools, 92, None)}
    kept = {await exchanged(process, tools, 89, ended), await exchanged(process, tools, 400, live)}
    await forget_records(tools)
    left = {row[0] for row in await rows_of(database, "SELECT exchange_id FROM daraja_exchanges")}
    assert kept <= left
    assert not gone & left
    assert await violations(process.writers, database) == {}


async def test_old_bodies_go_and_their_callbacks_are_known_again(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    ended, doubted = await settled(process, stories, "RCPT000001"), await stories.prompted()
    await stories.callback(doubted.reference, receipt="RCPT000002", amount=499)
    await as_owner(database, "UPDATE callback_inbox SET stored_at = stored_at - interval '91 days'")
    await forget_records(tools)
    removed = "SELECT reference, body_removed FROM callback_inbox"
    assert dict(await rows_of(database, removed)) == {ended.reference: True, doubted.reference: False}
    assert await violations(process.writers, database) == {}

    await stories.callback(ended.reference, receipt="RCPT000001")
    assert await count(database, "callback_inbox") == 2, "the same callback is no new one"
    ((callback_id,),) = await rows_of(database, "SELECT callback_id FROM callback_inbox WHERE body_removed")
    inbox = InboxTools(tools.engine, process.writers.facts, process.writers.sealer, process.writers.clock)
    with pytest.raises(BodyRemoved, match="nothing is left to apply"):
        await replay_callback(inbox, callback_id, "amina", "once more")
    assert await violations(process.writers, database) == {}


async def test_old_bodies_that_found_no_payment_go_once_they_can_tell_of_no_money(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    unread, unmatched = sorted(new_reference() for _ in range(2))
    await stories.body(unread, b"not JSON")
    await stories.callback(unmatched, receipt="RCPT000001")
    await as_owner(database, "UPDATE callback_inbox SET status = 'UNREAD' WHERE reference = %s", unread)
    await as_owner(database, "UPDATE callback_inbox SET stored_at = stored_at - interval '91 days'")
    await as_owner(database, "UPDATE cases SET settled_at = now() WHERE reference = %s", unread)
    await forget_records(tools)
    kept = await rows_of(database, "SELECT reference, status, body_removed FROM callback_inbox ORDER BY reference")
    assert kept == [(unread, "UNREAD", True), (unmatched, "UNMATCHED", False)]


async def test_a_body_is_kept_that_is_found_to_be_needed_after_it_was_chosen(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    ended = await settled(process, stories, "RCPT000001")
    await as_owner(database, "UPDATE callback_inbox SET stored_at = stored_at - interval '91 days'")
    async with tools.engine.begin() as conn:
        chosen = await erasure.old_bodies(conn, process.writers.clock.now - 90 * DAY, 10)
        assert [one.reference for one in chosen] == [ended.reference]
        await as_owner(database, "UPDATE callback_inbox SET status = 'PENDING', next_try_at = now()")
        assert await erasure.remove_bodies(conn, empty_bodies(process.writers.sealer, chosen)) == 0
    assert PHONE in await in_clear(process.writers, database)


async def test_old_decisions_of_rules_go(tools: Forgetting, database: Database) -> None:
    for days in (91, 89):
        await as_owner(
            database,
            "INSERT INTO risk_decisions (decision_id, rule, mode, caller, request_id, booking_id, phone_index, amount,"
            " counted, decided_at) VALUES (gen_random_uuid(), 'PHONE_UNPAID', 'enforce', 'c', %s, 'b', '\\x00', 1, 1,"
            " now() - make_interval(days => %s))",
            str(days),
            days,
        )
    await forget_records(tools)
    assert await rows_of(database, "SELECT request_id FROM risk_decisions") == [("89",)]


async def test_what_comes_to_an_erased_payment_later_is_erased_too(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    declined = await stories.prompted()
    await stories.callback(declined.reference, code=1032)
    await process.operations.ErasePerson(erasing())
    again = {"Body": {"stkCallback": {"ResultCode": 1032, "ResultDesc": f"declined by {PHONE}"}}}
    await stories.body(declined.reference, json.dumps(again).encode())
    assert PHONE in await in_clear(process.writers, database)
    await forget_records(tools)
    assert PHONE[3:] not in await in_clear(process.writers, database)
    assert await violations(process.writers, database) == {}


async def test_money_that_comes_to_an_erased_payment_waits_for_its_case(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    declined = await stories.prompted()
    await stories.callback(declined.reference, code=1032)
    await process.operations.ErasePerson(erasing())
    await stories.callback(declined.reference, receipt="RCPT000001")
    await forget_records(tools)
    assert PHONE in await in_clear(process.writers, database), "a person may need it to decide"
    found = await process.operations.FindPayments(pb.FindPaymentsRequest(mpesa_receipt_number="RCPT000001"))
    assert [one.payment.payment_id for one in found.payments] == [str(declined.payment_id)]
    assert await violations(process.writers, database) == {}


async def test_the_service_can_take_away_nothing_that_is_young_or_needed(
    process: Process, tools: Forgetting, stories: Stories, database: Database
) -> None:
    """Even with its own password: what it may do is what the functions do."""
    ended, live = await settled(process, stories, "RCPT000001"), await stories.prompted()
    before = await count(database, "daraja_exchanges")
    for phone, verdict in ((process.writers.sealer.index("phone", PHONE), "ALLOW"), (NOBODY_LISTED, "BLOCK")):
        listing = "INSERT INTO risk_list (phone_index, verdict, operator, reason) VALUES (%s, %s, 'amina', 'x')"
        await as_owner(database, listing, phone, verdict)
    held = await in_clear(process.writers, database)
    async with await psycopg.AsyncConnection.connect(database.application_url) as service:
        last = UUID(int=2**128 - 1)
        await service.execute("SELECT forget_exchanges(%s, 1000)", (last,))
        for payment in (ended, live):
            await service.execute("SELECT forget_exchanges_of(%s)", (payment.payment_id,))
        await service.execute("SELECT forget_body(callback_id, '') FROM callback_inbox")
        for phone in (process.writers.sealer.index("phone", PHONE), NOBODY_LISTED):
            await service.execute("SELECT forget_phone(%s, %s)", (phone, OTHERS_INDEX))
    assert await count(database, "daraja_exchanges") == before
    assert await in_clear(process.writers, database) == held
