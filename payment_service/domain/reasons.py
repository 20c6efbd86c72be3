"""Why a payment has its status, and the sentence a passenger reads about it.

One table for both, in English and Swahili. Which provider code leads to which
reason is decided in `payment_service.daraja.result_codes`.
"""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a payment has its status; the names are those of the wire enum `StatusReason`."""

    AWAITING_CUSTOMER = "AWAITING_CUSTOMER"
    CONFIRMING = "CONFIRMING"
    REVIEW = "REVIEW"
    RECEIPT_PENDING = "RECEIPT_PENDING"
    NOT_SENT = "NOT_SENT"
    SERVICE_MISCONFIGURED = "SERVICE_MISCONFIGURED"
    PHONE_NUMBER_REFUSED = "PHONE_NUMBER_REFUSED"
    PHONE_BUSY = "PHONE_BUSY"
    NOT_AN_MPESA_NUMBER = "NOT_AN_MPESA_NUMBER"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    AMOUNT_NOT_ALLOWED = "AMOUNT_NOT_ALLOWED"
    DAILY_LIMIT_REACHED = "DAILY_LIMIT_REACHED"
    RECEIVER_LIMIT_REACHED = "RECEIVER_LIMIT_REACHED"
    REPEATED_TOO_SOON = "REPEATED_TOO_SOON"
    PROVIDER_BUSY = "PROVIDER_BUSY"
    PROMPT_FAILED = "PROMPT_FAILED"
    WRONG_PIN = "WRONG_PIN"
    PIN_LOCKED = "PIN_LOCKED"
    PAYMENT_NOT_ALLOWED = "PAYMENT_NOT_ALLOWED"
    DECLINED_BY_CUSTOMER = "DECLINED_BY_CUSTOMER"
    WITHDRAWN = "WITHDRAWN"
    NO_ANSWER = "NO_ANSWER"


class Sentence(NamedTuple):
    """One message to the passenger in each language we speak."""

    en: str
    sw: str


LANGUAGES = Sentence._fields

_STARTING = Sentence("We are starting your M-Pesa payment.", "Tunaanzisha malipo yako ya M-Pesa.")
_RECEIVED = Sentence("Payment received. Thank you.", "Malipo yamepokelewa. Asante.")
_RETURNED = Sentence("Your money has been returned.", "Pesa zako zimerudishwa.")

_SENTENCES: dict[Reason, Sentence] = {
    Reason.AWAITING_CUSTOMER: Sentence(
        "Check your phone and enter your M-Pesa PIN.", "Angalia simu yako na uweke PIN yako ya M-Pesa."
    ),
    Reason.CONFIRMING: Sentence(
        "We are confirming with M-Pesa. Please do not pay again.",
        "Tunathibitisha na M-Pesa. Tafadhali usilipe tena.",
    ),
    Reason.REVIEW: Sentence(
        "We are checking your payment by hand. Please do not pay again.",
        "Tunakagua malipo yako. Tafadhali usilipe tena.",
    ),
    Reason.RECEIPT_PENDING: Sentence(
        "M-Pesa says you have paid. We are waiting for the receipt.",
        "M-Pesa inasema umelipa. Tunasubiri risiti.",
    ),
    Reason.NOT_SENT: Sentence(
        "M-Pesa could not be reached. You have not been charged; please try again.",
        "M-Pesa haikupatikana. Hujatozwa; tafadhali jaribu tena.",
    ),
    Reason.SERVICE_MISCONFIGURED: Sentence(
        "The payment could not be started. You have not been charged; please contact us.",
        "Malipo hayakuweza kuanzishwa. Hujatozwa; tafadhali wasiliana nasi.",
    ),
    Reason.PHONE_NUMBER_REFUSED: Sentence(
        "M-Pesa does not accept this phone number. Please check it.",
        "M-Pesa haikubali nambari hii ya simu. Tafadhali iangalie.",
    ),
    Reason.PHONE_BUSY: Sentence(
        "Another M-Pesa prompt is open on your phone. Finish it, wait a few minutes and try again.",
        "Kuna ombi lingine la M-Pesa kwenye simu yako. Likamilishe, subiri dakika chache ujaribu tena.",
    ),
    Reason.NOT_AN_MPESA_NUMBER: Sentence(
        "This number has no M-Pesa. Please use another number.",
        "Nambari hii haina M-Pesa. Tafadhali tumia nambari nyingine.",
    ),
    Reason.INSUFFICIENT_FUNDS: Sentence(
        "Not enough money in your M-Pesa. Top up and try again.",
        "Salio lako la M-Pesa halitoshi. Ongeza pesa ujaribu tena.",
    ),
    Reason.AMOUNT_NOT_ALLOWED: Sentence(
        "The amount is outside your M-Pesa limits.", "Kiasi hiki hakiruhusiwi kwenye M-Pesa yako."
    ),
    Reason.DAILY_LIMIT_REACHED: Sentence(
        "You have reached your daily M-Pesa limit. Try again tomorrow.",
        "Umefikia kikomo chako cha M-Pesa cha siku. Jaribu tena kesho.",
    ),
    Reason.RECEIVER_LIMIT_REACHED: Sentence(
        "We cannot receive M-Pesa payments at the moment. You have not been charged.",
        "Hatuwezi kupokea malipo ya M-Pesa kwa sasa. Hujatozwa.",
    ),
    Reason.REPEATED_TOO_SOON: Sentence(
        "You paid the same amount a moment ago. Wait two minutes and try again.",
        "Umelipa kiasi hiki hivi punde. Subiri dakika mbili ujaribu tena.",
    ),
    Reason.PROVIDER_BUSY: Sentence(
        "M-Pesa is busy. You have not been charged; try again in a few minutes.",
        "M-Pesa ina shughuli nyingi. Hujatozwa; jaribu tena baada ya dakika chache.",
    ),
    Reason.PROMPT_FAILED: Sentence(
        "M-Pesa could not show the prompt on your phone. Please try again shortly.",
        "M-Pesa haikuweza kuonyesha ombi kwenye simu yako. Jaribu tena baadaye kidogo.",
    ),
    Reason.WRONG_PIN: Sentence(
        "The M-Pesa PIN was wrong. You have not been charged; please try again.",
        "PIN ya M-Pesa si sahihi. Hujatozwa; tafadhali jaribu tena.",
    ),
    Reason.PIN_LOCKED: Sentence(
        "Your M-Pesa PIN is locked. Call Safaricom on 100.",
        "PIN yako ya M-Pesa imefungwa. Piga simu Safaricom 100.",
    ),
    Reason.PAYMENT_NOT_ALLOWED: Sentence(
        "M-Pesa does not allow this payment from your account.",
        "M-Pesa hairuhusu malipo haya kutoka kwa akaunti yako.",
    ),
    Reason.DECLINED_BY_CUSTOMER: Sentence(
        "You cancelled the payment. You have not been charged.", "Umeghairi malipo. Hujatozwa."
    ),
    Reason.WITHDRAWN: Sentence(
        "The payment was withdrawn before it reached your phone.",
        "Malipo yaliondolewa kabla ya kufika kwenye simu yako.",
    ),
    Reason.NO_ANSWER: Sentence(
        "No answer came from your phone. If you entered your PIN, wait: do not pay twice.",
        "Hakuna jibu kutoka kwa simu yako. Ikiwa uliweka PIN, subiri: usilipe mara mbili.",
    ),
}

_FAILED = Sentence("The payment failed. You have not been charged.", "Malipo hayakufaulu. Hujatozwa.")
_CANCELLED = Sentence("The payment was cancelled. You have not been charged.", "Malipo yameghairiwa. Hujatozwa.")

_WITHOUT_REASON = {
    "PENDING": _STARTING,
    "PROCESSING": _SENTENCES[Reason.CONFIRMING],
    "COMPLETED": _RECEIVED,
    "FAILED": _FAILED,
    "CANCELLED": _CANCELLED,
    "EXPIRED": _SENTENCES[Reason.NO_ANSWER],
    "REFUNDED": _RETURNED,
}


def customer_message(status: str, reason: Reason | None, language: str) -> str:
    """The sentence to show the passenger; `language` is one of `LANGUAGES`."""
    sentence = _SENTENCES[reason] if reason is not None else _WITHOUT_REASON[status]
    return sentence.sw if language == "sw" else sentence.en
