"""Taking a case: from then on one operator looks after it, and all others see that."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from payment_service.application.casework.show_cases import CaseFile, get_case, marks_of
from payment_service.application.casework.what_changed import changed_since
from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.domain.case_rules import CaseMarks
from payment_service.store import casework


async def take_case(
    using: PaymentReads, clock: Callable[[], datetime], case_id: UUID, seen: CaseMarks, operator: str, reason: str
) -> CaseFile:
    """The case as it is once the operator has it. Raises CaseNotFound, CaseAlreadySettled or CaseChanged.

    Who takes a case that another operator has, has seen whose it is.
    """
    before = await get_case(using, case_id)
    if before.case.settled_at is not None or marks_of(before.case) != seen:
        raise changed_since(before, seen)
    async with reading(using) as connection:
        taken = await casework.take_case(connection, case_id, seen.case, operator, reason, clock())
    now = await get_case(using, case_id)
    if not taken:
        raise changed_since(now, seen)
    return now
