"""What must be true of stored payments at any moment: one rule for each promise, over rows that are at hand.

The rules trust nothing that wrote the rows, and no constraint of the database either: a schema restored without its
indexes is checked all the same. They say what is wrong, never what to do about it, and never quote personal data.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from payment_service.application.inspecting.chains import broken_links, missing_versions
from payment_service.application.inspecting.decided_cases import (
    agreed_as_logged,
    asked_as_logged,
    asked_unvouched,
    open_unread,
    settled_as_logged,
)
from payment_service.application.inspecting.issued_receipts import IssuedReceipts, issued_rightly
from payment_service.application.recording.request_encoding import fingerprint_holds
from payment_service.application.settling.opened_bodies import NATIONAL_DIGITS
from payment_service.domain.cases import CaseKind
from payment_service.domain.decisions import booking_action_now_and_told, money_sure
from payment_service.domain.edges import edges
from payment_service.domain.payment import (
    ENDED_UNPAID,
    LIVE_STATES,
    PAID_STATES,
    Backing,
    BookingAction,
    Payment,
    RefundStatus,
    State,
)
from payment_service.domain.query_schedule import worth_asking
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import Refund, RefundState, needed_refunds
from payment_service.security.keys import Keys
from payment_service.security.sealing import Sealer
from payment_service.store.approvals import ApprovalRow
from payment_service.store.audit import CaseRow, PaymentProofs, RequestProofs
from payment_service.store.event_log import LoggedEvent
from payment_service.store.evidence import ReceiptRow
from payment_service.store.payments import CHECKOUT_INDEX, PHONE_INDEX


class Invariant(StrEnum):
    """What is promised, as the checker's lines say it."""

    VERSIONS = "versions are 1, 2, 3 … without a gap, up to the row's own"
    LAST_EVENT = "a row says what its last event says"
    CHAIN = "the chain of a payment's events verifies, and ends in its row"
    ORDER = "in the log, a payment's events stand in the order of their versions"
    EDGES = "every change of state is one that the table allows"
    FACTS = "no fact has led to two events or to two cases"
    LOG_PRIVACY = "the log holds no phone number"
    SEALED = "sealed values open where they are stored"
    REQUEST = "the request is the one that was fingerprinted, and its row agrees with it"
    REQUEST_ID = "a request id has served one request"
    PUSHES = "at most one push of a payment may have reached a phone"
    BLOCK = "at most one payment blocks a booking"
    CONFIRM = "at most one payment of a booking has said CONFIRM, but for those whose money never came"
    RECEIPTS = "a receipt counts for one payment, and each payment's receipt counts"
    UNCOUNTED = "money that counts for nothing stands in a case"
    MONEY_CASES = "a payment is held for review exactly while a money case is open"
    EVIDENCE = "an expired payment that is certain has evidence that nothing was paid"
    UNREAD = "a payment has an unread callback exactly while a case says so"
    ACTS = "who has settled a case, asked for a refund or agreed to one, and why, is what the log vouches for"
    WAY_OUT = "what is unsettled has a timer or an open case"
    QUERIES = "only what a query can still settle is to be asked about"
    BOOKING = "what the booking is told follows from the rows"
    REFUNDS = "no more has gone back than came, and a payment says of its refunds what they are"
    CALLBACKS = "a callback that was applied names its payment"
    INBOX = "a callback that is not applied has its next try or an open case, and one that is has none"
    SUCCESS = "a success that came by callback is recorded"
    BOOKS = "money that the provider's books show for a payment is recorded"
    ISSUED = "what a passenger's receipt says is what the log vouches for, and is so or due"
    TAKEN_BACK = "a payment that was taken back without a refund of ours has its case"


@dataclass(frozen=True, slots=True)
class Instruments:
    """What verifying takes besides the rows."""

    sealer: Sealer
    keys: Keys


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is stored about one payment."""

    row: PaymentProofs
    payment: Payment | None
    """None when the row cannot be read."""
    phone_number: str | None
    """None when it does not open; so with the request."""
    request: bytes | None
    events: Sequence[LoggedEvent]
    siblings: Sequence[Payment]
    receipts: Sequence[ReceiptRow]
    cases: Sequence[CaseRow]
    pushes: int
    refunds: Sequence[Refund]
    approvals: Sequence[ApprovalRow]
    issued: IssuedReceipts
    later_requests: Sequence[tuple[RequestProofs, bytes]]
    """Those about the payment that made none, each with its request, if it opens."""
    shares_request_id: bool
    shares_receipt: bool


Rule = Callable[[Evidence, Instruments], Iterator[str]]

_EDGES = edges()


def _versions(found: Evidence, _: Instruments) -> Iterator[str]:
    yield from missing_versions(found.row.version, found.events)


def _last_event(found: Evidence, _: Instruments) -> Iterator[str]:
    payment = found.payment
    if payment is None:
        yield "the row cannot be read"
        return
    if not found.events:
        return
    last = found.events[-1]
    for name, in_row, in_event in (
        ("caller", payment.caller, last.caller),
        ("amount", payment.amount, last.amount),
        ("state", payment.state.value, last.state),
        ("reason", payment.shown_reason and payment.shown_reason.value, last.status_reason),
        ("result code", payment.result_code, last.provider_result_code),
        ("booking action", payment.booking_action.value, last.booking_action),
        ("certainty", payment.outcome_certain, last.outcome_certain),
        ("retry time", payment.retry_allowed_at, last.retry_allowed_at),
        ("receipt", payment.receipt, last.mpesa_receipt_number),
        ("lateness", payment.paid_late, last.paid_late),
        ("completion", payment.completed_at, last.completed_at),
        ("expiry", payment.expires_at, last.expires_at),
        ("change time", payment.updated_at, last.occurred_at),
        ("refund", payment.refund_id, last.refund_id),
        ("refund status", payment.refund_status and payment.refund_status.value, last.refund_status),
        ("refunded amount", payment.refunded_amount, last.refunded_amount),
    ):
        if in_row != in_event:
            yield f"{name}: the row says {in_row}, version {last.version} says {in_event}"


def _chain(found: Evidence, tools: Instruments) -> Iterator[str]:
    yield from broken_links(found.row.chain_hash, found.events, tools.keys.chain)


def _order(found: Evidence, _: Instruments) -> Iterator[str]:
    for before, after in itertools.pairwise(found.events):
        if after.position <= before.position:
            yield f"version {after.version} stands at {after.position}, after version {before.version}'s place"


def _edges(found: Evidence, _: Instruments) -> Iterator[str]:
    state: str | None = None
    for event in found.events:
        if event.previous_state != state:
            yield f"version {event.version} leaves {event.previous_state}, where the payment was {state}"
        if not _allowed(event.previous_state, event.state):
            yield f"version {event.version} goes from {event.previous_state} to {event.state}"
        state = event.state


def _allowed(previous: str | None, state: str) -> bool:
    if previous is None or state not in State.__members__ or previous not in State.__members__:
        return previous is None and state == State.CREATED
    return previous == state or (State(previous), State(state)) in _EDGES


def _facts(found: Evidence, _: Instruments) -> Iterator[str]:
    for kind, facts in (
        ("events", [event.fact_id for event in found.events]),
        ("cases", [case.fact_id for case in found.cases]),
    ):
        for fact_id in sorted({fact_id for fact_id in facts if facts.count(fact_id) > 1}):
            yield f"fact {fact_id} has led to {facts.count(fact_id)} {kind}"


def _log_privacy(found: Evidence, _: Instruments) -> Iterator[str]:
    if not found.phone_number:
        # It does not open, or was erased.
        return
    digits = found.phone_number[-NATIONAL_DIGITS:]
    for event in found.events:
        texts = (event.fact_id, event.provider_result_code, event.status_reason, event.mpesa_receipt_number)
        if any(digits in text for text in texts if text is not None):
            yield f"version {event.version} holds the payer's number"


def _request(found: Evidence, tools: Instruments) -> Iterator[str]:
    row, payment = found.row, found.payment
    if found.request is not None:
        ring, claimed = tools.keys.fingerprint, row.request_fingerprint
        if not fingerprint_holds(ring, row.request_key_id, row.request_encoding, found.request, claimed):
            yield "the sealed request has another fingerprint"
        asked = json.loads(found.request)
        for name, stored in (
            ("request_id", row.request_id),
            ("booking_id", row.booking_id),
            ("phone_number", found.phone_number),
            ("amount", payment and payment.amount),
        ):
            if stored is not None and asked.get(name, stored) != stored:
                yield f"the row has another {name} than was asked for"
    for later, request in found.later_requests:
        ring = tools.keys.fingerprint
        if not fingerprint_holds(ring, later.key_id, later.encoding, request, later.fingerprint):
            yield f"the sealed request {later.kept_id} has another fingerprint"
        if json.loads(request)["payment_id"] != str(row.payment_id):
            yield f"request {later.kept_id} was about another payment"
    phone = found.phone_number
    if phone is not None and tools.sealer.index(PHONE_INDEX, phone) != row.phone_index:
        yield "the phone number is not the one it is found by"
    checkout = payment and payment.checkout_request_id
    if payment and (checkout and tools.sealer.index(CHECKOUT_INDEX, checkout)) != row.checkout_index:
        yield "the CheckoutRequestID is not the one it is found by"


def _request_id(found: Evidence, _: Instruments) -> Iterator[str]:
    if found.shares_request_id:
        yield "another payment or request has the same request id"


def _pushes(found: Evidence, _: Instruments) -> Iterator[str]:
    if found.pushes > 1:
        yield f"{found.pushes} pushes"


def _block(found: Evidence, _: Instruments) -> Iterator[str]:
    if found.payment and found.payment.blocks_booking:
        yield from (f"so does {other.payment_id}" for other in found.siblings if other.blocks_booking)


def _confirm(found: Evidence, _: Instruments) -> Iterator[str]:
    if found.payment and found.payment.said_confirm:
        yield from (f"so has {other.payment_id}" for other in found.siblings if other.said_confirm)
    never_came, confirm = Reason.MONEY_NEVER_CAME, BookingAction.CONFIRM
    spoken = [e for e in found.events if e.booking_action == confirm or e.status_reason == never_came]
    if found.payment and not found.payment.said_confirm and spoken and spoken[-1].status_reason != never_came:
        yield "an event says it, and the row does not know"


def _receipts(found: Evidence, _: Instruments) -> Iterator[str]:
    if found.shares_receipt:
        yield "another payment has the same receipt"
    if found.payment is None:
        return
    own, counted = found.payment.receipt, [receipt.receipt for receipt in found.receipts if receipt.counted]
    if own is not None and found.payment.state not in PAID_STATES:
        yield f"it has receipt {own}, and is {found.payment.state.value}"
    if own is not None and own not in counted:
        yield f"its receipt {own} is not among those that count"
    yield from (f"receipt {receipt} counts for it, and is not its own" for receipt in counted if receipt != own)


def _uncounted(found: Evidence, _: Instruments) -> Iterator[str]:
    in_cases = {case.receipt for case in found.cases if case.is_money}
    for receipt in found.receipts:
        if not receipt.counted and receipt.receipt not in in_cases:
            yield f"receipt {receipt.receipt} stands in no money case"


def _money_cases(found: Evidence, _: Instruments) -> Iterator[str]:
    for case in found.cases:
        if case.payment_id not in (None, found.row.payment_id):
            yield f"a case of its reference names payment {case.payment_id}"
    is_open = any(case.is_money for case in found.cases if case.settled_at is None)
    if found.payment and is_open is not found.payment.money_case_open:
        yield "a money case is open, and it is not held" if is_open else "it is held, and no money case is open"


def _way_out(found: Evidence, _: Instruments) -> Iterator[str]:
    if (payment := found.payment) is None:
        return
    unsettled = (
        payment.state in LIVE_STATES
        or (payment.state is State.COMPLETED and payment.receipt is None)
        or (payment.state in ENDED_UNPAID and not payment.outcome_certain)
    )
    unsettled = unsettled or (payment.state is State.COMPLETED and payment.backing is Backing.AWAITED)
    case_open = any(case.settled_at is None for case in found.cases)
    if unsettled and payment.due_at is None and not case_open:
        yield f"it is {payment.state.value}, and nothing will ever look at it again"


def _queries(found: Evidence, _: Instruments) -> Iterator[str]:
    if (payment := found.payment) is not None and payment.query_at is not None and not worth_asking(payment):
        yield f"it is {payment.state.value}, and a query is due at {payment.query_at:%Y-%m-%d %H:%M:%S}"


def _booking(found: Evidence, _: Instruments) -> Iterator[str]:
    payment = found.payment
    if payment is None:
        return
    due, told = booking_action_now_and_told(payment, found.siblings)
    if payment.booking_action not in (due, told):
        yield f"it is told {payment.booking_action.value}, and the rows say {due.value}"
    if payment.outcome_certain and (payment.state in LIVE_STATES or due is BookingAction.WAIT):
        yield f"it is certain, and {payment.state.value}, and the rows say {due.value}"
    if payment.state in PAID_STATES and money_sure(payment) and not payment.outcome_certain:
        yield "it is paid for sure, and not certain"


def _evidence(found: Evidence, _: Instruments) -> Iterator[str]:
    if (payment := found.payment) is None or not payment.outcome_certain:
        return
    if payment.state is State.EXPIRED and payment.unpaid_proof is None:
        yield "nothing says what proves it"
    if payment.state in ENDED_UNPAID and payment.unread_callback:
        yield "a callback of it is unread"


def _unread(found: Evidence, _: Instruments) -> Iterator[str]:
    is_open = bool(open_unread(found.cases))
    if found.payment and is_open is not found.payment.unread_callback:
        yield "a case is open, and it is not held" if is_open else "it is held, and no case is open"


def _acts(found: Evidence, _: Instruments) -> Iterator[str]:
    yield from settled_as_logged(found.cases, found.events)
    yield from asked_as_logged(_kept(found), found.events)
    yield from agreed_as_logged(found.approvals, found.events, found.cases)


def unvouched_acts(found: Evidence) -> Iterator[str]:
    """What `Invariant.ACTS` can neither find kept nor broken."""
    yield from asked_unvouched(_kept(found), found.events)


def _kept(found: Evidence) -> list[tuple[UUID, bytes]]:
    return [(later.kept_id, request) for later, request in found.later_requests]


def _refunds(found: Evidence, _: Instruments) -> Iterator[str]:
    """By the refunds' own rows: which receipt each returns, and whether its money has gone back or still may."""
    if found.payment is None:
        return
    needed = needed_refunds(found.refunds)
    for receipt, came in ((receipt.receipt, receipt.amount) for receipt in found.receipts):
        back = sum(refund.amount for refund in needed if refund.receipt == receipt)
        if came is not None and back > came:
            yield f"refunds of receipt {receipt} add up to {back}, and it brought {came}"
    done = [refund for refund in found.refunds if refund.state is RefundState.DONE]
    sent_back = sum(refund.amount for refund in done if not refund.is_beside(found.payment.receipt))
    if sent_back != found.payment.refunded_amount:
        yield f"the row says that {found.payment.refunded_amount} went back, its refunds {sent_back}"
    live = [refund.refund_id for refund in needed if refund.under_way]
    pending = found.payment.refund_status is RefundStatus.PENDING
    if bool(live) != found.payment.awaits_refund or pending != (found.payment.refund_id in live):
        yield f"refunds under way: {len(live)}, and the row says {found.payment.refund_status or 'none'}"


def _taken_back(found: Evidence, _: Instruments) -> Iterator[str]:
    if (payment := found.payment) is None or payment.reason is not Reason.TAKEN_BACK:
        return
    if payment.state is not State.REFUNDED:
        yield f"it was taken back, and is {payment.state.value}"
    if not any(case.kind == CaseKind.TAKEN_BACK for case in found.cases):
        yield "no case tells a person of it"


RULES: Mapping[Invariant, Rule] = {
    Invariant.VERSIONS: _versions,
    Invariant.LAST_EVENT: _last_event,
    Invariant.CHAIN: _chain,
    Invariant.ORDER: _order,
    Invariant.EDGES: _edges,
    Invariant.FACTS: _facts,
    Invariant.LOG_PRIVACY: _log_privacy,
    Invariant.REQUEST: _request,
    Invariant.REQUEST_ID: _request_id,
    Invariant.PUSHES: _pushes,
    Invariant.BLOCK: _block,
    Invariant.CONFIRM: _confirm,
    Invariant.RECEIPTS: _receipts,
    Invariant.UNCOUNTED: _uncounted,
    Invariant.MONEY_CASES: _money_cases,
    Invariant.EVIDENCE: _evidence,
    Invariant.UNREAD: _unread,
    Invariant.ACTS: _acts,
    Invariant.WAY_OUT: _way_out,
    Invariant.QUERIES: _queries,
    Invariant.BOOKING: _booking,
    Invariant.REFUNDS: _refunds,
    Invariant.ISSUED: lambda of, _: issued_rightly(of.issued, of.events, of.payment, of.receipts, of.refunds, of.cases),
    Invariant.TAKEN_BACK: _taken_back,
}
"""The rules over one payment. Sealed values, callbacks and the books are checked where they are read: in `check`."""
