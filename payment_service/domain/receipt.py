"""The receipt that a passenger holds: what it says, and when it has to say something else.

A receipt is never rewritten. What changes makes a new revision, which says all of it again, so the one that was printed
stays what it was. It holds no personal data: the payer stands on it only while it is shown.
"""

import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from payment_service.domain.consent import act_digest
from payment_service.domain.decisions import money_sure
from payment_service.domain.payment import PAID_STATES, Backing, Payment, State
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import Refund, RefundState
from payment_service.domain.tax_invoices import TaxInvoice


class ReceiptStanding(StrEnum):
    """What became of the money that a receipt is for; the names are those of the wire enum."""

    PAID = "PAID"
    PART_REFUNDED = "PART_REFUNDED"
    REFUNDED = "REFUNDED"
    TAKEN_BACK = "TAKEN_BACK"
    """M-Pesa returned it to the payer, and no refund of ours did."""
    UNDER_REVIEW = "UNDER_REVIEW"
    """M-Pesa has not confirmed what a callback told, or lists money as returned that may be this: a person looks."""
    VOID = "VOID"
    """An operator has found that the money never came."""


NOTHING_LEFT = frozenset({ReceiptStanding.REFUNDED, ReceiptStanding.TAKEN_BACK, ReceiptStanding.VOID})
"""What is left of the money then is nothing."""

UNPROVEN = frozenset({ReceiptStanding.UNDER_REVIEW, ReceiptStanding.VOID})
"""It is not known that any money came. That is said only to those who hold a receipt for it already."""


NO_ISSUER = "NO_ISSUER"
NOT_ISSUED_YET = "NOT_ISSUED_YET"
AMOUNT_UNKNOWN = "AMOUNT_UNKNOWN"
MONEY_NEVER_CAME = "MONEY_NEVER_CAME"
"""Why a payment has no receipt."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who issues receipts: whoever is paid."""

    name: str
    address: str
    """Its lines, joined by line breaks."""
    kra_pin: str
    contact: str
    """A phone number or an e-mail address that passengers may use."""


@dataclass(frozen=True, slots=True)
class ReturnedPart:
    """Money of the payment that has gone back by a refund."""

    amount: int
    returned_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """One revision of a payment's receipt. Amounts are whole shillings."""

    payment_id: UUID
    revision: int
    number: str
    issued_at: datetime
    """When this revision was."""
    standing: ReceiptStanding
    amount: int
    """What came."""
    mpesa_receipt_number: str
    refunded_amount: int
    returned: tuple[ReturnedPart, ...]
    issuer: Issuer
    tax_invoice: TaxInvoice | None = None

    @property
    def left(self) -> int:
        """What of the money is surely still here."""
        return 0 if self.standing in NOTHING_LEFT | UNPROVEN else max(self.amount - self.refunded_amount, 0)

    @property
    def digest(self) -> str:
        """Stands for all that it says, in the id of the fact that wrote it: so the chain of the log vouches for it."""
        return act_digest([json.dumps(asdict(self), sort_keys=True, default=_plain)])

    def takes(self, tax_invoice: TaxInvoice, replaces: str) -> bool:
        """Whether it may name this tax invoice, or names it already: another one is replaced only by its number."""
        held = self.tax_invoice
        return held is None or held == tax_invoice or held.invoice_number == replaces

    def with_tax_invoice(self, tax_invoice: TaxInvoice, now: datetime, follows: Self | None) -> Self:
        """The same with a tax invoice, as the revision after the one that it follows."""
        revision = follows.revision + 1 if follows is not None else 1
        return replace(self, revision=revision, issued_at=now, tax_invoice=tax_invoice)


@dataclass(frozen=True, slots=True)
class ShownReceipt:
    """The latest revision, with what of its payment stands on it."""

    receipt: Receipt
    booking_id: str
    account_reference: str
    """As the payer sees it."""
    masked_phone: str
    paid_at: datetime
    """See `paid_at`."""
    language_code: str
    verification_url: str
    only_reported: bool = False
    """So far only a callback has told of the money, and M-Pesa is still to be asked."""


def receipt_number(reference: str) -> str:
    """The number of a payment's receipt, in groups that a person can read out: its reference in capital letters."""
    capitals = reference.upper()
    return "-".join(capitals[place : place + 4] for place in range(0, len(capitals), 4))


def paid_at(moved_at: datetime | None, told_at: datetime, asked_at: datetime) -> datetime:
    """When a payment was paid: as M-Pesa says, and where it has not, when the news came.

    News of money that was found later come later, by a day perhaps. A time before the payment was asked for, or after
    the news of it, is none that money can have moved at.
    """
    return moved_at if moved_at is not None and asked_at <= moved_at <= told_at else told_at


def return_in_doubt(receipt: str | None, listed_as: Iterable[str | None], known: Container[str | None]) -> bool:
    """Whether money that M-Pesa lists as returned, under these numbers, may be what a payment stands on.

    `listed_as` are those that a person still has to look at. What is listed under the receipt of other money that is
    known is that money.
    """
    return any(number == receipt or number not in known for number in listed_as)


def money_doubted(state: State, backing: Backing | None, *, return_doubted: bool) -> bool:
    """Whether a person has to find out if a payment's money is here. What is known as sent back is not in doubt."""
    return (backing is Backing.DOUBTED or return_doubted) and state is not State.REFUNDED


def money_only_reported(state: State, backing: Backing | None) -> bool:
    """Whether another source is still to tell of what a callback has told."""
    return backing is Backing.AWAITED and state is not State.REFUNDED


def as_it_stands(receipt: Receipt, state: State, backing: Backing | None, *, return_doubted: bool) -> Receipt:
    """A revision as it may be shown: one that still says "paid" proves nothing once the money is in doubt.

    The next revision says so as well, a moment later. Nobody is shown the other one in that moment.
    """
    if receipt.standing is ReceiptStanding.VOID or not money_doubted(state, backing, return_doubted=return_doubted):
        return receipt
    return replace(receipt, standing=ReceiptStanding.UNDER_REVIEW)


def receipt_standing(payment: Payment, *, return_doubted: bool = False) -> ReceiptStanding | None:
    """How the money stands that a receipt of the payment is for; None where there is nothing to issue one for."""
    if payment.refuted:
        return ReceiptStanding.VOID
    if payment.receipt is None or payment.state not in PAID_STATES:
        return None
    if payment.state is State.REFUNDED:
        return ReceiptStanding.TAKEN_BACK if payment.reason is Reason.TAKEN_BACK else ReceiptStanding.REFUNDED
    if not money_sure(payment):
        return None
    if money_doubted(payment.state, payment.backing, return_doubted=return_doubted):
        return ReceiptStanding.UNDER_REVIEW
    return ReceiptStanding.PART_REFUNDED if payment.refunded_amount else ReceiptStanding.PAID


def why_no_receipt(payment: Payment, *, return_doubted: bool) -> str:
    """Why none could be issued for a payment that has none."""
    match receipt_standing(payment, return_doubted=return_doubted):
        case None | ReceiptStanding.UNDER_REVIEW:
            return NOT_ISSUED_YET
        case ReceiptStanding.VOID:
            return MONEY_NEVER_CAME
        case _:
            return AMOUNT_UNKNOWN


def receipt_touched(before: Payment, after: Payment) -> bool:
    """Whether a change of a payment may be one that its receipt has to tell."""
    standing = receipt_standing(after)
    return standing is not None and (standing, after.refunded_amount) != (
        receipt_standing(before),
        before.refunded_amount,
    )


def returned_parts(payment: Payment, refunds: Iterable[Refund]) -> list[ReturnedPart]:
    """What of the money that a payment stands on has gone back by refunds, the first part first."""
    done = [
        ReturnedPart(one.amount, one.ended_at)
        for one in refunds
        if (one.payment_id, one.receipt) == (payment.payment_id, payment.receipt)
        and one.state is RefundState.DONE
        and one.ended_at is not None
    ]
    return sorted(done, key=lambda part: part.returned_at)


def next_receipt(
    payment: Payment,
    last: Receipt | None,
    came: int | None,
    returned: Sequence[ReturnedPart],
    issuer: Issuer | None,
    now: datetime,
    *,
    return_doubted: bool,
) -> Receipt | None:
    """The revision that says what the last one does not say yet; None where there is nothing to add.

    `came` is what the payment's M-Pesa receipt brought, and `returned` what of that has gone back by refunds. While
    nobody knows what came, no first receipt is issued.
    """
    standing = receipt_standing(payment, return_doubted=return_doubted)
    refunded = sum(part.amount for part in returned)
    if standing is ReceiptStanding.PART_REFUNDED and not refunded:
        # What went back was other money than the receipt is for: it had come for the same payment a second time.
        standing = ReceiptStanding.PAID
    if last is not None:
        issuer, came = issuer or last.issuer, last.amount if came is None else came
    if standing is None or issuer is None or came is None:
        return None
    if last is not None and (last.standing, last.refunded_amount) == (standing, refunded):
        return None
    if last is None and (payment.receipt is None or standing in UNPROVEN):
        # Nobody holds a receipt that would have to be taken back.
        return None
    return Receipt(
        payment_id=payment.payment_id,
        revision=last.revision + 1 if last is not None else 1,
        number=receipt_number(payment.reference),
        issued_at=now,
        standing=standing,
        amount=came,
        mpesa_receipt_number=payment.receipt or (last.mpesa_receipt_number if last is not None else ""),
        refunded_amount=refunded,
        returned=tuple(returned),
        issuer=issuer,
        tax_invoice=last.tax_invoice if last is not None else None,
    )


def _plain(value: object) -> str:
    """In which zone a time was read is no part of what a receipt says."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
