"""What a group of facts is decided on: the rows as they were when their locks were had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from payment_service.domain.cases import OpenCase, may_have_ending_case
from payment_service.domain.payment import Payment
from payment_service.store import evidence
from payment_service.store.caller_requests import UsedId
from payment_service.store.payments import PaymentNames, Stored
from payment_service.store.pipeline import Connection, run_together


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What the locked rows say, as it was before the group."""

    read_at: datetime
    """By the database's clock, with the locks taken."""
    by_id: Mapping[UUID, Stored] = field(default_factory=dict)
    id_of: Mapping[str, UUID] = field(default_factory=dict)
    locked: frozenset[UUID | str] = frozenset()
    """The ids and references of all payments whose bookings could not be locked as a whole."""
    facts: frozenset[tuple[UUID, str]] = frozenset()
    unapplied: frozenset[tuple[UUID, str]] = frozenset()
    """Facts with a case that they have not been applied."""
    receipt_holder: Mapping[str, UUID] = field(default_factory=dict)
    checkout_holder: Mapping[bytes, UUID] = field(default_factory=dict)
    used_ids: Mapping[tuple[str, str], UsedId] = field(default_factory=dict)
    open_cases: Mapping[UUID, Sequence[OpenCase]] = field(default_factory=dict)


def of_whole_bookings(
    rows: Sequence[Stored], to_lock: Sequence[PaymentNames]
) -> tuple[Sequence[Stored], frozenset[UUID | str]]:
    """The rows of the bookings that are locked as a whole, and the ids and references of all other payments."""
    mine = {row.payment.payment_id for row in rows}
    anothers = {(names.caller, names.booking_id) for names in to_lock if names.payment_id not in mine}
    if not anothers:
        return rows, frozenset()
    left_out = [names for names in to_lock if (names.caller, names.booking_id) in anothers]
    whole = [row for row in rows if (row.payment.caller, row.payment.booking_id) not in anothers]
    return whole, frozenset(name for names in left_out for name in (names.payment_id, names.reference))


async def open_cases(conn: Connection, payments: Sequence[Payment]) -> Mapping[UUID, Sequence[OpenCase]]:
    """The open cases that a fact may end. Few payments have one, so all others are spared the statement."""
    wanted = [payment.payment_id for payment in payments if may_have_ending_case(payment)]
    if not wanted:
        return {}
    (result,) = await run_together(conn, [evidence.open_cases(wanted)])
    found: dict[UUID, list[OpenCase]] = {}
    for payment_id, case in map(evidence.open_case_of, result.rows):
        found.setdefault(payment_id, []).append(case)
    return found
