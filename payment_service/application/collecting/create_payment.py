"""Recording new payments: idempotent by request id, one live attempt for a booking.

One call of `create_payments` is one transaction over a group of requests. The
unique constraints are the truth and the reads before them the explanation: what
another process inserts in between makes the insert skip a row, and a skipped
request is decided again with that row in sight.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from payment_service.application.collecting.account_references import drawn_references
from payment_service.application.collecting.weigh_risk import RiskWeighing, Weighed, read_history, risk_lock, risk_reads
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.request_encoding import REQUEST_ENCODING, conflict, encoded, fingerprint
from payment_service.domain.decisions import bar_to_new_attempt, first_row
from payment_service.domain.errors import (
    BookingBarred,
    BookingLocked,
    PromptsStopped,
    RequestIdReused,
    RiskRefused,
    StoreUnavailable,
)
from payment_service.domain.facts import SendClaimed
from payment_service.domain.finding import Surroundings
from payment_service.domain.pay_bill import found_until
from payment_service.domain.payment import Payment, PaymentRequest, PhoneWarning, RetryRequest, Times
from payment_service.domain.pull import ACCOUNT_REFERENCE_UNIQUE_FOR
from payment_service.domain.risk import Policy
from payment_service.domain.transitions import apply
from payment_service.domain.views import EventType, event_type
from payment_service.security.chain import START
from payment_service.security.sealing import PHONE_NUMBER, REQUEST, Sealer
from payment_service.store import caller_requests, event_log
from payment_service.store import payments as store
from payment_service.store.caller_requests import UsedId
from payment_service.store.event_log import LoggedEvent, NewEvent
from payment_service.store.health import DATABASE_NOW
from payment_service.store.payments import PHONE_INDEX, EarlierPayment, RequestColumns, Stored
from payment_service.store.pipeline import BEGIN, COMMIT, ROLLBACK, Connection, run_together
from payment_service.store.prompt_switch import LATEST_TURN, SwitchTurn, stopping_turn
from payment_service.store.prompts import Prompt
from payment_service.telemetry import trace_id
from runtime.callback_tokens import new_reference
from runtime.key_rings import KeyRing

DESCRIPTION_DEFAULT = "Booking"
"""What the payer sees as the description when the caller gives none."""

ROUNDS_MAX = 5
"""A request that is skipped by its insert is decided again; each round needs another process to have been faster."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A request to record, with the id that its payment will have."""

    payment_id: UUID
    caller: str
    request: PaymentRequest
    warning: PhoneWarning | None
    trace_parent: str | None
    asked: PaymentRequest | RetryRequest
    """What a repeat is compared with: the request itself, or the retry that it was made from."""
    claim_id: UUID | None = None
    """The claim of a process that can send at once; recorded with the payment if it is its booking's first."""


@dataclass(frozen=True, slots=True)
class Created:
    """The payment of a request. `replayed` when an earlier call made it."""

    payment: Payment
    replayed: bool
    prompt: Prompt | None = None
    """What to send; None for a replay: whoever made the payment sends it."""


Decision = Created | RequestIdReused | BookingBarred | PromptsStopped | RiskRefused | BookingLocked | None
"""None: skipped by the insert, or beside another of its group, to be decided again."""


@dataclass(frozen=True, slots=True)
class CreatingTools:
    """What creating needs besides a connection."""

    sealer: Sealer
    event_chain_keys: KeyRing
    request_fingerprint_keys: KeyRing
    default_shortcode: str
    """Receives the money of requests that name none."""
    clock: DatabaseClock
    times: Times
    risk: Policy
    """The rules against prompts that nobody wants."""
    back_before_confirm_above: int | None = None
    """Whole shillings: a success of more is backed before its booking is confirmed. None: of no amount."""
    found_by_hand_within: Mapping[str, timedelta] = field(default_factory=dict)
    """By shortcode, how soon money that is paid by hand is found; those lack where it is not."""


async def create_payment(
    creates: GroupCommit[NewPayment, Decision],
    caller: str,
    request: PaymentRequest,
    warning: PhoneWarning | None,
    trace_parent: str | None,
    retry: RetryRequest | None = None,
    *,
    payment_id: UUID | None = None,
    claim_id: UUID | None = None,
) -> Created:
    """The payment of this request, recorded and committed; a new one gets `payment_id`, and the claim.

    Many callers at once share transactions. `retry` is what was asked where the request was made from one.

    Raises RequestIdReused, BookingBarred, PromptsStopped, RiskRefused, Overloaded or StoreUnavailable. None of them
    leaves a payment but the last, which cannot know: the store may have stopped answering in the middle of a commit.
    """
    new = NewPayment(payment_id or uuid7(), caller, request, warning, trace_parent, retry or request, claim_id)
    for _ in range(ROUNDS_MAX):
        decision = await creates.submit(new)
        match decision:
            case Created():
                return decision
            case RequestIdReused() | BookingBarred() | PromptsStopped() | RiskRefused() | BookingLocked():
                raise decision
            case None:
                continue
    raise StoreUnavailable


async def create_payments(tools: CreatingTools, conn: Connection, group: Sequence[NewPayment]) -> Sequence[Decision]:
    """Decide and insert a group of requests in one transaction; one decision each, in order."""
    asked_at = tools.clock.own_time()
    drawn = {new.payment_id: drawn_references(new.request) for new in group}
    weighed = {new.payment_id: _weighed(tools, new) for new in group}
    candidates = [reference for references in drawn.values() for reference in references]
    found = await _read(tools, conn, group, list(weighed.values()), candidates)
    now, taken = tools.clock.learn(asked_at, found.read_at), found.account_references
    made_here: set[tuple[str, str, str]] = set()
    decisions: list[Decision] = []
    rows: dict[UUID, tuple[Stored, RequestColumns]] = {}
    events: list[LoggedEvent] = []
    for new in group:
        before = found.earlier.get((new.caller, new.request.request_id))
        siblings = found.attempts.get((new.caller, new.request.booking_id), [])
        if before is not None:
            decisions.append(_replayed(tools, new, before))
        elif (bar := bar_to_new_attempt(siblings, now)) is not None:
            decisions.append(BookingBarred(*bar))
        elif found.stopped is not None:
            decisions.append(PromptsStopped(found.stopped.turned_at, found.stopped.reason))
        elif _names(new) & made_here:
            # To be decided beside the payment of its request or booking: a repeat is no business of any rule.
            decisions.append(None)
        elif (not_created := found.risk.weigh(weighed[new.payment_id], now)) is not None:
            decisions.append(not_created)
        else:
            stored, made = _first_versions(tools, new, siblings, now)
            account_reference = next((a for a in drawn[new.payment_id] if a not in taken), stored.payment.reference)
            taken.add(account_reference)
            made_here |= _names(new)
            phone = weighed[new.payment_id].phone
            rows[new.payment_id] = (stored, _request_columns(tools, new, phone, account_reference))
            events.extend(made)
            prompt = _prompt(tools, new, stored.payment, account_reference)
            decisions.append(Created(stored.payment, replayed=False, prompt=prompt))
    skipped = await _insert(tools, conn, group, rows, events, found.risk)
    decided = [None if new.payment_id in skipped else decision for new, decision in zip(group, decisions, strict=True)]
    for decision in decided:
        if isinstance(decision, Created) and decision.payment.payment_id in rows:
            _report(decision)
    found.risk.report()
    return await _looked_up_again(tools, conn, group, decided)


async def _insert(
    tools: CreatingTools,
    conn: Connection,
    group: Sequence[NewPayment],
    rows: Mapping[UUID, tuple[Stored, RequestColumns]],
    events: Sequence[LoggedEvent],
    risk: RiskWeighing,
) -> Set[UUID]:
    """Insert and commit; the ids of the payments that were skipped."""
    if not rows:
        kept = risk.writes()
        await run_together(conn, [*kept, COMMIT if kept else ROLLBACK])
        return set()
    # Sorted, so that two processes insert the same bookings in the same order: they may wait, and rarely in a ring.
    ordered = sorted(group, key=lambda new: (new.request.booking_id, new.request.request_id))
    insert = store.insert_payments(tools.sealer, [rows[new.payment_id] for new in ordered if new.payment_id in rows])
    appended = event_log.append_of_inserted(events)
    inserted, *_ = await run_together(conn, [insert, *risk.writes(), appended, COMMIT])
    return rows.keys() - {row[0] for row in inserted.rows}


async def _looked_up_again(
    tools: CreatingTools, conn: Connection, group: Sequence[NewPayment], decisions: Sequence[Decision]
) -> Sequence[Decision]:
    """The decisions; where nothing was inserted, the request id has the last word, whatever it was used for."""
    unsure = [
        (new.caller, new.request.request_id)
        for new, decision in zip(group, decisions, strict=True)
        if decision is None or isinstance(decision, BookingBarred | PromptsStopped | RiskRefused)
    ]
    if not unsure:
        return decisions
    (found,) = await run_together(conn, [caller_requests.used_ids(unsure)])
    used = {(row.caller, row.request_id): row for row in map(UsedId._make, found.rows)}

    def looked_up(new: NewPayment, decision: Decision) -> Decision:
        use = used.get((new.caller, new.request.request_id))
        if use is None or isinstance(decision, Created | RequestIdReused | BookingLocked):
            return decision
        if use.kept_id == use.payment_id:
            # A payment was made of it meanwhile: to be decided again, beside that payment.
            return None
        return conflict(tools.sealer, tools.request_fingerprint_keys, use, new.asked)

    return [looked_up(new, decision) for new, decision in zip(group, decisions, strict=True)]


@dataclass(frozen=True, slots=True)
class _Found:
    """What stood in the way of a group, or might have."""

    read_at: datetime
    """By the database's clock, with the locks taken."""
    earlier: Mapping[tuple[str, str], EarlierPayment]
    """The payments that the request ids have already made."""
    attempts: Mapping[tuple[str, str], list[Payment]]
    """All payments of the bookings."""
    account_references: set[str]
    """Those of the drawn ones that are in use."""
    stopped: SwitchTurn | None
    """Who has stopped all new prompts."""
    risk: RiskWeighing


async def _read(
    tools: CreatingTools,
    conn: Connection,
    group: Sequence[NewPayment],
    weighed: Sequence[Weighed],
    candidates: Sequence[str],
) -> _Found:
    now = tools.clock()
    # The bookings first: each statement sees what is committed by then, so that a payment another process has just made
    # of the same request is found as the repeat that it is, and not looked up again as an attempt in the way.
    lock, risk = risk_lock(tools.risk, weighed), risk_reads(tools.risk, weighed, now)
    statements = [
        BEGIN,
        *lock,
        store.payments_of_bookings([(new.caller, new.request.booking_id) for new in group]),
        store.payments_of_requests([(new.caller, new.request.request_id) for new in group]),
        DATABASE_NOW,
        LATEST_TURN,
        *risk,
    ]
    if candidates:
        statements.append(store.account_references_in_use(candidates, now - ACCOUNT_REFERENCE_UNIQUE_FOR))
    results = (await run_together(conn, statements))[1:]
    locked = {row[0] for result in results[: len(lock)] for row in result.rows}
    bookings, requests, reading, switch, *others = results[len(lock) :]
    references, history = others[len(risk) :], read_history(tools.risk, weighed, others[: len(risk)])
    made = [store.earlier_payment(row, tools.sealer) for row in requests.rows]
    earlier = {(before.use.caller, before.use.request_id): before for before in made}
    taken = {row[0] for result in references for row in result.rows}
    attempts = [store.stored(row, tools.sealer).payment for row in bookings.rows]
    weighing = RiskWeighing(tools.risk, history, locked, now)
    return _Found(reading.rows[0][0], earlier, _by_booking(attempts), taken, stopping_turn(switch.rows), weighing)


def _weighed(tools: CreatingTools, new: NewPayment) -> Weighed:
    return Weighed(new.payment_id, new.caller, new.request, tools.sealer.index(PHONE_INDEX, new.request.phone_number))


def _names(new: NewPayment) -> Set[tuple[str, str, str]]:
    """What no two payments of a group may have in common."""
    return {("request", new.caller, new.request.request_id), ("booking", new.caller, new.request.booking_id)}


def _first_versions(
    tools: CreatingTools, new: NewPayment, siblings: Sequence[Payment], now: datetime
) -> tuple[Stored, list[LoggedEvent]]:
    """The row of a new payment and its events: it is created, and claimed where that needs no look at others.

    What bars a claim is money that another attempt of the booking may have brought, and that is looked at under the
    booking's lock. A first attempt has no others; one that is made meanwhile is kept out by the booking's block. A
    process whose clock is wrong claims nothing.
    """
    latest = max(siblings, key=lambda payment: payment.attempt, default=None)
    payment = first_row(
        Payment(
            payment_id=new.payment_id,
            caller=new.caller,
            booking_id=new.request.booking_id,
            reference=new_reference(),
            attempt=latest.attempt + 1 if latest else 1,
            retry_of=latest.payment_id if latest else None,
            amount=new.request.amount,
            created_at=now,
            updated_at=now,
            expires_at=now + tools.times.expire_after,
            hold_expire_at=new.request.hold_expire_at,
            late_payment_policy=new.request.late_payment_policy,
            back_first=tools.back_before_confirm_above is not None
            and new.request.amount > tools.back_before_confirm_above,
        ),
        tools.times,
    )
    changes = [NewEvent(EventType.CREATED, "created", "PaymentCreated", None, payment)]
    if new.claim_id is not None and not siblings and tools.clock.agrees:
        fact = SendClaimed(new.claim_id)
        claimed = apply(payment, fact, Surroundings(), now, tools.times).payment
        changes.append(NewEvent(event_type(payment, claimed), fact.fact_id, type(fact).__name__, payment, claimed))
    shortcode = new.request.shortcode or tools.default_shortcode
    chain_hash, events = START, []
    for change in changes:
        events.append(event_log.event_row(change, tools.event_chain_keys, chain_hash))
        chain_hash = events[-1].hash
    return Stored(changes[-1].after, None, chain_hash, new.trace_parent, shortcode), events


def _report(created: Created) -> None:
    _log.info(
        "payment created",
        payment_id=str(created.payment.payment_id),
        state=created.payment.state.value,
        version=created.payment.version,
        trace_id=trace_id(created.prompt.trace_parent) if created.prompt is not None else None,
    )


def _prompt(tools: CreatingTools, new: NewPayment, payment: Payment, account_reference: str) -> Prompt:
    return Prompt(
        payment_id=payment.payment_id,
        reference=payment.reference,
        phone_number=new.request.phone_number,
        amount=payment.amount,
        shortcode=new.request.shortcode or tools.default_shortcode,
        account_reference=account_reference,
        description=new.request.description or DESCRIPTION_DEFAULT,
        trace_parent=new.trace_parent,
    )


def _request_columns(tools: CreatingTools, new: NewPayment, phone: bytes, account_reference: str) -> RequestColumns:
    request, row_id = new.request, new.payment_id.bytes
    encoding, shortcode = encoded(new.asked), new.request.shortcode or tools.default_shortcode
    return RequestColumns(
        request_id=request.request_id,
        shortcode=shortcode,
        phone_number=tools.sealer.seal(PHONE_NUMBER, row_id, request.phone_number.encode()),
        phone_index_a=phone,
        phone_warning=new.warning,
        account_reference=account_reference,
        transaction_desc=request.description or DESCRIPTION_DEFAULT,
        language_code=request.language_code,
        metadata=dict(request.metadata),
        request=tools.sealer.seal(REQUEST, row_id, encoding),
        request_fingerprint=fingerprint(tools.request_fingerprint_keys.current_key, encoding),
        request_encoding=REQUEST_ENCODING,
        request_key_id=tools.request_fingerprint_keys.current_id,
        trace_parent=new.trace_parent,
        pay_by_hand_until=found_until(request.hold_expire_at, tools.found_by_hand_within.get(shortcode)),
    )


def _replayed(tools: CreatingTools, new: NewPayment, before: EarlierPayment) -> Created | RequestIdReused:
    """The payment that this request id has already made, if it asked for the same."""
    keys = tools.request_fingerprint_keys
    reused = conflict(tools.sealer, keys, before.use, new.asked, made_with=before.shortcode)
    if reused is not None:
        return reused
    payment = before.payment
    if payment.payment_id != new.payment_id:
        return Created(payment, replayed=True)
    # A transaction whose outcome was unknown is run again, and then finds its own payment.
    return Created(payment, replayed=False, prompt=_prompt(tools, new, payment, before.account_reference))


def _by_booking(payments: Sequence[Payment]) -> Mapping[tuple[str, str], list[Payment]]:
    attempts: dict[tuple[str, str], list[Payment]] = {}
    for payment in payments:
        attempts.setdefault((payment.caller, payment.booking_id), []).append(payment)
    return attempts
