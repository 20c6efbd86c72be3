"""How the service's answers read on a page. No number in clear comes to the desk, so none can leave it."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.money_pb2 import Money

from runtime.enum_names import short

_NAIROBI: Final = timezone(timedelta(hours=3), "EAT")

WAYS: Final = {
    pb.CASE_RESOLUTION_ACCEPT: "Accept: the money is this payment's, and its booking is told to confirm",
    pb.CASE_RESOLUTION_RETURN: "Return: the money goes back to its payer",
    pb.CASE_RESOLUTION_MOVE: "Move: the money belongs to another payment",
    pb.CASE_RESOLUTION_DISMISS: "Dismiss: the case ends, and nothing else changes",
    pb.CASE_RESOLUTION_REFUNDED: "Refunded: the money has gone back",
    pb.CASE_RESOLUTION_NOT_REFUNDED: "Not refunded: the money has not gone back and never will",
}
"""Each resolution that this release of the desk knows, as a person chooses it."""
_GIVEN_BACK_ELSEWHERE: Final = "you have given the money back by other means. The booking stays as it is"
_DISMISSED: Final = {
    pb.CASE_KIND_UNBACKED_MONEY: "the money is not there. The booking is told to release its seat, and can be paid"
    " again",
    # The money is the payment's: these can be dismissed only after a refund has failed.
    pb.CASE_KIND_LATE_PAYMENT: _GIVEN_BACK_ELSEWHERE,
    pb.CASE_KIND_DUPLICATE_PAYMENT: _GIVEN_BACK_ELSEWHERE,
}
"""What follows on a dismissal of these kinds."""
_DISMISSED_ABOUT_MONEY: Final = (
    "none of this money is the payment's: the booking can be paid again once no case holds it"
)


def at(stamp: Timestamp) -> str:
    """As people in Kenya read a clock, and said so."""
    moment: datetime = stamp.ToDatetime(UTC)
    return f"{moment.astimezone(_NAIROBI):%Y-%m-%d %H:%M} EAT"


def to_the_second(stamp: Timestamp) -> str:
    """The same, where one thing follows quickly on another."""
    moment: datetime = stamp.ToDatetime(UTC)
    return f"{moment.astimezone(_NAIROBI):%Y-%m-%d %H:%M:%S} EAT"


def age(stamp: Timestamp) -> str:
    """How long ago, in the largest unit that fits."""
    minutes = max(0, int((datetime.now(UTC) - stamp.ToDatetime(UTC)).total_seconds()) // 60)
    for unit, length in (("day", 24 * 60), ("hour", 60)):
        if minutes >= length:
            return _counted(minutes // length, unit)
    return _counted(minutes, "minute") if minutes else "less than a minute"


def money(amount: Money) -> str:
    """With its currency."""
    return f"{amount.currency_code} {amount.units}"


def kind(case: pb.Case) -> str:
    """Why the case was opened, in small words."""
    return _small("CASE_KIND_", pb.CaseKind.DESCRIPTOR, case.kind).capitalize()


def choice(case: pb.Case, resolution: "pb.CaseResolution.ValueType") -> str:
    """A way to settle this case as a person chooses it, with what follows."""
    follows = _DISMISSED.get(case.kind) or (_DISMISSED_ABOUT_MONEY if case.about_money else "")
    return f"Dismiss: {follows}" if resolution == pb.CASE_RESOLUTION_DISMISS and follows else WAYS[resolution]


def way(resolution: "pb.CaseResolution.ValueType") -> str:
    """A resolution by its name."""
    return _small("CASE_RESOLUTION_", pb.CaseResolution.DESCRIPTOR, resolution)


def status(payment: payment_pb2.Payment) -> str:
    """Where the payment stands, and why."""
    name = _small("PAYMENT_STATUS_", payment_pb2.PaymentStatus.DESCRIPTOR, payment.status)
    reason = _small("STATUS_REASON_", payment_pb2.StatusReason.DESCRIPTOR, payment.status_reason)
    certain = "certain" if payment.outcome_certain else "not certain"
    return f"{name} ({reason}), {certain}" if payment.status_reason else f"{name}, {certain}"


def booking_action(payment: payment_pb2.Payment) -> str:
    """What the booking may do."""
    return _small("BOOKING_ACTION_", payment_pb2.BookingAction.DESCRIPTOR, payment.booking_action)


def next_step(payment: payment_pb2.Payment) -> str:
    """What the passenger does next, and not before when."""
    step = _small("NEXT_STEP_", payment_pb2.NextStep.DESCRIPTOR, payment.next_step)
    waits = payment.HasField("retry_allowed_time") and payment.next_step == payment_pb2.NEXT_STEP_TRY_AGAIN
    return f"{step}, from {at(payment.retry_allowed_time)} on" if waits else step


def refund(one: payment_pb2.Refund) -> str:
    """How far a refund is."""
    state = _small("REFUND_STATUS_", payment_pb2.RefundStatus.DESCRIPTOR, one.status)
    ended = f", ended {at(one.end_time)}" if one.HasField("end_time") else ""
    return f"{money(one.amount)}, asked for {at(one.request_time)}: {state}{ended}"


def refund_of_case(one: pb.CaseRefund) -> str:
    """How far the money of a case is on its way back."""
    state = _small("STATE_", pb.CaseRefund.State.DESCRIPTOR, one.state)
    said = f", M-Pesa said {one.provider_result_code}" if one.provider_result_code else ""
    since = f"ended {at(one.end_time)}" if one.HasField("end_time") else f"begun {at(one.request_time)}"
    return f"{money(one.amount)} is {state}{said}, {since}"


def act(one: pb.CaseAct) -> str:
    """What somebody did about a case."""
    return _small("KIND_", pb.CaseAct.Kind.DESCRIPTOR, one.kind)


def approval_state(one: pb.Approval) -> str:
    """What has become of what was asked for."""
    return _small("STATE_", pb.Approval.State.DESCRIPTOR, one.state)


def settled(case: pb.Case) -> str:
    """How and when a case has ended; empty while it is open."""
    if not case.HasField("settle_time"):
        return ""
    if case.resolution == pb.CASE_RESOLUTION_UNSPECIFIED:
        return f"It ended by itself, {at(case.settle_time)}."
    return f"It was settled: {way(case.resolution)}, {at(case.settle_time)}."


def is_under_way(case: pb.Case) -> bool:
    """Whether its money is on its way back, so that nothing can be decided now."""
    return case.kind != pb.CASE_KIND_REFUND and case.HasField("refund") and not case.refund.HasField("end_time")


def what_will_happen(file: pb.GetCaseResponse, asked: pb.ResolveCaseRequest) -> list[str]:
    """What a decision does, before it is done."""
    case = file.case
    receipt = asked.mpesa_receipt_number or case.mpesa_receipt_number
    mine = next((one.payment for one in file.attempts if one.payment.payment_id == case.payment_id), None)
    is_beside = mine is not None and bool(receipt) and mine.mpesa_receipt_number not in ("", receipt)
    amount = _left(case, mine if not is_beside else None)
    of = f"{amount}, receipt {receipt}," if receipt else amount
    # That of the case may be of the money that came: the service takes only what is typed.
    receipt_of_return = asked.mpesa_receipt_number or "no receipt"
    match asked.resolution:
        case pb.CASE_RESOLUTION_ACCEPT:
            booking = f"booking {case.booking_id}" if case.booking_id else "its booking"
            return [
                f"You say for ever that {of.removesuffix(',')} is this payment's, and enough.",
                f"Unless another payment has confirmed it, {booking} is told to confirm its seat.",
                case.advice,
            ]
        case pb.CASE_RESOLUTION_DISMISS:
            return [f"{choice(case, asked.resolution)}.", "A dismissed case does not open again by hand.", case.advice]
        case pb.CASE_RESOLUTION_RETURN:
            return [
                f"{of} goes back to its payer{f', {mine.masked_phone}' if mine is not None else ''}.",
                _seat_after_return(case, mine, is_beside),
                "If so much money needs a second person, nothing happens before they agree.",
            ]
        case pb.CASE_RESOLUTION_MOVE:
            return [
                f"{of} is to move from booking {case.booking_id} to payment {asked.to_payment_id or '(none)'}.",
                "Nothing moves before a second person agrees.",
            ]
        case pb.CASE_RESOLUTION_REFUNDED:
            return [f"You say for ever that {money(case.refund.amount)} has gone back, by {receipt_of_return}."]
        case _:
            return [
                f"You say for ever that {money(case.refund.amount)} has not gone back and never will.",
                "It may then be sent by another refund.",
            ]


def _left(case: pb.Case, own: payment_pb2.Payment | None) -> str:
    """The money of the case, less what has gone back of it already."""
    if not case.HasField("amount"):
        return "The money"
    gone = own.refunded_amount.units if own is not None else 0
    left = Money(currency_code=case.amount.currency_code, units=case.amount.units - gone)
    return f"What is left of {money(case.amount)}, {money(left)}" if gone else money(left)


def _seat_after_return(case: pb.Case, mine: payment_pb2.Payment | None, is_beside: bool) -> str:
    if mine is not None and is_beside:
        own = mine.mpesa_receipt_number
        return f"The payment keeps its own money, receipt {own}: booking {case.booking_id} stays as it is."
    if mine is not None and mine.booking_action == payment_pb2.BOOKING_ACTION_RELEASE:
        return f"Booking {case.booking_id} was told already to release its seat."
    return f"Booking {case.booking_id} is told to release its seat, unless another payment has confirmed it."


def what_was_asked(one: pb.Approval) -> str:
    """What a second person decides about."""
    of = f"{money(one.amount)}, receipt {one.mpesa_receipt_number}, of booking {one.booking_id}"
    if one.to_payment_id:
        return f"Move {of} to payment {one.to_payment_id} of booking {one.to_booking_id}"
    return f"Send {of} back to its payer"


def _small(prefix: str, enum: EnumDescriptor, value: int) -> str:
    return short(prefix, enum, value).replace("_", " ").lower()


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' * (number != 1)}"
