"""A refund: the nouns. What can be learned about one stands in `refund_facts`, what follows from it in `refunds`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID


class RefundState(StrEnum):
    """Where a refund stands."""

    REQUESTED = "REQUESTED"
    """Recorded; nothing is sent, or what was sent provably reached nobody."""
    SENDING = "SENDING"
    """A claim is committed; a request may be on the wire."""
    ACCEPTED = "ACCEPTED"
    """Safaricom took the request; its result is to come."""
    UNCERTAIN = "UNCERTAIN"
    """The money may have moved: it is asked about, and never sent again."""
    DONE = "DONE"
    FAILED = "FAILED"


class RefundMethod(StrEnum):
    """How the money goes back."""

    REVERSAL = "REVERSAL"
    """The whole of a payment, by its receipt. M-Pesa reverses a payment only once."""
    B2C = "B2C"
    """A part, as a payment of ours to the payer's number."""


MONEY_NOT_BACKED: Final = "MONEY_NOT_BACKED"
"""The code of a refund that waits: only a callback has told of its money, or of its receipt."""
MONEY_NEVER_CAME: Final = "MONEY_NEVER_CAME"
"""The code of a part that failed unsent: an operator has found that its payment's money never came."""

B2C_AMOUNT_MIN = 10
B2C_AMOUNT_MAX = 250_000
"""Whole shillings; M-Pesa's own limits for one payment to a customer."""


class RefundReason(StrEnum):
    """Why money is returned; the names are those of the wire enum."""

    CANNOT_DELIVER = "CANNOT_DELIVER"
    BOOKING_CANCELLED = "BOOKING_CANCELLED"
    PAID_TWICE = "PAID_TWICE"
    PAID_LATE = "PAID_LATE"
    OTHER = "OTHER"


GIVES_UP_THE_SEAT = frozenset({RefundReason.CANNOT_DELIVER, RefundReason.BOOKING_CANCELLED})
"""Reasons that free the seat, however little goes back: a fee may be kept of a booking that is cancelled."""


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund: all that decisions about it are made from."""

    refund_id: UUID
    payment_id: UUID
    caller: str
    reference: str
    """Of the refund itself: its callbacks come to it, and nothing else does."""
    shortcode: str
    receipt: str
    """Of the money that goes back."""
    amount: int
    """Whole shillings."""
    reason: RefundReason
    requested_at: datetime
    method: RefundMethod = RefundMethod.REVERSAL
    by_itself: bool = False
    """No person and no program asked for it."""

    state: RefundState = RefundState.REQUESTED
    result_code: str | None = None
    claim_id: UUID | None = None
    """The latest claim to send."""
    sent_as: str | None = None
    """Names the initiator that it was claimed for, without giving name or password away."""
    lease_expires_at: datetime | None = None
    sent_at: datetime | None = None
    not_sent_count: int = 0
    send_at: datetime | None = None
    """When a refund that is not under way is to be sent."""
    originator_conversation_id: str | None = None
    """What the request is called in results: Safaricom's name for a reversal, ours for a part, which is made once and
    stored before anything is sent."""
    conversation_id: str | None = None
    """What Safaricom calls the request."""
    ended_at: datetime | None = None
    due_at: datetime | None = None
    """When a timer has something to do for this refund."""
    posted_at: datetime | None = None
    """When the first post about it came: M-Pesa had the request by then."""

    @property
    def counts(self) -> bool:
        """Whether its money has gone back, or still may."""
        return self.state is not RefundState.FAILED

    @property
    def under_way(self) -> bool:
        """Whether its fate is open."""
        return self.ended_at is None

    @property
    def is_part(self) -> bool:
        return self.method is RefundMethod.B2C

    def is_beside(self, payment_receipt: str | None) -> bool:
        """Whether it returns other money than its payment stands on. Without a receipt, that is what is returned."""
        return payment_receipt not in (None, self.receipt)

    @property
    def reversed(self) -> bool:
        """Whether it has taken its receipt's payment back: that can happen only once."""
        return self.state is RefundState.DONE and not self.is_part


def needed_refunds(refunds: Sequence[Refund]) -> list[Refund]:
    """Those whose money has gone back or still may, but for what the reversal of its receipt has made needless.

    A needless one may be on its way still.
    """
    returned = {refund.receipt for refund in refunds if refund.reversed}
    return [one for one in refunds if one.state is RefundState.DONE or (one.counts and one.receipt not in returned)]


def left_of(receipt: str, received: int | None, refunds: Iterable[Refund]) -> int | None:
    """What of a receipt's money is neither returned nor promised to be; None where nobody knows how much came."""
    promised = sum(refund.amount for refund in refunds if refund.receipt == receipt and refund.counts)
    return received - promised if received is not None else None


@dataclass(frozen=True, slots=True)
class RefundSurroundings:
    """What decides beside the refund itself."""

    awaited: bool = True
    """Its payment waits for this refund, and the receipt has brought enough for it."""
    backed: bool = True
    """Enough is known of the money that would go back: see `receipt_proof`."""
    never_came: bool = False
    """An operator has found that the money never came."""
    returned: bool = False
    """The reversal of its receipt is done, by another refund: this one is not needed any more."""
    returns_the_rest: bool = True
    """Nothing of what its receipt has brought is left here once this refund is done."""
    others_under_way: bool = False
    """The fate of another refund of its payment is open."""
    beside: bool = False
    """It returns other money than its payment stands on."""


@dataclass(frozen=True, slots=True)
class RefundTimes:
    """How long each thing about a refund may take."""

    lease: timedelta = timedelta(seconds=45)
    """How long a claim to send lasts: the whole request (30 s) and room to record its outcome."""
    result_within: timedelta = timedelta(minutes=2)
    """From the send until a result that has not come is asked for; it takes some seconds."""


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """What the caller asked for, parsed: the money of a payment back to its payer."""

    request_id: str
    payment_id: UUID
    reason: RefundReason
    amount: int | None = None
    """Whole shillings; None: all that is left."""
    operator: str | None = None
    """Who asks for it, and why in their own words, where an operator does."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """A refund that is to be recorded, if nothing bars it."""

    reference: str
    shortcode: str
    reason: RefundReason
    amount: int | None
    possible: bool
    """This service is set up to send money back from the shortcode."""
    receipt: str | None = None
    """Of the money that goes back; None: the payment's own."""
    by_person: bool = False
    """An operator asks for it, not a program."""
    approved: int | None = None
    """Whole shillings that a second person has agreed to."""

    def is_beside(self, payment_receipt: str | None) -> bool:
        """Whether it is for other money than its payment stands on: see `Refund.is_beside`."""
        return self.receipt is not None and payment_receipt not in (None, self.receipt)


class RefundBar(StrEnum):
    """Why money cannot go back as it was asked for; the names are given to callers."""

    NOT_PAID = "NOT_PAID"
    NOT_PAID_YET = "NOT_PAID_YET"
    UNDER_REVIEW = "UNDER_REVIEW"
    RECEIPT_PENDING = "RECEIPT_PENDING"
    REFUND_UNDER_WAY = "REFUND_UNDER_WAY"
    REFUNDED = "REFUNDED"
    AMOUNT_UNKNOWN = "AMOUNT_UNKNOWN"
    ABOVE_WHAT_IS_LEFT = "ABOVE_WHAT_IS_LEFT"
    PART_TOO_SMALL = "PART_TOO_SMALL"
    PART_TOO_LARGE = "PART_TOO_LARGE"
    SEVERAL_PAID = "SEVERAL_PAID"
    SEVERAL_CALLERS = "SEVERAL_CALLERS"
    NOT_SET_UP = "NOT_SET_UP"
    NEEDS_APPROVAL = "NEEDS_APPROVAL"


@dataclass(frozen=True, slots=True)
class RefundRefusal:
    """Why a refund is not recorded, and how much of the payment could be sent back."""

    bar: RefundBar
    left: int = 0
    """Whole shillings; what is promised is not left."""
    seen_target: int | None = None
    """Where the money is to be moved: the money versions of the payments of the booking that it goes to, added up."""
