"""The only writer of payment state: facts in, committed changes and events out.

One call of `record_facts` is one transaction over a group of facts:

1. lock the payments concerned and all others of their bookings, in the order of their ids, and read who holds the
   receipts and ids that the facts bring. If somebody else has locked a payment of a booking, its facts are given back
   and hold up no other;
2. apply the table in memory, in the order of arrival;
3. write all rows, those that lose their booking's block first; then, in one go with COMMIT, append the events.

A fact whose id has already led to an event or a case is dropped, so it does no harm to tell it again: after a lost
connection, from another process, or years later. Nothing here touches the network but the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from payment_service.application.recording.approval_ledger import ApprovalLedger
from payment_service.application.recording.case_ledger import CaseLedger
from payment_service.application.recording.holders import Holders
from payment_service.application.recording.hourly_bound import read_sent_back
from payment_service.application.recording.known_rows import KnownRows, read_known_rows
from payment_service.application.recording.pending_writes import PendingWrites
from payment_service.application.recording.receipt_ledger import ReceiptLedger
from payment_service.application.recording.recording_tools import RecordingTools
from payment_service.application.recording.refund_ledger import RefundLedger
from payment_service.application.recording.request_encoding import KeptRequest, conflict, request_row
from payment_service.domain.automatic_refunds import SentBack, goes_back
from payment_service.domain.callbacks import CallbackStatus
from payment_service.domain.case_facts import CaseDecided, CaseDismissed, CaseRefundFound, CaseReturned
from payment_service.domain.case_moves import MoveBar, arrival, bar_to_move
from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.cases import Case, CaseKind
from payment_service.domain.consent import Consent
from payment_service.domain.errors import BookingLocked, RequestIdReused
from payment_service.domain.facts import Fact, ReceiptDue, SendClaimed, SiblingPaid, Unreadable
from payment_service.domain.finding import Finding, Surroundings
from payment_service.domain.payment import Payment, State
from payment_service.domain.refund import Refund, RefundBar, RefundOrder, RefundRefusal
from payment_service.domain.refund_facts import AboutRefund
from payment_service.domain.transitions import Outcome, apply
from payment_service.domain.views import event_type
from payment_service.store import event_log
from payment_service.store.caller_requests import used_by
from payment_service.store.event_log import NewEvent
from payment_service.store.evidence import ExchangeRow
from payment_service.store.health import DATABASE_NOW
from payment_service.store.inbox import ReplayRow, SealedCallback, new_callback
from payment_service.store.payments import Stored
from payment_service.store.pipeline import BEGIN, Connection, run_together

PENDING_RETRY_AFTER = timedelta(seconds=5)
"""Before a callback that could not be applied is tried again: a fault of ours rarely heals by itself."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """One fact about one payment or its refund, named by id or by reference, and what is kept beside it."""

    fact: Fact | AboutRefund
    payment_id: UUID | None = None
    reference: str | None = None
    """The refund's own, where the fact is about one."""
    refund_id: UUID | None = None
    refund: RefundOrder | None = None
    """What is asked for with `RefundRequested` or `CaseReturned`."""
    exchange: ExchangeRow | None = None
    callback: SealedCallback | None = None
    request: KeptRequest | None = None
    """The fact is this caller's: it is told of its own payments only, and once for a request id."""
    replay: ReplayRow | None = None
    """Noted with what becomes of the callback, which then is one that was kept before."""
    seen: CaseMarks | None = None
    """How the case or the payment stood that the fact decides about, as the operator has seen it."""
    consent: Consent | None = None
    """A second person's, where one has to agree."""
    only_keep: str | None = None
    """Why the fact could not be applied: its callback is then kept, to be applied later."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one fact. `payment` is as it stands after it; None when there is no such payment."""

    payment: Payment | None
    refused: bool = False
    trace_parent: str | None = None
    replayed: bool = False
    """An earlier call with the same request id did it."""
    reused: RequestIdReused | None = None
    """The request id was used for something else, and nothing was done."""
    unread: bool = False
    barred_by: Finding | None = None
    """Why what an operator wants is refused."""
    unseen: bool = False
    """The case, or what it is about, is not as the operator has seen it, and nothing was done."""
    refund: Refund | None = None
    """As it stands after a fact about it."""
    refund_refusal: RefundRefusal | None = None
    move_bar: MoveBar | None = None


async def record_facts(
    tools: RecordingTools, conn: Connection, group: Sequence[Submission]
) -> Sequence[Recorded | BookingLocked]:
    """Record a group of facts in one transaction and commit it; one answer each, in order.

    Nothing is done for a fact that is answered with BookingLocked.
    """
    asked_at = tools.clock.own_time()
    if all(submission.only_keep is not None for submission in group):
        # What could not be applied is kept without reading its payment: reading it may be what fails.
        _, reading = await run_together(conn, [BEGIN, DATABASE_NOW])
        known = KnownRows(reading.rows[0][0])
    else:
        brought = [(one.payment_id, one.refund_id, one.reference, one.fact) for one in group]
        request_ids = [submission.request.key for submission in group if submission.request is not None]
        approvals = {one.consent.approval_id: one.payment_id for one in group if one.consent is not None}
        known = await read_known_rows(conn, tools.sealer, brought, request_ids, approvals)
    now = tools.clock.learn(asked_at, known.read_at)
    sent_back = await read_sent_back(conn, known, now, tools.automatic_refunds)
    ledger = _Ledger(tools, known, now, sent_back)
    answers = [ledger.take(submission) for submission in group]
    await ledger.write(conn)
    return answers


class _Ledger:
    """The group in memory: rows as they become, and everything that is to be written."""

    def __init__(self, tools: RecordingTools, known: KnownRows, now: datetime, sent_back: SentBack) -> None:
        self._tools, self._now, self._sent_back = tools, now, sent_back
        self._before, self._id_of, self._locked = known.by_id, known.id_of, known.locked
        self._rows: dict[UUID, Stored] = dict(known.by_id)
        self._facts, self._unapplied = set(known.facts), known.unapplied
        self._bookings: dict[tuple[str, str], list[UUID]] = {}
        for payment_id, row in known.by_id.items():
            self._bookings.setdefault((row.payment.caller, row.payment.booking_id), []).append(payment_id)
        self._refunds = RefundLedger(known.refunds, now, tools.refund_times, tools.approval_above)
        self._waiting = {payment_id: set(bodies) for payment_id, bodies in known.waiting_callbacks.items()}
        self._used_ids = dict(known.used_ids)
        self._writes = PendingWrites(tools.sealer, now)
        self._cases = CaseLedger(known.open_cases, known.cases, self._writes, now)
        self._receipts = ReceiptLedger(known.receipts, self._refunds, self._cases.open_of, tools.issuer, now)
        self._approvals = ApprovalLedger(known.approvals, self._writes)
        self._holders = Holders(tools.sealer, now, known, self._writes, self._refunds)

    def take(self, submission: Submission) -> Recorded | BookingLocked:
        """Apply one fact, and note what is to be kept beside it."""
        if submission.only_keep is not None:
            self._keep_callback(submission, None, CallbackStatus.PENDING)
            if submission.callback is not None and (kept_for := self._id_of.get(submission.reference or "")):
                self._waiting[kept_for].add(submission.callback.body_hash)
            return Recorded(None)
        fact = submission.fact
        if isinstance(fact, AboutRefund):
            return self._take_refund_fact(submission, fact)
        moved_to = fact.moved_to if isinstance(fact, CaseDismissed) else None
        named = {submission.payment_id, submission.reference, moved_to}
        if not self._locked.isdisjoint(named) or self._approvals.is_locked(submission.consent):
            return BookingLocked()
        if submission.request is not None:
            return self._take_request(submission, fact, submission.request)
        if isinstance(fact, CaseDecided):
            return self._decide(submission, fact)
        payment_id = submission.payment_id or self._id_of.get(submission.reference or "")
        row = self._rows.get(payment_id) if payment_id is not None else None
        if submission.exchange is not None:
            self._writes.exchanges.append(submission.exchange)
        if row is None:
            self._keep_callback(submission, None, CallbackStatus.UNMATCHED)
            return Recorded(None)
        if submission.callback is not None:
            self._waiting[row.payment.payment_id].discard(submission.callback.body_hash)
        outcome = self._apply(row.payment, fact)
        unread = isinstance(fact, Unreadable)
        kept = CallbackStatus.UNREAD if unread else CallbackStatus.APPLIED
        self._keep_callback(submission, row.payment.payment_id, kept)
        now = self._rows[row.payment.payment_id].payment
        return Recorded(now, outcome.refused, row.trace_parent, unread=unread)

    def _take_request(self, submission: Submission, fact: Fact, request: KeptRequest) -> Recorded:
        """Apply what a caller asks for, unless its id has been used; a refusal leaves the id free."""
        row = self._rows.get(request.asked.payment_id)
        if (use := self._used_ids.get(request.key)) is not None:
            reused = conflict(self._tools.sealer, self._tools.request_fingerprint_keys, use, request.asked)
            payment = row.payment if row is not None else None
            # A transaction whose outcome was unknown is run again, and then finds its own request.
            return Recorded(payment, replayed=use.kept_id != request.kept_id, reused=reused)
        if row is None or row.payment.caller != request.caller:
            return Recorded(None)
        order = self._approvals.agreed_order(submission.refund, submission.consent, row.payment, None)
        if submission.consent is not None and (order is None or submission.seen != self._marks(row.payment)):
            return Recorded(row.payment, unseen=True)
        # What nothing bars, the payment's table lets through.
        if isinstance(asked := self._refunds.ask(row.payment, order, fact), RefundRefusal):
            return Recorded(row.payment, refused=True, refund_refusal=asked)
        outcome = self._apply(row.payment, asked)
        if not outcome.refused:
            self._keep_request(request)
            self._approvals.done(submission.consent)
        return Recorded(outcome.payment, outcome.refused, row.trace_parent)

    def _decide(self, submission: Submission, fact: CaseDecided) -> Recorded | BookingLocked:
        """Do with a case what an operator wants, unless something is not as the operator has seen it."""
        case = self._cases.to_decide(fact.case_id)
        if case is None:
            return BookingLocked()
        row = self._rows.get(case.payment_id) if case.payment_id is not None else None
        payment = row.payment if row is not None else None
        begun = isinstance(fact, CaseReturned) and case.refund_id == fact.refund_id
        if begun or case.settled_by == fact.fact_id:
            # A transaction whose outcome was unknown is run again, and an operator may ask again.
            return Recorded(payment, replayed=True)
        order = self._approvals.agreed_order(submission.refund, submission.consent, payment, case.case_id)
        unagreed = submission.consent is not None and isinstance(fact, CaseReturned) and order is None
        if unagreed or case.settled_at is not None or submission.seen != self._marks(payment, case.version):
            return Recorded(payment, unseen=True)
        if payment is not None:
            if (barred := self._bar_to_move(submission, payment, fact)) is not None:
                return barred
            if isinstance(fact, CaseReturned) and self._holders.of_receipt(fact) not in (None, payment.payment_id):
                return Recorded(payment, refused=True, barred_by=Finding.ACCEPTED_ANOTHERS)
            # What nothing bars, the payment's table lets through.
            if isinstance(asked := self._refunds.ask(payment, order, fact), RefundRefusal):
                return Recorded(payment, refused=True, refund_refusal=asked)
            told = self._refunds.looked_up(payment, asked) if isinstance(asked, CaseRefundFound) else (asked,)
            if not isinstance(told, tuple):
                return Recorded(payment, refused=True, refund=told)
            for one in told:
                outcome = self._apply(payment, one)
                if outcome.refused:
                    return Recorded(payment, refused=True, barred_by=outcome.row)
                payment = self._rows[payment.payment_id].payment
            if isinstance(fact, CaseDismissed) and fact.moved_to is not None:
                self._apply(self._rows[fact.moved_to].payment, arrival(payment, fact))
                payment = self._rows[payment.payment_id].payment
        elif not isinstance(fact, CaseReturned):
            self._cases.settle_alone(case, fact)
        self._cases.decide(case, fact)
        self._approvals.done(submission.consent)
        return Recorded(payment)

    def _bar_to_move(self, submission: Submission, source: Payment, fact: CaseDecided) -> Recorded | None:
        """Why the money of a case cannot go to another payment now; None where it can, or is not to."""
        if not isinstance(fact, CaseDismissed) or fact.moved_to is None:
            return None
        target = self._rows[fact.moved_to].payment if fact.moved_to in self._rows else None
        beside = self._siblings(target) if target is not None else ()
        promised = self._refunds.promised(fact.receipt or "")
        if (bar := bar_to_move(source, target, beside, fact, promised=promised)) is not None or target is None:
            return Recorded(source, refused=True, move_bar=bar)
        told = arrival(source, fact)
        outcome = apply(target, told, self._surroundings(target, told), self._now, self._tools.times)
        if outcome.refused:
            return Recorded(source, refused=True, barred_by=outcome.row)
        seen_target = self._marks(target).payments
        if submission.consent is None:
            needed = RefundRefusal(RefundBar.NEEDS_APPROVAL, fact.amount or 0, seen_target)
            return Recorded(source, refused=True, refund_refusal=needed)
        agreed = self._approvals.agreed(submission.consent, source, fact.case_id, (target.payment_id, seen_target))
        return None if agreed == fact.amount else Recorded(source, unseen=True)

    def _marks(self, payment: Payment | None, case_version: int = 0) -> CaseMarks:
        """How a payment, and the case about it, stand now."""
        return self._cases.marks(case_version, payment, self._siblings(payment) if payment is not None else ())

    def _take_refund_fact(self, submission: Submission, fact: AboutRefund) -> Recorded | BookingLocked:
        """Apply a fact to a refund, and what it means to the refund's payment."""
        if submission.payment_id in self._locked or self._refunds.payment_of(submission.reference) in self._locked:
            return BookingLocked()
        if submission.exchange is not None:
            self._writes.exchanges.append(submission.exchange)
        refund = self._refunds.find(submission.refund_id, submission.reference)
        if refund is None:
            self._keep_callback(submission, None, CallbackStatus.UNMATCHED)
            return Recorded(None)
        outcome = self._refunds.apply(refund, fact, self._rows[refund.payment_id].payment)
        for told in outcome.told:
            self._apply(self._rows[refund.payment_id].payment, told)
        self._keep_callback(submission, refund.payment_id, CallbackStatus.APPLIED)
        row = self._rows[refund.payment_id]
        return Recorded(row.payment, outcome.refused, row.trace_parent, refund=outcome.refund)

    async def write(self, conn: Connection) -> None:
        """Write everything and commit."""
        changed = [(self._before[i].payment, row) for i, row in self._rows.items() if row is not self._before[i]]
        await self._writes.commit(conn, changed, self._refunds, self._receipts)

    def _apply(self, payment: Payment, fact: Fact) -> Outcome:
        if (payment.payment_id, fact.fact_id) in self._facts:
            return Outcome(payment)
        if isinstance(fact, SendClaimed) and not self._tools.clock.agrees:
            _log.warning("no send is claimed: this clock is wrong", payment_id=str(payment.payment_id))
            return Outcome(payment, refused=True)
        if isinstance(fact, ReceiptDue):
            if isinstance(written := self._receipts.write(payment, fact), Outcome):
                return written
            fact = written
        outcome = apply(payment, fact, self._surroundings(payment, fact), self._now, self._tools.times)
        self._note(payment, fact, outcome)
        if outcome.payment.state is State.COMPLETED and payment.state is not State.COMPLETED:
            for sibling in self._siblings(payment):
                self._apply(sibling, SiblingPaid(payment.payment_id))
        if not isinstance(fact, CaseDecided):
            # What an operator has just decided about is the operator's.
            self._send_back(payment, outcome.payment)
        return outcome

    def _send_back(self, before: Payment, after: Payment) -> None:
        """Begin the refund of money that goes back by itself, in the transaction that records the money."""
        allowed, cases = self._tools.automatic_refunds, self._cases.open_of(after.payment_id)
        left = self._refunds.left(after.receipt) if after.receipt is not None else None
        why = goes_back(before, after, self._siblings(after), cases, left, allowed)
        if why is None or left is None:
            return
        sent_back = self._sent_back.and_one_of(left)
        if not sent_back.is_within(allowed):
            self._writes.kept_here.append({"payment_id": str(after.payment_id), "reference": after.reference})
            return
        shortcode = self._rows[after.payment_id].shortcode
        if (fact := self._refunds.send_back(after, shortcode, why, allowed.shortcodes)) is not None:
            self._sent_back = sent_back
            self._apply(after, fact)

    def _surroundings(self, payment: Payment, fact: Fact) -> Surroundings:
        return Surroundings(
            siblings=self._siblings(payment),
            receipt_holder=self._holders.of_receipt(fact),
            receipt_brought=self._holders.brought_by(fact),
            checkout_holder=self._holders.of_checkout(fact),
            open_cases=self._cases.open_of(payment.payment_id),
            callback_waiting=bool(self._waiting[payment.payment_id]),
        )

    def _siblings(self, payment: Payment) -> list[Payment]:
        ids = self._bookings[payment.caller, payment.booking_id]
        return [self._rows[i].payment for i in ids if i != payment.payment_id]

    def _note(self, before: Payment, fact: Fact, outcome: Outcome) -> None:
        after, row = outcome.payment, self._rows[before.payment_id]
        chain_hash = row.chain_hash
        if outcome.changed(before):
            kind = event_type(before, after, fact)
            event = NewEvent(kind, fact.fact_id, type(fact).__name__, before, after)
            self._writes.events.append(event_log.event_row(event, self._tools.event_chain_keys, chain_hash))
            chain_hash = self._writes.events[-1].hash
            self._writes.note_change(before, after, fact, row.trace_parent)
        if outcome.changed(before) or outcome.case is not None:
            self._facts.add((before.payment_id, fact.fact_id))
        if outcome.case is not None:
            self._cases.open(before.payment_id, before.reference, outcome.case, fact)
        for case in outcome.ended:
            self._cases.end(before, case, fact)
        self._cases.note_return(before, fact)
        self._holders.note(before, fact, outcome)
        # A doubt about money that has another case already makes no event of the payment, and yet changes its receipt.
        self._receipts.note(before, fact, outcome)
        if after is not before:
            self._rows[before.payment_id] = replace(row, payment=after, chain_hash=chain_hash)

    def _keep_request(self, request: KeptRequest) -> None:
        row = request_row(self._tools.sealer, self._tools.request_fingerprint_keys, request, self._now)
        self._writes.requests[request.key], self._used_ids[request.key] = row, used_by(row)

    def _keep_callback(self, submission: Submission, payment_id: UUID | None, status: CallbackStatus) -> None:
        callback, fact = submission.callback, submission.fact
        if callback is None:
            return
        reference = submission.reference or ""
        if status is CallbackStatus.UNMATCHED:
            self._cases.open(None, reference, _UNKNOWN_PAYMENT, fact)
        if (payment_id, fact.fact_id) in self._unapplied and (reference, fact.fact_id) not in self._writes.cases:
            self._writes.settled.add((reference, fact.fact_id))
        # The same body twice in one group is one callback; the later one knows no less than the earlier.
        self._writes.callbacks[reference, callback.body_hash] = new_callback(
            callback,
            reference,
            payment_id,
            status,
            self._now,
            next_try_at=self._now + PENDING_RETRY_AFTER if status is CallbackStatus.PENDING else None,
            last_error=submission.only_keep,
        )
        if submission.replay is not None:
            self._writes.replays.append(submission.replay._replace(outcome=status, replayed_at=self._now))


_UNKNOWN_PAYMENT = Case(CaseKind.UNKNOWN_PAYMENT, is_money=False)
