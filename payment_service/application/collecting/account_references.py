"""What the payer sees as the account: the caller's text, and a code that tells the attempt apart from all others.

It is of capitals throughout: a person who pays by hand types what their phone makes of it, and an account that mixes
capitals and small letters could not be found by an index then.
"""

import secrets

from payment_service.domain.payment import PaymentRequest
from runtime.callback_tokens import REFERENCE_ALPHABET

ACCOUNT_CODE_LENGTH = 3
ACCOUNT_CODE_ALPHABET = REFERENCE_ALPHABET.upper()
DRAWS = 5
"""Codes drawn at once; when all are taken, the payment's own reference is shown instead."""


def drawn_references(request: PaymentRequest) -> list[str]:
    """Candidates; the first that is free is taken. None where the caller gave no text."""
    if not request.account_reference:
        return []
    codes = ("".join(secrets.choice(ACCOUNT_CODE_ALPHABET) for _ in range(ACCOUNT_CODE_LENGTH)) for _ in range(DRAWS))
    return [request.account_reference.upper() + code for code in codes]
