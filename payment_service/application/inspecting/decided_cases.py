"""Whether what operators have decided about cases, or asked for, is what the log of their payment vouches for.

And the cases that a payment is held by until somebody has decided.
"""

import json
from collections.abc import Iterator, Sequence
from uuid import UUID

from payment_service.domain.approvals import ApprovalState
from payment_service.domain.case_facts import settlement_id
from payment_service.domain.case_rules import Resolution
from payment_service.domain.cases import CaseKind
from payment_service.domain.consent import Consent, Person, is_another, mark_in, unmarked
from payment_service.domain.facts import refund_request_id
from payment_service.domain.refund_ends import RefundDone
from payment_service.store.approvals import ApprovalRow
from payment_service.store.audit import CaseRow
from payment_service.store.event_log import LoggedEvent


def open_unread(cases: Sequence[CaseRow]) -> list[CaseRow]:
    """Those about callbacks that cannot be read, which nobody has settled: one for each body."""
    return [case for case in cases if case.kind == CaseKind.UNREAD_CALLBACK and case.settled_at is None]


def settled_as_logged(cases: Sequence[CaseRow], events: Sequence[LoggedEvent]) -> Iterator[str]:
    """What is wrong with the acts on a payment's cases."""
    for case in cases:
        returned = {
            settlement_id(case.case_id, Resolution.RETURN, operator, why, receipt, UUID(refund_id))
            for operator, why, receipt, refund_id in case.returns
        }
        settled_by = unmarked(case.settled_by) if case.settled_by is not None else None
        if case.resolution is not None and (case.operator is None or settled_by not in _ends_due(case, cases)):
            yield f"case {case.case_id} was settled by somebody else, or for another reason, than is kept"
        logged = {unmarked(event.fact_id) for event in events if event.fact_id.startswith(f"case:{case.case_id}:")}
        if logged - returned - {unmarked(case.settled_by or "")}:
            yield f"case {case.case_id} was settled otherwise than the log says"
        if returned - logged:
            yield f"money of case {case.case_id} was sent back otherwise than the log says"


def _ends_due(case: CaseRow, cases: Sequence[CaseRow]) -> Iterator[str | None]:
    """The ids of the facts of which one must have ended a case that an operator has settled."""
    if case.resolution == Resolution.RETURN:
        # An earlier return that had failed may have been done after all.
        yield from (RefundDone(UUID(refund_id), amount=0).fact_id for *_, refund_id in case.returns)
        # A person may have found out that one is done.
        yield from (other.settled_by for other in cases if other.resolution == Resolution.REFUNDED)
        return
    yield settlement_id(
        case.case_id, case.resolution or "", case.operator or "", case.why or "", case.accepted_receipt, case.moved_to
    )


def asked_as_logged(kept: Sequence[tuple[UUID, bytes]], events: Sequence[LoggedEvent]) -> Iterator[str]:
    """What is wrong with the kept requests for refunds; each has the id of its refund."""
    logged, due = _requests_logged(events), _requests_due(kept)
    for fact_id in due.keys() - logged:
        if refund_request_id(due[fact_id], None, None) not in logged:
            yield f"refund {due[fact_id]} was asked for by somebody else, or for another reason, than is kept"
    for fact_id in logged - due.keys():
        # Only the requests of operators are told by the log, those of callers by their own id alone.
        if fact_id.count(":") > 1:
            yield f"nothing is kept of who asked for refund {fact_id.split(':')[1]}, or it is not what the log says"


def asked_unvouched(kept: Sequence[tuple[UUID, bytes]], events: Sequence[LoggedEvent]) -> Iterator[str]:
    """Kept requests of operators of which the log tells the refund alone, as earlier releases wrote it.

    Whether such a release has written it, or somebody has since put an operator's name on a caller's own request,
    nothing tells: it is neither found right nor wrong.
    """
    logged, due = _requests_logged(events), _requests_due(kept)
    for fact_id in due.keys() - logged:
        if refund_request_id(due[fact_id], None, None) in logged:
            yield f"of refund {due[fact_id]} the log does not tell which operator asked: earlier releases wrote it so"


def _requests_logged(events: Sequence[LoggedEvent]) -> set[str]:
    return {unmarked(event.fact_id) for event in events if event.fact_id.startswith("refund:")}


def _requests_due(kept: Sequence[tuple[UUID, bytes]]) -> dict[str, UUID]:
    """The ids that the facts of kept requests for refunds should have, each with its refund."""
    due = {}
    for refund_id, request in kept:
        asked = json.loads(request)
        if asked["method"] == "RefundPayment":
            due[refund_request_id(refund_id, asked.get("operator"), asked.get("why"))] = refund_id
    return due


def agreed_as_logged(
    approvals: Sequence[ApprovalRow], events: Sequence[LoggedEvent], cases: Sequence[CaseRow]
) -> Iterator[str]:
    """What is wrong with the second persons who have agreed that money of a payment moves."""
    # A case that ends may change nothing of its payment: then it is the other payment's log that tells of the money.
    told = [*(event.fact_id for event in events), *(case.settled_by or "" for case in cases)]
    logged = {mark: fact_id for fact_id in told if (mark := mark_in(fact_id)) is not None}
    due = {}
    for one in approvals:
        if one.state == ApprovalState.APPROVED:
            by = Person(one.decided_by or "", one.decided_as or "", one.decided_why or "")
            due[Consent(one.approval_id, one.asked_by, by).mark] = one.approval_id
            if not is_another(one.asked_by, by.proven):
                yield f"approval {one.approval_id} is by the one who had asked"
    for mark in due.keys() - logged.keys():
        yield f"approval {due[mark]} was given by another person, or for another reason, than is kept"
    for mark in logged.keys() - due.keys():
        yield f"nothing is kept of who agreed to {unmarked(logged[mark])}, or it is not what the log says"
