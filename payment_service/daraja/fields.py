"""Values as Safaricom writes them, whichever operation they come with: amounts, receipts, times, ids. Pure.

What cannot be read as such a value is none. That never raises, and it never costs more than the one value.
"""

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from payment_service.domain.facts import UNREADABLE

NAIROBI = timezone(timedelta(hours=3), "EAT")
"""Kenya has kept UTC+3 without summer time since 1960; a fixed zone needs no data on the machine."""

ID_MAX_CHARACTERS = 64
"""Both ids are opaque; the longest form recorded has 43 characters."""

AMOUNT_MAX = 99_999_999
"""What NUMERIC(10,2) holds in whole shillings, 400 times what M-Pesa moves at once."""

_WHOLE_AMOUNT = re.compile(r"([0-9]{1,10})(\.0{1,10})?")

# Ten capitals and digits today and always so far; the width leaves room for a longer form, the alphabet for no junk.
RECEIPT_PATTERN = re.compile(r"[A-Z0-9]{6,20}")

_DATE = re.compile(r"20[0-9]{12}")


def read_amount(value: object) -> int | str:
    """Whole shillings from a number or a text, or `UNREADABLE`."""
    if isinstance(value, str):
        whole = _WHOLE_AMOUNT.fullmatch(value)
        if whole is None:
            return UNREADABLE
        number = Decimal(whole[1])
    elif type(value) is int or isinstance(value, Decimal):
        number = Decimal(value)
    else:
        return UNREADABLE
    # Compared before it is converted: 1e400000 is a fine Decimal, and an int of 400,000 digits.
    if not number.is_finite() or not 1 <= number <= AMOUNT_MAX or number != int(number):
        return UNREADABLE
    return int(number)


def read_receipt(value: object) -> str | None:
    """A receipt number, or None: what is none proves no receipt, and must not cost the payer the payment."""
    return value if isinstance(value, str) and RECEIPT_PATTERN.fullmatch(value) else None


def nairobi_time(value: object) -> datetime | None:
    """A time of fourteen digits, as a text or a number; None for anything else."""
    digits = str(value) if type(value) is int else value
    if not isinstance(digits, str) or not _DATE.fullmatch(digits):
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=NAIROBI)
    except ValueError:
        return None


def is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= ID_MAX_CHARACTERS and value.isascii() and value.isprintable()
