"""The bookings of a trip and how the money of each stands: what is to go back, what has gone, what cannot, and why.

Made from the service's answers alone. The service decides about each booking; here they are only added up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

from payment_service.commands.booking_list import ListedBooking
from payment_service.domain.refund import RefundBar

FLOAT_GONE: Final = "1"
"""M-Pesa's code for too little money in the account that a refund is paid from."""


class Standing(StrEnum):
    """How the money of one booking stands."""

    TO_REFUND = "TO_REFUND"
    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"
    FAILED = "FAILED"
    """Safaricom refused the latest refund; asked for once more, there is another."""
    RETURNED = "RETURNED"
    """The money has gone back already, otherwise than by this command: the caller asked, or the payer took it back."""
    MAY_STILL_PAY = "MAY_STILL_PAY"
    """There is no money, and some may still come."""
    NOT_POSSIBLE = "NOT_POSSIBLE"


_OF_STATUS: Mapping[int, Standing] = {
    payment_pb2.REFUND_STATUS_DONE: Standing.DONE,
    payment_pb2.REFUND_STATUS_FAILED: Standing.FAILED,
}
_OF_CAUSE: Mapping[str, Standing] = {
    RefundBar.REFUNDED: Standing.RETURNED,
    RefundBar.REFUND_UNDER_WAY: Standing.UNDER_WAY,
    RefundBar.NOT_PAID_YET: Standing.MAY_STILL_PAY,
}
"""What the service refuses to refund, by its cause. All else is not possible."""
TO_ASK_FOR = frozenset({Standing.TO_REFUND, Standing.FAILED})
WENT_BACK = (Standing.DONE, Standing.RETURNED)
"""Nothing of the money is here any more."""


@dataclass(frozen=True, slots=True)
class Passenger:
    """One booking of the list, and how its money stands."""

    listed: ListedBooking
    standing: Standing
    amount: int = 0
    """Whole shillings that go back."""
    shortcode: str = ""
    payment_id: str = ""
    caller: str = ""
    """Whose booking it is."""
    fee: int = 0
    """Whole shillings that are kept, of one that is not asked for yet."""
    masked_phone: str = ""
    code: str = ""
    """Safaricom's, of a refund that has failed."""
    why: str = ""
    """What the service says of one that it refuses to refund."""


@dataclass(frozen=True, slots=True)
class Float:
    """What refunds can be paid from at a shortcode, in whole shillings; None where it is not known, and why."""

    shortcode: str
    available: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sum:
    """So many bookings, and so many shillings."""

    bookings: int
    amount: int
    fee: int = 0


def passenger(listed: ListedBooking, answer: pb.RefundBookingResponse) -> Passenger:
    """A booking as the service has answered."""
    standing, why = Standing.TO_REFUND, ""
    if answer.HasField("approval"):
        standing = Standing.NOT_POSSIBLE
        why = f"It waits for a second operator: payment-service approvals show {answer.approval.approval_id}"
    elif answer.HasField("refund"):
        standing = _OF_STATUS.get(answer.refund.status, Standing.UNDER_WAY)
    return Passenger(
        listed=listed,
        standing=standing,
        amount=answer.amount.units,
        fee=answer.fee.units,
        shortcode=answer.shortcode,
        payment_id=answer.payment.payment.payment_id,
        caller=answer.payment.caller,
        masked_phone=answer.payment.payment.masked_phone,
        code=answer.provider_result_code,
        why=why,
    )


def refused(listed: ListedBooking, cause: str, why: str) -> Passenger:
    """A booking that the service refuses to refund."""
    return Passenger(listed, _OF_CAUSE.get(cause, Standing.NOT_POSSIBLE), why=why)


def sum_of(trip: Iterable[Passenger], *standings: Standing) -> Sum:
    """What stands so, or in whatever way, added up."""
    found = [one for one in trip if not standings or one.standing in standings]
    return Sum(len(found), sum(one.amount for one in found), sum(one.fee for one in found))


def to_ask_for(trip: Iterable[Passenger]) -> list[Passenger]:
    """Those whose money is still to be asked for, in the order of the list."""
    return [one for one in trip if one.standing in TO_ASK_FOR]


def covered(trip: Iterable[Passenger], floats: Mapping[str, Float]) -> list[Passenger]:
    """Those of `to_ask_for` whom the float pays for, in the order of the list. `floats` are by the shortcode paid to.

    What is not known stops nobody: M-Pesa says when it is gone.
    """
    left = {one.shortcode: one.available for one in floats.values()}
    found = []
    for one in to_ask_for(trip):
        paid_from = floats[one.shortcode].shortcode
        available = left[paid_from]
        if available is not None:
            # If it is too little for this one, the next may be cheaper. It waits all the same: the list decides.
            left[paid_from] = available - one.amount if one.amount <= available else 0
            if one.amount > available:
                continue
        found.append(one)
    return found


def covered_by_now(
    planned: Iterable[Passenger], trip: Mapping[str, Passenger], floats: Mapping[str, Float]
) -> list[Passenger]:
    """`covered` of the trip as it was planned, where some cannot be sent after all, such as what waits for a second
    operator: their money stays in the float for the others. `trip` is by booking, as it stands by now.
    """
    sendable = [one for one in planned if trip[one.listed.booking_id].standing is not Standing.NOT_POSSIBLE]
    return covered(sendable, floats)


def why_to_stop(ended: Sequence[Passenger]) -> str:
    """Why no other refund is to be asked for, by those that have ended in this run, the latest last; empty to go on."""
    if any(one.standing is Standing.FAILED and one.code == FLOAT_GONE for one in ended):
        return "M-Pesa says that too little money is left in the account that refunds are paid from."
    last = ended[-REFUSALS_MAX:]
    if len(last) == REFUSALS_MAX and all(one.standing is Standing.FAILED for one in last):
        codes = ", ".join(dict.fromkeys(one.code or "none" for one in last))
        return f"{REFUSALS_MAX} refunds in a row were refused, with code {codes}."
    return ""


REFUSALS_MAX = 3
"""Refunds in a row that M-Pesa refuses, after which the others would be as well."""
