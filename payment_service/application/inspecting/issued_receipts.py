"""Whether the receipts that passengers hold say what the log of their payment vouches for, and what is so now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from payment_service.domain.cases import CaseKind
from payment_service.domain.facts import ReceiptDue
from payment_service.domain.payment import Payment
from payment_service.domain.receipt import Receipt, as_it_stands, next_receipt, return_in_doubt, returned_parts
from payment_service.domain.refund import Refund
from payment_service.store.audit import CaseRow
from payment_service.store.event_log import LoggedEvent
from payment_service.store.evidence import ReceiptRow


@dataclass(frozen=True, slots=True)
class IssuedReceipts:
    """What is stored about the receipt of a payment."""

    revisions: Sequence[Receipt] = ()
    """The first one first."""
    is_due: bool = False
    """It is to be written, so what it says may be behind what is so."""


def issued_rightly(
    issued: IssuedReceipts,
    events: Sequence[LoggedEvent],
    payment: Payment | None,
    money: Sequence[ReceiptRow],
    refunds: Sequence[Refund],
    cases: Sequence[CaseRow],
) -> Iterator[str]:
    """What is wrong with the receipt of a payment."""
    yield from _as_logged(issued, events)
    if payment is not None and issued.revisions and not issued.is_due:
        listed_as = [case.receipt for case in cases if case.kind == CaseKind.TAKEN_BACK and case.settled_at is None]
        known = {row.receipt for row in money if row.amount is not None}
        doubted = return_in_doubt(payment.receipt, listed_as, known)
        yield from _as_is_so(issued.revisions[-1], payment, money, refunds, return_doubted=doubted)


def _as_logged(issued: IssuedReceipts, events: Sequence[LoggedEvent]) -> Iterator[str]:
    """What is wrong with the revisions of a payment's receipt by its log."""
    logged = {event.fact_id for event in events if event.fact_kind == ReceiptDue.__name__}
    due = {ReceiptDue(revision=one.revision, digest=one.digest).fact_id: one.revision for one in issued.revisions}
    if [one.revision for one in issued.revisions] != list(range(1, len(issued.revisions) + 1)):
        yield "the revisions of its receipt are not 1, 2, 3 … without a gap"
    for fact_id in due.keys() - logged:
        yield f"revision {due[fact_id]} of its receipt says something else than was issued"
    for fact_id in logged - due.keys():
        yield f"revision {fact_id.split(':')[1]} of its receipt is gone, or says something else than was issued"


def _as_is_so(
    revision: Receipt,
    payment: Payment,
    money: Sequence[ReceiptRow],
    refunds: Sequence[Refund],
    *,
    return_doubted: bool,
) -> Iterator[str]:
    """What is wrong with the last revision by the payment as it stands."""
    last = as_it_stands(revision, payment.state, payment.backing, return_doubted=return_doubted)
    came = next((row.amount for row in money if row.receipt == payment.receipt), None)
    returned = returned_parts(payment, refunds)
    brought = int(came) if came is not None else None
    told = next_receipt(payment, last, brought, returned, None, last.issued_at, return_doubted=return_doubted)
    if told is not None:
        yield (
            f"its receipt says {last.standing} with KES {last.refunded_amount} returned, where {told.standing} with"
            f" KES {told.refunded_amount} is so, and no revision is due"
        )
