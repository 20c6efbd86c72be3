"""The catalogue of errors: complete both ways, and silent about what is none of a caller's business."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
import structlog
from mpesa_payments.v1.error_reason_pb2 import ErrorReason

from payment_service.application.following.consumers import ConsumerRewound
from payment_service.application.following.event_feed import Bookmark
from payment_service.domain import errors as domain_errors
from payment_service.domain.decisions import Bar
from payment_service.domain.errors import (
    ApprovalDecided,
    ApprovalNotFound,
    ApprovalOutdated,
    ApprovalWaits,
    BookingBarred,
    BookingLocked,
    CancelTooLate,
    CaseAlreadySettled,
    CaseChanged,
    CaseNotFound,
    ConsumerNotFound,
    CursorInvalid,
    ErasureBarred,
    InvalidRequest,
    LogDiverged,
    NotTheAsker,
    Overloaded,
    PageTokenInvalid,
    PaymentNotFound,
    PaymentsError,
    PromptsStopped,
    ReceiptNotIssued,
    RefundBarred,
    RequestIdReused,
    ResolutionRefused,
    RiskRefused,
    SecondPersonNeeded,
    ShuttingDown,
    StatusTokenRefused,
    StoreUnavailable,
    TaxInvoiceDiffers,
    Violation,
)
from payment_service.domain.payment import LatePaymentPolicy, Payment, State
from payment_service.domain.receipt import AMOUNT_UNKNOWN, MONEY_NEVER_CAME, NO_ISSUER, NOT_ISSUED_YET
from payment_service.domain.refund import RefundBar
from payment_service.domain.risk import Rule
from payment_service.rpc.caller_limits import CallLimit, TooManyCalls
from payment_service.rpc.errors import Answer, CallerNotAllowed, answer_to
from scripts.error_catalogue import main, render_catalogue
from tests.plain_logs import log_plainly

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
ID = UUID(int=7)


def a_payment(**changed: Any) -> Payment:
    return Payment(
        payment_id=ID,
        caller="development",
        booking_id="BK-1",
        reference="bcdfghjknprt",
        attempt=1,
        retry_of=None,
        amount=500,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW,
        hold_expire_at=None,
        late_payment_policy=LatePaymentPolicy.REVIEW,
        **changed,
    )


EVERY_ERROR: list[tuple[Exception, str, grpc.StatusCode]] = [
    (InvalidRequest([Violation("f", "expected x")]), "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
    (RequestIdReused(ID, ("amount",)), "REQUEST_ID_REUSED", grpc.StatusCode.ALREADY_EXISTS),
    (CaseNotFound(), "CASE_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    (CaseChanged(["the case"]), "CASE_CHANGED", grpc.StatusCode.FAILED_PRECONDITION),
    (CaseAlreadySettled("ACCEPT", "amina"), "CASE_SETTLED", grpc.StatusCode.FAILED_PRECONDITION),
    (ResolutionRefused("No.", ["ACCEPT"]), "RESOLUTION_REFUSED", grpc.StatusCode.FAILED_PRECONDITION),
    (ApprovalNotFound(), "APPROVAL_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    (ConsumerNotFound(), "CONSUMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    (ConsumerRewound(Bookmark(ID, 7, bytes(8), 1)), "CONSUMER_REWOUND", grpc.StatusCode.FAILED_PRECONDITION),
    (ApprovalDecided("APPROVED", "brian"), "APPROVAL_DECIDED", grpc.StatusCode.FAILED_PRECONDITION),
    (ApprovalOutdated(["the case"]), "APPROVAL_OUTDATED", grpc.StatusCode.FAILED_PRECONDITION),
    (ApprovalWaits(ID, "amina"), "APPROVAL_WAITS", grpc.StatusCode.FAILED_PRECONDITION),
    (SecondPersonNeeded("amina", "amina"), "SECOND_PERSON_NEEDED", grpc.StatusCode.FAILED_PRECONDITION),
    (NotTheAsker("amina"), "NOT_THE_ASKER", grpc.StatusCode.FAILED_PRECONDITION),
    (
        BookingBarred(Bar.LIVE_OR_PAID, a_payment()),
        "BOOKING_HAS_LIVE_PAYMENT",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    (
        BookingBarred(Bar.TOO_EARLY, a_payment(state=State.EXPIRED, retry_allowed_at=NOW + timedelta(seconds=90))),
        "RETRY_TOO_EARLY",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    (BookingBarred(Bar.UNDER_REVIEW, a_payment()), "BOOKING_UNDER_REVIEW", grpc.StatusCode.FAILED_PRECONDITION),
    (StatusTokenRefused(), "STATUS_TOKEN_REFUSED", grpc.StatusCode.UNAUTHENTICATED),
    (CancelTooLate(a_payment(state=State.SENDING)), "CANCEL_TOO_LATE", grpc.StatusCode.FAILED_PRECONDITION),
    (RiskRefused(Rule.PHONE_UNPAID, NOW), "TOO_MANY_PROMPTS", grpc.StatusCode.RESOURCE_EXHAUSTED),
    (RiskRefused(Rule.PHONE_BLOCKED, None), "PHONE_BLOCKED", grpc.StatusCode.FAILED_PRECONDITION),
    (PromptsStopped(NOW, "wrong prices"), "PROMPTS_STOPPED", grpc.StatusCode.FAILED_PRECONDITION),
    (
        RefundBarred(RefundBar.NOT_PAID, a_payment()),
        "REFUND_NOT_POSSIBLE",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    (PaymentNotFound(), "PAYMENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
    (ErasureBarred(["a case is open"]), "ERASURE_BARRED", grpc.StatusCode.FAILED_PRECONDITION),
    (ReceiptNotIssued(NO_ISSUER), "RECEIPT_NOT_ISSUED", grpc.StatusCode.FAILED_PRECONDITION),
    (ReceiptNotIssued(AMOUNT_UNKNOWN), "RECEIPT_NOT_ISSUED", grpc.StatusCode.FAILED_PRECONDITION),
    (ReceiptNotIssued(MONEY_NEVER_CAME), "RECEIPT_NOT_ISSUED", grpc.StatusCode.FAILED_PRECONDITION),
    (ReceiptNotIssued(NOT_ISSUED_YET), "RECEIPT_NOT_ISSUED", grpc.StatusCode.FAILED_PRECONDITION),
    (TaxInvoiceDiffers("KRAMW1/1"), "TAX_INVOICE_DIFFERS", grpc.StatusCode.FAILED_PRECONDITION),
    (CursorInvalid(), "CURSOR_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
    (LogDiverged(), "LOG_DIVERGED", grpc.StatusCode.INVALID_ARGUMENT),
    (PageTokenInvalid(), "PAGE_TOKEN_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
    (TooManyCalls(CallLimit.PROCESS, "booking"), "TOO_MANY_REQUESTS", grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TooManyCalls(CallLimit.READING, "booking"), "TOO_MANY_REQUESTS", grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ShuttingDown(), "SERVICE_DRAINING", grpc.StatusCode.UNAVAILABLE),
    (BookingLocked(), "STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE),
    (StoreUnavailable(), "STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE),
    (Overloaded(), "STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE),
    (CallerNotAllowed(), "CALLER_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED),
    (ZeroDivisionError("secret text"), "INTERNAL", grpc.StatusCode.INTERNAL),
]


def answer(error: Exception) -> Answer:
    return answer_to(error, lambda: NOW)


@pytest.mark.parametrize(("error", "reason", "code"), EVERY_ERROR, ids=lambda value: str(value)[:30])
def test_each_error_has_its_reason_and_code(error: Exception, reason: str, code: grpc.StatusCode) -> None:
    told = answer(error)
    assert (told.reason, told.code) == (reason, code)
    assert told.message
    # The comment in the API begins with the code: callers read that, and it must be true.
    assert render_catalogue().find(f"| `{reason}` | {code.name} |") >= 0


def test_a_refusal_by_a_rule_says_when_to_ask_again_and_no_limit() -> None:
    refusal = RiskRefused(Rule.PHONE_UNANSWERED, NOW + timedelta(minutes=7))
    answer = answer_to(refusal, lambda: NOW)
    assert answer.message == "This phone gets no further prompt now. Ask again from 2026-11-23 08:07:00 UTC on."
    assert answer.retry_after == timedelta(minutes=7)
    assert answer.metadata == {"subject": "phone", "rule": "PHONE_UNANSWERED"}
    for_ever = answer_to(RiskRefused(Rule.PHONE_BLOCKED, None), lambda: NOW)
    assert (for_ever.retry_after, for_ever.metadata) == (None, {})


def test_every_reason_is_used_and_every_error_of_the_domain_is_answered() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 -- the enum wrapper is not a mapping
    assert {reason for _, reason, _ in EVERY_ERROR} == reasons - {"UNSPECIFIED"}
    defined = {
        one
        for one in vars(domain_errors).values()
        if isinstance(one, type) and issubclass(one, PaymentsError) and one is not PaymentsError
    }
    assert defined <= {type(error) for error, _, _ in EVERY_ERROR}


def test_details_say_what_a_caller_needs() -> None:
    assert answer(RequestIdReused(ID, ("amount", "metadata"))).metadata == {
        "payment_id": str(ID),
        "fields": "amount,metadata",
    }
    live = answer(BookingBarred(Bar.LIVE_OR_PAID, a_payment(state=State.PROMPTED)))
    assert live.metadata == {"payment_id": str(ID), "status": "PROCESSING"}
    early = BookingBarred(Bar.TOO_EARLY, a_payment(state=State.EXPIRED, retry_allowed_at=NOW + timedelta(seconds=90)))
    assert answer(early).retry_after == timedelta(seconds=90)
    sent = answer(CancelTooLate(a_payment(state=State.PROMPTED)))
    assert sent.metadata == {"payment_id": str(ID), "status": "PROCESSING"}
    assert "cursor" in answer(TooManyCalls(CallLimit.READING, "booking")).message


def test_a_fault_is_logged_whole_and_told_without_its_text() -> None:
    lines = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=False,
    )
    try:
        told = answer(ZeroDivisionError("secret text"))
    finally:
        log_plainly()
    assert "secret" not in told.message
    assert set(told.metadata) == {"trace_id"}
    assert "secret text" in json.loads(lines.getvalue())["exception"]


def test_the_catalogue_in_the_documentation_is_the_one_of_the_api() -> None:
    assert main(["--check", str(Path(__file__).parents[2] / "docs" / "errors.md")]) == 0


def test_a_stale_catalogue_is_told_apart_from_a_fresh_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "errors.md"
    assert main(["--check", str(path)]) == 1
    assert main(["--write", str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert main(["--check", str(path)]) == 1
    assert "make errors" in capsys.readouterr().err


def test_the_sample_of_each_reason_has_what_the_error_really_carries() -> None:
    samples = {}
    for line in (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and line.endswith("}` |"):
            sample = json.loads(line.rsplit("`", 2)[1])
            samples[sample["reason"]] = set(sample.get("metadata", {}))
    for error, reason, _ in EVERY_ERROR:
        told = answer_to(error, lambda: datetime(2026, 11, 28, tzinfo=UTC))
        assert samples[reason] == set(told.metadata), reason
