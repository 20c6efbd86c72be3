"""What the desk says before it does something."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.money_pb2 import Money

from case_desk import sentences
from case_desk.refusals import refusal_of
from case_desk.sentences import choice, what_will_happen


@pytest.mark.parametrize(
    ("receipt", "follows"),
    [
        ("RCPT000001", "Booking BK-1 is told to release its seat, unless another payment has confirmed it."),
        ("RCPT000002", "The payment keeps its own money, receipt RCPT000001: booking BK-1 stays as it is."),
    ],
    ids=["the payment's own", "a second receipt"],
)
def test_a_return_says_what_becomes_of_the_booking(receipt: str, follows: str) -> None:
    payment = payment_pb2.Payment(payment_id="1", mpesa_receipt_number="RCPT000001", masked_phone="2547*****678")
    file = pb.GetCaseResponse(
        case=pb.Case(case_id="c", payment_id="1", booking_id="BK-1", mpesa_receipt_number=receipt),
        attempts=[pb.FoundPayment(payment=payment)],
    )
    asked = pb.ResolveCaseRequest(case_id="c", resolution=pb.CASE_RESOLUTION_RETURN)
    said = what_will_happen(file, asked)
    assert said[:2] == [f"The money, receipt {receipt}, goes back to its payer, 2547*****678.", follows]


def test_a_return_names_what_is_left_and_a_seat_that_was_released_already() -> None:
    payment = payment_pb2.Payment(
        payment_id="1",
        mpesa_receipt_number="RCPT000001",
        masked_phone="2547*****678",
        refunded_amount=Money(currency_code="KES", units=200),
        booking_action=payment_pb2.BOOKING_ACTION_RELEASE,
    )
    case = pb.Case(payment_id="1", booking_id="BK-1", amount=Money(currency_code="KES", units=500))
    file = pb.GetCaseResponse(case=case, attempts=[pb.FoundPayment(payment=payment)])
    said = what_will_happen(file, pb.ResolveCaseRequest(resolution=pb.CASE_RESOLUTION_RETURN))
    assert said[:2] == [
        "What is left of KES 500, KES 300 goes back to its payer, 2547*****678.",
        "Booking BK-1 was told already to release its seat.",
    ]


@pytest.mark.parametrize(
    ("case", "follows"),
    [
        (pb.Case(kind=pb.CASE_KIND_UNBACKED_MONEY, about_money=True), "told to release its seat"),
        (pb.Case(kind=pb.CASE_KIND_LATE_PAYMENT, about_money=True), "given the money back by other means"),
        (pb.Case(kind=pb.CASE_KIND_DUPLICATE_PAYMENT, about_money=True), "given the money back by other means"),
        (pb.Case(kind=pb.CASE_KIND_OUTCOME_UNKNOWN, about_money=True), "can be paid again"),
        (pb.Case(kind=pb.CASE_KIND_CONTRADICTION), "nothing else changes"),
    ],
    ids=["unbacked", "late", "duplicate", "unknown", "contradiction"],
)
def test_a_dismissal_says_what_follows(case: pb.Case, follows: str) -> None:
    case.advice = "Look in the portal."
    assert follows in choice(case, pb.CASE_RESOLUTION_DISMISS)
    said = what_will_happen(pb.GetCaseResponse(case=case), pb.ResolveCaseRequest(resolution=pb.CASE_RESOLUTION_DISMISS))
    assert follows in said[0]
    assert said[-1] == "Look in the portal."


def test_nothing_was_done_is_said_only_where_it_is_known() -> None:
    known = {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
    for code in set(grpc.StatusCode) - {grpc.StatusCode.OK}:
        error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "why", "")
        assert refusal_of(error).maybe_done is (code not in known), code


def test_what_a_newer_service_tells_is_a_number_and_no_fault_of_the_desk() -> None:
    newer = pb.Case(kind=99, settle_time=Timestamp(), resolution=99)  # type: ignore[arg-type]  # of a newer release
    assert sentences.kind(newer) == "99"
    assert sentences.settled(newer).startswith("It was settled: 99")
    assert sentences.status(payment_pb2.Payment(status=99)) == "99, not certain"  # type: ignore[arg-type]  # of a newer release


def test_money_that_an_operator_says_has_gone_back_goes_by_the_receipt_that_was_typed() -> None:
    case = pb.Case(mpesa_receipt_number="RCPT000001", refund=pb.CaseRefund(amount=Money(currency_code="KES", units=5)))
    asked = pb.ResolveCaseRequest(resolution=pb.CASE_RESOLUTION_REFUNDED)
    (said,) = what_will_happen(pb.GetCaseResponse(case=case), asked)
    assert said == "You say for ever that KES 5 has gone back, by no receipt."
    asked.mpesa_receipt_number = "RCPT000009"
    assert what_will_happen(pb.GetCaseResponse(case=case), asked)[0].endswith("by RCPT000009.")
