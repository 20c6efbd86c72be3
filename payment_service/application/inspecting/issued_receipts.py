"""Whether the receipts that passengers hold say what the log of their payment vouches for."""

from collections.abc import Iterator, Sequence

from payment_service.domain.facts import ReceiptDue
from payment_service.domain.receipt import Receipt
from payment_service.store.event_log import LoggedEvent


def issued_as_logged(issued: Sequence[Receipt], events: Sequence[LoggedEvent]) -> Iterator[str]:
    """What is wrong with the revisions of a payment's receipt, the first one first."""
    logged = {event.fact_id for event in events if event.fact_kind == ReceiptDue.__name__}
    due = {ReceiptDue(None, one.revision, one.digest).fact_id: one.revision for one in issued}
    if [one.revision for one in issued] != list(range(1, len(issued) + 1)):
        yield "the revisions of its receipt are not 1, 2, 3 … without a gap"
    for fact_id in due.keys() - logged:
        yield f"revision {due[fact_id]} of its receipt says something else than was issued"
    for fact_id in logged - due.keys():
        yield f"revision {fact_id.split(':')[1]} of its receipt is gone, or says something else than was issued"
