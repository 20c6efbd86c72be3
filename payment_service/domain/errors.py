"""Why a call cannot be answered as asked.

Each error is named for the problem and carries what a caller is to be told of
it. What status and details it becomes on the wire is decided in
`payment_service.rpc.errors` alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payment_service.domain.decisions import Bar
from payment_service.domain.payment import Payment
from payment_service.domain.receipt import AMOUNT_UNKNOWN, MONEY_NEVER_CAME, NO_ISSUER, NOT_ISSUED_YET
from payment_service.domain.refund import RefundBar
from payment_service.domain.risk import Rule

_WHY_NO_RECEIPT = {
    NO_ISSUER: "This service issues no receipts: its operator has to set PAYMENTS_RECEIPT_ISSUER_NAME, and what"
    " belongs to it.",
    NOT_ISSUED_YET: "This payment has no receipt, since its money has not surely come. If it does, an event"
    " RECEIPT_ISSUED tells of the receipt.",
    AMOUNT_UNKNOWN: "This payment has no receipt, since nobody knows how much money came. No event tells when M-Pesa"
    " has said it; this call issues the receipt then.",
    MONEY_NEVER_CAME: "This payment has no receipt, since an operator has found that its money never came.",
}


class PaymentsError(Exception):
    """The call cannot be answered as asked."""

    def __str__(self) -> str:
        return self.args[0] if self.args else (type(self).__doc__ or "").strip()


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field, by its name on the wire, and what was expected of it."""

    field: str
    description: str


class InvalidRequest(PaymentsError):
    """The request has fields that cannot be used."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{violation.field}: {violation.description}" for violation in self.violations))


class RequestIdReused(PaymentsError):
    """The request id was used before, with other content."""

    def __init__(self, payment_id: UUID, fields: tuple[str, ...]) -> None:
        super().__init__()
        self.payment_id, self.fields = payment_id, fields


class BookingBarred(PaymentsError):
    """The booking allows no other attempt now."""

    def __init__(self, bar: Bar, payment: Payment) -> None:
        super().__init__()
        self.bar, self.payment = bar, payment


class PromptsStopped(PaymentsError):
    """An operator has stopped all new prompts."""

    def __init__(self, since: datetime, reason: str) -> None:
        super().__init__(f"An operator of this service has stopped all new prompts: {reason}")
        self.since, self.reason = since, reason


class RiskRefused(PaymentsError):
    """A rule against prompts that nobody wants refuses the request."""

    def __init__(self, rule: Rule, retry_at: datetime | None) -> None:
        super().__init__()
        self.rule, self.retry_at = rule, retry_at
        """Waiting until then helps; None where it does not."""


class CancelTooLate(PaymentsError):
    """The payment may have reached the phone, or has ended: it cannot be withdrawn."""

    def __init__(self, payment: Payment) -> None:
        super().__init__()
        self.payment = payment


class RefundBarred(PaymentsError):
    """The money cannot go back as it was asked for."""

    def __init__(self, bar: RefundBar, payment: Payment, left: int = 0, one_of: Sequence[Payment] = ()) -> None:
        super().__init__()
        self.bar, self.payment = bar, payment
        self.one_of = one_of
        """The payments of which one is to be named, where several hold money."""
        self.left = left
        """Whole shillings of the payment that could go back."""


class ReceiptNotIssued(PaymentsError):
    """The payment has no receipt."""

    def __init__(self, cause: str) -> None:
        super().__init__(_WHY_NO_RECEIPT[cause])
        self.cause = cause


class TaxInvoiceDiffers(PaymentsError):
    """The receipt names another tax invoice already, and a receipt has one."""

    def __init__(self, invoice_number: str) -> None:
        super().__init__(
            f"The receipt names tax invoice {invoice_number} already, and a receipt has one. To replace it, name it in"
            " replaces, with the reason."
        )
        self.invoice_number = invoice_number


class PaymentNotFound(PaymentsError):
    """You have no such payment."""


class StatusTokenRefused(PaymentsError):
    """The status token is not valid for this payment, or no longer."""


class CaseNotFound(PaymentsError):
    """There is no such case."""


class CaseChanged(PaymentsError):
    """The case, or what it is about, is not as you have seen it any more."""

    def __init__(self, changed: Sequence[str], settled: str = "", owner: str = "") -> None:
        what = ", ".join(changed)
        super().__init__(f"Since you have seen the case, this has changed: {what}. Look at it again, then decide.")
        self.changed, self.settled, self.owner = tuple(changed), settled, owner


class CaseAlreadySettled(PaymentsError):
    """The case has been settled already."""

    def __init__(self, how: str, by: str) -> None:
        super().__init__(f"The case has been settled already: {how}, by {by}.")
        self.how, self.by = how, by


class ResolutionRefused(PaymentsError):
    """A case of this kind, or a payment that stands like this one, cannot be settled so."""

    def __init__(self, why: str, allowed: Sequence[str]) -> None:
        super().__init__(why)
        self.allowed = tuple(allowed)


class ApprovalNotFound(PaymentsError):
    """There is no such approval."""


class ApprovalWaits(PaymentsError):
    """Something else about this payment waits for a second person already."""

    def __init__(self, approval_id: UUID, asked_by: str) -> None:
        super().__init__(
            f"Something else about this payment waits for a second person: approval {approval_id}, which {asked_by}"
            " has asked for. Have that one decided or withdrawn first."
        )
        self.approval_id, self.asked_by = approval_id, asked_by


class ApprovalDecided(PaymentsError):
    """What waited for a second person has been decided already."""

    def __init__(self, how: str, by: str) -> None:
        super().__init__(f"This does not wait for a second person any more: it is {how}, by {by}.")
        self.how, self.by = how, by


class SecondPersonNeeded(PaymentsError):
    """The one who asks for money to move cannot agree to it as well."""

    def __init__(self, asked_by: str, by: str) -> None:
        if asked_by == by:
            why = (
                f"{asked_by} has asked for this, and you are {asked_by}: another operator has to decide, with a"
                " certificate or a login of their own. You can withdraw it."
            )
        else:
            why = (
                f"{asked_by} has asked for this, and nothing proves that you, {by}, are somebody else: one of the two"
                " is named by a desk. Another operator has to decide where it was asked for."
            )
        super().__init__(why)
        self.asked_by = asked_by


class NotTheAsker(PaymentsError):
    """Only the one who has asked can withdraw."""

    def __init__(self, asked_by: str) -> None:
        super().__init__(f"Only {asked_by}, who has asked for this, can withdraw it. You can refuse it.")
        self.asked_by = asked_by


class ApprovalOutdated(PaymentsError):
    """What was asked for is not about the facts as they stand."""

    def __init__(self, changed: Sequence[str]) -> None:
        what = ", ".join(changed)
        super().__init__(
            f"Since it was asked for, this has changed: {what}. Nothing was done. Look at it, and ask for it anew"
            " if it is still right."
        )
        self.changed = tuple(changed)


ApprovalError = ApprovalNotFound | ApprovalWaits | ApprovalDecided | SecondPersonNeeded | NotTheAsker | ApprovalOutdated
"""Money that waits for a second person cannot be decided about so."""


class CursorInvalid(PaymentsError):
    """This is not a cursor of this service."""


class LogDiverged(PaymentsError):
    """The cursor names an event that the log does not hold."""


class ConsumerNotFound(PaymentsError):
    """There is no consumer of this name. The first acknowledgement makes it."""


class PageTokenInvalid(PaymentsError):
    """This is not a page token of this service, or the filters have changed since the page before."""


class ErasureBarred(PaymentsError):
    """A person's number cannot be erased yet."""

    def __init__(self, bars: Sequence[str]) -> None:
        super().__init__(f"Nothing was erased: {'; '.join(bars)}.")
        self.bars = tuple(bars)


class StoreUnavailable(PaymentsError):
    """The database does not answer."""


class BookingLocked(StoreUnavailable):
    """Somebody else has kept this booking or phone locked, and nothing was done."""


class Overloaded(PaymentsError):
    """Too much is waiting for the database."""


class ShuttingDown(PaymentsError):
    """This process is stopping; another one answers."""
