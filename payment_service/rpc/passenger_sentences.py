"""What a passenger reads when a call was refused or not answered, for each reason of the catalogue of errors.

The other half of `domain.advice`: there a payment exists, here none was made or changed. A call that asks for a payment
says in which language; for all others, and where the request could not be read, it is English.
"""

from collections.abc import Mapping
from typing import Final

from payment_service.domain.advice import Sentence

_TROUBLE = Sentence(
    "We have a problem at the moment. If you have entered your M-Pesa PIN, please do not pay again.",
    "Tuna tatizo kwa sasa. Ikiwa umeweka PIN yako ya M-Pesa, tafadhali usilipe tena.",
)
_NOT_NOW = Sentence(
    "We cannot start your payment now. You have not been charged; please contact us.",
    "Hatuwezi kuanzisha malipo yako sasa. Hujatozwa; tafadhali wasiliana nasi.",
)

SENTENCES: Final[Mapping[str, Sentence | None]] = {
    "INVALID_REQUEST": Sentence(
        "We cannot start your payment with these details. Please check your phone number.",
        "Hatuwezi kuanzisha malipo kwa maelezo haya. Tafadhali angalia nambari yako ya simu.",
    ),
    "REQUEST_ID_REUSED": _NOT_NOW,
    "BOOKING_HAS_LIVE_PAYMENT": Sentence(
        "A payment for this booking is under way or done. Please do not pay again.",
        "Malipo ya safari hii yanaendelea au yamekamilika. Tafadhali usilipe tena.",
    ),
    "RETRY_TOO_EARLY": Sentence(
        "The last M-Pesa request may still be on your phone. Please wait a few minutes, then try again.",
        "Ombi la mwisho la M-Pesa huenda bado liko kwenye simu yako. Subiri dakika chache ujaribu tena.",
    ),
    "BOOKING_UNDER_REVIEW": Sentence(
        "We are checking a payment for this booking by hand. Please do not pay again.",
        "Tunakagua malipo ya safari hii. Tafadhali usilipe tena.",
    ),
    "PAYMENT_NOT_FOUND": _NOT_NOW,
    "TOO_MANY_REQUESTS": Sentence(
        "Many people are paying at the moment. Please wait a little.",
        "Watu wengi wanalipa kwa sasa. Tafadhali subiri kidogo.",
    ),
    "SERVICE_DRAINING": _TROUBLE,
    "STORE_UNAVAILABLE": _TROUBLE,
    "INTERNAL": _TROUBLE,
    "CALLER_NOT_ALLOWED": _NOT_NOW,
    "CANCEL_TOO_LATE": Sentence(
        "This payment cannot be withdrawn any more. It may be on your phone already.",
        "Malipo haya hayawezi kuondolewa tena. Huenda tayari yako kwenye simu yako.",
    ),
    "REFUND_NOT_POSSIBLE": Sentence(
        "The money cannot be sent back in this way. Please contact us.",
        "Pesa haziwezi kurudishwa kwa njia hii. Tafadhali wasiliana nasi.",
    ),
    "PROMPTS_STOPPED": Sentence(
        "We take no M-Pesa payments at the moment. You have not been charged; please try again later.",
        "Hatupokei malipo ya M-Pesa kwa sasa. Hujatozwa; tafadhali jaribu tena baadaye.",
    ),
    "TOO_MANY_PROMPTS": Sentence(
        "We cannot send another M-Pesa request now. Please try again later, or pay in another way.",
        "Hatuwezi kutuma ombi lingine la M-Pesa sasa. Jaribu tena baadaye, au lipa kwa njia nyingine.",
    ),
    "PHONE_BLOCKED": Sentence(
        "This phone gets no M-Pesa requests from us. Please pay in another way.",
        "Simu hii haipokei maombi ya M-Pesa kutoka kwetu. Tafadhali lipa kwa njia nyingine.",
    ),
    "STATUS_TOKEN_REFUSED": Sentence(
        "This page is out of date. Please open your booking again to see your payment.",
        "Ukurasa huu umepitwa na wakati. Tafadhali fungua tena safari yako uone malipo yako.",
    ),
    "RECEIPT_NOT_ISSUED": Sentence(
        "There is no receipt for this payment yet. Please try again later.",
        "Bado hakuna risiti ya malipo haya. Tafadhali jaribu tena baadaye.",
    ),
    # Met by programs and by operators, never while a passenger waits.
    "CURSOR_INVALID": None,
    "LOG_DIVERGED": None,
    "PAGE_TOKEN_INVALID": None,
    "CONSUMER_NOT_FOUND": None,
    "CONSUMER_REWOUND": None,
    "CASE_NOT_FOUND": None,
    "CASE_CHANGED": None,
    "CASE_SETTLED": None,
    "RESOLUTION_REFUSED": None,
    "APPROVAL_NOT_FOUND": None,
    "APPROVAL_DECIDED": None,
    "APPROVAL_OUTDATED": None,
    "SECOND_PERSON_NEEDED": None,
    "NOT_THE_ASKER": None,
    "APPROVAL_WAITS": None,
    "ERASURE_BARRED": None,
    "TAX_INVOICE_DIFFERS": None,
}
"""By the reason's name; none where no passenger waits for the answer."""
