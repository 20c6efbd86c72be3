"""The whole story of one payment, in order of time, with who caused what. For operators.

Bodies are opened here and shown without the payer's number: it is masked as
everywhere, in whatever notation it stands, and so is what contains it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from payment_service.application.following.stored_views import payment_view
from payment_service.application.settling.accept_callbacks import body_row_id, fact_ids_of
from payment_service.application.settling.opened_bodies import opened_body, payer_number
from payment_service.domain.callbacks import CallbackKind, CallbackStatus
from payment_service.domain.consent import desk_of
from payment_service.domain.errors import PaymentNotFound
from payment_service.domain.payment import Backing
from payment_service.domain.refund import MONEY_NOT_BACKED, Refund, RefundMethod
from payment_service.domain.refunds import SEND_WITHIN
from payment_service.domain.views import PaymentView
from payment_service.security.sealing import (
    CALLBACK_BODY,
    CALLER_REQUEST,
    EXCHANGE_ANSWER,
    EXCHANGE_REQUEST,
    SealBroken,
    Sealer,
)
from payment_service.store import audit, reads
from payment_service.store.approvals import ApprovalRow, approvals_about
from payment_service.store.audit import CallbackRow, CaseRow
from payment_service.store.caller_requests import kept_requests, sealed_requests
from payment_service.store.event_log import LoggedEvent, events_of_payments
from payment_service.store.evidence import ExchangeRow, ReceiptRow
from payment_service.store.inbox import ReplayRow
from payment_service.store.pipeline import Connection
from payment_service.store.refunds import refunds_about
from payment_service.store.risk_decisions import ShownDecision, decisions_about
from runtime.redaction import redact_text

ROWS_MAX = 200
"""Callbacks and exchanges shown, the first ones: a payment that has more has been queried for two days."""

SERVICE: Final = "this service"
_CAUSES: Mapping[str, str] = {
    "claim": SERVICE,
    "answer": "Daraja, answering the push",
    "lease": "a timer: the sender did not report",
    "deadline": "a timer: no result in time",
    "watch-ended": "a timer: watched long enough",
    "receipt-overdue": "a timer: no receipt in time",
    "backing-overdue": "a timer: no other source in time",
    "callback": "Safaricom, by callback",
    "query": "Daraja, answering a query",
    "pull": "Safaricom's books",
    "pull-doubt": "Safaricom's books, which name no payment beyond doubt",
    "taken-back": "Safaricom's books: the payer has the money back",
    "taken-back-doubt": "Safaricom's books: some money went back to the payer",
    "sibling": "another attempt, which was paid",
    "refund": "whoever asked for the refund",
    "refund-by-itself": "this service: such money goes back by itself",
    "refund-done": "Safaricom, by the refund's result",
    "refund-failed": "Safaricom, by the refund's result",
    "case": "an operator, deciding about a case",
}
"""Who is behind a fact, by the first word of its id."""
_BACKINGS: Mapping[str, str] = {
    Backing.AWAITED: "only a callback has told of it, and another source is being asked",
    Backing.DOUBTED: "only a callback has told of it; another source denies it, or none has told of it in time",
    Backing.REFUTED: "only a callback has told of it, and an operator has found that it never came",
    Backing.QUERY: "backed by a query to Safaricom",
    Backing.STATUS: "backed by the status of its transaction",
    Backing.BOOKS: "backed by Safaricom's books",
    Backing.PERSON: "backed by an operator, who has found it",
}
_CAUSES_BY_KIND: Mapping[str, str] = {
    "AnswerLost": "this service: Daraja's answer was lost",
    "NotSent": "this service: nothing was sent",
}
"""Where the id says the same of facts from different hands."""
_BY_CALLER = frozenset({"created", "cancel"})


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. `details` are lines of their own."""

    at: datetime
    what: str
    by: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A payment as it stands, and how it came to that."""

    payment: PaymentView
    backing: str | None
    """What backs its money, in words; None where no money has come, or came before that was asked."""
    moments: Sequence[Moment]
    left_out: bool
    """There are more callbacks or exchanges than are shown."""


async def explain_payment(sealer: Sealer, conn: Connection, name: UUID | str) -> Explanation:
    """The story of a payment of any caller, by id or by reference. Raises PaymentNotFound."""
    ids, references = ([name], []) if isinstance(name, UUID) else ([], [name])
    found = await reads.payments_by(conn, ids, references)
    if not found:
        raise PaymentNotFound
    row = found[0]
    payment, number = payment_view(row, sealer), payer_number(sealer, row.payment_id, row.phone_number)
    events = await events_of_payments(conn, [payment.payment_id])
    cases = await audit.cases_for(conn, [payment.reference])
    receipts = await audit.receipts_of(conn, [payment.payment_id])
    refunds = await refunds_about(conn, [payment.payment_id])
    askers = await _askers(conn, sealer, refunds)
    kept = await kept_requests(conn, payment.payment_id)
    approvals = await approvals_about(conn, [payment.payment_id])
    told_to = [payment.reference, *(refund.reference for refund in refunds)]
    callbacks = await audit.callbacks_for(conn, told_to, ROWS_MAX + 1)
    replays = await audit.replays_of(conn, [callback.callback_id for callback in callbacks])
    exchanges = await audit.exchanges_of(conn, payment.payment_id, ROWS_MAX + 1)
    objections = await decisions_about(conn, payment.payment_id)
    versions = {event.fact_id: event.version for event in events}
    # What comes first of what happened at one moment: the evidence, then what followed from it.
    moments = [
        *(_exchange(exchange, sealer, number, versions, cases) for exchange in exchanges[:ROWS_MAX]),
        *(_callback(callback, sealer, number, versions, cases) for callback in callbacks[:ROWS_MAX]),
        *(replay_moment(replay) for replay in replays),
        *(_objection(decision) for decision in objections),
        *_events(events, payment.caller),
        *(_receipt(receipt) for receipt in receipts),
        *(_refund(refund, versions, askers) for refund in refunds),
        *(moment for case in cases for moment in _case(case, payment.caller)),
        *_tax_invoices(kept, sealer, payment.caller),
        *(moment for approval in approvals for moment in _approval(approval)),
    ]
    left_out = len(callbacks) > ROWS_MAX or len(exchanges) > ROWS_MAX
    backing = _backing(*await audit.backing_of(conn, payment.payment_id))
    return Explanation(payment, backing, sorted(moments, key=lambda moment: moment.at), left_out)


def _backing(backing: str | None, back_first: bool) -> str | None:
    if backing is None:
        return None
    waits = ", and the booking waits for that" if back_first and backing == Backing.AWAITED else ""
    return _BACKINGS.get(backing, backing) + waits


def _by(fact_id: str, caller: str) -> str:
    word = fact_id.partition(":")[0]
    return f"the caller, {caller}" if word in _BY_CALLER else _CAUSES.get(word, SERVICE)


def _events(events: Sequence[LoggedEvent], caller: str) -> Iterator[Moment]:
    before: LoggedEvent | None = None
    at: datetime | None = None
    for event in events:
        # In the order of the versions, even where two processes' clocks disagree.
        at = event.occurred_at if at is None else max(at, event.occurred_at)
        step = f"{event.previous_state} → {event.state}" if event.previous_state != event.state else event.state
        what = f"version {event.version}: {step if event.previous_state else event.state}"
        by = _CAUSES_BY_KIND.get(event.fact_kind) or _by(event.fact_id, caller)
        told = f"event {event.event_type}, by fact {event.fact_kind} {event.fact_id}"
        yield Moment(at, what, by, (*_changes(before, event), told))
        before = event


def _changes(before: LoggedEvent | None, event: LoggedEvent) -> Iterator[str]:
    named = (
        ("reason", "status_reason"),
        ("result code", "provider_result_code"),
        ("booking", "booking_action"),
        ("certain", "outcome_certain"),
        ("retry from", "retry_allowed_at"),
        ("receipt", "mpesa_receipt_number"),
        ("late", "paid_late"),
        ("refund", "refund_status"),
        ("refunded", "refunded_amount"),
        ("completed", "completed_at"),
        ("expires", "expires_at"),
    )
    now = {label: getattr(event, column) for label, column in named}
    then = {label: getattr(before, column) if before else None for label, column in named}
    changed = [f"{label} {_said(value)}" for label, value in now.items() if value != then[label]]
    if changed:
        yield "now " + ", ".join(changed)


def _said(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%H:%M:%S}"
        case _:
            return str(value)


async def _askers(conn: Connection, sealer: Sealer, refunds: Sequence[Refund]) -> Mapping[UUID, str]:
    """Who asked for each refund that an operator asked for, and why. The request has the refund's id."""
    askers = {}
    for refund_id, sealed in (await sealed_requests(conn, [refund.refund_id for refund in refunds])).items():
        try:
            asked = json.loads(sealer.open(CALLER_REQUEST, refund_id.bytes, sealed))
        except SealBroken:
            continue
        if "operator" in asked:
            askers[refund_id] = f"operator {asked['operator']}: {asked['why']}"
    return askers


def _tax_invoices(kept: Sequence[tuple[UUID, bytes, datetime]], sealer: Sealer, caller: str) -> Iterator[Moment]:
    """Which tax invoices were handed in, and why one took the place of another."""
    for kept_id, sealed, at in kept:
        try:
            asked = json.loads(sealer.open(CALLER_REQUEST, kept_id.bytes, sealed))
        except SealBroken:
            continue
        if asked.get("method") == "AttachTaxInvoice":
            told = (f"it replaces {asked['replaces']}: {asked['why']}",) if "replaces" in asked else ()
            yield Moment(at, f"tax invoice {asked['invoice_number']} handed in", caller, told)


def _approval(row: ApprovalRow) -> Iterator[Moment]:
    what = f"{row.act} of {row.amount:.0f}"
    told = (f"approval {row.approval_id}: {row.asked_why}",)
    yield Moment(
        row.asked_at, f"{what} asked for, which waits for a second operator", _person(row.asked_by, row.asked_as), told
    )
    if row.decided_at is not None and row.decided_by is not None:
        by = _person(row.decided_by, row.decided_as or "")
        yield Moment(row.decided_at, f"{what} is {row.state}", by, (f"approval {row.approval_id}: {row.decided_why}",))


def _person(proven: str, called: str) -> str:
    named = "as a desk names them" if desk_of(proven) else "by certificate"
    return f"operator {proven} {named}, {called} by name"


def _refund(refund: Refund, versions: Mapping[str, int], askers: Mapping[UUID, str]) -> Moment:
    """A refund as it stands, at the moment when it was recorded; its steps are told by what was sent and came."""
    by_itself = f"refund-by-itself:{refund.refund_id}" in versions
    begun = "begun by itself" if by_itself else "asked for"
    way = "a part, by B2C" if refund.is_part else "by reversal"
    recorded = f"refund {refund.refund_id} of {refund.amount} {begun}, {way}, {refund.reason.value}"
    what = f"{recorded}: {refund.state.value} now"
    ways = (
        f"of receipt {refund.receipt}",
        f"sent {_said(refund.sent_at)}",
        f"result code {_said(refund.result_code)}",
        f"ended {_said(refund.ended_at)}",
    )
    by = askers.get(refund.refund_id) or _CAUSES["refund-by-itself" if by_itself else "refund"]
    return Moment(refund.requested_at, what, by, (", ".join(ways), *_wait(refund)))


_WAITS_FOR_PROOF = {
    RefundMethod.B2C: "waits until more than a callback has told of its payment's money: a part is sent out of our own"
    " account",
    RefundMethod.REVERSAL: "waits until more than a callback has told of its receipt: a reversal takes the money of"
    " whoever paid under it",
}


def _wait(refund: Refund) -> Iterator[str]:
    """Why a refund is not on its way, and until when it may wait."""
    if refund.send_at is None:
        return
    if refund.result_code == MONEY_NOT_BACKED:
        yield _WAITS_FOR_PROOF[refund.method]
        yield f"looked at again at {_said(refund.send_at)}; it fails at {_dated(refund.requested_at + SEND_WITHIN)}"
        return
    yield (
        f"the last of {refund.not_sent_count} sends reached nobody ({_said(refund.result_code)})"
        if refund.not_sent_count
        else "waits for its first send: for a turn in the rate, an access token, or an initiator that M-Pesa takes"
    )
    yield f"to be sent from {_said(refund.send_at)} on; it fails at {_dated(refund.requested_at + SEND_WITHIN)}"


def _objection(decision: ShownDecision) -> Moment:
    """What a rule had against the request, before it was let through or in shadow."""
    done = "refused the request" if decision.payment_id is None else "would refuse the request, and is in shadow"
    limit = f"{decision.most} in {decision.within_s} s are let through" if decision.most is not None else "by the list"
    until = f"until {_dated(decision.retry_at)}" if decision.retry_at is not None else "however long one waits"
    details = (f"counted {decision.counted}; {limit}", until)
    return Moment(decision.decided_at, f"rule {decision.rule} {done}", SERVICE, details)


def _dated(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _exchange(
    row: ExchangeRow, sealer: Sealer, number: str | None, versions: Mapping[str, int], cases: Sequence[CaseRow]
) -> Moment:
    effects = _effects(f"query:{row.exchange_id}", versions, cases)
    status = f"HTTP {row.http_status}" if row.http_status is not None else "no answer"
    sent = opened_body(sealer, EXCHANGE_REQUEST, row.exchange_id.bytes, row.request, number)
    got = opened_body(sealer, EXCHANGE_ANSWER, row.exchange_id.bytes, row.answer, number)
    understood = ", ".join([f"understood as {redact_text(row.classified_as)}", *effects])
    details = (understood, f"sent {sent}", f"got {got}")
    return Moment(row.started_at, f"{row.operation}: {status} after {row.duration_ms} ms", SERVICE, details)


def _callback(
    row: CallbackRow, sealer: Sealer, number: str | None, versions: Mapping[str, int], cases: Sequence[CaseRow]
) -> Moment:
    body = opened_body(sealer, CALLBACK_BODY, body_row_id(row.reference, row.body_hash), row.body, number)
    fact_id, unread = fact_ids_of(row.body_hash)
    effects = [*_effects(fact_id, versions, cases), *_effects(unread, versions, cases)]
    if row.status != CallbackStatus.APPLIED:
        effects = [standing_of(row)]
    details = (f"{', '.join(effects) or 'changed nothing'} (fact {fact_id})", f"got {body}")
    what = "result of a question" if row.kind == CallbackKind.RESULT else "callback"
    return Moment(row.received_at, f"{what}, {row.status}", f"Safaricom, from {row.source_address}", details)


def _effects(fact_id: str, versions: Mapping[str, int], cases: Sequence[CaseRow]) -> list[str]:
    led_to = [f"led to version {versions[fact_id]}"] if fact_id in versions else []
    return led_to + [f"led to case {case.kind}" for case in cases if case.fact_id == fact_id]


def standing_of(row: CallbackRow) -> str:
    """What becomes of a callback, and why."""
    error = redact_text(row.last_error or "unknown")
    match row.status:
        case CallbackStatus.PENDING:
            next_try = f"{row.next_try_at:%Y-%m-%d %H:%M:%S}" if row.next_try_at is not None else "unknown"
            return f"waits to be applied again at {next_try}, tried {row.tries} times: {error}"
        case CallbackStatus.UNMATCHED:
            return "waits for its payment: none has this reference"
        case CallbackStatus.UNREAD:
            return "cannot be read, and may tell of money: the case UNREAD_CALLBACK is for a person"
        case CallbackStatus.DEAD:
            return f"given up after {row.tries} tries: {error}"
        case _:
            return f"applied to payment {row.payment_id}"


def replay_moment(row: ReplayRow) -> Moment:
    """A replay, as one thing that happened."""
    return Moment(row.replayed_at, f"callback replayed, {row.outcome}", f"operator {row.operator}", (row.reason,))


def _receipt(row: ReceiptRow) -> Moment:
    amount = f"KES {row.amount:.0f}" if row.amount is not None else "no readable amount"
    counts = "it counts as this payment's" if row.counted else "it does not count"
    return Moment(row.seen_at, f"receipt {row.receipt}", SERVICE, (f"{amount}; {counts}",))


def _case(row: CaseRow, caller: str) -> Iterator[Moment]:
    kind = f"{'money case' if row.is_money else 'case'} {row.kind}"
    money = [f"receipt {row.receipt}"] if row.receipt else []
    money += [f"KES {row.amount:.0f}"] if row.amount is not None else []
    details = (f"by fact {row.fact_id}", *([", ".join(money)] if money else []))
    yield Moment(row.opened_at, f"{kind} opened", _by(row.fact_id, caller), details)
    if row.settled_at is not None:
        if row.resolution is not None:
            receipt = f", receipt {row.accepted_receipt}" if row.accepted_receipt else ""
            details = (f"{row.resolution}{receipt}: {row.why}", f"by fact {row.settled_by}")
            yield Moment(row.settled_at, f"{kind} settled", f"operator {row.operator}", details)
            return
        # That a callback was not applied ends with its being applied; nobody has to say so.
        details = (f"by the proof of fact {row.settled_by}",) if row.settled_by is not None else ()
        yield Moment(row.settled_at, f"{kind} settled", SERVICE, details)
