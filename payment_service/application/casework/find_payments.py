"""Payments found by what a passenger or a colleague can say of them, of whichever caller, with their cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.following.stored_views import payment_view
from payment_service.domain.views import PaymentView
from payment_service.store import casework, payment_search, reads
from payment_service.store.casework import WorkedCase
from payment_service.store.payment_search import PaymentSearch, Takings


@dataclass(frozen=True, slots=True)
class FoundPayments:
    """One page of what was found, the newest first; `more` if others follow."""

    payments: Sequence[PaymentView]
    cases: Sequence[WorkedCase]
    """Of these payments, and those that name the receipt, though they may be for no payment."""
    takings: Takings | None
    """Of the whole stretch of time that was asked for."""
    more: bool


async def find_payments(
    using: PaymentReads, wanted: PaymentSearch, before: UUID | None, page_size: int
) -> FoundPayments:
    """One page of the payments, with the cases about them."""
    async with using.lists, reading(using) as connection:
        ids = await payment_search.find_payments(connection, wanted, before, page_size + 1)
        rows = await reads.payments_named(connection, ids[:page_size])
        cases = await casework.cases_of(connection, [row.reference for row in rows])
        if wanted.receipt is not None and before is None:
            known = {case.case_id for case in cases}
            naming = await casework.cases_naming(connection, wanted.receipt)
            cases += [case for case in naming if case.case_id not in known]
        sums = None
        if wanted.completed_from is not None and wanted.completed_before is not None and before is None:
            sums = await payment_search.takings(connection, wanted.completed_from, wanted.completed_before)
    views = [payment_view(row, using.sealer) for row in rows]
    return FoundPayments(views, cases, sums, len(ids) > page_size)
