"""The cases of a group in memory, beside their payments: what opens and ends, and what operators decide."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from payment_service.application.recording.pending_writes import PendingWrites
from payment_service.domain.case_facts import CaseDecided, CaseReturned, CaseSettled
from payment_service.domain.case_rules import CaseMarks, Resolution, resolution_of
from payment_service.domain.cases import Case, OpenCase, sent_back_by
from payment_service.domain.facts import Fact, refund_end
from payment_service.domain.payment import Payment
from payment_service.domain.refund_ends import RefundDone
from payment_service.domain.refund_facts import AboutRefund
from payment_service.store.casework import CaseReturn, LockedCase, deciding_act
from payment_service.store.evidence import EndedCase, new_case


class CaseLedger:
    """The cases as they become."""

    def __init__(
        self,
        open_cases: Mapping[UUID, Sequence[OpenCase]],
        decided: Mapping[UUID, LockedCase],
        writes: PendingWrites,
        now: datetime,
    ) -> None:
        self._open = {payment_id: list(cases) for payment_id, cases in open_cases.items()}
        self._decided = dict(decided)
        self._writes, self._now = writes, now

    def open_of(self, payment_id: UUID) -> Sequence[OpenCase]:
        """The open cases of a payment."""
        return tuple(self._open.get(payment_id, ()))

    def to_decide(self, case_id: UUID) -> LockedCase | None:
        """A case that an operator decides about; None where somebody else has locked it."""
        return self._decided.get(case_id)

    def marks(self, case_version: int, payment: Payment | None, siblings: Sequence[Payment]) -> CaseMarks:
        """How a case and what it is about stand now."""
        if payment is None:
            return CaseMarks(case_version, 0, 0)
        versions = sum(one.money_version for one in (payment, *siblings))
        return CaseMarks(case_version, versions, len(self.open_of(payment.payment_id)))

    def decide(self, case: LockedCase, fact: CaseDecided) -> None:
        """Keep who has decided what, and why."""
        self._writes.acts.append(deciding_act(fact, case.version + 1, self._now))
        if isinstance(fact, CaseSettled):
            self._decided[case.case_id] = case._replace(settled_at=self._now, settled_by=fact.fact_id)
        else:
            self._decided[case.case_id] = case._replace(version=case.version + 1, refund_id=fact.refund_id)

    def open(self, payment_id: UUID | None, reference: str, case: Case, fact: Fact | AboutRefund) -> None:
        """Open a case, as the fact has led to it."""
        opened = self._writes.cases[reference, fact.fact_id] = new_case(payment_id, reference, case, fact, self._now)
        if payment_id is not None:
            still_open = OpenCase(opened.kind, opened.is_money, opened.fact_id, opened.mpesa_receipt_number)
            self._open.setdefault(payment_id, []).append(still_open)
        self._writes.opened.append(
            {
                "payment_id": str(payment_id) if payment_id else None,
                "reference": reference,
                "case": case.kind.value,
                "is_money": case.is_money,
                "cause": type(fact).__name__,
            }
        )

    def end(self, payment: Payment, case: OpenCase, fact: Fact) -> None:
        """End a case of a payment: by proof, or as an operator has decided."""
        self._open[payment.payment_id].remove(case)
        resolution = Resolution.RETURN if sent_back_by(case, fact) else None
        if isinstance(fact, CaseSettled) and fact.opened_by == case.fact_id:
            resolution = resolution_of(fact)
        ended = EndedCase(payment.reference, case.fact_id, fact.fact_id, resolution)
        self._writes.ended[payment.reference, case.fact_id] = ended

    def settle_alone(self, case: LockedCase, fact: CaseSettled) -> None:
        """End a case that is about no payment."""
        ended = EndedCase(case.reference, case.fact_id, fact.fact_id, resolution_of(fact))
        self._writes.ended[case.reference, case.fact_id] = ended

    def note_return(self, payment: Payment, fact: Fact) -> None:
        """Tell the case of a refund what the refund is by now: begun for it, or failed, which gives it back."""
        about = fact if isinstance(fact, CaseReturned) else refund_end(fact)
        if about is None or isinstance(about, RefundDone):
            return
        mine = self._open.get(payment.payment_id, [])
        for place, case in enumerate(mine):
            begun = isinstance(about, CaseReturned) and case.fact_id == about.opened_by
            if begun or case.refund_id == about.refund_id:
                returns = (*case.returns, about.refund_id) if begun else case.returns
                mine[place] = replace(case, refund_id=about.refund_id if begun else None, returns=returns)
                noted = CaseReturn(payment.reference, case.fact_id, about.refund_id)
                self._writes.returns[payment.reference, case.fact_id] = noted
