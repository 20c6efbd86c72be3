"""What people are told of a payment: for each reason, and for what becomes of the money, one row.

A row is the sentence that a passenger reads, what the passenger does next, and for how long another attempt would meet
the same refusal. They stand side by side, so that they never disagree. Replies, streams, the command line and
`docs/errors.md` read them here.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from payment_service.domain.reasons import REVIEWS, SENT_BACK, Reason

SMS_CHARACTERS = 160
"""Of the alphabet that a message has without becoming two."""


class NextStep(StrEnum):
    """What the passenger does next; the names are those of the wire enum `NextStep`."""

    WAIT = "WAIT"
    ENTER_PIN = "ENTER_PIN"
    TRY_AGAIN = "TRY_AGAIN"
    TOP_UP = "TOP_UP"
    USE_ANOTHER_NUMBER = "USE_ANOTHER_NUMBER"
    PAY_OTHERWISE = "PAY_OTHERWISE"
    CALL_SAFARICOM = "CALL_SAFARICOM"
    CONTACT_US = "CONTACT_US"
    NOTHING = "NOTHING"


class Sentence(NamedTuple):
    """One message to the passenger in each language we speak."""

    en: str
    sw: str

    def spoken(self, language: str) -> str:
        """In one of `LANGUAGES`; in English for any other."""
        return self.sw if language == "sw" else self.en


LANGUAGES = Sentence._fields


class Advice(NamedTuple):
    """One row."""

    sentence: Sentence
    next_step: NextStep
    retry_after: timedelta = timedelta(0)
    """So long another attempt would meet the same refusal; none, where the next one may succeed at once."""
    retry_tomorrow: bool = False
    """It would until midnight in Nairobi."""


_STARTING = Advice(
    Sentence("We are starting your M-Pesa payment.", "Tunaanzisha malipo yako ya M-Pesa."), NextStep.WAIT
)
_RECEIVED = Advice(Sentence("Payment received. Thank you.", "Malipo yamepokelewa. Asante."), NextStep.NOTHING)
_RETURNING = Advice(Sentence("Your money is being returned.", "Pesa zako zinarudishwa."), NextStep.WAIT)
_NOT_RETURNED = Advice(
    Sentence(
        "Your money could not be returned yet. We are working on it; you need not do anything.",
        "Pesa zako hazijaweza kurudishwa bado. Tunashughulikia; huhitaji kufanya lolote.",
    ),
    NextStep.WAIT,
)
_PART_RETURNED = Advice(
    Sentence("Part of your money has been returned.", "Sehemu ya pesa zako imerudishwa."), NextStep.NOTHING
)
_PAID_BESIDE = Advice(
    Sentence(
        "This booking is paid by another payment. Please do not pay again.",
        "Safari hii imeshalipiwa kwa malipo mengine. Tafadhali usilipe tena.",
    ),
    NextStep.NOTHING,
)
_LATE_RETURNING = Advice(
    Sentence(
        "Your payment came after the time for it had ended. Your money is being returned.",
        "Malipo yako yamefika baada ya muda kuisha. Pesa zako zinarudishwa.",
    ),
    NextStep.WAIT,
)
_SECOND_RETURNING = Advice(
    Sentence(
        "This booking was paid twice. The second payment is being returned to you.",
        "Safari hii imelipiwa mara mbili. Malipo ya pili yanarudishwa kwako.",
    ),
    NextStep.WAIT,
)
_RETURNED = Advice(Sentence("Your money has been returned.", "Pesa zako zimerudishwa."), NextStep.NOTHING)

ADVICE: Mapping[Reason, Advice] = {
    Reason.AWAITING_CUSTOMER: Advice(
        Sentence("Check your phone and enter your M-Pesa PIN.", "Angalia simu yako na uweke PIN yako ya M-Pesa."),
        NextStep.ENTER_PIN,
    ),
    Reason.CONFIRMING: Advice(
        Sentence(
            "We are confirming with M-Pesa. Please do not pay again.",
            "Tunathibitisha na M-Pesa. Tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.REVIEW: Advice(
        Sentence(
            "We are checking your payment by hand. Please do not pay again.",
            "Tunakagua malipo yako. Tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.RECEIPT_PENDING: Advice(
        Sentence(
            "M-Pesa says you have paid. We are waiting for the receipt.",
            "M-Pesa inasema umelipa. Tunasubiri risiti.",
        ),
        NextStep.WAIT,
    ),
    Reason.NOT_SENT: Advice(
        Sentence(
            "M-Pesa could not be reached. You have not been charged; please try again.",
            "M-Pesa haikupatikana. Hujatozwa; tafadhali jaribu tena.",
        ),
        NextStep.TRY_AGAIN,
    ),
    Reason.SERVICE_MISCONFIGURED: Advice(
        Sentence(
            "The payment could not be started. You have not been charged; please contact us.",
            "Malipo hayakuweza kuanzishwa. Hujatozwa; tafadhali wasiliana nasi.",
        ),
        NextStep.CONTACT_US,
    ),
    Reason.PHONE_NUMBER_REFUSED: Advice(
        Sentence(
            "M-Pesa does not accept this phone number. Please check it.",
            "M-Pesa haikubali nambari hii ya simu. Tafadhali iangalie.",
        ),
        NextStep.USE_ANOTHER_NUMBER,
    ),
    Reason.PHONE_BUSY: Advice(
        Sentence(
            "Another M-Pesa prompt is open on your phone. Finish it, wait one minute and try again.",
            "Kuna ombi lingine la M-Pesa kwenye simu yako. Likamilishe, subiri dakika moja ujaribu tena.",
        ),
        NextStep.TRY_AGAIN,
        timedelta(minutes=1),
    ),
    Reason.NOT_AN_MPESA_NUMBER: Advice(
        Sentence(
            "This number has no M-Pesa. Please use another number.",
            "Nambari hii haina M-Pesa. Tafadhali tumia nambari nyingine.",
        ),
        NextStep.USE_ANOTHER_NUMBER,
    ),
    Reason.INSUFFICIENT_FUNDS: Advice(
        Sentence(
            "Not enough money in your M-Pesa. Top up and try again.",
            "Salio lako la M-Pesa halitoshi. Ongeza pesa ujaribu tena.",
        ),
        NextStep.TOP_UP,
    ),
    Reason.AMOUNT_NOT_ALLOWED: Advice(
        Sentence("The amount is outside your M-Pesa limits.", "Kiasi hiki hakiruhusiwi kwenye M-Pesa yako."),
        NextStep.PAY_OTHERWISE,
    ),
    Reason.DAILY_LIMIT_REACHED: Advice(
        Sentence(
            "You have reached your daily M-Pesa limit. Try again tomorrow.",
            "Umefikia kikomo chako cha M-Pesa cha siku. Jaribu tena kesho.",
        ),
        NextStep.TRY_AGAIN,
        retry_tomorrow=True,
    ),
    Reason.RECEIVER_LIMIT_REACHED: Advice(
        Sentence(
            "We cannot receive M-Pesa payments at the moment. You have not been charged.",
            "Hatuwezi kupokea malipo ya M-Pesa kwa sasa. Hujatozwa.",
        ),
        NextStep.PAY_OTHERWISE,
    ),
    Reason.REPEATED_TOO_SOON: Advice(
        Sentence(
            "You paid the same amount a moment ago. Wait two minutes and try again.",
            "Umelipa kiasi hiki hivi punde. Subiri dakika mbili ujaribu tena.",
        ),
        NextStep.TRY_AGAIN,
        timedelta(minutes=2),
    ),
    Reason.PROVIDER_BUSY: Advice(
        Sentence(
            "M-Pesa is busy. You have not been charged; try again in three minutes.",
            "M-Pesa ina shughuli nyingi. Hujatozwa; jaribu tena baada ya dakika tatu.",
        ),
        NextStep.TRY_AGAIN,
        timedelta(minutes=3),
    ),
    Reason.PROMPT_FAILED: Advice(
        Sentence(
            "M-Pesa could not show the prompt on your phone. Wait one minute and try again.",
            "M-Pesa haikuweza kuonyesha ombi kwenye simu yako. Subiri dakika moja ujaribu tena.",
        ),
        NextStep.TRY_AGAIN,
        timedelta(minutes=1),
    ),
    Reason.WRONG_PIN: Advice(
        Sentence(
            "The M-Pesa PIN was wrong. You have not been charged; please try again.",
            "PIN ya M-Pesa si sahihi. Hujatozwa; tafadhali jaribu tena.",
        ),
        NextStep.TRY_AGAIN,
    ),
    Reason.PIN_LOCKED: Advice(
        Sentence(
            "Your M-Pesa PIN is locked. Call Safaricom on 100.",
            "PIN yako ya M-Pesa imefungwa. Piga simu Safaricom 100.",
        ),
        NextStep.CALL_SAFARICOM,
    ),
    Reason.PAYMENT_NOT_ALLOWED: Advice(
        Sentence(
            "M-Pesa does not allow this payment from your account.",
            "M-Pesa hairuhusu malipo haya kutoka kwa akaunti yako.",
        ),
        NextStep.PAY_OTHERWISE,
    ),
    Reason.DECLINED_BY_CUSTOMER: Advice(
        Sentence("You cancelled the payment. You have not been charged.", "Umeghairi malipo. Hujatozwa."),
        NextStep.TRY_AGAIN,
    ),
    Reason.WITHDRAWN: Advice(
        Sentence(
            "The payment was withdrawn before it reached your phone.",
            "Malipo yaliondolewa kabla ya kufika kwenye simu yako.",
        ),
        NextStep.TRY_AGAIN,
    ),
    Reason.NO_ANSWER: Advice(
        Sentence(
            "No answer came from your phone. If you entered your PIN, wait: do not pay twice.",
            "Hakuna jibu kutoka kwa simu yako. Ikiwa uliweka PIN, subiri: usilipe mara mbili.",
        ),
        NextStep.TRY_AGAIN,
    ),
    Reason.SIBLING_PAID: Advice(
        Sentence(
            "This booking is already paid. Do not enter your PIN.",
            "Safari hii imeshalipiwa. Usiweke PIN yako.",
        ),
        NextStep.NOTHING,
    ),
    Reason.PAID_LATE: Advice(
        Sentence(
            "Your payment came after the time for it had ended. We are checking it; please do not pay again.",
            "Malipo yako yamefika baada ya muda kuisha. Tunayakagua; tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.PAID_TWICE: Advice(
        Sentence(
            "This booking was paid twice. We are checking it; please do not pay again.",
            "Safari hii imelipiwa mara mbili. Tunakagua; tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.AMOUNT_DIFFERS: Advice(
        Sentence(
            "The amount that arrived is not the amount we asked for. We are checking it; please do not pay again.",
            "Kiasi kilichofika si kile tulichoomba. Tunakagua; tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.IDS_DIFFER: Advice(
        Sentence(
            "M-Pesa told us of a payment that does not match our request. We are checking it; please do not pay again.",
            "M-Pesa imetuambia kuhusu malipo yasiyolingana na ombi letu. Tunayakagua; tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.MONEY_IN_DOUBT: Advice(
        Sentence(
            "M-Pesa shows money that may be for this booking. We are checking it; please do not pay again.",
            "M-Pesa inaonyesha pesa ambazo huenda ni za safari hii. Tunazikagua; tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.RECEIPT_OVERDUE: Advice(
        Sentence(
            "M-Pesa says you have paid, but the receipt has not come. We are checking it; please do not pay again.",
            "M-Pesa inasema umelipa, lakini risiti haijafika. Tunakagua; tafadhali usilipe tena.",
        ),
        NextStep.WAIT,
    ),
    Reason.TAKEN_BACK: Advice(
        Sentence(
            "M-Pesa has returned your money, so this booking is not paid.",
            "M-Pesa imekurudishia pesa zako, kwa hivyo safari hii haijalipiwa.",
        ),
        NextStep.CONTACT_US,
    ),
    Reason.MONEY_NEVER_CAME: Advice(
        Sentence(
            "M-Pesa has no payment for this booking, so it is not paid. Please contact us.",
            "M-Pesa haina malipo ya safari hii, kwa hivyo haijalipiwa. Tafadhali wasiliana nasi.",
        ),
        NextStep.CONTACT_US,
    ),
}

_FAILED = Advice(
    Sentence("The payment failed. You have not been charged.", "Malipo hayakufaulu. Hujatozwa."), NextStep.TRY_AGAIN
)
_CANCELLED = Advice(
    Sentence("The payment was cancelled. You have not been charged.", "Malipo yameghairiwa. Hujatozwa."),
    NextStep.TRY_AGAIN,
)

_WITHOUT_REASON = {
    "PENDING": _STARTING,
    "PROCESSING": ADVICE[Reason.CONFIRMING],
    "COMPLETED": _RECEIVED,
    "FAILED": _FAILED,
    "CANCELLED": _CANCELLED,
    "EXPIRED": ADVICE[Reason.NO_ANSWER],
    "REFUNDED": _RETURNED,
}

_UNPAID = Advice(
    Sentence(
        "No answer came from your phone. You have not been charged.",
        "Hakuna jibu kutoka kwa simu yako. Hujatozwa.",
    ),
    NextStep.TRY_AGAIN,
)


def advice_of(
    status: str,
    reason: Reason | None,
    booking_action: str,
    outcome_certain: bool,
    part_returned: bool = False,
    return_failed: bool = False,
) -> Advice:
    """The row for a payment as it stands.

    While money is in doubt, no status or reason may ask the passenger for a PIN or for another payment.
    """
    advice = _advice(status, reason, booking_action, outcome_certain)
    if part_returned and advice in (_RETURNING, _LATE_RETURNING):
        advice = _PART_RETURNED
    if return_failed and advice in (_RETURNING, _LATE_RETURNING, _SECOND_RETURNING):
        advice = _NOT_RETURNED
    return advice


def customer_message(
    status: str,
    reason: Reason | None,
    booking_action: str,
    outcome_certain: bool,
    language: str,
    part_returned: bool = False,
    return_failed: bool = False,
) -> str:
    """The sentence to show the passenger; `language` is one of `LANGUAGES`."""
    advice = advice_of(status, reason, booking_action, outcome_certain, part_returned, return_failed)
    return advice.sentence.spoken(language)


def _advice(status: str, reason: Reason | None, booking_action: str, outcome_certain: bool) -> Advice:
    if booking_action == "REVIEW":
        return ADVICE[reason if reason in REVIEWS else Reason.REVIEW]
    if booking_action == "CONFIRM":
        return _RECEIVED
    if booking_action == "FOLLOW_SIBLING" and status == "COMPLETED":
        return _SECOND_RETURNING if reason in SENT_BACK else _PAID_BESIDE
    if booking_action == "FOLLOW_SIBLING" and status == "REFUNDED":
        return _RETURNED
    if booking_action == "FOLLOW_SIBLING":
        return ADVICE[Reason.SIBLING_PAID]
    if booking_action == "RELEASE" and reason in (Reason.TAKEN_BACK, Reason.MONEY_NEVER_CAME):
        return ADVICE[reason]
    if booking_action == "RELEASE" and status == "REFUNDED":
        return _RETURNED
    if booking_action == "RELEASE":
        return _LATE_RETURNING if reason is Reason.PAID_LATE else _RETURNING
    if status == "EXPIRED" and outcome_certain:
        return _UNPAID
    return ADVICE[reason] if reason is not None else _WITHOUT_REASON[status]
