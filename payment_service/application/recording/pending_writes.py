"""What a group of facts has led to and is not written yet, and how it is written: all of it, in one go with COMMIT."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog

from payment_service.alarms import AUTOMATIC_REFUNDS_BOUNDED, SUCCESS_UNBACKED, TAKEN_BACK
from payment_service.application.recording.receipt_ledger import ReceiptLedger
from payment_service.application.recording.refund_ledger import RefundLedger
from payment_service.domain.cases import CaseKind
from payment_service.domain.facts import Fact
from payment_service.domain.payment import Payment
from payment_service.security.sealing import Sealer
from payment_service.store import approvals, caller_requests, casework, event_log, evidence, inbox
from payment_service.store import payments as store
from payment_service.store.approvals import Decided
from payment_service.store.caller_requests import NewRequest
from payment_service.store.casework import CaseAct, CaseReturn
from payment_service.store.event_log import LoggedEvent
from payment_service.store.evidence import EndedCase, ExchangeRow, NewCase, ReceiptRow
from payment_service.store.inbox import NewCallback, ReplayRow
from payment_service.store.payments import Stored
from payment_service.store.pipeline import COMMIT, Connection, Statement, run_together
from payment_service.telemetry import trace_id
from runtime.alarms import Alarm, raise_alarm

Key = TypeVar("Key", str, UUID, tuple[str, str], tuple[str, bytes])
Row = TypeVar("Row")

_ALARM_OF: Mapping[str, Alarm] = {
    CaseKind.TAKEN_BACK: TAKEN_BACK,
    CaseKind.UNBACKED_MONEY: SUCCESS_UNBACKED,
}
"""Cases that call a person as soon as they are opened."""

_log = structlog.get_logger(__name__)


class PendingWrites:
    """The rows that are to be written, and what the log is to say once they are."""

    def __init__(self, sealer: Sealer, now: datetime) -> None:
        self._sealer, self._now = sealer, now
        self.events: list[LoggedEvent] = []
        self.cases: dict[tuple[str, str], NewCase] = {}
        """By reference and fact id; so are those that end, and those whose money is sent back."""
        self.ended: dict[tuple[str, str], EndedCase] = {}
        self.returns: dict[tuple[str, str], CaseReturn] = {}
        self.acts: list[CaseAct] = []
        self.approved: dict[UUID, Decided] = {}
        self.settled: set[tuple[str, str]] = set()
        """Those whose callback has been applied by now."""
        self.receipts: dict[str, ReceiptRow] = {}
        self.counted: dict[str, UUID] = {}
        """Receipts that were recorded in doubt and count from now on, and for which payment."""
        self.proven: dict[str, str] = {}
        """Receipts that have been shown to be their payments', and by what."""
        self.exchanges: list[ExchangeRow] = []
        self.callbacks: dict[tuple[str, bytes], NewCallback] = {}
        self.requests: dict[tuple[str, str], NewRequest] = {}
        self.replays: list[ReplayRow] = []
        self.changes: list[dict[str, object]] = []
        """Lines for the log; so are those of the cases that are opened."""
        self.opened: list[dict[str, object]] = []
        self.kept_here: list[dict[str, object]] = []
        """Payments whose money would have gone back by itself, but for the bound of the hour."""

    def note_change(self, before: Payment, after: Payment, cause: Fact, trace_parent: str | None) -> None:
        """A line for the log."""
        self.changes.append(
            {
                "payment_id": str(after.payment_id),
                "from_state": before.state.value,
                "to_state": after.state.value,
                "reason": after.shown_reason and after.shown_reason.value,
                "cause": type(cause).__name__,
                "version": after.version,
                "trace_id": trace_id(trace_parent),
            }
        )

    async def commit(
        self,
        conn: Connection,
        changed: Sequence[tuple[Payment, Stored]],
        refunds: RefundLedger,
        receipts: ReceiptLedger,
    ) -> None:
        """Write everything, with (payment before, row now) of those that changed, and commit.

        What loses a block goes before what gains one; the events go last.
        """
        losing = [pair for pair in changed if pair[0].blocks_booking and not pair[1].payment.blocks_booking]
        others = [pair for pair in changed if not (pair[0].blocks_booking and not pair[1].payment.blocks_booking)]
        updates = [pairs for pairs in (losing, others) if pairs]
        statements = [store.update_payments(self._sealer, pairs) for pairs in updates]
        # Sorted by their keys: two processes that write the same ones may wait for each other, and never in a ring.
        statements += [
            *_of_any(evidence.insert_receipts, _sorted(self.receipts)),
            *_of_any(evidence.count_receipts, sorted(self.counted.items())),
            *_of_any(evidence.prove_receipts, sorted(self.proven.items())),
            *_of_any(inbox.insert_callbacks, _sorted(self.callbacks)),
            *_of_any(inbox.insert_replays, self.replays),
            *_of_any(caller_requests.insert_requests, _sorted(self.requests)),
            *_of_any(evidence.insert_exchanges, self.exchanges),
            *refunds.statements(),
            *receipts.statements(),
            *_of_any(evidence.insert_cases, _sorted(self.cases)),
            *_of_any(casework.note_returns, _sorted(self.returns)),
            *_of_any(partial(evidence.end_cases, at=self._now), _sorted(self.ended)),
            *_of_any(casework.insert_acts, self.acts),
            *_of_any(partial(approvals.approve, at=self._now), _sorted(self.approved)),
            *_of_any(partial(evidence.settle_unapplied, at=self._now), sorted(self.settled)),
            *_of_any(event_log.append, self.events),
        ]
        results = await run_together(conn, [*statements, COMMIT])
        # Cannot be: the rows were locked, and a second event of one version would have refused the commit.
        for result, pairs in zip(results, updates, strict=False):
            assert result.count == len(pairs), "a locked payment was changed by another writer"
        self._tell(refunds)

    def _tell(self, refunds: RefundLedger) -> None:
        for change in self.changes:
            _log.info("payment changed", **change)
        for change in refunds.changes:
            _log.info("refund changed", **change)
        for opened in self.opened:
            _log.warning("case opened", **opened)
            if (alarm := _ALARM_OF.get(str(opened["case"]))) is not None:
                raise_alarm(alarm, payment_id=opened["payment_id"], reference=opened["reference"])
        for kept in self.kept_here:
            raise_alarm(AUTOMATIC_REFUNDS_BOUNDED, **kept)
        for case in self.ended.values():
            said = "case ended by proof" if case.resolution is None else "case settled by an operator"
            _log.info(said, reference=case.reference, opened_by=case.fact_id, ended_by=case.by_fact)


def _sorted(rows: Mapping[Key, Row]) -> list[Row]:
    return [rows[key] for key in sorted(rows)]


def _of_any(statement: Callable[[Sequence[Row]], Statement], rows: Sequence[Row]) -> list[Statement]:
    """The statement that writes the rows; none where there are no rows."""
    return [statement(rows)] if rows else []
