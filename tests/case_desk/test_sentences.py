"""What the desk says before it does something."""

from __future__ import annotations

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

from case_desk.sentences import what_will_happen


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
