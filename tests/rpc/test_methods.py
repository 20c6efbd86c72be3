"""The methods over a real channel: what they answer, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import psycopg
import pytest
from mpesa_payments.v1 import callback_service_pb2 as callback_pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money
from sqlalchemy import text

from payment_service.application.following.read_payments import reading
from payment_service.application.settling.accept_callbacks import body_row_id
from payment_service.rpc.calls import Lane
from payment_service.security.sealing import CALLBACK_BODY
from payment_service.store.key_holders import living_holders
from runtime.callback_tokens import CallbackKeys, callback_token, key_checks
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.processes import Process, paid, sent
from tests.sending import CALLBACK_KEYS


def a_message(**changed: Any) -> pb.InitiatePaymentRequest:
    fields: dict[str, Any] = {
        "request_id": "request-1",
        "booking_id": "BK-1",
        "phone_number": "0712 345-678",
        "amount": Money(currency_code="KES", units=500),
    }
    return pb.InitiatePaymentRequest(**(fields | changed))


async def test_a_payment_is_made_and_can_be_read_by_id_and_by_reference(process: Process) -> None:
    made = await process.payments.InitiatePayment(a_message(metadata={"trip": "7"}))
    payment = made.payment
    assert payment.status == payment_pb2.PAYMENT_STATUS_PENDING
    assert payment.booking_action == payment_pb2.BOOKING_ACTION_WAIT
    assert payment.masked_phone == "2547*****678"
    assert dict(payment.metadata) == {"trip": "7"}
    assert (payment.amount.currency_code, payment.amount.units) == ("KES", 500)
    assert payment.attempt == 1
    assert payment.version == 1
    assert payment.customer_message
    assert not made.replayed
    by_id = await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))
    by_reference = await process.payments.GetPayment(pb.GetPaymentRequest(reference=payment.reference.upper()))
    assert by_id.payment == by_reference.payment == payment


async def test_the_same_request_in_another_spelling_is_the_same_payment(process: Process) -> None:
    first = await process.payments.InitiatePayment(a_message())
    again = await process.payments.InitiatePayment(a_message(phone_number="+254712345678"))
    assert again.replayed
    assert again.payment.payment_id == first.payment.payment_id


async def test_the_cursor_of_a_new_payment_leads_to_all_its_events(process: Process) -> None:
    made = await process.payments.InitiatePayment(a_message())
    watch = process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=made.cursor))
    first = await anext(aiter(watch))
    assert [event.payment.payment_id for event in first.events] == [made.payment.payment_id]
    assert first.events[0].type == payment_pb2.PAYMENT_EVENT_TYPE_CREATED
    watch.cancel()


async def test_a_completed_payment_is_shown_as_it_is(process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid("SJ12345678"))
    shown = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    assert shown.status == payment_pb2.PAYMENT_STATUS_COMPLETED
    assert shown.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM
    assert shown.mpesa_receipt_number == "SJ12345678"
    assert shown.outcome_certain
    assert shown.version == payment.version
    assert shown.complete_time.ToDatetime() == payment.completed_at.replace(tzinfo=None)  # type: ignore[union-attr]  # it is completed


async def test_lists_are_newest_first_in_pages_that_share_a_cursor(process: Process) -> None:
    made = [str((await process.create(booking_id="BK-1" if i % 2 else f"BK-{i}0")).payment_id) for i in range(2)]
    made += [str((await process.create()).payment_id) for _ in range(5)]
    first = await process.payments.ListPayments(pb.ListPaymentsRequest(page_size=3))
    await process.create()
    second = await process.payments.ListPayments(pb.ListPaymentsRequest(page_size=3, page_token=first.next_page_token))
    last = await process.payments.ListPayments(pb.ListPaymentsRequest(page_token=second.next_page_token))
    listed = [payment.payment_id for page in (first, second, last) for payment in page.payments]
    assert listed == made[::-1]
    assert first.cursor == second.cursor == last.cursor
    assert last.next_page_token == ""


async def test_lists_keep_to_their_filters(process: Process) -> None:
    payment = await process.tell(await process.create(booking_id="BK-7"), *sent(1), paid("SJ12345678"))
    await process.create(booking_id="BK-8")
    for request in (
        pb.ListPaymentsRequest(booking_id="BK-7"),
        pb.ListPaymentsRequest(reference=payment.reference),
        pb.ListPaymentsRequest(mpesa_receipt_number="sj12345678"),
        pb.ListPaymentsRequest(statuses=[payment_pb2.PAYMENT_STATUS_COMPLETED]),
        pb.ListPaymentsRequest(booking_id="BK-7", statuses=[payment_pb2.PAYMENT_STATUS_COMPLETED]),
    ):
        found = await process.payments.ListPayments(request)
        assert [one.payment_id for one in found.payments] == [str(payment.payment_id)], request
    none = await process.payments.ListPayments(
        pb.ListPaymentsRequest(booking_id="BK-7", statuses=[payment_pb2.PAYMENT_STATUS_FAILED])
    )
    assert not none.payments


async def test_another_callers_payments_do_not_exist(process: Process) -> None:
    theirs = await process.create(caller="another-service", booking_id="BK-1")
    watch = process.payments.WatchPayment(pb.WatchPaymentRequest(payment_id=str(theirs.payment_id)))
    for call in (
        process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(theirs.payment_id))),
        process.payments.GetPayment(pb.GetPaymentRequest(reference=theirs.reference)),
        anext(aiter(watch)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert not (await process.payments.ListPayments(pb.ListPaymentsRequest())).payments
    booking = process.payments.WatchPayment(pb.WatchPaymentRequest(booking_id="BK-1"))
    assert not (await anext(aiter(booking))).snapshot.payments
    booking.cancel()


async def test_callbacks_are_answered_one_by_one(process: Process, database: Database) -> None:
    payment, body = await process.create(), b"\xff{"
    token = callback_token(CALLBACK_KEYS, "stk", payment.reference)
    sent_back = {"reference": payment.reference, "token": token, "body": body}
    answer = await process.callbacks.SubmitCallbacks(
        callback_pb.SubmitCallbacksRequest(
            callbacks=[
                callback_pb.Callback(kind=callback_pb.CALLBACK_KIND_STK, **sent_back),  # type: ignore[arg-type]  # the fields are those of the message
                callback_pb.Callback(kind=99, **sent_back),  # type: ignore[arg-type]  # from a newer gateway
            ]
        )
    )
    assert list(answer.outcomes) == [
        callback_pb.CALLBACK_OUTCOME_STORED,
        callback_pb.CALLBACK_OUTCOME_TOKEN_REFUSED,
    ]
    ((body_hash, sealed),) = await rows_of(database, "SELECT body_hash, body FROM callback_inbox")
    row_id = body_row_id(payment.reference, body_hash)
    assert process.writers.sealer.open(CALLBACK_BODY, row_id, sealed) == body


async def test_a_page_of_full_payments_fits_into_a_message(process: Process) -> None:
    full = {f"key-{number:02}": "€" * 200 for number in range(16)}
    names = [f"full-{number}" for number in range(480)]
    await asyncio.gather(*(process.create(request_id=name, booking_id=name, metadata=full) for name in names))
    found, token = [], ""
    while True:
        page = await process.payments.ListPayments(pb.ListPaymentsRequest(page_size=1_000, page_token=token))
        found += [payment.payment_id for payment in page.payments]
        token = page.next_page_token
        if not token:
            break
    assert len(found) == len(set(found)) == 480


async def test_lists_leave_room_for_watches(process: Process, database: Database) -> None:
    await process.create()
    async with await psycopg.AsyncConnection.connect(database.owner_url) as blocker:
        # All lists wait for this table. A watch that is opened meanwhile looks at the log, and needs a connection.
        await blocker.execute("LOCK TABLE payment_transactions IN ACCESS EXCLUSIVE MODE")
        request = pb.ListPaymentsRequest()
        listing = [asyncio.ensure_future(process.payments.ListPayments(request)) for _ in range(64)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while process.server.gate.open_calls[Lane.UNARY] < 64:
                await asyncio.sleep(0.01)
        async with reading(process.core.reads) as connection:
            assert await connection.scalar(text("SELECT count(*) FROM payment_events")) == 1
        assert not any(one.done() for one in listing)
        await blocker.rollback()
    # On a slow machine some have given up by then.
    await asyncio.gather(*listing, return_exceptions=True)


async def test_the_first_read_after_the_connections_were_lost_succeeds(process: Process, database: Database) -> None:
    await process.create()
    assert len((await process.payments.ListPayments(pb.ListPaymentsRequest())).payments) == 1
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert len((await process.payments.ListPayments(pb.ListPaymentsRequest())).payments) == 1


async def test_the_gateways_keys_are_compared_by_id_without_being_shown(process: Process) -> None:
    async def differing(keys: Mapping[str, bytes]) -> list[str]:
        checks = [
            callback_pb.CallbackKeyCheck(key_id=key_id, check=check)
            for key_id, check in key_checks(CallbackKeys("", keys)).items()
        ]
        answer = await process.callbacks.CheckCallbackKeys(callback_pb.CheckCallbackKeysRequest(keys=checks))
        return list(answer.differing_key_ids)

    same = CALLBACK_KEYS.keys
    assert await differing(same) == []
    assert await differing({"a1": same["a1"], "c3": bytes(32)}) == []
    assert await differing({"b2": same["b2"]}) == ["a1"]
    assert await differing({"a1": same["a1"], "b2": bytes(32)}) == ["b2"]
    assert await differing({}) == ["a1"]


async def test_which_keys_a_gateway_holds_is_kept_by_its_name(process: Process) -> None:
    def question(name: str, *keys: str) -> callback_pb.CheckCallbackKeysRequest:
        checks = [callback_pb.CallbackKeyCheck(key_id=key, check=b"\x01") for key in keys]
        return callback_pb.CheckCallbackKeysRequest(keys=checks, process=name)

    for asked in (question("edge-1", "a1"), question("edge-1", "a1", "b2"), question("edge-2"), question("", "c3")):
        await process.callbacks.CheckCallbackKeys(asked)
    async with process.core.reads.engine.connect() as conn:
        held = {one.holder: one.keys for one in await living_holders(conn)}
    assert held == {"edge-1": {"callback": ("", {"a1": "01", "b2": "01"})}, "edge-2": {"callback": ("", {})}}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await process.callbacks.CheckCallbackKeys(question("x" * 201))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
