"""Whose money is a row of the provider's books? Decided here, from rows that are at hand; nothing is changed.

The books are Safaricom's own list of what arrived at a shortcode, whoever sent
it and for whichever system. A row names no id of ours: what ties it to a
payment is the account reference that the prompt carried, and with it the amount
and the time. Only when exactly one payment fits is a row a plain success, which
the table judges as any other; where more than one could be meant, or something
does not fit, the type of the row among it, it is money in doubt: a person looks, and nothing is guessed.

Money that went back to its payer has a row, too. It is never new money: a refund of
ours has led to it, or it was taken back.

A till's rows carry no reference. Amount, time and the visible digits of the
payer's number may all agree by chance, so together they are a doubt at most, and
only for a payment whose time has passed without news.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from payment_service.domain.facts import UNREADABLE, ResultReported, Source, TakenBack, Verdict
from payment_service.domain.refund_facts import RefundReported, RefundVerdict

ACCOUNT_REFERENCE_UNIQUE_FOR = timedelta(days=7)
"""Money is matched by it within two days; a week leaves room for a slow operator."""

CLOCKS_APART_MAX = timedelta(minutes=5)
"""Between our clock and the provider's. A reference names one payment for a week, so it need not be narrow."""

PROMPT_LIVES_MAX = timedelta(minutes=10)
"""From the send until money without a reference can no longer be that prompt's."""

PAID_CODE = "0"


def spellings(account_reference: str) -> set[str]:
    """As an account may be stored that a person has typed so: ours are of small letters alone, or of capitals alone."""
    typed = "".join(account_reference.split())
    return {account_reference, typed, typed.lower(), typed.upper()}


def as_typed(account_reference: str) -> str:
    """One spelling for all that a person may type for the same account: phones make capitals of small letters."""
    return "".join(account_reference.split()).lower()


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
    """As the payer's prompt carried it, or as the payer typed it; empty for a till."""
    readings: tuple[datetime, ...]
    """What its time may mean, the earliest first: the zone that is written is not to be relied on."""
    received: bool
    """It says itself that a customer paid to us. Types are cut short, and many are unlisted: another one proves no
    payment, and excludes none."""
    reversal: bool = False
    """It says itself that a payment to us went back to its payer."""
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
    refunded: bool = False
    """A refund of its money was asked for, or the money has gone back already."""
    uncertain_refund: UUID | None = None
    """The refund of its whole money that nobody can tell of."""
    unbacked: bool = False
    """Only a callback has told of its money until now."""


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
    moved_from: frozenset[UUID] = frozenset()
    """The payments whose cases held the money, before operators moved it to this one."""
    refunded: bool = False
    """A refund of this very money was asked for, and has not failed. The payment may stand on other money."""
    proven: bool = False
    """More than a callback has shown that the receipt is this payment's."""


class Belonging(StrEnum):
    """What was found out about a row."""

    KNOWN = "KNOWN"
    """Recorded already, as the books have it."""
    OURS = "OURS"
    IN_DOUBT = "IN_DOUBT"
    TAKEN_BACK = "TAKEN_BACK"
    """One payment's money, which went back without a refund of ours."""
    REFUNDED = "REFUNDED"
    """Money that went back, as is known."""
    NOT_OURS = "NOT_OURS"
    """Another system's, or no payment at all."""


Told = ResultReported | TakenBack | RefundReported
"""What a row says of a payment, or of its refund."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is stored that a shortcode's rows may be about."""

    shortcode: str
    named: Mapping[str, Sequence[Candidate]]
    """By account reference, `as_typed`."""
    holders: Mapping[str, Holder]
    """By receipt number."""
    lookalikes: Sequence[Lookalike] = ()
    received: Mapping[UUID, Sequence[int | None]] = field(default_factory=dict)
    """For rows of money that went back: what the receipts of each payment brought, as far as that is known."""


def belonging(row: PulledRow, shelf: Shelf, now: datetime) -> tuple[Belonging, list[tuple[Candidate, Told]]]:
    """Whose row it is, and the facts to tell."""
    named = shelf.named.get(as_typed(row.account_reference), ()) if row.account_reference else ()
    holder = shelf.holders.get(row.receipt) if row.receipt is not None else None
    if row.reversal:
        return _went_back(row, named, holder, shelf, now)
    if holder is not None:
        return _recorded(row, named, holder, shelf, now)
    if not named:
        alike = [] if row.account_reference else [one.candidate for one in shelf.lookalikes if _alike(row, one)]
        return (Belonging.IN_DOUBT if alike else Belonging.NOT_OURS), [
            (candidate, _fact(row, candidate, now, in_doubt=True)) for candidate in alike
        ]
    fits = len(named) == 1 and row.receipt is not None and _fits(row, named[0], named, shelf, now)
    return (Belonging.OURS if fits else Belonging.IN_DOUBT), [
        (candidate, _fact(row, candidate, now, in_doubt=not fits)) for candidate in named
    ]


def _fits(row: PulledRow, payment: Candidate, named: Sequence[Candidate], shelf: Shelf, now: datetime) -> bool:
    """Whether a row with a receipt says of itself that it is this payment's money: by its reference, where there is
    one, by the shortcode and by its time. Somebody else's receipt, or an old one, is not."""
    if row.account_reference and payment.payment_id not in {one.payment_id for one in named}:
        return False
    return row.received and payment.shortcode == shelf.shortcode and _moment(row, payment, now) is not None


def _recorded(
    row: PulledRow, named: Sequence[Candidate], holder: Holder, shelf: Shelf, now: datetime
) -> tuple[Belonging, list[tuple[Candidate, Told]]]:
    """A receipt that is recorded. The books may still say otherwise: of its amount, or of whom it is for."""
    owner = holder.candidate
    known = {owner.payment_id, *holder.moved_from}
    others = [candidate for candidate in named if candidate.payment_id not in known]
    if others and len(others) == len(named):
        return Belonging.IN_DOUBT, [(other, _fact(row, other, now, in_doubt=False)) for other in others]
    recorded = owner.amount if holder.amount is None else holder.amount
    if row.amount in (recorded, UNREADABLE):
        news = owner.unbacked or (not holder.proven and bool(row.account_reference))
        backs = news and row.amount == recorded and _fits(row, owner, named, shelf, now)
        return Belonging.KNOWN, [(owner, _fact(row, owner, now, in_doubt=False))] if backs else []
    return Belonging.OURS, [(owner, _fact(row, owner, now, in_doubt=False))]


def _went_back(
    row: PulledRow, named: Sequence[Candidate], holder: Holder | None, shelf: Shelf, now: datetime
) -> tuple[Belonging, list[tuple[Candidate, Told]]]:
    """A reversal. It has a receipt of its own beside the payment's reference, or is listed under the payment's receipt.

    One that a refund of ours has led to is news only of a refund that is uncertain. Any other takes the money from the
    only payment that it can mean.
    """
    meant = [holder.candidate] if holder is not None else list(named)
    if not meant:
        return Belonging.NOT_OURS, []
    open_to_it = [candidate for candidate in meant if not candidate.refunded]
    if holder is not None and holder.refunded:
        open_to_it = []
    only = meant[0]
    brought = [holder.amount] if holder is not None else (shelf.received.get(only.payment_id) or [None])
    fits = len(meant) == len(brought) == 1 and only.shortcode == shelf.shortcode and _moment(row, only, now) is not None
    fits = fits and row.amount == (only.amount if brought[0] is None else brought[0])
    fits = fits and (not named or only in named)
    if not open_to_it:
        # A refund that nobody could tell of: here it is.
        ends = fits and only.uncertain_refund is not None
        return Belonging.REFUNDED, [(only, _refund_shown(row))] if ends else []
    receipt = row.receipt if holder is not None else None
    return (Belonging.TAKEN_BACK if fits else Belonging.IN_DOUBT), [
        (candidate, _taken_back(row, receipt, in_doubt=not fits)) for candidate in open_to_it
    ]


def _refund_shown(row: PulledRow) -> RefundReported:
    """The books do not say by which request the money went back."""
    return RefundReported(f"pull:{row.key}", RefundVerdict.ALREADY_REVERSED, PAID_CODE, amount=row.amount)


def _taken_back(row: PulledRow, receipt: str | None, *, in_doubt: bool) -> TakenBack:
    return TakenBack(
        fact_id=f"{'taken-back-doubt' if in_doubt else 'taken-back'}:{row.key}",
        source=Source.PULL,
        shown_as=row.receipt,
        amount=row.amount,
        receipt=receipt,
        in_doubt=in_doubt,
    )


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
        unnamed=not row.account_reference,
    )
