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
from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.errors import CaseNotFound
from payment_service.domain.views import PaymentView
from payment_service.security.sealing import CALLBACK_BODY, EXCHANGE_ANSWER, Sealer
from payment_service.store import audit, casework, reads
from payment_service.store.audit import CallbackRow
from payment_service.store.casework import CaseAct, CaseFilter, WorkedCase
from payment_service.store.engines import driver_connection
from payment_service.store.evidence import ExchangeRow

ROWS_MAX = 200
"""Callbacks and exchanges looked through for the one that opened a case."""


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
        callbacks = await audit.callbacks_for(driver, [case.reference], ROWS_MAX)
        exchanges = []
        if case.payment_id is not None:
            exchanges = await audit.exchanges_of(driver, case.payment_id, ROWS_MAX)
        acts = await casework.acts_on(connection, case_id)
    evidence = [*_callbacks(case, callbacks, using.sealer, number), *_exchanges(case, exchanges, using.sealer, number)]
    return CaseFile(case, [payment_view(row, using.sealer) for row in attempts], evidence, acts)


def marks_of(case: WorkedCase) -> CaseMarks:
    """What says whether anything has changed since the case was shown."""
    return CaseMarks(case.version, case.payments_version, case.open_cases)


def _callbacks(
    case: WorkedCase, rows: Sequence[CallbackRow], sealer: Sealer, number: str | None
) -> Iterator[CaseEvidence]:
    for row in rows:
        if case.fact_id in fact_ids_of(row.body_hash):
            body = opened_body(sealer, CALLBACK_BODY, body_row_id(row.reference, row.body_hash), row.body, number)
            yield CaseEvidence(f"callback from {row.source_address}", row.received_at, body)


def _exchanges(
    case: WorkedCase, rows: Sequence[ExchangeRow], sealer: Sealer, number: str | None
) -> Iterator[CaseEvidence]:
    """The answer to a query, or the row of the books that names the receipt."""
    for row in rows:
        answer = opened_body(sealer, EXCHANGE_ANSWER, row.exchange_id.bytes, row.answer, number)
        named = row.operation == PULLED and case.receipt is not None and case.receipt in answer
        if case.fact_id == f"query:{row.exchange_id}" or named:
            yield CaseEvidence(f"Safaricom's answer to {row.operation}", row.started_at, answer)
