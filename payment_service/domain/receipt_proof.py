"""Whose money a receipt is: what has to be known before any of it is sent back.

Whoever has learned a callback's URL can tell of a success with a receipt of their choice, also with one that somebody
else has paid under. A reversal takes the money of whoever paid under the receipt. So a receipt that only a callback
has told of is not reversed: the provider's books must list it under this payment, the status of its transaction must
agree with this payment's prompt, or a person must have found it. A query says of the prompt alone that it was paid, and
names no receipt. A part goes by B2C, out of our own account and to the number that was prompted: for that it is enough
that the prompt was paid, as far as it is a part of what the payment stands on.
"""

from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.domain.finding import Finding
from payment_service.domain.payment import UNBACKED, Backing, Payment
from payment_service.domain.refund import Refund

_FOUND_HERE = frozenset({Finding.PAID_LISTED, Finding.PAID_KNOWN_RECEIPT, Finding.PAID_NEW_RECEIPT})
_BY_RECEIPT = frozenset({Backing.STATUS, Backing.PERSON})
"""What backs a payment by its receipt. So do its books, where they name the payment: that is kept with the receipt."""


def proof_of(
    payment: Payment, fact: ResultReported, row: Finding, *, new: bool, brought: int | None = None
) -> Backing | None:
    """What shows that the receipt of a fact is this payment's, once the table has judged the fact; None: nothing does.

    Another amount than was asked for proves the receipt that it comes with, not one that was known with yet another.
    `brought` is what it was known with: a reversal names an amount, and it must be what came.
    """
    if fact.verdict is not Verdict.PAID or fact.in_doubt or fact.unnamed:
        return None
    if brought is not None and fact.amount not in (None, brought):
        return None
    if row not in _FOUND_HERE and not (new and row is Finding.WRONG_AMOUNT):
        return None
    match fact.source:
        case Source.PULL:
            return Backing.BOOKS
        case Source.STATUS:
            return None if payment.ids_from_callback else Backing.STATUS
        case _:
            return None


def may_go_back(refund: Refund, payment: Payment, *, proven: bool) -> bool:
    """Whether enough is known of the money for a refund to be sent. `proven`: its receipt is this payment's."""
    if refund.is_part:
        return payment.backing not in UNBACKED and (proven or not refund.is_beside(payment.receipt))
    return proven or (refund.receipt == payment.receipt and payment.backing in _BY_RECEIPT)
