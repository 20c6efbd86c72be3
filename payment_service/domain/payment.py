"""What a payment is: its states, and the row that every decision is made from.

Pure data. What may happen to it is decided in `transitions`; what its reasons
mean to a passenger, in `reasons`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID

from payment_service.domain.reasons import Reason


class State(StrEnum):
    """Where a payment stands, as this service sees it."""

    CREATED = "CREATED"
    SENDING = "SENDING"
    PROMPTED = "PROMPTED"
    UNCERTAIN = "UNCERTAIN"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REFUNDING = "REFUNDING"
    REFUNDED = "REFUNDED"


class Status(StrEnum):
    """Where a payment stands, as a caller sees it; the names are those of the wire enum."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REFUNDED = "REFUNDED"


STATUS_OF: Mapping[State, Status] = {
    State.CREATED: Status.PENDING,
    State.SENDING: Status.PENDING,
    State.PROMPTED: Status.PROCESSING,
    State.UNCERTAIN: Status.PROCESSING,
    State.COMPLETED: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
    State.EXPIRED: Status.EXPIRED,
    State.REFUNDING: Status.COMPLETED,
    State.REFUNDED: Status.REFUNDED,
}

LIVE_STATES = frozenset({State.CREATED, State.SENDING, State.PROMPTED, State.UNCERTAIN})
"""States in which the passenger may still pay this attempt."""

ENDED_UNPAID = frozenset({State.FAILED, State.CANCELLED, State.EXPIRED})
"""States of a payment that ended without money, as far as is known."""

PAID_STATES = frozenset({State.COMPLETED, State.REFUNDING, State.REFUNDED})
"""States of a payment whose money arrived, whatever became of it later; but see `Payment.was_paid`."""


class BookingAction(StrEnum):
    """What the booking may do now; the names are those of the wire enum."""

    WAIT = "WAIT"
    CONFIRM = "CONFIRM"
    OFFER_RETRY = "OFFER_RETRY"
    FOLLOW_SIBLING = "FOLLOW_SIBLING"
    RELEASE = "RELEASE"
    REVIEW = "REVIEW"


class LatePaymentPolicy(StrEnum):
    """What the caller wants done with money that becomes known after the hold."""

    REVIEW = "REVIEW"
    CONFIRM = "CONFIRM"
    REFUND = "REFUND"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        """The word of a newer release leaves late money to a person."""
        return cls.REVIEW


class UnpaidProof(StrEnum):
    """What proves that a payment which ended without money was not paid. Silence is none of these."""

    RESULT = "RESULT"
    """A callback told a listed final failure."""
    NO_PROMPT = "NO_PROMPT"
    """Nothing reached the phone: the push was refused, reached nobody, or was never made."""
    QUERY = "QUERY"
    """A query said so after the prompt was surely gone, and agreed with what was known."""
    BOOKS = "BOOKS"
    """The provider's books were read over the payment's whole window, and do not have it."""
    EARLIER = "EARLIER"
    """It was told as certain before proofs were recorded."""
    PERSON = "PERSON"
    """An operator looked where this service cannot, and settled the case that the outcome is unknown."""


class Backing(StrEnum):
    """What backs a success: whoever has learned a callback's URL can tell one, so another source is asked as well."""

    AWAITED = "AWAITED"
    """Only a callback has told it, and another source is being asked."""
    DOUBTED = "DOUBTED"
    """Another source denies it, or none has told it in time: a person has a case about it."""
    REFUTED = "REFUTED"
    """An operator has found that the money never came."""
    QUERY = "QUERY"
    """Safaricom said so when it was asked about the push."""
    STATUS = "STATUS"
    """So did the status of its transaction."""
    BOOKS = "BOOKS"
    """The provider's books have it, with its receipt."""
    PERSON = "PERSON"
    """An operator has found the money."""


UNBACKED = frozenset({Backing.AWAITED, Backing.DOUBTED, Backing.REFUTED})
"""What a success is while a callback alone tells it."""


class RefundStatus(StrEnum):
    """What a caller sees of a refund; the names are those of the wire enum."""

    PENDING = "PENDING"
    DONE = "DONE"
    FAILED = "FAILED"


class PhoneWarning(StrEnum):
    """Something worth knowing about a phone number; never a refusal."""

    NOT_A_SAFARICOM_PREFIX = "NOT_A_SAFARICOM_PREFIX"


@dataclass(frozen=True, slots=True)
class Times:
    """How long each thing may take. Settings, so that a demonstration need not wait two minutes."""

    expire_after: timedelta = timedelta(seconds=120)
    """From the send to EXPIRED: a prompt lives about a minute, results lag behind it."""
    send_within: timedelta = timedelta(seconds=20)
    """From creation to FAILED when nothing could be sent: no phone rings for a trip that has left."""
    orphaned_after: timedelta = timedelta(seconds=2)
    """From when a prompt should have been sent until any process may send it."""
    lease: timedelta = timedelta(seconds=45)
    """How long a claim to send lasts: the whole request (30 s) and room to record its outcome."""
    retry_wait: timedelta = timedelta(seconds=180)
    """From the send to the next attempt: the prompt may be on the phone until then. What a query says before it has
    passed proves nothing by itself."""
    watch_for: timedelta = timedelta(hours=48)
    """From the send until an EXPIRED payment is watched no longer; the provider lists money for as long."""
    receipt_within: timedelta = timedelta(minutes=15)
    """From "paid" without a receipt number until an operator looks."""
    second_look_after: timedelta = timedelta(seconds=15)
    """Between two answers "paid" to our query that together are as good as a receipt."""
    agree_after: timedelta = timedelta(seconds=60)
    """From the send until a query may end an uncertain payment: the prompt is gone by then."""
    query_after: timedelta = timedelta(seconds=30)
    """From the send to the first query; half of it to the second one, and from then on twice as long each time."""
    query_wait_max: timedelta = timedelta(hours=2)
    """Between two queries, at most: some thirty in the two days of the watch."""
    last_look_before: timedelta = timedelta(seconds=5)
    """Before a payment is given up, and before its booking's hold ends: enough for an answer to come."""
    send_backoff: timedelta = timedelta(seconds=1)
    """Before the second send; doubled before each later one."""
    back_after: timedelta = timedelta(minutes=15)
    """From a success that only a callback told to the first query about it: the provider's books, which cost nothing
    more, most often have it by then."""
    backed_within: timedelta = timedelta(hours=24)
    """From such a success until an operator looks, if no other source has told it."""


SENDS_MAX = 4
"""Sends of one payment that reached nobody before it fails: the first and three more."""


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """What the caller asked for, parsed. Equal requests are the same request."""

    request_id: str
    booking_id: str
    phone_number: str
    """E.164 without the plus: 2547XXXXXXXX or 2541XXXXXXXX."""
    amount: int
    """Whole shillings."""
    shortcode: str = ""
    """Empty: the first one configured, when the payment is made. A repeat is compared with what was asked."""
    account_reference: str = ""
    description: str = ""
    language_code: str = "en"
    metadata: Mapping[str, str] = field(default_factory=dict)
    hold_expire_at: datetime | None = None
    late_payment_policy: LatePaymentPolicy = LatePaymentPolicy.REVIEW


@dataclass(frozen=True, slots=True)
class ShortcodeLimits:
    """A shortcode that this service is set up with, and the amounts it takes, in whole shillings."""

    number: str
    amount_min: int
    amount_max: int

    def takes(self, amount: int) -> bool:
        """Whether a payment of this amount may go to the shortcode."""
        return self.amount_min <= amount <= self.amount_max


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """What the caller asked for, parsed: another attempt for the booking of a payment, as that one was asked for."""

    request_id: str
    payment_id: UUID
    phone_number: str = ""
    """As in `PaymentRequest`; empty: the number of the named payment."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """What the caller asked for, parsed: to withdraw a payment before anything is sent."""

    request_id: str
    payment_id: UUID


@dataclass(frozen=True)
class Payment:
    """One attempt to collect money for a booking: all that decisions are made from."""

    payment_id: UUID
    caller: str
    booking_id: str
    reference: str
    attempt: int
    retry_of: UUID | None
    amount: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    hold_expire_at: datetime | None
    late_payment_policy: LatePaymentPolicy

    state: State = State.CREATED
    reason: Reason | None = None
    result_code: str | None = None
    version: int = 1
    receipt_versions: int = 0
    """How many of its versions told of its receipt alone."""
    booking_action: BookingAction = BookingAction.WAIT
    outcome_certain: bool = False
    retry_allowed_at: datetime | None = None
    receipt: str | None = None
    transaction_at: datetime | None = None
    """When M-Pesa says the money moved."""
    paid_late: bool = False
    completed_at: datetime | None = None
    """When the news that the money moved reached us: a callback our edge, the answer to a query the one who asked."""

    blocks_booking: bool = True
    """No other attempt may be started for the booking."""
    said_confirm: bool = False
    """`booking_action` has been CONFIRM at some time; no more, once it was found that the money never came."""
    money_case_open: bool = False
    review_reason: Reason | None = None
    """What the oldest open case about its money says, or that its booking is paid already: see `shown_reason`."""
    refund_id: UUID | None = None
    """The refund that the payment was last told of: that it was asked for, is done, or has failed."""
    refund_status: RefundStatus | None = None
    """Of that one."""
    refund_under_way: bool = False
    """The fate of some refund is open, as the row says: see `awaits_refund`."""
    seat_freed: bool = False
    """A refund was asked for that leaves nothing to travel on. It stays so, whatever becomes of the refund."""
    refunded_amount: int = 0
    """Whole shillings that are proven to have gone back."""

    claim_id: UUID | None = None
    """The latest claim to send."""
    lease_expires_at: datetime | None = None
    sent_at: datetime | None = None
    """When the latest claim to send was made."""
    not_sent_count: int = 0
    send_at: datetime | None = None
    """When a CREATED payment is to be sent."""
    checkout_request_id: str | None = None
    merchant_request_id: str | None = None
    result_seen: bool = False
    """Some result has been received, though not one that settles the payment."""
    paid_seen_at: datetime | None = None
    """When the query was asked that first said "paid" while no receipt was known."""
    paid_twice: bool = False
    """Two queries, some time apart, said "paid"."""
    unpaid_seen_at: datetime | None = None
    """When the query was asked that first found nothing paid after the prompt was surely gone: evidence, which counts
    when the watch ends."""
    unpaid_proof: UnpaidProof | None = None
    """What makes an end without money certain."""
    back_first: bool = False
    """Its booking is confirmed only when the money is backed. Decided when the payment is made."""
    backing: Backing | None = None
    """What backs its money; None where none has come, or came before this was asked."""
    back_at: datetime | None = None
    """When Safaricom is to be asked about the money, if nothing urgent is to be asked. As with `query_at`, asking moves
    it without a new version."""
    ids_from_callback: bool = False
    """A callback has told Safaricom's ids, and the push's answer has not: they may be those of another push, so what a
    query by them says backs nothing."""
    unread_callback: bool = False
    """A callback with a true token could not be read: it may tell of money, so no end without money is certain."""
    due_at: datetime | None = None
    """When a timer has something to do for this payment."""
    query_at: datetime | None = None
    """When Safaricom is to be asked about it. No caller sees it, and asking moves it without a new version."""

    @property
    def money_version(self) -> int:
        """Counts up with all that changes, but for its receipt: what people decide about is the money."""
        return self.version - self.receipt_versions

    @property
    def refuted(self) -> bool:
        """Whether its success was told by a callback alone, and an operator has found that the money never came."""
        return self.state is State.COMPLETED and self.backing is Backing.REFUTED

    @property
    def was_paid(self) -> bool:
        """Whether its money arrived, as far as is known, whatever became of it later."""
        return self.state in PAID_STATES and not self.refuted

    @property
    def shown_reason(self) -> Reason | None:
        """The reason that a caller reads. That of a review goes with the review; its own has stood all the while."""
        reviewed = self.booking_action is BookingAction.REVIEW
        return self.review_reason if reviewed and self.review_reason is not None else self.reason

    @property
    def awaits_refund(self) -> bool:
        """Whether the fate of some refund is open. A process of an older release, which may run beside this one while
        an upgrade goes on, says so by the state alone."""
        return self.refund_under_way or self.state is State.REFUNDING

    def but(self, **changes: object) -> Self:
        """The same payment with some fields changed: `dataclasses.replace`, a tenth as dear.

        A payment passes through here a dozen times on its way, and `replace` calls an __init__ of forty fields.
        """
        unknown = changes.keys() - self.__dict__.keys()
        if unknown:
            raise TypeError(f"a payment has no {', '.join(sorted(unknown))}")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__ | changes)
        return other


def deadline(payment: Payment, times: Times) -> datetime:
    """When a payment is given up: before the send by its age, after the send by its expiry."""
    if payment.state is State.CREATED:
        return payment.created_at + times.send_within
    return payment.expires_at


def backing_end(payment: Payment, times: Times) -> datetime:
    """When an operator is to look at a success that only a callback has told until then."""
    return (payment.completed_at or payment.updated_at) + times.backed_within


def backing_overdue(payment: Payment, now: datetime, times: Times) -> bool:
    """Whether another source should have told of the money by now, and none has."""
    return payment.backing is Backing.AWAITED and now >= backing_end(payment, times)


def watch_end(payment: Payment, times: Times) -> datetime:
    """When a payment that ended without money is watched no longer."""
    return (payment.sent_at or payment.created_at) + times.watch_for
