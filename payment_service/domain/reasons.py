"""Why a payment has its status, the sentence a passenger reads about it, and when another attempt makes sense.

The three stand side by side, so that they never disagree. Sentences are in English and Swahili. Which provider code
leads to which reason is decided in `payment_service.daraja.result_codes`.
"""

from collections.abc import Mapping
from datetime import datetime, time, timedelta, timezone
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
    SIBLING_PAID = "SIBLING_PAID"
    PAID_LATE = "PAID_LATE"
    PAID_TWICE = "PAID_TWICE"
    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
    IDS_DIFFER = "IDS_DIFFER"
    MONEY_IN_DOUBT = "MONEY_IN_DOUBT"
    RECEIPT_OVERDUE = "RECEIPT_OVERDUE"
    TAKEN_BACK = "TAKEN_BACK"


UNDER_REVIEW = frozenset({Reason.REVIEW, Reason.AMOUNT_DIFFERS})
"""Reasons of an uncertain payment that a person has to look at before anything else may happen to it. REVIEW is what
payments have that came under review before the amount had a reason of its own."""

RETRY_AFTER: Mapping[Reason, timedelta] = {
    Reason.PHONE_BUSY: timedelta(minutes=1),
    Reason.REPEATED_TOO_SOON: timedelta(minutes=2),
    Reason.PROVIDER_BUSY: timedelta(minutes=3),
    Reason.PROMPT_FAILED: timedelta(minutes=1),
}
"""How long another attempt would meet the same refusal; none, where the next one may succeed at once."""

_NAIROBI = timezone(timedelta(hours=3), "EAT")


def retry_makes_sense_at(reason: Reason | None, now: datetime) -> datetime:
    """When another attempt may succeed, after one that has just failed for this reason."""
    if reason is Reason.DAILY_LIMIT_REACHED:
        tomorrow = now.astimezone(_NAIROBI).date() + timedelta(days=1)
        return datetime.combine(tomorrow, time(), _NAIROBI)
    return now if reason is None else now + RETRY_AFTER.get(reason, timedelta())


class Sentence(NamedTuple):
    """One message to the passenger in each language we speak."""

    en: str
    sw: str


LANGUAGES = Sentence._fields

_STARTING = Sentence("We are starting your M-Pesa payment.", "Tunaanzisha malipo yako ya M-Pesa.")
_RECEIVED = Sentence("Payment received. Thank you.", "Malipo yamepokelewa. Asante.")
_RETURNING = Sentence("Your money is being returned.", "Pesa zako zinarudishwa.")
_NOT_RETURNED = Sentence(
    "Your money could not be returned yet. We are working on it; you need not do anything.",
    "Pesa zako hazijaweza kurudishwa bado. Tunashughulikia; huhitaji kufanya lolote.",
)
_PART_RETURNED = Sentence("Part of your money has been returned.", "Sehemu ya pesa zako imerudishwa.")
_PAID_BESIDE = Sentence(
    "This booking is paid by another payment. Please do not pay again.",
    "Safari hii imeshalipiwa kwa malipo mengine. Tafadhali usilipe tena.",
)
_LATE_RETURNING = Sentence(
    "Your payment came after the time for it had ended. Your money is being returned.",
    "Malipo yako yamefika baada ya muda kuisha. Pesa zako zinarudishwa.",
)
_SECOND_RETURNING = Sentence(
    "This booking was paid twice. The second payment is being returned to you.",
    "Safari hii imelipiwa mara mbili. Malipo ya pili yanarudishwa kwako.",
)
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
        "Another M-Pesa prompt is open on your phone. Finish it, wait one minute and try again.",
        "Kuna ombi lingine la M-Pesa kwenye simu yako. Likamilishe, subiri dakika moja ujaribu tena.",
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
        "M-Pesa is busy. You have not been charged; try again in three minutes.",
        "M-Pesa ina shughuli nyingi. Hujatozwa; jaribu tena baada ya dakika tatu.",
    ),
    Reason.PROMPT_FAILED: Sentence(
        "M-Pesa could not show the prompt on your phone. Wait one minute and try again.",
        "M-Pesa haikuweza kuonyesha ombi kwenye simu yako. Subiri dakika moja ujaribu tena.",
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
    Reason.SIBLING_PAID: Sentence(
        "This booking is already paid. Do not enter your PIN.",
        "Safari hii imeshalipiwa. Usiweke PIN yako.",
    ),
    Reason.PAID_LATE: Sentence(
        "Your payment came after the time for it had ended. We are checking it; please do not pay again.",
        "Malipo yako yamefika baada ya muda kuisha. Tunayakagua; tafadhali usilipe tena.",
    ),
    Reason.PAID_TWICE: Sentence(
        "This booking was paid twice. We are checking it; please do not pay again.",
        "Safari hii imelipiwa mara mbili. Tunakagua; tafadhali usilipe tena.",
    ),
    Reason.AMOUNT_DIFFERS: Sentence(
        "The amount that arrived is not the amount we asked for. We are checking it; please do not pay again.",
        "Kiasi kilichofika si kile tulichoomba. Tunakagua; tafadhali usilipe tena.",
    ),
    Reason.IDS_DIFFER: Sentence(
        "M-Pesa told us of a payment that does not match our request. We are checking it; please do not pay again.",
        "M-Pesa imetuambia kuhusu malipo yasiyolingana na ombi letu. Tunayakagua; tafadhali usilipe tena.",
    ),
    Reason.MONEY_IN_DOUBT: Sentence(
        "M-Pesa shows money that may be for this booking. We are checking it; please do not pay again.",
        "M-Pesa inaonyesha pesa ambazo huenda ni za safari hii. Tunazikagua; tafadhali usilipe tena.",
    ),
    Reason.RECEIPT_OVERDUE: Sentence(
        "M-Pesa says you have paid, but the receipt has not come. We are checking it; please do not pay again.",
        "M-Pesa inasema umelipa, lakini risiti haijafika. Tunakagua; tafadhali usilipe tena.",
    ),
    Reason.TAKEN_BACK: Sentence(
        "M-Pesa has returned your money, so this booking is not paid.",
        "M-Pesa imekurudishia pesa zako, kwa hivyo safari hii haijalipiwa.",
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


_UNPAID = Sentence(
    "No answer came from your phone. You have not been charged.",
    "Hakuna jibu kutoka kwa simu yako. Hujatozwa.",
)
REVIEWS = frozenset(
    {
        Reason.REVIEW,
        Reason.PAID_LATE,
        Reason.PAID_TWICE,
        Reason.AMOUNT_DIFFERS,
        Reason.IDS_DIFFER,
        Reason.MONEY_IN_DOUBT,
        Reason.RECEIPT_OVERDUE,
    }
)
"""Reasons of a review; their sentences say that somebody is checking."""
SENT_BACK = frozenset({Reason.PAID_LATE, Reason.PAID_TWICE})
"""Reasons of money that goes back by itself, where no review is open about it."""


def customer_message(
    status: str,
    reason: Reason | None,
    booking_action: str,
    outcome_certain: bool,
    language: str,
    part_returned: bool = False,
    return_failed: bool = False,
) -> str:
    """The sentence to show the passenger; `language` is one of `LANGUAGES`.

    While money is in doubt, no status or reason may ask the passenger for a PIN or for another payment.
    """
    sentence = _sentence(status, reason, booking_action, outcome_certain)
    if part_returned and sentence in (_RETURNING, _LATE_RETURNING):
        sentence = _PART_RETURNED
    if return_failed and sentence in (_RETURNING, _LATE_RETURNING, _SECOND_RETURNING):
        sentence = _NOT_RETURNED
    return sentence.sw if language == "sw" else sentence.en


def _sentence(status: str, reason: Reason | None, booking_action: str, outcome_certain: bool) -> Sentence:
    if booking_action == "REVIEW":
        return _SENTENCES[reason if reason in REVIEWS else Reason.REVIEW]
    if booking_action == "CONFIRM":
        return _RECEIVED
    if booking_action == "FOLLOW_SIBLING" and status == "COMPLETED":
        return _SECOND_RETURNING if reason in SENT_BACK else _PAID_BESIDE
    if booking_action == "FOLLOW_SIBLING" and status == "REFUNDED":
        return _RETURNED
    if booking_action == "FOLLOW_SIBLING":
        return _SENTENCES[Reason.SIBLING_PAID]
    if booking_action == "RELEASE" and reason is Reason.TAKEN_BACK:
        return _SENTENCES[reason]
    if booking_action == "RELEASE" and status == "REFUNDED":
        return _RETURNED
    if booking_action == "RELEASE":
        return _LATE_RETURNING if reason is Reason.PAID_LATE else _RETURNING
    if status == "EXPIRED" and outcome_certain:
        return _UNPAID
    return _SENTENCES[reason] if reason is not None else _WITHOUT_REASON[status]
