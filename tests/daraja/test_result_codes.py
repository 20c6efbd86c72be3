"""Every row of the table of result codes, written down a second time, by hand, from Daraja's pages and records."""

import json

import pytest

from payment_service.daraja.callback import read_callback
from payment_service.daraja.result_codes import MEANINGS, meaning_of
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import Fact, ResultReported, Unreadable, Verdict
from payment_service.domain.reasons import Reason
from tests.cells import try_each

ENDS_AS_FAILED = {
    "1": Reason.INSUFFICIENT_FUNDS,
    "2": Reason.AMOUNT_NOT_ALLOWED,
    "3": Reason.AMOUNT_NOT_ALLOWED,
    "4": Reason.DAILY_LIMIT_REACHED,
    "8": Reason.RECEIVER_LIMIT_REACHED,
    "17": Reason.REPEATED_TOO_SOON,
    "26": Reason.PROVIDER_BUSY,
    "1001": Reason.PHONE_BUSY,
    "1025": Reason.PROMPT_FAILED,
    "1101": Reason.SERVICE_MISCONFIGURED,
    "1102": Reason.SERVICE_MISCONFIGURED,
    "2001": Reason.WRONG_PIN,
    "2006": Reason.PAYMENT_NOT_ALLOWED,
    "2007": Reason.PAYMENT_NOT_ALLOWED,
    "2008": Reason.PAYMENT_NOT_ALLOWED,
    "2026": Reason.PAYMENT_NOT_ALLOWED,
    "2028": Reason.SERVICE_MISCONFIGURED,
    "2029": Reason.PAYMENT_NOT_ALLOWED,
    "2040": Reason.NOT_AN_MPESA_NUMBER,
    "2043": Reason.PAYMENT_NOT_ALLOWED,
    "2202": Reason.PAYMENT_NOT_ALLOWED,
    "8006": Reason.PIN_LOCKED,
    "SFC_IC0003": Reason.SERVICE_MISCONFIGURED,
}
IS_NO_PROOF = ("1019", "1031", "1036", "1037", "9999")
OTHERS = {
    "0": (Verdict.PAID, None),
    "1032": (Verdict.CANCELLED, Reason.DECLINED_BY_CUSTOMER),
    "4999": (Verdict.STILL_PROCESSING, None),
}
# Of other products, disputed between sources, or seen by nobody.
SAYS_NOTHING = (
    *("15", "18", "20", "21", "24", "25", "29", "1050", "1051", "2032", "2033", "4001", "100000001"),
    *("R000001", "R000002", "C2B00011", "C2B00016", "5", "7", "10", "1033", "00", "-1", "", "0 ", "sfc_ic0003"),
)
# What a callback of any spelling and text says.
SAID = {
    **{code: (Verdict.FAILED, reason) for code, reason in ENDS_AS_FAILED.items()},
    **dict.fromkeys(IS_NO_PROOF, (Verdict.UNCERTAIN, None)),
    **OTHERS,
    **dict.fromkeys(("5", "1050", "2032"), (Verdict.UNKNOWN, None)),
}
ALARMS = {"8", "1101", "1102", "2028", "SFC_IC0003"}


def read_stk(body: bytes) -> Fact:
    read = read_callback(CallbackKind.STK, body, "callback:1")
    assert isinstance(read, ResultReported | Unreadable)
    return read


@pytest.mark.parametrize(("code", "reason"), ENDS_AS_FAILED.items())
def test_a_listed_failure_ends_the_payment_for_its_reason(code: str, reason: Reason) -> None:
    assert meaning_of(code)[:2] == (Verdict.FAILED, reason)


@pytest.mark.parametrize("code", IS_NO_PROOF)
def test_a_code_after_which_money_has_moved_is_no_proof(code: str) -> None:
    assert meaning_of(code) == (Verdict.UNCERTAIN, None, None)


@pytest.mark.parametrize(("code", "expected"), OTHERS.items())
def test_paid_declined_and_still_processing(code: str, expected: tuple[Verdict, Reason | None]) -> None:
    assert meaning_of(code)[:2] == expected


@pytest.mark.parametrize("code", SAYS_NOTHING)
def test_a_code_that_is_not_listed_says_nothing(code: str) -> None:
    assert meaning_of(code) == (Verdict.UNKNOWN, None, None)


def test_no_other_code_is_listed_and_only_zero_is_paid() -> None:
    assert set(MEANINGS) == {*ENDS_AS_FAILED, *IS_NO_PROOF, *OTHERS}
    assert [code for code, meaning in MEANINGS.items() if meaning.verdict is Verdict.PAID] == ["0"]


def test_what_only_we_can_mend_raises_an_alarm() -> None:
    assert {code for code, meaning in MEANINGS.items() if meaning.alarm} == ALARMS


def test_a_callback_means_its_code_whatever_its_text() -> None:
    texts = ["", "The service request is processed successfully.", "[STK_CB - ]Request cancelled"]
    try_each({f"{code}-{text}": (code, text) for code in SAID for text in texts}, callback_means_its_code)


def callback_means_its_code(code: str, text: str) -> None:
    for spelled in [code, int(code)] if code.isdigit() else [code]:
        body = json.dumps({"Body": {"stkCallback": {"ResultCode": spelled, "ResultDesc": text}}}).encode()
        fact = read_stk(body)
        assert isinstance(fact, ResultReported)
        assert (fact.code, fact.verdict, fact.reason) == (code, *SAID[code])
