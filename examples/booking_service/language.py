"""The page's own few words in English and Swahili. What a payment means is said by the payment service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = {"en": "English", "sw": "Kiswahili"}

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("Book a seat", "Weka nafasi ya kiti"),
    "number": ("M-Pesa number", "Nambari ya M-Pesa"),
    "number_hint": ("For example 0712 345 678 or +254 712 345 678.", "Kwa mfano 0712 345 678 au +254 712 345 678."),
    "number_wrong": (
        "This is not a Kenyan mobile number. Type one such as 0712 345 678.",
        "Hii si nambari ya simu ya Kenya. Andika kama 0712 345 678.",
    ),
    "seats": ("Choose a seat", "Chagua kiti"),
    "seat": ("Seat", "Kiti"),
    "seat_missing": ("Choose a seat first.", "Chagua kiti kwanza."),
    "seat_taken": ("This seat is not free. Choose another one.", "Kiti hiki kimechukuliwa. Chagua kingine."),
    "sold_out": ("No seat is free.", "Hakuna kiti kilicho wazi."),
    "taken": ("taken", "kimechukuliwa"),
    "pay": ("Pay with M-Pesa", "Lipa na M-Pesa"),
    "language": ("Language", "Lugha"),
    "yours": ("Your booking of seat", "Nafasi yako ya kiti"),
    "starting": ("We are starting your M-Pesa payment.", "Tunaanzisha malipo yako ya M-Pesa."),
    "enter_pin": ("Check your phone", "Angalia simu yako"),
    "waiting": ("Waiting for M-Pesa", "Tunasubiri M-Pesa"),
    "failed": ("Not paid yet", "Bado haijalipwa"),
    "paid": ("Your seat is booked", "Kiti chako kimewekwa"),
    "released": ("This booking has ended", "Nafasi hii imeisha"),
    "hold_over": (
        "The seat was not paid in time, and is free again.",
        "Kiti hakikulipiwa kwa wakati, na sasa kiko wazi tena.",
    ),
    "seat_gone": (
        "Your money came after the hold had ended, and the seat is somebody else's. We send the money back.",
        "Pesa zako zilifika baada ya muda kuisha, na kiti ni cha mtu mwingine. Tunazirudisha.",
    ),
    "money_checked": (
        (
            "Your money came after the hold had ended, and the seat is somebody else's."
            " We check this payment by hand before money goes back."
        ),
        (
            "Pesa zako zilifika baada ya muda kuisha, na kiti ni cha mtu mwingine."
            " Tunakagua malipo haya kabla ya kurudisha pesa."
        ),
    ),
    "prompt_shows": ("The prompt on your phone shows:", "Ujumbe kwenye simu yako unaonyesha:"),
    "amount": ("Amount", "Kiasi"),
    "business": ("Business", "Biashara"),
    "account": ("Account", "Akaunti"),
    "receipt": ("M-Pesa receipt", "Risiti ya M-Pesa"),
    "receipt_pdf": ("Receipt (PDF)", "Risiti (PDF)"),
    "no_receipt": ("There is no receipt yet.", "Bado hakuna risiti."),
    "receipt_later": (
        "The receipt cannot be shown at this moment. Please try again.",
        "Risiti haiwezi kuonyeshwa kwa sasa. Tafadhali jaribu tena.",
    ),
    "held_until": ("The seat is held until", "Kiti kimehifadhiwa hadi"),
    "again_at": ("You can try again at", "Unaweza kujaribu tena saa"),
    "again": ("Try again", "Jaribu tena"),
    "same_or_other": ("M-Pesa number, if another", "Nambari ya M-Pesa, kama ni nyingine"),
    "by_hand": ("Or pay in the M-Pesa menu", "Au lipa kwenye menyu ya M-Pesa"),
    "by_hand_menu": (
        "On any phone: M-Pesa, Lipa na M-Pesa, Pay Bill. Then type:",
        "Kwenye simu yoyote: M-Pesa, Lipa na M-Pesa, Pay Bill. Kisha andika:",
    ),
    "business_number": ("Business number", "Nambari ya biashara"),
    "account_number": ("Account number", "Nambari ya akaunti"),
    "by_hand_until": ("Pay like this no later than", "Lipa hivi kabla ya saa"),
    "by_hand_wait": (
        "It can take some minutes until we see the money; this page then says so. The seat is held as said above.",
        "Inaweza kuchukua dakika kadhaa hadi tuone pesa; ukurasa huu utasema. Kiti kimehifadhiwa hadi saa iliyo juu.",
    ),
    "by_hand_once": (
        "Once you have paid, do not press Try again, or you pay twice.",
        "Ukishalipa, usibonyeze Jaribu tena, ama utalipa mara mbili.",
    ),
    "refund": ("Refund", "Pesa zinazorudishwa"),
    "refund_PENDING": ("on its way back to you", "ziko njiani kurudi kwako"),
    "refund_DONE": ("sent back to you", "zimerudishwa kwako"),
    "refund_FAILED": ("not sent yet; we look at it", "bado hazijarudishwa; tunaangalia"),
    "another": ("Book another seat", "Weka nafasi ya kiti kingine"),
    "reload": ("Reload", "Pakia upya"),
    "error": ("Error", "Kosa"),
    "offline": (
        "No connection. This page goes on by itself once there is one.",
        "Hakuna mtandao. Ukurasa huu utaendelea wenyewe ukirudi.",
    ),
    "not_found": ("There is no such booking.", "Hakuna nafasi kama hiyo."),
    "not_ours": (
        "This form was sent by another site, and nothing was done.",
        "Fomu hii imetumwa na tovuti nyingine, na hakuna kilichofanywa.",
    ),
}


def words(language: str) -> Mapping[str, str]:
    """All of them in one language."""
    column = list(LANGUAGES).index(language)
    return {name: spoken[column] for name, spoken in _WORDS.items()}
