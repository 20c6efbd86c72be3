"""What an operator is told whose picture of a case is out of date."""

from payment_service.application.casework.show_cases import CaseFile, marks_of
from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.errors import CaseAlreadySettled, CaseChanged

PROOF = "proof"
"""By whom a case has been settled that no person has settled."""


def changed_since(now: CaseFile, seen: CaseMarks) -> CaseChanged | CaseAlreadySettled:
    """What is otherwise by now than the operator has seen it."""
    case, marks = now.case, marks_of(now.case)
    if case.settled_at is not None:
        by = now.acts[-1].operator if case.resolution is not None and now.acts else PROOF
        return CaseAlreadySettled(case.resolution or "ended by itself", by)
    changed = []
    if marks.case != seen.case:
        changed.append(f"the case, which {case.owner} has now" if case.owner else "the case")
    if marks.payments != seen.payments:
        changed += [
            f"payment {one.payment_id}, which is {one.status.value} ({one.booking_action.value}) now"
            for one in now.attempts
            if one.payment_id == case.payment_id
        ] + ["the attempts of its booking"]
    if marks.open_cases != seen.open_cases:
        changed.append(f"the open cases of its payment, of which there are {marks.open_cases} now")
    return CaseChanged(changed or ["the case"], owner=case.owner or "")
