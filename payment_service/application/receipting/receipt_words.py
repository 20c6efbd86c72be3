"""The words on a receipt, in each language we speak; times and amounts as a passenger in Kenya reads them."""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Final

from payment_service.domain.advice import Sentence
from payment_service.domain.receipt import ReceiptStanding

RECEIPT = Sentence("Receipt", "Risiti")
NUMBER = Sentence("Receipt number", "Namba ya risiti")
REVISION = Sentence("Revision", "Toleo")
AMOUNT = Sentence("Amount received", "Kiasi kilichopokelewa")
AMOUNT_REPORTED = Sentence("Amount reported", "Kiasi kilichoripotiwa")
BOOKING = Sentence("Booking", "Nafasi iliyohifadhiwa")
ACCOUNT = Sentence("Account", "Akaunti")
PAID_BY = Sentence("Paid by", "Imelipwa na")
PAID_ON = Sentence("Paid on", "Imelipwa tarehe")
MPESA = Sentence("M-Pesa receipt", "Risiti ya M-Pesa")
ISSUED = Sentence("Issued on", "Imetolewa tarehe")
RETURNED_ON = Sentence("Returned on", "Imerudishwa tarehe")
OTHER_PARTS = Sentence("{count} other refunds", "Marejesho mengine {count}")
TAKEN_BACK = Sentence("Returned by M-Pesa", "Imerudishwa na M-Pesa")
LEFT = Sentence("Remaining", "Kilichobaki")
KRA_PIN = Sentence("KRA PIN", "PIN ya KRA")
CHECK = Sentence("Check this receipt", "Hakiki risiti hii")
TAX_INVOICE = Sentence("Tax invoice (eTIMS)", "Ankara ya kodi (eTIMS)")
CONTROL_UNIT = Sentence("Control unit", "Kifaa cha udhibiti")
NO_TAX_INVOICE = Sentence(
    "This receipt is not a tax invoice.",
    "Risiti hii si ankara ya kodi.",
)
LATER = Sentence(
    "Scan the code to see whether it still stands: money that goes back makes a new revision.",
    "Skani msimbo uone kama bado ni halali: pesa zikirudishwa toleo jipya hutolewa.",
)
ONLY_REPORTED = Sentence(
    "M-Pesa is still to confirm this money a second time. Scan the code to see how it stands now.",
    "M-Pesa bado haijathibitisha pesa hizi mara ya pili. Skani msimbo uone hali yake ya sasa.",
)

STANDINGS: Final[Mapping[ReceiptStanding, Sentence]] = {
    ReceiptStanding.PAID: Sentence("Paid", "Imelipwa"),
    ReceiptStanding.PART_REFUNDED: Sentence("Partly refunded", "Sehemu imerudishwa"),
    ReceiptStanding.REFUNDED: Sentence("Refunded", "Imerudishwa"),
    ReceiptStanding.TAKEN_BACK: Sentence("Taken back", "Imechukuliwa tena"),
    ReceiptStanding.UNDER_REVIEW: Sentence("Not confirmed: under review", "Haijathibitishwa: inachunguzwa"),
    ReceiptStanding.VOID: Sentence("Void: no money came", "Batili: hakuna pesa zilizofika"),
}
"""What became of the money, as the receipt says it plainly."""

_MONTHS = Sentence(
    "January February March April May June July August September October November December",
    "Januari Februari Machi Aprili Mei Juni Julai Agosti Septemba Oktoba Novemba Desemba",
)
_NAIROBI = timezone(timedelta(hours=3))


def shillings(amount: int) -> str:
    """KES 1,500."""
    return f"KES {amount:,}"


def time_in_nairobi(moment: datetime, language: str) -> str:
    """29 November 2026, 17:05."""
    there = moment.astimezone(_NAIROBI)
    return f"{there.day} {_MONTHS.spoken(language).split()[there.month - 1]} {there:%Y, %H:%M}"
