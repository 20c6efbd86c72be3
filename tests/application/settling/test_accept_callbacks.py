"""Callbacks: refused without their token, kept as they came with it, applied now or later."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.accept_callbacks import (
    AcceptTools,
    CallbackOutcome,
    ReceivedCallback,
    accept_callbacks,
)
from payment_service.application.settling.apply_kept_callbacks import InboxTools, apply_pending_callbacks
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import AnswerLost, SendClaimed
from payment_service.domain.payment import Payment
from payment_service.security.sealing import CALLBACK_BODY
from payment_service.store.engines import read_engine
from runtime.callback_tokens import callback_token, load_callback_keys
from runtime.key_rings import create_key_ring
from tests.databases import Database
from tests.rows import count, rows_of
from tests.writers import Writers, a_request

CALLER = "development"


@pytest.fixture
async def tools(writers: Writers, database: Database) -> AsyncIterator[InboxTools]:
    engine = read_engine(database.application_url)
    yield InboxTools(engine, writers.facts, writers.sealer, writers.clock)
    await engine.dispose()


@pytest.fixture
def accepting(writers: Writers, tmp_path: Path) -> AcceptTools:
    create_key_ring(tmp_path / "callback-keys.json")
    keys = load_callback_keys(tmp_path / "callback-keys.json")
    return AcceptTools(writers.facts, writers.sealer, keys, CatchingUp(writers.clock, writers.times))


def paid_body(receipt: str, amount: int = 500) -> bytes:
    items = [{"Name": "Amount", "Value": amount}, {"Name": "MpesaReceiptNumber", "Value": receipt}]
    callback = {"ResultCode": 0, "ResultDesc": "ok", "CallbackMetadata": {"Item": items}}
    return json.dumps({"Body": {"stkCallback": callback}}).encode()


def received(accepting: AcceptTools, reference: str, body: bytes, token: str | None = None) -> ReceivedCallback:
    token = callback_token(accepting.keys, "stk", reference) if token is None else token
    return ReceivedCallback(CallbackKind.STK, reference, token, body, "127.0.0.1", datetime.now(UTC))


async def sent(writers: Writers) -> Payment:
    payment = (await writers.create(CALLER, a_request(), None, None)).payment
    claim = uuid4()
    await writers.facts.submit(Submission(SendClaimed(claim), payment.payment_id))
    await writers.facts.submit(Submission(AnswerLost(claim), payment.payment_id))
    return payment


async def state_of(database: Database, payment: Payment) -> str:
    query = "SELECT state FROM payment_transactions WHERE payment_id = %s"
    return str((await rows_of(database, query, (payment.payment_id,)))[0][0])


async def test_each_callback_stands_for_itself(accepting: AcceptTools, writers: Writers, database: Database) -> None:
    payment, other = await sent(writers), await sent(writers)
    outcomes = await accept_callbacks(
        accepting,
        [
            received(accepting, payment.reference, paid_body("RCPT000001")),
            received(accepting, other.reference, paid_body("RCPT000002"), token="00" * 17),
            received(accepting, other.reference, b"\xff not JSON \x00"),
            received(accepting, payment.reference, paid_body("RCPT000001")),
        ],
    )
    stored, refused = CallbackOutcome.STORED, CallbackOutcome.TOKEN_REFUSED
    assert outcomes == [stored, refused, stored, stored]
    assert await state_of(database, payment) == "COMPLETED"
    assert await state_of(database, other) == "UNCERTAIN"
    assert await count(database, "callback_inbox") == 2, "a repeat is the same callback; a refused one is not kept"


async def test_a_body_is_kept_as_it_came(accepting: AcceptTools, writers: Writers, database: Database) -> None:
    payment = await sent(writers)
    body = b'{"Body": {"stkCallback": {"ResultCode": NaN}}} \xff\x00'
    assert await accept_callbacks(accepting, [received(accepting, payment.reference, body)]) == [CallbackOutcome.STORED]
    ((kept, body_hash),) = await rows_of(database, "SELECT body, body_hash FROM callback_inbox")
    assert writers.sealer.open(CALLBACK_BODY, payment.reference.encode() + body_hash, kept) == body


async def test_a_valid_token_for_no_payment_is_kept_and_looked_at(accepting: AcceptTools, database: Database) -> None:
    body = paid_body("RCPT000001")
    callbacks = [received(accepting, "bcdfghjknprt", body)] * 2
    assert await accept_callbacks(accepting, callbacks) == [CallbackOutcome.STORED] * 2
    assert await rows_of(database, "SELECT status, payment_id FROM callback_inbox") == [("UNMATCHED", None)]
    assert await rows_of(database, "SELECT kind, reference, mpesa_receipt_number, amount::int FROM cases") == [
        ("UNKNOWN_PAYMENT", "bcdfghjknprt", "RCPT000001", 500)
    ]


async def test_a_callback_that_cannot_be_applied_is_kept_and_applied_later(
    accepting: AcceptTools, tools: InboxTools, writers: Writers, database: Database
) -> None:
    payment = await sent(writers)
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("REVOKE INSERT ON payment_events FROM mpesa_payments_application")
        outcomes = await accept_callbacks(accepting, [received(accepting, payment.reference, paid_body("RCPT000001"))])
        owner.execute("GRANT INSERT ON payment_events TO mpesa_payments_application")
    assert outcomes == [CallbackOutcome.STORED]
    assert await state_of(database, payment) == "UNCERTAIN"
    assert await apply_pending_callbacks(tools) == 0, "not due yet"
    writers.clock.move(6)
    assert await apply_pending_callbacks(tools) == 1
    assert await state_of(database, payment) == "COMPLETED"
    assert await rows_of(database, "SELECT status, next_try_at FROM callback_inbox") == [("APPLIED", None)]


async def test_a_body_above_the_limit_is_not_stored(
    accepting: AcceptTools, writers: Writers, database: Database
) -> None:
    payment = await sent(writers)
    outcomes = await accept_callbacks(accepting, [received(accepting, payment.reference, b" " * 65_537)])
    assert outcomes == [CallbackOutcome.NOT_STORED]
    assert await count(database, "callback_inbox") == 0


async def test_a_callback_whose_payment_cannot_be_read_is_kept_and_fails_no_neighbour(
    accepting: AcceptTools, writers: Writers, database: Database
) -> None:
    broken, sound = await sent(writers), await sent(writers)
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(
            "UPDATE payment_transactions SET checkout_request_id = 'torn' WHERE payment_id = %s", (broken.payment_id,)
        )
    outcomes = await accept_callbacks(
        accepting,
        [
            received(accepting, broken.reference, paid_body("RCPT000001")),
            received(accepting, sound.reference, paid_body("RCPT000002")),
        ],
    )
    assert outcomes == [CallbackOutcome.STORED] * 2
    assert await state_of(database, sound) == "COMPLETED"
    assert dict(await rows_of(database, "SELECT reference, status FROM callback_inbox")) == {
        broken.reference: "PENDING",
        sound.reference: "APPLIED",
    }


def failed_body(code: int) -> bytes:
    return json.dumps({"Body": {"stkCallback": {"ResultCode": code, "ResultDesc": "no"}}}).encode()


@pytest.mark.parametrize(
    ("first", "second", "state", "case"),
    [
        (paid_body("RCPT000001"), failed_body(1), "COMPLETED", ("UNBACKED_MONEY", True)),
        (failed_body(1), paid_body("RCPT000001"), "COMPLETED", ("PAID_AFTER_FAILURE", False)),
        (failed_body(1), failed_body(1032), "FAILED", ("CONTRADICTION", False)),
        (paid_body("RCPT000001"), paid_body("RCPT000002"), "COMPLETED", ("SECOND_RECEIPT", True)),
        (paid_body("RCPT000001"), paid_body("RCPT000001", amount=499), "COMPLETED", ("WRONG_AMOUNT", True)),
    ],
    ids=["paid, then failed", "failed, then paid", "failed, then declined", "two receipts", "two amounts"],
)
async def test_a_conflicting_duplicate_opens_a_case_and_an_identical_one_nothing(
    first: bytes,
    second: bytes,
    state: str,
    case: tuple[str, bool],
    accepting: AcceptTools,
    writers: Writers,
    database: Database,
) -> None:
    payment = await sent(writers)
    for body in (first, first):
        await accept_callbacks(accepting, [received(accepting, payment.reference, body)])
    settled = await rows_of(database, "SELECT version, state FROM payment_transactions")
    assert await count(database, "cases") == 0
    for body in (second, second, first):
        await accept_callbacks(accepting, [received(accepting, payment.reference, body)])
    assert await rows_of(database, "SELECT kind, is_money FROM cases") == [case]
    assert await state_of(database, payment) == state
    if not case[1] and state == settled[0][1]:
        assert await rows_of(database, "SELECT version, state FROM payment_transactions") == settled
    assert await count(database, "callback_inbox") == 2
