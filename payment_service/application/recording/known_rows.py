"""What a group of facts is decided on: the rows as they were when their locks were had."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from payment_service.application.recording.receipt_ledger import read_receipts
from payment_service.application.recording.refund_ledger import NO_REFUNDS, KnownRefunds, read_refunds
from payment_service.domain.case_facts import (
    CaseAccepted,
    CaseDecided,
    CaseDismissed,
    CaseRefundFound,
    CaseReturned,
)
from payment_service.domain.cases import OpenCase, may_have_ending_case
from payment_service.domain.facts import (
    Fact,
    PromptAccepted,
    ReceiptDue,
    RefundInDoubt,
    RefundRequested,
    ResultReported,
)
from payment_service.domain.payment import LatePaymentPolicy, Payment
from payment_service.domain.receipt import Receipt
from payment_service.domain.refund_facts import AboutRefund
from payment_service.security.sealing import Sealer
from payment_service.store import approvals, caller_requests, casework, event_log, evidence, refunds
from payment_service.store import payments as store
from payment_service.store.approvals import LockedApproval
from payment_service.store.caller_requests import UsedId
from payment_service.store.casework import LockedCase
from payment_service.store.event_log import KnownFact
from payment_service.store.health import DATABASE_NOW
from payment_service.store.payments import CHECKOUT_INDEX, PaymentNames, Stored
from payment_service.store.pipeline import BEGIN, Connection, Statement, run_together
from payment_service.store.refunds import RefundNames


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What the locked rows say, as it was before the group."""

    read_at: datetime
    """By the database's clock, with the locks taken."""
    by_id: Mapping[UUID, Stored] = field(default_factory=dict)
    id_of: Mapping[str, UUID] = field(default_factory=dict)
    locked: frozenset[UUID | str] = frozenset()
    """The ids and references of all payments whose bookings could not be locked as a whole."""
    facts: frozenset[tuple[UUID, str]] = frozenset()
    unapplied: frozenset[tuple[UUID, str]] = frozenset()
    """Facts with a case that they have not been applied."""
    receipt_holder: Mapping[str, UUID] = field(default_factory=dict)
    receipt_brought: Mapping[str, int] = field(default_factory=dict)
    checkout_holder: Mapping[bytes, UUID] = field(default_factory=dict)
    used_ids: Mapping[tuple[str, str], UsedId] = field(default_factory=dict)
    open_cases: Mapping[UUID, Sequence[OpenCase]] = field(default_factory=dict)
    cases: Mapping[UUID, LockedCase] = field(default_factory=dict)
    """Those that operators decide about, by id."""
    approvals: Mapping[UUID, LockedApproval] = field(default_factory=dict)
    """Those that a second person decides about, by id."""
    waiting_callbacks: Mapping[UUID, frozenset[bytes]] = field(default_factory=dict)
    """By payment, the hashes of the bodies that are kept and not applied."""
    refunds: KnownRefunds = NO_REFUNDS
    receipts: Mapping[UUID, Receipt] = field(default_factory=dict)
    """Those that passengers hold, by payment, where they are told of."""


@dataclass(frozen=True, slots=True)
class _NamesTold:
    """What the facts of a group name."""

    ids: Sequence[UUID]
    """Of payments; so are the references."""
    references: Sequence[str]
    fact_ids: Sequence[str]
    receipts: Sequence[str]
    checkouts: Sequence[bytes]
    """Blind indexes."""
    request_ids: Sequence[tuple[str, str]]
    """With their callers."""
    cases: Mapping[UUID, UUID | None]
    """Those that operators decide about, with their payments."""
    refund_facts: Sequence[tuple[UUID | None, str | None, str]]
    """Of facts about refunds, the refund's id or its reference, and the fact's id."""
    of_refunds: bool
    """Some of the facts are about refunds, or ask for one, or are told of all refunds of a payment."""
    of_receipts: bool
    """Some of the facts are about receipts that passengers hold."""
    approvals: Mapping[UUID, UUID | None]
    """Those that a second person decides about, with their payments."""


BroughtFact = tuple[UUID | None, UUID | None, str | None, Fact | AboutRefund]
"""Payment id, refund id, reference of the payment or the refund, and the fact that has come for it."""

_WITH_RECEIPT = ResultReported | CaseAccepted | CaseDismissed | CaseReturned
_OF_REFUNDS = AboutRefund | RefundRequested | CaseReturned | CaseRefundFound | ReceiptDue


async def read_known_rows(
    conn: Connection,
    sealer: Sealer,
    brought: Sequence[BroughtFact],
    request_ids: Sequence[tuple[str, str]],
    decided: Mapping[UUID, UUID | None],
) -> KnownRows:
    """Begin the transaction, lock the payments that are told of and their siblings, and read what is known of them.

    `request_ids` come with their callers; `decided` are the approvals that are asked for, with their payments.
    """
    told = _names_told(sealer, brought, request_ids, decided)
    # Before the locks, and outside of the transaction: which payment a refund is of never changes.
    references = list({name for _, name, _ in told.refund_facts if name is not None})
    refund_names = await refunds.named(conn, references) if references else []
    reads = _reads(told, references, refund_names)
    asked = {name: statement for name, statement in reads.items() if statement is not None}
    results = dict(zip(asked, await run_together(conn, list(asked.values())), strict=True))
    found = {name: results[name].rows if name in results else () for name in reads}
    rows, locked = _of_whole_bookings(
        [store.stored(row, sealer) for row in found["locked"]],
        [PaymentNames._make(row) for row in found["to lock"]],
    )
    facts = [KnownFact._make(row) for row in found["facts"]]
    return KnownRows(
        read_at=found["now"][0][0],
        by_id={row.payment.payment_id: row for row in rows},
        id_of={row.payment.reference: row.payment.payment_id for row in rows},
        locked=locked,
        facts=frozenset((fact.payment_id, fact.fact_id) for fact in facts if not fact.unapplied),
        unapplied=frozenset((fact.payment_id, fact.fact_id) for fact in facts if fact.unapplied),
        receipt_holder={receipt: payment_id for receipt, payment_id, _ in found["receipts"]},
        receipt_brought={receipt: int(amount) for receipt, _, amount in found["receipts"] if amount is not None},
        checkout_holder=dict(found["checkouts"]),
        used_ids={(use.caller, use.request_id): use for use in map(UsedId._make, found["used"])},
        open_cases=await _open_cases(
            conn, [row.payment for row in rows], {*told.cases.values(), *told.approvals.values()}
        ),
        cases={case.case_id: case for case in map(LockedCase._make, found["cases"])},
        approvals={one.approval_id: one for one in map(LockedApproval._make, found["approvals"])},
        refunds=await _refunds(conn, told, [row.payment for row in rows], refund_names),
        receipts=await read_receipts(conn, [row.payment.payment_id for row in rows]) if told.of_receipts else {},
        waiting_callbacks={store.payment_id_of(row): store.waiting_callbacks(row) for row in found["locked"]},
    )


def _names_told(
    sealer: Sealer,
    brought: Sequence[BroughtFact],
    request_ids: Sequence[tuple[str, str]],
    decided: Mapping[UUID, UUID | None],
) -> _NamesTold:
    facts = [fact for *_, fact in brought]
    moved_to = [fact.moved_to for fact in facts if isinstance(fact, CaseDismissed) and fact.moved_to is not None]
    return _NamesTold(
        ids=[*(payment_id for payment_id, *_ in brought if payment_id is not None), *moved_to],
        references=[name for *_, name, fact in brought if name is not None and not isinstance(fact, AboutRefund)],
        fact_ids=[fact.fact_id for fact in facts],
        receipts=[fact.receipt for fact in facts if isinstance(fact, _WITH_RECEIPT) and fact.receipt is not None],
        checkouts=[
            sealer.index(CHECKOUT_INDEX, fact.checkout_request_id)
            for fact in facts
            if isinstance(fact, ResultReported | PromptAccepted) and fact.checkout_request_id is not None
        ],
        request_ids=request_ids,
        cases={fact.case_id: payment_id for payment_id, *_, fact in brought if isinstance(fact, CaseDecided)},
        refund_facts=[(by_id, name, fact.fact_id) for _, by_id, name, fact in brought if isinstance(fact, AboutRefund)],
        of_refunds=bool(moved_to) or any(isinstance(fact, _OF_REFUNDS) for fact in facts),
        of_receipts=any(isinstance(fact, ReceiptDue) for fact in facts),
        approvals=decided,
    )


def _reads(
    told: _NamesTold, references: Sequence[str], refund_names: Sequence[RefundNames]
) -> Mapping[str, Statement | None]:
    """What locks and reads, in this order. None where a group brings nothing for it: most groups bring few of these,
    and an empty list costs a statement all the same."""
    ids = [*told.ids, *(name.payment_id for name in refund_names)]
    fact_ids = [*told.fact_ids, *_doubts(told, refund_names)]
    return {
        "begin": BEGIN,
        # Before any row: whoever makes a payment has locked its request id when it comes to the rows.
        "ids": caller_requests.lock_ids(told.request_ids) if told.request_ids else None,
        "locked": store.lock_payments(ids, told.references),
        "to lock": store.payments_to_lock(ids, told.references),
        "cases": casework.lock_cases(list(told.cases)) if told.cases else None,
        "approvals": approvals.lock_approvals(list(told.approvals)) if told.approvals else None,
        "now": DATABASE_NOW,
        "facts": event_log.known_facts(ids, [*told.references, *references], fact_ids),
        "receipts": evidence.receipt_holders(told.receipts) if told.receipts else None,
        "checkouts": store.checkout_holders(told.checkouts) if told.checkouts else None,
        "used": caller_requests.used_ids(told.request_ids) if told.request_ids else None,
    }


async def _refunds(
    conn: Connection, told: _NamesTold, payments: Sequence[Payment], names: Sequence[RefundNames]
) -> KnownRefunds:
    """Those of the payments, where a fact may have to do with them; most groups are spared the statements."""
    if told.of_refunds or (told.receipts and any(map(_has_to_do_with_refunds, payments))):
        return await read_refunds(conn, [one.payment_id for one in payments], names)
    return NO_REFUNDS


def _has_to_do_with_refunds(payment: Payment) -> bool:
    """Whether money that comes now, for this payment or beside it, may go back by itself, or a refund may wait for the
    proof of its receipt."""
    may_go_back = payment.said_confirm or payment.late_payment_policy is LatePaymentPolicy.REFUND
    return may_go_back or payment.awaits_refund


def _doubts(told: _NamesTold, names: Sequence[RefundNames]) -> list[str]:
    """The ids under which what facts about refunds say may have come to their payments already."""
    by_reference = {name.reference: name.refund_id for name in names}
    known_by = [(by_id or by_reference.get(name or ""), fact_id) for by_id, name, fact_id in told.refund_facts]
    return [RefundInDoubt(known, fact_id, is_money=False).fact_id for known, fact_id in known_by if known is not None]


def _of_whole_bookings(
    rows: Sequence[Stored], to_lock: Sequence[PaymentNames]
) -> tuple[Sequence[Stored], frozenset[UUID | str]]:
    """The rows of the bookings that are locked as a whole, and the ids and references of all other payments."""
    mine = {row.payment.payment_id for row in rows}
    anothers = {(names.caller, names.booking_id) for names in to_lock if names.payment_id not in mine}
    if not anothers:
        return rows, frozenset()
    left_out = [names for names in to_lock if (names.caller, names.booking_id) in anothers]
    whole = [row for row in rows if (row.payment.caller, row.payment.booking_id) not in anothers]
    return whole, frozenset(name for names in left_out for name in (names.payment_id, names.reference))


async def _open_cases(
    conn: Connection, payments: Sequence[Payment], decided: Collection[UUID | None]
) -> Mapping[UUID, Sequence[OpenCase]]:
    """The open cases that a fact may end: of the payments in `decided`, about which operators decide, and of others.

    Few payments have one, so all others are spared the statement.
    """
    wanted = [one.payment_id for one in payments if one.payment_id in decided or may_have_ending_case(one)]
    if not wanted:
        return {}
    (result,) = await run_together(conn, [evidence.open_cases(wanted)])
    found: dict[UUID, list[OpenCase]] = {}
    for payment_id, case in map(evidence.open_case_of, result.rows):
        found.setdefault(payment_id, []).append(case)
    return found
