"""Whose money is a row of the provider's books? Decided here, from rows that are at hand; nothing is changed.

The books are Safaricom's own list of what arrived at a shortcode, whoever sent
it and for whichever system. A row names no id of ours: what ties it to a
payment is the account reference that the prompt carried, and with it the amount
and the time. Only when exactly one payment fits is a row a plain success, which
the table judges as any other; where more than one could be meant, or something
does not fit, the type of the row among it, it is money in doubt: a person looks, and nothing is guessed.

A till's rows carry no reference. Amount, time and the visible digits of the
payer's number may all agree by chance, so together they are a doubt at most, and
only for a payment whose time has passed without news.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from payment_service.domain.facts import UNREADABLE, ResultReported, Source, Verdict

ACCOUNT_REFERENCE_UNIQUE_FOR = timedelta(days=7)
"""Money is matched by it within two days; a week leaves room for a slow operator."""

CLOCKS_APART_MAX = timedelta(minutes=5)
"""Between our clock and the provider's. A reference names one payment for a week, so it need not be narrow."""

PROMPT_LIVES_MAX = timedelta(minutes=10)
"""From the send until money without a reference can no longer be that prompt's."""

PAID_CODE = "0"


class VisibleDigits(NamedTuple):
    """What is shown of a payer's number: the digits after the country code, up to the mask and after it."""

    leading: str
    trailing: str

    def fit(self, phone_number: str) -> bool:
        """Whether they are those of `phone_number`, E.164 without the plus."""
        national = phone_number[3:]
        shown = len(self.leading) + len(self.trailing)
        return shown <= len(national) and national.startswith(self.leading) and national.endswith(self.trailing)


class HashedNumber(NamedTuple):
    """What stands in place of a payer's number: its SHA-256 in hex, whole or masked in its middle."""

    leading: str
    trailing: str

    def fit(self, phone_number: str) -> bool:
        """Whether it is that of `phone_number`, E.164 without the plus."""
        digest = hashlib.sha256(phone_number.encode()).hexdigest()
        return digest.startswith(self.leading) and digest.endswith(self.trailing)


@dataclass(frozen=True, slots=True)
class PulledRow:
    """One movement of money as the provider has it."""

    receipt: str | None
    """None where it cannot be read."""
    key: str
    """Names the row: by its receipt, or else by a digest of it."""
    amount: int | str
    """Whole shillings, or `UNREADABLE`."""
    account_reference: str
    """As the payer's prompt carried it; empty for a till."""
    readings: tuple[datetime, ...]
    """What its time may mean, the earliest first: the zone that is written is not to be relied on."""
    received: bool
    """It says itself that a customer paid to us. Types are cut short, and many are unlisted: another one proves no
    payment, and excludes none."""
    payer: VisibleDigits | HashedNumber | None = None
    """Never a key, only one more thing that has to agree."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A payment that a row may belong to."""

    payment_id: UUID
    reference: str
    account_reference: str
    shortcode: str
    amount: int
    prompted_at: datetime
    """When its prompt was sent; for one that was never sent, when it was made."""


@dataclass(frozen=True, slots=True)
class Lookalike:
    """An unsettled payment whose time has passed, for rows that carry no reference."""

    candidate: Candidate
    phone_number: str


class Holder(NamedTuple):
    """The payment that a receipt number is recorded on, and the amount that was recorded with it."""

    candidate: Candidate
    amount: int | None
    """None where what brought the receipt brought no readable amount."""


class Belonging(StrEnum):
    """What was found out about a row."""

    KNOWN = "KNOWN"
    """Recorded already, as the books have it."""
    OURS = "OURS"
    IN_DOUBT = "IN_DOUBT"
    NOT_OURS = "NOT_OURS"
    """Another system's, or no payment at all."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is stored that a shortcode's rows may be about."""

    shortcode: str
    named: Mapping[str, Sequence[Candidate]]
    """By account reference."""
    holders: Mapping[str, Holder]
    """By receipt number."""
    lookalikes: Sequence[Lookalike] = ()


def belonging(row: PulledRow, shelf: Shelf, now: datetime) -> tuple[Belonging, list[tuple[Candidate, ResultReported]]]:
    """Whose row it is, and the facts to tell."""
    named = shelf.named.get(row.account_reference, ()) if row.account_reference else ()
    holder = shelf.holders.get(row.receipt) if row.receipt is not None else None
    if holder is not None:
        return _recorded(row, named, holder, now)
    if not named:
        alike = [] if row.account_reference else [one.candidate for one in shelf.lookalikes if _alike(row, one)]
        doubts = [(candidate, _fact(row, candidate, now, in_doubt=True)) for candidate in alike]
        return (Belonging.IN_DOUBT if doubts else Belonging.NOT_OURS), doubts
    fits = len(named) == 1 and named[0].shortcode == shelf.shortcode and _moment(row, named[0], now) is not None
    fits = fits and row.received and row.receipt is not None
    facts = [(candidate, _fact(row, candidate, now, in_doubt=not fits)) for candidate in named]
    return (Belonging.OURS if fits else Belonging.IN_DOUBT), facts


def _recorded(
    row: PulledRow, named: Sequence[Candidate], holder: Holder, now: datetime
) -> tuple[Belonging, list[tuple[Candidate, ResultReported]]]:
    """A receipt that is recorded. The books may still say otherwise: of its amount, or of whom it is for."""
    owner = holder.candidate
    others = [candidate for candidate in named if candidate.payment_id != owner.payment_id]
    if others and len(others) == len(named):
        return Belonging.IN_DOUBT, [(other, _fact(row, other, now, in_doubt=False)) for other in others]
    recorded = owner.amount if holder.amount is None else holder.amount
    if row.amount in (recorded, UNREADABLE):
        return Belonging.KNOWN, []
    return Belonging.OURS, [(owner, _fact(row, owner, now, in_doubt=False))]


def _alike(row: PulledRow, alike: Lookalike) -> bool:
    moved_in_time = any(
        alike.candidate.prompted_at - CLOCKS_APART_MAX <= moment <= alike.candidate.prompted_at + PROMPT_LIVES_MAX
        for moment in row.readings
    )
    agrees = row.amount == alike.candidate.amount and row.payer is not None and row.payer.fit(alike.phone_number)
    return moved_in_time and agrees


def _moment(row: PulledRow, candidate: Candidate, now: datetime) -> datetime | None:
    """When the money moved: the first reading since the prompt. A reading that lies is hours away from it."""
    earliest, latest = candidate.prompted_at - CLOCKS_APART_MAX, now + CLOCKS_APART_MAX
    return next((moment for moment in row.readings if earliest <= moment <= latest), None)


def _fact(row: PulledRow, candidate: Candidate, now: datetime, *, in_doubt: bool) -> ResultReported:
    return ResultReported(
        # Told apart, so that a doubt which was told once does not stand in the way of the proof.
        fact_id=f"{'pull-doubt' if in_doubt else 'pull'}:{row.key}",
        source=Source.PULL,
        verdict=Verdict.PAID,
        code=PAID_CODE,
        amount=row.amount,
        receipt=row.receipt,
        transaction_at=_moment(row, candidate, now),
        in_doubt=in_doubt,
    )
