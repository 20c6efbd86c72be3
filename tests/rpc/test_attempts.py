"""RetryPayment and CancelPayment over a real channel: what they answer, what they refuse, and what is left behind."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import DeadlinePassed, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import State
from payment_service.security.sealing import PHONE_NUMBER
from tests.databases import Database
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, paid, sent
from tests.rpc.processes import refused as refusal_of_the_payer
from tests.rpc.test_methods import a_message

CANCELLED, PENDING = payment_pb2.PAYMENT_STATUS_CANCELLED, payment_pb2.PAYMENT_STATUS_PENDING


def a_retry(payment_id: object, request_id: str = "retry-1", **changed: Any) -> pb.RetryPaymentRequest:
    return pb.RetryPaymentRequest(request_id=request_id, payment_id=str(payment_id), **changed)


def a_cancel(payment_id: object, request_id: str = "cancel-1") -> pb.CancelPaymentRequest:
    return pb.CancelPaymentRequest(request_id=request_id, payment_id=str(payment_id))


async def withdrawn(process: Process, **changed: Any) -> payment_pb2.Payment:
    made = await process.payments.InitiatePayment(a_message(**changed))
    cancel = a_cancel(made.payment.payment_id, f"cancel-{made.payment.reference}")
    return (await process.payments.CancelPayment(cancel)).payment


async def phone_of(process: Process, database: Database, payment_id: str) -> str:
    query = "SELECT payment_id, phone_number FROM payment_transactions WHERE payment_id = %s"
    ((row_id, sealed),) = await rows_of(database, query, (payment_id,))
    return process.writers.sealer.open(PHONE_NUMBER, row_id.bytes, sealed).decode()


async def test_a_payment_is_withdrawn_before_anything_is_sent(process: Process) -> None:
    made = await process.payments.InitiatePayment(a_message())
    answer = await process.payments.CancelPayment(a_cancel(made.payment.payment_id))
    payment = answer.payment
    assert (payment.status, payment.status_reason) == (CANCELLED, payment_pb2.STATUS_REASON_WITHDRAWN)
    assert (payment.version, payment.outcome_certain, answer.replayed) == (2, True, False)
    assert payment.booking_action == payment_pb2.BOOKING_ACTION_OFFER_RETRY
    again = await process.payments.CancelPayment(a_cancel(made.payment.payment_id))
    assert (again.payment, again.replayed) == (payment, True)
    await process.caught_up()
    watch = process.payments.WatchPayments(pb.WatchPaymentsRequest(cursor=made.cursor))
    types = [event.type for event in (await anext(aiter(watch))).events]
    watch.cancel()
    assert types == [payment_pb2.PAYMENT_EVENT_TYPE_CREATED, payment_pb2.PAYMENT_EVENT_TYPE_CANCELLED]


@pytest.mark.parametrize(
    ("language", "said"),
    [("sw", "Tafadhali usilipe tena."), ("en", "Please do not pay again."), ("", "Please do not pay again.")],
)
async def test_a_refused_call_has_a_sentence_for_the_passenger_in_their_language(
    process: Process, language: str, said: str
) -> None:
    await process.payments.InitiatePayment(a_message())
    another = a_message(request_id="req-2", language_code=language)
    refusal = await refused(process.payments.InitiatePayment(another))
    assert (refusal.reason, said in refusal.customer_message) == ("BOOKING_HAS_LIVE_PAYMENT", True)


async def test_a_payment_says_what_the_passenger_does_next(process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1))
    for facts, step in (
        ((), payment_pb2.NEXT_STEP_ENTER_PIN),
        ((refusal_of_the_payer(),), payment_pb2.NEXT_STEP_TOP_UP),
    ):
        payment = await process.tell(payment, *facts)
        found = await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))
        assert found.payment.next_step == step


async def test_how_to_pay_by_hand_is_told_once_the_prompt_has_failed(process: Process) -> None:
    hold = process.writers.clock.now + timedelta(minutes=10)
    payment = await process.create(hold_expire_at=hold)
    await process.tell(payment, *sent(1), refusal_of_the_payer())
    await process.caught_up()
    watched = process.payments.WatchPayments(
        pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    )
    told = [event.payment for event in (await anext(aiter(watched))).events]
    watched.cancel()
    assert [one.HasField("pay_bill") for one in told] == [False, False, False, True]
    found = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    assert found.pay_bill == told[-1].pay_bill
    assert (found.pay_bill.business_number, found.pay_bill.account_number) == ("174379", found.reference)
    assert not found.pay_bill.HasField("pay_from_time")
    assert found.pay_bill.pay_until_time.ToDatetime(UTC) == hold - timedelta(minutes=1)


@pytest.mark.parametrize("late", [paid("SJ12345678"), paid("SJ12345678", amount=499)], ids=["paid", "in doubt"])
async def test_money_by_hand_is_invited_for_the_last_attempt_and_beside_no_other_money(
    process: Process, late: ResultReported
) -> None:
    asked: dict[str, Any] = {"booking_id": "BK-1", "hold_expire_at": process.writers.clock.now + timedelta(minutes=10)}

    async def invited() -> list[bool]:
        found = await process.payments.ListPayments(pb.ListPaymentsRequest(booking_id="BK-1"))
        return [payment.HasField("pay_bill") for payment in reversed(found.payments)]

    first = await process.tell(await process.create(**asked), *sent(1), refusal_of_the_payer())
    assert await invited() == [True]
    second = await process.create(**asked)
    assert await invited() == [False, False]
    await process.tell(second, *sent(2), refusal_of_the_payer())
    assert await invited() == [False, True]
    await process.tell(first, late)
    assert await invited() == [False, False]
    await process.caught_up()
    watched = process.payments.WatchPayments(
        pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    )
    told = [event.payment for event in (await anext(aiter(watched))).events]
    watched.cancel()
    assert not any(payment.HasField("pay_bill") for payment in told), "whoever reads late is invited no more"


@pytest.mark.parametrize(("code", "verdict"), [("1037", Verdict.UNCERTAIN), ("7777", Verdict.UNKNOWN)])
async def test_after_a_code_that_nobody_knows_nobody_is_invited_to_pay_by_hand(
    process: Process, code: str, verdict: Verdict
) -> None:
    clock = process.writers.clock
    payment = await process.create(hold_expire_at=clock.now + timedelta(minutes=10))
    await process.tell(payment, *sent(1), ResultReported("callback:1", Source.CALLBACK, verdict, code))
    clock.move(121)
    expired = await process.tell(payment, DeadlinePassed())
    found = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    assert (expired.state, found.HasField("pay_bill")) == (State.EXPIRED, verdict is Verdict.UNCERTAIN)


async def test_what_is_sent_cannot_be_withdrawn(process: Process, database: Database) -> None:
    payment = await process.create()
    for facts, status in ((sent(1), "PROCESSING"), ([paid("SJ12345678")], "COMPLETED")):
        payment = await process.tell(payment, *facts)
        refusal = await refused(process.payments.CancelPayment(a_cancel(payment.payment_id)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CANCEL_TOO_LATE")
        assert refusal.metadata == {"payment_id": str(payment.payment_id), "status": status}
    assert await count(database, "caller_requests") == 0
    other = await process.create()
    assert not (await process.payments.CancelPayment(a_cancel(other.payment_id))).replayed, "the id was still free"


async def test_a_retry_asks_for_what_was_asked_before(process: Process, database: Database) -> None:
    clock = process.writers.clock
    hold = Timestamp(seconds=int((clock() + timedelta(hours=1)).timestamp()))
    first = await withdrawn(
        process,
        account_reference="NAIROBI7",
        description="Bus 7",
        shortcode="600000",
        language_code="sw",
        metadata={"trip": "7"},
        hold_expire_time=hold,
        late_payment_policy=payment_pb2.LATE_PAYMENT_POLICY_CONFIRM,
    )
    second = (await process.payments.RetryPayment(a_retry(first.payment_id))).payment
    assert (second.booking_id, second.attempt, second.retry_of) == (first.booking_id, 2, first.payment_id)
    assert (second.status, second.amount, dict(second.metadata)) == (PENDING, first.amount, {"trip": "7"})
    assert second.masked_phone == first.masked_phone
    same = "transaction_desc, shortcode, language_code, hold_expire_at, late_payment_policy, account_reference"
    rows = await rows_of(database, f"SELECT {same} FROM payment_transactions ORDER BY attempt")
    assert rows[0][:-1] == rows[1][:-1]
    (one, two) = (row[-1] for row in rows)
    assert one != two, "what the payer sees tells the attempts apart"
    assert (one[:8], two[:8], len(two)) == ("NAIROBI7", "NAIROBI7", 11)
    # And once more, from the retry: nothing is lost on the way.
    await process.payments.CancelPayment(a_cancel(second.payment_id, "cancel-2"))
    clock.move(7200)
    third = (await process.payments.RetryPayment(a_retry(second.payment_id, "retry-2"))).payment
    last = (await rows_of(database, f"SELECT {same} FROM payment_transactions WHERE attempt = 3"))[0]
    assert third.attempt == 3
    assert last[3] is None, "a hold that is over is not carried over"
    assert (last[:3], last[4], last[5][:8]) == (rows[0][:3], rows[0][4], "NAIROBI7")


async def test_our_own_reference_is_shown_again_where_the_caller_gave_no_text(
    process: Process, database: Database
) -> None:
    first = await withdrawn(process)
    second = (await process.payments.RetryPayment(a_retry(first.payment_id))).payment
    rows = await rows_of(database, "SELECT account_reference FROM payment_transactions ORDER BY attempt")
    assert rows == [(first.reference,), (second.reference,)]


async def test_a_retry_may_go_to_another_phone(process: Process, database: Database) -> None:
    first = await withdrawn(process)
    retry = a_retry(first.payment_id, phone_number="0733 000-111")
    second = (await process.payments.RetryPayment(retry)).payment
    assert await phone_of(process, database, second.payment_id) == "254733000111"
    assert second.phone_warning == payment_pb2.PHONE_WARNING_NOT_A_SAFARICOM_PREFIX
    await process.payments.CancelPayment(a_cancel(second.payment_id, "cancel-2"))
    third = (await process.payments.RetryPayment(a_retry(second.payment_id, "retry-2"))).payment
    assert await phone_of(process, database, third.payment_id) == "254733000111"
    assert third.phone_warning == second.phone_warning
    fourth = a_retry(first.payment_id, "retry-3")
    await process.payments.CancelPayment(a_cancel(third.payment_id, "cancel-3"))
    made = (await process.payments.RetryPayment(fourth)).payment
    assert await phone_of(process, database, made.payment_id) == "254712345678"
    assert (made.phone_warning, made.retry_of) == (payment_pb2.PHONE_WARNING_UNSPECIFIED, third.payment_id)


async def test_a_retry_follows_a_refusal_at_once_and_an_expiry_when_the_prompt_is_gone(process: Process) -> None:
    failed = await process.tell(await process.create(), *sent(1), refusal_of_the_payer())
    assert failed.state is State.FAILED
    assert (await process.payments.RetryPayment(a_retry(failed.payment_id))).payment.attempt == 2
    expiring = await process.tell(await process.create(), *sent(2))
    process.writers.clock.move(121)
    expired = await process.tell(expiring, DeadlinePassed())
    assert expired.state is State.EXPIRED
    retry = a_retry(expired.payment_id, "retry-2")
    early = await refused(process.payments.RetryPayment(retry))
    assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RETRY_TOO_EARLY")
    assert early.metadata == {"payment_id": str(expired.payment_id)}
    assert early.retry_after is not None
    assert early.retry_after == pytest.approx(59)
    assert expired.retry_allowed_at == process.writers.clock() + timedelta(seconds=early.retry_after)
    process.writers.clock.move(early.retry_after)
    assert (await process.payments.RetryPayment(retry)).payment.attempt == 2, "the refused id was still free"


async def test_a_retry_is_barred_by_what_is_live_paid_or_in_doubt(process: Process, database: Database) -> None:
    live = await process.create(booking_id="BK-1")
    for facts, status in (((), "PENDING"), (sent(1), "PROCESSING"), ([paid("SJ12345678")], "COMPLETED")):
        await process.tell(live, *facts)
        refusal = await refused(process.payments.RetryPayment(a_retry(live.payment_id)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BOOKING_HAS_LIVE_PAYMENT")
        assert refusal.metadata == {"payment_id": str(live.payment_id), "status": status}
    doubtful = await process.tell(await process.create(), *sent(2), refusal_of_the_payer())
    with_money = await process.tell(doubtful, paid("SJ12345678"))
    assert with_money.money_case_open
    refusal = await refused(process.payments.RetryPayment(a_retry(doubtful.payment_id)))
    assert refusal.reason == "BOOKING_UNDER_REVIEW"
    assert await count(database, "payment_transactions") == 2


async def test_a_repeated_retry_is_the_same_payment(process: Process, database: Database) -> None:
    first = await withdrawn(process)
    retry = a_retry(first.payment_id, phone_number="0722000111")
    made = await process.payments.RetryPayment(retry)
    process.writers.clock.move(3600)
    spelled = a_retry(str(first.payment_id).upper(), phone_number="+254 722 000 111")
    again = await process.payments.RetryPayment(spelled)
    assert (again.payment.payment_id, again.replayed) == (made.payment.payment_id, True)
    found = await process.payments.ListPayments(pb.ListPaymentsRequest(request_id="retry-1"))
    assert [payment.payment_id for payment in found.payments] == [made.payment.payment_id]
    other = await refused(process.payments.RetryPayment(a_retry(first.payment_id)))
    assert (other.code, other.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert other.metadata == {"payment_id": made.payment.payment_id, "fields": "phone_number"}
    assert await count(database, "payment_transactions") == 2


async def test_an_id_belongs_to_the_method_it_was_used_with(process: Process) -> None:
    first = await withdrawn(process, request_id="initiate-1")
    retried = (await process.payments.RetryPayment(a_retry(first.payment_id, "retry-1"))).payment
    cancel = f"cancel-{first.reference}"
    for call, payment_id in (
        (process.payments.InitiatePayment(a_message(request_id="retry-1")), retried.payment_id),
        (process.payments.InitiatePayment(a_message(request_id=cancel)), first.payment_id),
        (process.payments.RetryPayment(a_retry(first.payment_id, "initiate-1")), first.payment_id),
        (process.payments.RetryPayment(a_retry(first.payment_id, cancel)), first.payment_id),
        (process.payments.CancelPayment(a_cancel(retried.payment_id, "initiate-1")), first.payment_id),
        (process.payments.CancelPayment(a_cancel(retried.payment_id, "retry-1")), retried.payment_id),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert refusal.metadata == {"payment_id": payment_id, "fields": "method"}
    assert (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=retried.payment_id))).payment == retried


async def test_another_callers_payment_is_like_none(process: Process) -> None:
    theirs = await process.create(caller="another-service")
    refusals = [
        await refused(call)
        for payment_id in (theirs.payment_id, uuid4())
        for call in (
            process.payments.RetryPayment(a_retry(payment_id)),
            process.payments.CancelPayment(a_cancel(payment_id)),
        )
    ]
    assert {(refusal.code, refusal.reason, refusal.message) for refusal in refusals} == {
        (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND", refusals[0].message)
    }
    assert all(refusal.metadata == {} for refusal in refusals)
    again = await process.writers.facts.submit(Submission(SendClaimed(uuid4()), theirs.payment_id))
    assert not again.refused, "it was not withdrawn"


async def test_every_bad_field_is_named_at_once(process: Process) -> None:
    retry = pb.RetryPaymentRequest(request_id="a b", payment_id="1", phone_number="12")
    refusal = await refused(process.payments.RetryPayment(retry))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(refusal.fields) == {"request_id", "payment_id", "phone_number"}
    assert set((await refused(process.payments.RetryPayment(pb.RetryPaymentRequest()))).fields) == {
        "request_id",
        "payment_id",
    }
    refusal = await refused(process.payments.CancelPayment(pb.CancelPaymentRequest(request_id="x" * 65)))
    assert set(refusal.fields) == {"request_id", "payment_id"}


async def test_a_shortcode_that_is_no_longer_set_up_bars_retries_but_not_their_repetition(process: Process) -> None:
    gone = await process.create(shortcode="555555", request_id="initiate-1")
    await process.payments.CancelPayment(a_cancel(gone.payment_id))
    refusal = await refused(process.payments.RetryPayment(a_retry(gone.payment_id)))
    assert (refusal.code, list(refusal.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["payment_id"])
    assert "555555" in refusal.fields["payment_id"]
    used = await refused(process.payments.RetryPayment(a_retry(gone.payment_id, "initiate-1")))
    assert used.reason == "REQUEST_ID_REUSED"


async def test_a_retry_keeps_to_what_its_shortcode_takes_now(process: Process) -> None:
    # Shortcode 600000 takes 10 to 1,000 shillings by now; this payment was made when it took more.
    made = await process.create(shortcode="600000", amount=1_500, request_id="initiate-1")
    await process.payments.CancelPayment(a_cancel(made.payment_id))
    refusal = await refused(process.payments.RetryPayment(a_retry(made.payment_id)))
    assert (refusal.code, list(refusal.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["payment_id"])
    assert "10 to 1000" in refusal.fields["payment_id"]


async def test_naming_the_shortcode_that_was_left_out_is_the_same_request(process: Process) -> None:
    silent = await process.payments.InitiatePayment(a_message())
    named = await process.payments.InitiatePayment(a_message(shortcode="174379"))
    assert (named.payment.payment_id, named.replayed) == (silent.payment.payment_id, True)
    named_first = a_message(request_id="named-first", booking_id="named-first", shortcode="174379")
    first = await process.payments.InitiatePayment(named_first)
    named_first.shortcode = ""
    again = await process.payments.InitiatePayment(named_first)
    assert (again.payment.payment_id, again.replayed) == (first.payment.payment_id, True)
    other = await refused(process.payments.InitiatePayment(a_message(shortcode="600000")))
    assert other.reason == "REQUEST_ID_REUSED"
