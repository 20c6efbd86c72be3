"""A person's number is erased: it is found nowhere, and all that is said about the money stays true."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import psycopg
import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_service_pb2 as payment_pb

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.settling.accept_callbacks import body_row_id
from payment_service.domain.payment import Payment
from payment_service.domain.risk import Limit, Mode, Rule, RulePolicy
from payment_service.security.sealing import CALLBACK_BODY
from payment_service.store.engines import connect_reader
from payment_service.store.sealed_values import SEALED
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, running_process
from tests.rpc.test_methods import a_message
from tests.stories import PHONE, Stories, every_kind
from tests.writers import Writers

OTHER = "254722000111"
MONEY = "SELECT state, count(*), sum(amount), sum(refunded_amount) FROM payment_transactions GROUP BY 1 ORDER BY 1"
LOG = "SELECT position, payment_id, version, encode(hash, 'hex') FROM payment_events ORDER BY position"


def erasing(phone: str = PHONE, **changed: object) -> pb.ErasePersonRequest:
    fields: dict[str, object] = {"phone_number": phone, "operator": "amina", "reason": "the passenger has asked for it"}
    return pb.ErasePersonRequest(**(fields | changed))  # type: ignore[arg-type]  # the fields are those of the message


async def settled(process: Process, stories: Stories, receipt: str, **changed: object) -> Payment:
    """A payment that has ended, with all that is kept about one."""
    payment = await stories.prompted(**changed)
    await stories.callback(payment.reference, receipt=receipt)
    # Until a second source has told of the money, it is not settled.
    await stories.pulled(payment, receipt)
    return payment


async def in_clear(writers: Writers, database: Database) -> str:
    """All that the tables hold, and all that is sealed in them, opened."""
    tables = await rows_of(database, "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'")
    texts = [str(row) for (table,) in tables for row in await rows_of(database, f"SELECT t::text FROM {table} AS t")]
    for place in SEALED:
        found = f"SELECT {place.sealed_for}, {place.column} FROM {place.table} WHERE {place.column} IS NOT NULL"
        for row_id, sealed in await rows_of(database, found):
            texts.append(writers.sealer.open(place.name, row_id, sealed).decode("utf-8", "replace"))
    return "\n".join(texts)


WAITING = """
INSERT INTO callback_inbox (callback_id, kind, reference, body, body_hash, source_address, received_at, stored_at,
    status, next_try_at)
VALUES (gen_random_uuid(), %(kind)s, %(reference)s, %(body)s, %(hash)s, '', now(), now(), %(status)s,
    CASE WHEN %(status)s = 'PENDING' THEN now() END)"""
"""A callback that could not be applied when it came."""


async def keep_waiting(writers: Writers, database: Database, kind: str, reference: str, status: str) -> None:
    """Keep a callback that names the payer, as one that was not applied."""
    body_hash = f"{kind} {status}".encode()
    body = writers.sealer.seal(CALLBACK_BODY, body_row_id(reference, body_hash), f"late, of {PHONE}".encode())
    values = {"kind": kind, "reference": reference, "body": body, "hash": body_hash, "status": status}
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        await owner.execute(WAITING, values)


async def violations(writers: Writers, database: Database) -> dict[str, object]:
    async with await connect_reader(database.application_url) as conn:
        tallies = await check_invariants(Instruments(writers.sealer, writers.keys), conn)
    return {invariant.name: tally.shown for invariant, tally in tallies.items() if tally.violations}


async def test_an_erased_number_is_found_nowhere_and_the_money_stays_true(
    process: Process, database: Database, tmp_path: Path
) -> None:
    stories, digits = Stories(process.writers, tmp_path), PHONE[3:]
    named = {"seat": "4B", "contact": "0712 345 678"}
    await settled(process, stories, "RCPT000001", metadata=named, description="for 0712345678")
    declined = await stories.prompted()
    await stories.callback(declined.reference, code=1032)
    await stories.withdrawn()
    await process.create(phone_number=OTHER)
    money, log = await rows_of(database, MONEY), await rows_of(database, LOG)
    assert digits in await in_clear(process.writers, database)

    look = await process.operations.ErasePerson(erasing(validate_only=True))
    assert (look.payments, look.callbacks, look.exchanges, list(look.bars)) == (3, 2, 3, [])
    assert digits in await in_clear(process.writers, database), "a look erases nothing"
    done = await process.operations.ErasePerson(erasing())
    assert (done.payments, done.left, done.ids_with_number) == (3, 0, 0)

    held = await in_clear(process.writers, database)
    assert digits not in held
    assert "712 345 678" not in held
    assert OTHER in held
    assert process.writers.sealer.index("phone", PHONE).hex() not in held
    assert await rows_of(database, MONEY) == money
    assert await rows_of(database, LOG) == log
    assert await violations(process.writers, database) == {}
    found = await process.operations.FindPayments(pb.FindPaymentsRequest(phone_number=PHONE))
    assert list(found.payments) == []
    by_receipt = await process.operations.FindPayments(pb.FindPaymentsRequest(mpesa_receipt_number="RCPT000001"))
    (payment,) = by_receipt.payments
    assert (payment.payment.masked_phone, dict(payment.payment.metadata)) == ("*****", {"seat": "4B", "contact": ""})
    acts = await rows_of(database, "SELECT act_id::text, act, operator, payments FROM privacy_acts")
    assert acts == [(done.act_id, "ERASE", "amina", 3)]

    again = await process.operations.ErasePerson(erasing())
    assert (again.payments, again.act_id) == (0, "")
    assert await count(database, "privacy_acts") == 1


async def test_nothing_is_erased_while_a_payment_or_a_case_is_open(
    process: Process, database: Database, tmp_path: Path
) -> None:
    stories = Stories(process.writers, tmp_path)
    await settled(process, stories, "RCPT000001")
    live = await stories.prompted()
    before = await in_clear(process.writers, database)
    refusal = await refused(process.operations.ErasePerson(erasing()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ERASURE_BARRED")
    assert f"payment {live.payment_id} is PROMPTED" in refusal.message
    look = await process.operations.ErasePerson(erasing(validate_only=True))
    assert [str(live.payment_id) in bar for bar in look.bars] == [True]
    assert await in_clear(process.writers, database) == before

    await stories.callback(live.reference, receipt="RCPT000009", amount=499)
    refusal = await refused(process.operations.ErasePerson(erasing()))
    assert str(live.payment_id) in refusal.message, "a case is open about it"


@pytest.mark.parametrize("status", ["PENDING", "UNMATCHED", "DEAD"])
@pytest.mark.parametrize("kind", ["stk", "reversal"])
async def test_nothing_is_erased_while_a_callback_waits_that_may_tell_of_money(
    process: Process, database: Database, tmp_path: Path, kind: str, status: str
) -> None:
    """Also where it came for a refund, which has a reference of its own."""
    refunded = (await every_kind(Stories(process.writers, tmp_path)))["refunded"]
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        elsewhere = "UPDATE payment_transactions SET phone_index_a = '\\x00' WHERE payment_id <> %s"
        await owner.execute(elsewhere, (refunded.payment_id,))
        # Its days of being looked at are over.
        await owner.execute("UPDATE payment_transactions SET due_at = NULL, query_at = NULL, back_at = NULL")
        await owner.execute("UPDATE cases SET settled_at = now() WHERE payment_id = %s", (refunded.payment_id,))
    assert list((await process.operations.ErasePerson(erasing(validate_only=True))).bars) == []
    of_refund = "SELECT reference FROM refunds WHERE payment_id = %s ORDER BY requested_at LIMIT 1"
    ((refund,),) = await rows_of(database, of_refund, (refunded.payment_id,))
    reference = refund if kind == "reversal" else refunded.reference
    await keep_waiting(process.writers, database, kind, reference, status)

    refusal = await refused(process.operations.ErasePerson(erasing()))
    assert (refusal.reason, str(refunded.payment_id) in refusal.message) == ("ERASURE_BARRED", True)
    assert f"late, of {PHONE}" in await in_clear(process.writers, database), "what it says can still be applied"
    settled_by_now = "UPDATE callback_inbox SET status = 'APPLIED', next_try_at = NULL WHERE reference = %s"
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        await owner.execute(settled_by_now, (reference,))
    assert (await process.operations.ErasePerson(erasing())).payments == 1
    assert f"late, of {PHONE}" not in await in_clear(process.writers, database)


async def test_a_payment_that_is_asked_for_during_an_erasure_bars_it(
    process: Process, database: Database, tmp_path: Path
) -> None:
    await settled(process, Stories(process.writers, tmp_path), "RCPT000001")
    before = await in_clear(process.writers, database)
    async with await psycopg.AsyncConnection.connect(database.owner_url) as blocker:
        # The erasure has found its payments, and is held up by what it counts next.
        await blocker.execute("LOCK TABLE daraja_exchanges IN ACCESS EXCLUSIVE MODE")
        erasure = asyncio.ensure_future(refused(process.operations.ErasePerson(erasing())))
        held_up = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'daraja_exchanges'::regclass"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await rows_of(database, held_up):
                await asyncio.sleep(0.02)
        live = await process.create(phone_number=PHONE)
        await blocker.rollback()
    refusal = await erasure
    assert (refusal.reason, str(live.payment_id) in refusal.message) == ("ERASURE_BARRED", True)
    after = await in_clear(process.writers, database)
    assert set(before.splitlines()) <= set(after.splitlines()), "nothing of it has happened"


async def test_every_kind_of_payment_is_erased_once_it_has_ended(
    process: Process, database: Database, tmp_path: Path
) -> None:
    """Those that have not ended bar it; once a test has taken them away from the person, the rest goes at once."""
    await every_kind(Stories(process.writers, tmp_path))
    look = await process.operations.ErasePerson(erasing(validate_only=True))
    barred = [bar.split()[1] for bar in look.bars]
    assert 0 < len(barred) < look.payments
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        elsewhere = "UPDATE payment_transactions SET phone_index_a = '\\x00' WHERE payment_id = ANY(%s::uuid[])"
        await owner.execute(elsewhere, (barred,))
    done = await process.operations.ErasePerson(erasing())
    assert done.payments == look.payments - len(barred)
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        back = "UPDATE payment_transactions SET phone_index_a = %s WHERE payment_id = ANY(%s::uuid[])"
        await owner.execute(back, (process.writers.sealer.index("phone", PHONE), barred))
    assert await violations(process.writers, database) == {}


async def test_a_repeat_of_an_erased_request_is_the_same_payment_and_no_new_prompt(
    process: Process,
) -> None:
    first = a_message(metadata={"seat": "4B"})
    made = (await process.payments.InitiatePayment(first)).payment
    cancel = payment_pb.CancelPaymentRequest(request_id="cancel-1", payment_id=made.payment_id)
    await process.payments.CancelPayment(cancel)
    await process.operations.ErasePerson(erasing())
    again = await process.payments.InitiatePayment(first)
    assert (again.replayed, again.payment.payment_id) == (True, made.payment_id)
    changed = a_message(booking_id="BK-2")
    assert (await refused(process.payments.InitiatePayment(changed))).reason == "REQUEST_ID_REUSED"


async def test_a_person_may_pay_again_after_it_and_a_retry_names_the_number(process: Process, tmp_path: Path) -> None:
    stories = Stories(process.writers, tmp_path)
    declined = await stories.prompted(booking_id="BK-9")
    await stories.callback(declined.reference, code=1032)
    await process.operations.ErasePerson(erasing())
    process.writers.clock.move(300)
    retry = payment_pb.RetryPaymentRequest(request_id="retry-1", payment_id=str(declined.payment_id))
    refusal = await refused(process.payments.RetryPayment(retry))
    assert (refusal.reason, set(refusal.fields)) == ("INVALID_REQUEST", {"phone_number"})
    retry.phone_number = PHONE
    assert (await process.payments.RetryPayment(retry)).payment.masked_phone == "2547*****678"
    found = await process.operations.FindPayments(pb.FindPaymentsRequest(phone_number=PHONE))
    assert [one.payment.attempt for one in found.payments] == [2]


async def test_a_late_callback_of_an_erased_payment_is_taken_and_money_counts(
    process: Process, database: Database, tmp_path: Path
) -> None:
    stories = Stories(process.writers, tmp_path)
    declined = await stories.prompted()
    await stories.callback(declined.reference, code=1032)
    await process.operations.ErasePerson(erasing())
    await stories.callback(declined.reference, receipt="RCPT000001")
    found = await process.operations.FindPayments(pb.FindPaymentsRequest(mpesa_receipt_number="RCPT000001"))
    assert [one.payment.payment_id for one in found.payments] == [str(declined.payment_id)]
    assert await violations(process.writers, database) == {}


async def test_a_blocked_phone_is_not_erased_and_what_rules_said_names_nobody(
    database: Database, tmp_path: Path
) -> None:
    unpaid = {Rule.PHONE_UNPAID: RulePolicy(Mode.ENFORCE, (Limit(1, timedelta(hours=1)),))}
    async with running_process(database.application_url, tmp_path, risk=unpaid) as process:
        made = (await process.payments.InitiatePayment(a_message())).payment
        asked = a_message(request_id="req-2", booking_id="BK-2")
        assert (await refused(process.payments.InitiatePayment(asked))).reason == "TOO_MANY_PROMPTS"
        cancel = payment_pb.CancelPaymentRequest(request_id="cancel-1", payment_id=made.payment_id)
        await process.payments.CancelPayment(cancel)
        for verdict, bar in ((pb.RISK_VERDICT_BLOCK, True), (pb.RISK_VERDICT_ALLOW, False)):
            listing = pb.ListPhoneRequest(phone_number=PHONE, verdict=verdict, operator="amina", reason="x")
            await process.operations.ListPhone(listing)
            look = await process.operations.ErasePerson(erasing(validate_only=True))
            assert bool(look.bars) is bar
        done = await process.operations.ErasePerson(erasing())
        assert done.rules == 3
        assert list((await process.operations.GetRisk(pb.GetRiskRequest())).turns) == []
        assert list((await process.operations.GetRisk(pb.GetRiskRequest(phone_number=PHONE))).turns) == []
        assert await count(database, "risk_list") == 3, "what operators have said is kept, about nobody"
    assert process.writers.sealer.index("phone", PHONE).hex() not in await in_clear(process.writers, database)


async def test_what_was_sealed_is_in_no_file_of_the_table_once_it_is_rewritten(
    process: Process, database: Database
) -> None:
    """A number stands in dead rows, encrypted, until then. WAL and backups are beyond what erasing can do."""
    made = (await process.payments.InitiatePayment(a_message())).payment
    await process.payments.CancelPayment(payment_pb.CancelPaymentRequest(request_id="c", payment_id=made.payment_id))
    ((sealed,),) = await rows_of(database, "SELECT phone_number FROM payment_transactions")
    in_file = "SELECT position(%s IN pg_read_binary_file(pg_relation_filepath('payment_transactions'))) > 0"
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("CHECKPOINT")
        assert await rows_of(database, in_file, (sealed,)) == [(True,)]
        await process.operations.ErasePerson(erasing())
        await owner.execute("VACUUM FULL payment_transactions")
        await owner.execute("CHECKPOINT")
        assert await rows_of(database, in_file, (sealed,)) == [(False,)]
