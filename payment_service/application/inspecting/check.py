"""Looking through everything that is stored, for what must never be: read-only, in bounded steps, beside the service.

All of it is seen as it was at one moment, so a payment that changes meanwhile
is no violation. Which rules there are is decided in `invariants`; this file
decides what is read for them, and counts.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

from payment_service.application.inspecting.decided_cases import open_unread
from payment_service.application.inspecting.invariants import RULES, Evidence, Instruments, Invariant, unvouched_acts
from payment_service.application.inspecting.issued_receipts import IssuedReceipts
from payment_service.application.settling.accept_callbacks import BODY_INDEX, body_row_id, fact_id_of, fact_ids_of
from payment_service.application.settling.record_pulled_rows import PULLED
from payment_service.daraja.callback import read_callback
from payment_service.daraja.envelopes import lenient_json
from payment_service.daraja.pull_rows import read_row
from payment_service.domain.callbacks import CallbackKind, CallbackStatus
from payment_service.domain.cases import UNAPPLIED
from payment_service.domain.facts import ResultReported, Verdict, unread_fact_id
from payment_service.domain.payment import PAID_STATES, Payment
from payment_service.domain.pull import PulledRow
from payment_service.security.sealing import (
    CALLBACK_BODY,
    CALLER_REQUEST,
    CHECKOUT_REQUEST_ID,
    EXCHANGE_ANSWER,
    EXCHANGE_REQUEST,
    PHONE_NUMBER,
    REQUEST,
    SealBroken,
)
from payment_service.store import audit, payments
from payment_service.store.approvals import approvals_about
from payment_service.store.audit import CallbackRow, CaseRow, PaymentProofs
from payment_service.store.event_log import events_of_payments
from payment_service.store.evidence import ExchangeRow
from payment_service.store.issued_receipts import due_of, receipts_of
from payment_service.store.pipeline import Connection, run_together
from payment_service.store.refunds import refunds_about

BATCH = 200
"""Rows read at once. A callback's body may have 64 KiB: some 13 MB are held at a time, however much there is."""
SHOWN_MAX = 20
"""Violations kept for each invariant: enough to see what they have in common. All of them are counted."""

_Row = TypeVar("_Row")
_Key = TypeVar("_Key", bound=Hashable)

_FIRST: Final = UUID(int=0)
_EVENT_RULES = frozenset({Invariant.CHAIN, Invariant.ORDER, Invariant.EDGES, Invariant.LOG_PRIVACY})


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise. `subject` is a payment id where a payment is concerned."""

    subject: str
    what: str


@dataclass(slots=True)
class Tally:
    """What was checked of one invariant."""

    of: str
    """What was looked at: payments, events …"""
    checked: int = 0
    violations: int = 0
    shown: list[Violation] = field(default_factory=list)
    unvouched: list[Violation] = field(default_factory=list)
    """What nothing proves and nothing denies, and so is no violation; as many are kept."""
    unvouched_count: int = 0
    waiting: int = 0
    """What keeps the promise, and waits for a person all the same."""

    def add(self, subject: str, what: str) -> None:
        """Count a violation, and keep it if there is room."""
        self.violations += 1
        if len(self.shown) < SHOWN_MAX:
            self.shown.append(Violation(subject, what))

    def add_unvouched(self, subject: str, what: str) -> None:
        """Count what nothing proves, and keep it if there is room."""
        self.unvouched_count += 1
        if len(self.unvouched) < SHOWN_MAX:
            self.unvouched.append(Violation(subject, what))


Tallies = Mapping[Invariant, Tally]


async def check_invariants(tools: Instruments, conn: Connection, since: datetime | None = None) -> Tallies:
    """Check everything, or what was made from `since` on; `conn` sees the database as it was at one moment.

    Every invariant has its tally, in the order of their declaration.
    """
    tallies = {invariant: Tally(_looked_at(invariant)) for invariant in Invariant}
    first = _FIRST if since is None else _first_id(since)
    after = first
    while batch := await audit.payments_after(conn, after, BATCH):
        await _check_payments(tools, conn, batch, tallies)
        after = batch[-1].payment_id
    after = first
    while callbacks := await audit.callbacks_after(conn, after, BATCH):
        await _check_callbacks(tools, conn, callbacks, tallies)
        after = callbacks[-1].callback_id
    after = first
    while exchanges := await audit.exchanges_after(conn, after, BATCH):
        await _check_exchanges(tools, conn, exchanges, tallies)
        after = exchanges[-1].exchange_id
    return tallies


def _looked_at(invariant: Invariant) -> str:
    match invariant:
        case Invariant.SEALED:
            return "values"
        case Invariant.CALLBACKS | Invariant.INBOX | Invariant.SUCCESS:
            return "callbacks"
        case Invariant.BOOKS:
            return "rows"
        case _:
            return "events" if invariant in _EVENT_RULES else "payments"


def _first_id(since: datetime) -> UUID:
    """The lowest id that can be made from then on: ids begin with the milliseconds of their making."""
    return UUID(int=int(since.timestamp() * 1000) << 80)


async def _check_payments(
    tools: Instruments, conn: Connection, batch: Sequence[PaymentProofs], tallies: Tallies
) -> None:
    for found in await _gathered(tools, conn, batch, tallies):
        for invariant, rule in RULES.items():
            tally = tallies[invariant]
            tally.checked += len(found.events) if invariant in _EVENT_RULES else 1
            for what in rule(found, tools):
                tally.add(str(found.row.payment_id), what)
        for what in unvouched_acts(found):
            tallies[Invariant.ACTS].add_unvouched(str(found.row.payment_id), what)
        tallies[Invariant.UNREAD].waiting += len(open_unread(found.cases))


async def _gathered(
    tools: Instruments, conn: Connection, batch: Sequence[PaymentProofs], tallies: Tallies
) -> list[Evidence]:
    ids = [row.payment_id for row in batch]
    attempts = await _attempts(tools, conn, batch, tallies)
    events = _grouped(await events_of_payments(conn, ids), lambda event: event.payment_id)
    receipts = _grouped(await audit.receipts_of(conn, ids), lambda receipt: receipt.payment_id)
    cases = _grouped(await audit.cases_for(conn, [row.reference for row in batch]), lambda case: case.reference)
    pushes = await audit.pushes_of(conn, ids)
    refunds = _grouped(await refunds_about(conn, ids), lambda refund: refund.payment_id)
    approvals = _grouped(await approvals_about(conn, ids), lambda approval: approval.payment_id)
    issued = _grouped(await receipts_of(conn, ids), lambda receipt: receipt.payment_id)
    receipts_due = await due_of(conn, ids)
    requests = _grouped(await audit.requests_about(conn, ids), lambda request: request.payment_id)
    same_request_id = await audit.sharing_request_id(conn, ids)
    same_receipt = await audit.sharing_receipt(conn, ids)
    evidence = []
    for row in batch:
        subject, row_id = str(row.payment_id), row.payment_id.bytes
        of_booking = attempts.get((row.caller, row.booking_id), {})
        phone = _opened(tools, tallies, subject, PHONE_NUMBER, row_id, row.phone_number)
        later = [
            (kept, _opened(tools, tallies, subject, CALLER_REQUEST, kept.kept_id.bytes, kept.request))
            for kept in requests.get(row.payment_id, [])
        ]
        evidence.append(
            Evidence(
                row=row,
                payment=of_booking.get(row.payment_id),
                phone_number=phone.decode() if phone is not None else None,
                request=_opened(tools, tallies, subject, REQUEST, row_id, row.request),
                events=events.get(row.payment_id, []),
                siblings=[other for i, other in of_booking.items() if i != row.payment_id],
                receipts=receipts.get(row.payment_id, []),
                cases=cases.get(row.reference, []),
                pushes=pushes.get(row.payment_id, 0),
                refunds=refunds.get(row.payment_id, []),
                approvals=approvals.get(row.payment_id, []),
                issued=IssuedReceipts(issued.get(row.payment_id, []), row.payment_id in receipts_due),
                later_requests=[(kept, request) for kept, request in later if request is not None],
                shares_request_id=row.payment_id in same_request_id,
                shares_receipt=row.payment_id in same_receipt,
            )
        )
    return evidence


async def _attempts(
    tools: Instruments, conn: Connection, batch: Sequence[PaymentProofs], tallies: Tallies
) -> dict[tuple[str, str], dict[UUID, Payment]]:
    """All attempts of the batch's bookings that can be read."""
    bookings = {(row.caller, row.booking_id) for row in batch}
    mine = {row.payment_id: row for row in batch}
    attempts: dict[tuple[str, str], dict[UUID, Payment]] = {}
    (found,) = await run_together(conn, [payments.payments_of_bookings(sorted(bookings))])
    for values in found.rows:
        payment_id = payments.payment_id_of(values)
        has_checkout_id = payment_id in mine and mine[payment_id].checkout_index is not None
        tallies[Invariant.SEALED].checked += has_checkout_id
        try:
            payment = payments.stored(values, tools.sealer).payment
        except SealBroken:
            if payment_id in mine:
                tallies[Invariant.SEALED].add(str(payment_id), f"{CHECKOUT_REQUEST_ID} does not open")
        except ValueError:
            # A word that no release of this service has written; the rule over the whole row reports it.
            continue
        else:
            attempts.setdefault((payment.caller, payment.booking_id), {})[payment_id] = payment
    return attempts


async def _check_callbacks(
    tools: Instruments, conn: Connection, batch: Sequence[CallbackRow], tallies: Tallies
) -> None:
    found = await audit.cases_for(conn, sorted({row.reference for row in batch}))
    cases = _grouped(found, lambda case: case.reference)
    ids = {row.owner_id for row in batch if row.owner_id is not None}
    receipts = {(receipt.payment_id, receipt.receipt) for receipt in await audit.receipts_of(conn, sorted(ids))}
    for row in batch:
        subject = f"{row.owner_id or 'no payment'}, callback {row.callback_id}"
        tallies[Invariant.CALLBACKS].checked += 1
        of_a_payment = row.status in (CallbackStatus.APPLIED, CallbackStatus.UNREAD)
        if of_a_payment and (row.payment_id is None or row.payment_id != row.owner_id):
            tallies[Invariant.CALLBACKS].add(subject, f"it names {row.payment_id or 'none'}")
        tallies[Invariant.INBOX].checked += 1
        if (astray := _astray(row, cases.get(row.reference, []))) is not None:
            tallies[Invariant.INBOX].add(subject, astray)
        row_id = body_row_id(row.reference, row.body_hash)
        body = _opened(tools, tallies, subject, CALLBACK_BODY, row_id, row.body)
        if body is None:
            continue
        if not tools.sealer.index_holds(BODY_INDEX, body, row.body_hash):
            if not body:
                # Removed: only who has the key can seal an empty one in its place.
                continue
            tallies[Invariant.SEALED].add(subject, "the body is not the one it is found by")
        if row.status == CallbackStatus.PENDING:
            continue
        result = read_callback(CallbackKind(row.kind), body, fact_id_of(row.body_hash))
        if isinstance(result, ResultReported) and result.verdict is Verdict.PAID:
            tallies[Invariant.SUCCESS].checked += 1
            known = (row.owner_id, result.receipt) in receipts
            if not known and not _recorded_otherwise(row, result, cases.get(row.reference, [])):
                tallies[Invariant.SUCCESS].add(subject, f"receipt {result.receipt or '(none)'} is recorded nowhere")


def _astray(row: CallbackRow, cases: Sequence[CaseRow]) -> str | None:
    """What is wrong with where a callback stands; None if nothing is."""
    mine = [case for case in cases if case.fact_id in fact_ids_of(row.body_hash) and case.kind in UNAPPLIED]
    waiting = any(case.settled_at is None for case in mine)
    dismissed = any(case.resolution is not None for case in mine)
    match row.status:
        case CallbackStatus.PENDING:
            return "it waits for a try that never comes" if row.next_try_at is None else None
        case CallbackStatus.UNREAD:
            unread = unread_fact_id(fact_id_of(row.body_hash))
            # Of a payment whose money had come already it could tell nothing new.
            needless = row.owner_state in PAID_STATES
            known = needless or any(case.fact_id == unread for case in cases)
            return None if known else "it is unread, and in no case"
        case CallbackStatus.APPLIED:
            return "it is applied, and an open case says that it is not" if waiting else None
        case _:
            return None if waiting or dismissed else f"it is {row.status}, and in no open case"


def _recorded_otherwise(row: CallbackRow, result: ResultReported, cases: Sequence[CaseRow]) -> bool:
    """By a case of its own; or, without a receipt to record, by what became of the payment."""
    mine = [case.kind for case in cases if case.fact_id in fact_ids_of(row.body_hash)]
    if any(kind not in UNAPPLIED or row.status != CallbackStatus.APPLIED for kind in mine):
        return True
    under_review = any(case.is_money for case in cases)
    return result.receipt is None and (row.owner_state in PAID_STATES or under_review)


async def _check_exchanges(
    tools: Instruments, conn: Connection, batch: Sequence[ExchangeRow], tallies: Tallies
) -> None:
    rows: list[tuple[str, UUID, PulledRow | None]] = []
    for exchange in batch:
        subject, row_id = (
            f"{exchange.payment_id or 'no payment'}, exchange {exchange.exchange_id}",
            exchange.exchange_id,
        )
        _opened(tools, tallies, subject, EXCHANGE_REQUEST, row_id.bytes, exchange.request)
        answer = _opened(tools, tallies, subject, EXCHANGE_ANSWER, row_id.bytes, exchange.answer)
        if exchange.operation == PULLED and exchange.payment_id is not None and answer is not None:
            row = read_row(lenient_json(answer))
            # A row whose receipt cannot be read has its case, and nothing else to be found by.
            if row is None or row.receipt is not None:
                rows.append((subject, exchange.payment_id, row))
    if not rows:
        return
    ids = {payment_id for _, payment_id, _ in rows}
    recorded = await audit.recorded_money(conn, ids, {row.receipt for _, _, row in rows if row is not None})
    refunded = await audit.refunded_of(conn, ids)
    for subject, payment_id, row in rows:
        tallies[Invariant.BOOKS].checked += 1
        # That a refund of ours is listed is told by the refund.
        known = row is not None and row.reversal and payment_id in refunded
        if not known and (row is None or row.receipt not in recorded):
            receipt = row.receipt if row is not None else "(none)"
            tallies[Invariant.BOOKS].add(subject, f"receipt {receipt} is recorded nowhere")


def _grouped(rows: Sequence[_Row], key: Callable[[_Row], _Key]) -> dict[_Key, list[_Row]]:
    groups: dict[_Key, list[_Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _opened(
    tools: Instruments, tallies: Tallies, subject: str, place: str, row_id: bytes, sealed: bytes
) -> bytes | None:
    tallies[Invariant.SEALED].checked += 1
    try:
        return tools.sealer.open(place, row_id, sealed)
    except SealBroken:
        tallies[Invariant.SEALED].add(subject, f"{place} does not open")
        return None
