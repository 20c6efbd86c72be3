"""Cases as operators see them: listed by deadline, and each with its payment, its evidence and all acts on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.following.stored_views import payment_view
from payment_service.application.settling.accept_callbacks import body_row_id, fact_ids_of
from payment_service.application.settling.opened_bodies import opened_body, payer_number
from payment_service.application.settling.record_pulled_rows import PULLED
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.cases import CaseKind
from payment_service.domain.errors import CaseNotFound
from payment_service.domain.refund import Refund
from payment_service.domain.views import PaymentView
from payment_service.security.sealing import CALLBACK_BODY, EXCHANGE_ANSWER, EXCHANGE_REQUEST, Sealer
from payment_service.store import audit, casework, reads
from payment_service.store.audit import CallbackRow
from payment_service.store.casework import CaseAct, CaseFilter, WorkedCase
from payment_service.store.engines import driver_connection
from payment_service.store.evidence import ExchangeRow
from payment_service.store.refunds import refunds_about

ROWS_MAX = 200
"""Callbacks and exchanges looked through for the one that opened a case."""
_OF_REFUNDS = frozenset({"reversal", "b2c"})
"""Operations that send money back. What was asked about them later is answered by callbacks."""


@dataclass(frozen=True, slots=True)
class CasePage:
    """Some open cases, those that are due first at the front; `more` if others follow."""

    cases: Sequence[WorkedCase]
    more: bool


@dataclass(frozen=True, slots=True)
class CaseEvidence:
    """What came to us that opened a case, opened for reading and without the payer's number."""

    what: str
    at: datetime
    body: str


@dataclass(frozen=True, slots=True)
class CaseFile:
    """All that an operator needs to decide."""

    case: WorkedCase
    attempts: Sequence[PaymentView]
    """Of the case's booking, the oldest first; none where the case is about no payment."""
    evidence: Sequence[CaseEvidence]
    acts: Sequence[CaseAct]


async def list_cases(using: PaymentReads, wanted: CaseFilter, after: UUID | None, page_size: int) -> CasePage:
    """One page of the open cases."""
    async with using.lists, reading(using) as connection:
        rows = await casework.open_cases_by_deadline(connection, wanted, after, page_size + 1)
    return CasePage(rows[:page_size], len(rows) > page_size)


async def get_case(using: PaymentReads, case_id: UUID) -> CaseFile:
    """One case with everything about it. Raises CaseNotFound."""
    async with using.lists, reading(using) as connection:
        # The case first: what says whether anything has changed must not be newer than what is shown.
        case = await casework.case_by_id(connection, case_id)
        if case is None:
            raise CaseNotFound
        attempts = []
        if case.caller is not None and case.booking_id is not None:
            attempts = await reads.payments_of_booking(connection, case.caller, case.booking_id)
        mine = next((row for row in attempts if row.payment_id == case.payment_id), None)
        number = payer_number(using.sealer, mine.payment_id, mine.phone_number) if mine is not None else None
        driver = await driver_connection(connection)
        exchanges, refund = [], None
        if case.payment_id is not None:
            exchanges = await audit.exchanges_of(driver, case.payment_id, ROWS_MAX)
            refund = _refund_of(case, await refunds_about(driver, [case.payment_id]))
        references = [case.reference, *([refund.reference] if refund is not None else [])]
        callbacks = await audit.callbacks_for(driver, references, ROWS_MAX)
        acts = await casework.acts_on(connection, case_id)
    evidence = [
        *_callbacks(case, callbacks, refund, using.sealer, number),
        *_exchanges(case, exchanges, refund, using.sealer, number),
    ]
    evidence.sort(key=lambda one: one.at)
    return CaseFile(case, [payment_view(row, using.sealer) for row in attempts], evidence, acts)


def marks_of(case: WorkedCase) -> CaseMarks:
    """What says whether anything has changed since the case was shown."""
    return CaseMarks(case.version, case.payments_version, case.open_cases)


def _refund_of(case: WorkedCase, refunds: Sequence[Refund]) -> Refund | None:
    """The refund that the case is about: the fact that opened it names it, or is a callback of the refund's own."""
    return next((one for one in refunds if str(one.refund_id) in case.fact_id or one.reference == case.reference), None)


def _callbacks(
    case: WorkedCase, rows: Sequence[CallbackRow], refund: Refund | None, sealer: Sealer, number: str | None
) -> Iterator[CaseEvidence]:
    """The callback that opened the case, and all that came for its refund: one alone says little of a doubt. Of money
    that only a callback told of, also what M-Pesa has answered about its receipt: most often, that it has none."""
    for row in rows:
        of_refund = refund is not None and row.reference == refund.reference
        answered = case.kind == CaseKind.UNBACKED_MONEY and row.kind == CallbackKind.RESULT
        if case.fact_id in fact_ids_of(row.body_hash) or of_refund or answered:
            body = opened_body(sealer, CALLBACK_BODY, body_row_id(row.reference, row.body_hash), row.body, number)
            what = "M-Pesa's answer about the transaction" if answered else f"callback from {row.source_address}"
            yield CaseEvidence(what, row.received_at, body)


def _exchanges(
    case: WorkedCase, rows: Sequence[ExchangeRow], refund: Refund | None, sealer: Sealer, number: str | None
) -> Iterator[CaseEvidence]:
    """The answer to a query, the row of the books that names the receipt, or what was sent of a refund and answered."""
    for row in rows:
        answer = opened_body(sealer, EXCHANGE_ANSWER, row.exchange_id.bytes, row.answer, number)
        named = row.operation == PULLED and case.receipt is not None and case.receipt in answer
        if case.fact_id == f"query:{row.exchange_id}" or named:
            yield CaseEvidence(f"Safaricom's answer to {row.operation}", row.started_at, answer)
        elif refund is not None and row.operation in _OF_REFUNDS:
            request = opened_body(sealer, EXCHANGE_REQUEST, row.exchange_id.bytes, row.request, number)
            yield CaseEvidence(f"what was sent as {row.operation}", row.started_at, request)
            yield CaseEvidence(f"Safaricom's answer to {row.operation}", row.started_at, answer)
