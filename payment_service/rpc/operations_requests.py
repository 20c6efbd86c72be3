"""From the wire messages of OperationsService to domain values: every bad field at once, as in `requests`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.application.approving.decide_approval import ApprovalDecision, Decision
from payment_service.application.casework.resolve_case import CaseDecision
from payment_service.application.collecting.risk_list import Listing
from payment_service.application.following.consumers import Forgetting, Rewinding
from payment_service.application.privacy.erase_person import Erasure
from payment_service.application.privacy.export_person import Export
from payment_service.application.refunding.refund_booking import BookingRefundRequest
from payment_service.domain.case_rules import CaseMarks, Resolution
from payment_service.domain.cases import CaseKind
from payment_service.domain.consent import Person
from payment_service.domain.risk import ListVerdict
from payment_service.rpc.fields import (
    DRIVES_TERMINALS,
    NAME,
    NAME_EXPECTED,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    Fields,
    moment_in,
    payment_id_in,
    phone_number_in,
    receipt_in,
    reference_in,
)
from payment_service.rpc.requests import REFUND_REASONS
from payment_service.security.sealing import Sealer
from payment_service.store.casework import CaseFilter
from payment_service.store.payment_search import PaymentSearch
from payment_service.store.payments import PHONE_INDEX
from payment_service.store.privacy_acts import Asker
from runtime.redaction import redact_text

REASON_MAX = 200
"""Characters: a sentence and a ticket's number."""
FEE_PERCENT_MAX = 99
"""Who keeps all of it has nothing to send back."""
RANGE_MAX = timedelta(days=31)
"""A month of payments is what one answer adds up."""

_OPERATOR = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")
_ETAG = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")
_KINDS: Mapping[int, CaseKind] = {pb.CaseKind.Value(f"CASE_KIND_{kind.value}"): kind for kind in CaseKind}
_RESOLUTIONS: Mapping[int, Resolution] = {
    pb.CaseResolution.Value(f"CASE_RESOLUTION_{one.value}"): one for one in Resolution
}

_DECISIONS: Mapping[int, Decision] = {
    pb.DecideApprovalRequest.Decision.Value(f"DECISION_{one.value}"): one for one in Decision
}
_TURNS: Mapping[int, bool] = {
    pb.TurnPromptSwitchRequest.TURN_STOP: True,
    pb.TurnPromptSwitchRequest.TURN_ALLOW: False,
}
"""Whether prompts are stopped after it."""

_VERDICTS: Mapping[int, ListVerdict] = {
    pb.RiskVerdict.Value(f"RISK_VERDICT_{verdict.value}"): verdict for verdict in ListVerdict
}


@dataclass(frozen=True, slots=True)
class CaseTaking:
    """Who takes a case, parsed."""

    case_id: UUID
    seen: CaseMarks
    operator: str
    why: str


@dataclass(frozen=True, slots=True)
class PromptStopping:
    """Who stops all new prompts, or allows them again, parsed."""

    stop: bool
    operator: str
    reason: str


def etag_of(marks: CaseMarks) -> str:
    """How a case stands, as operators carry it."""
    return f"{marks.case}.{marks.payments}.{marks.open_cases}"


def parse_case_list(message: pb.ListCasesRequest, now: datetime) -> tuple[CaseFilter, int]:
    """The filter and the page size."""
    fields = Fields()
    kind = _KINDS.get(message.kind)
    fields.require("kind", kind or message.kind == pb.CASE_KIND_UNSPECIFIED, "expected a value of CaseKind, or none")
    fields.require("owner", not message.owner or _OPERATOR.fullmatch(message.owner), "expected an operator's name")
    fields.require("booking_id", not message.booking_id or NAME.fullmatch(message.booking_id), NAME_EXPECTED)
    page_size = _page_size(fields, message.page_size)
    fields.end()
    wanted = CaseFilter(
        kind=kind.value if kind is not None else None,
        owner=message.owner or None,
        booking_id=message.booking_id or None,
        overdue_at=now if message.overdue else None,
    )
    return wanted, page_size


def parse_case_id(message: pb.GetCaseRequest) -> UUID:
    """The case that is asked for."""
    fields = Fields()
    case_id = _case_id(fields, message.case_id)
    fields.end()
    return case_id


def parse_taking(message: pb.TakeCaseRequest) -> CaseTaking:
    """Who takes which case, and why."""
    fields = Fields()
    case_id, seen = _case_id(fields, message.case_id), _etag(fields, message.etag)
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    fields.end()
    return CaseTaking(case_id, seen, operator, why)


def parse_decision(message: pb.ResolveCaseRequest) -> CaseDecision:
    """What an operator has decided."""
    fields = Fields()
    case_id, seen = _case_id(fields, message.case_id), _etag(fields, message.etag)
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    resolution = _RESOLUTIONS.get(message.resolution)
    fields.require("resolution", resolution, "expected one of the case's allowed_resolutions")
    receipt = receipt_in(fields, message.mpesa_receipt_number) if message.mpesa_receipt_number else None
    to_payment_id = _id(fields, "to_payment_id", "a payment", message.to_payment_id) if message.to_payment_id else None
    fields.end()
    assert resolution is not None, "anything else has been refused"
    return CaseDecision(case_id, seen, resolution, operator, why, receipt, to_payment_id)


def parse_explanation(message: pb.ExplainPaymentRequest) -> str:
    """The reference of the payment that is asked about."""
    fields = Fields()
    reference = reference_in(fields, message.reference)
    fields.end()
    return reference


def parse_approval_id(message: pb.GetApprovalRequest) -> UUID:
    """The approval that is asked for."""
    fields = Fields()
    approval_id = _id(fields, "approval_id", "an approval", message.approval_id)
    fields.end()
    return approval_id


def parse_approval_list(message: pb.ListApprovalsRequest) -> int:
    """The page size."""
    fields = Fields()
    page_size = _page_size(fields, message.page_size)
    fields.end()
    return page_size


def parse_approval_decision(message: pb.DecideApprovalRequest, proven: str) -> ApprovalDecision:
    """What a person who is proven says to what waits."""
    fields = Fields()
    approval_id, seen = _id(fields, "approval_id", "an approval", message.approval_id), _etag(fields, message.etag)
    decision = _DECISIONS.get(message.decision)
    fields.require("decision", decision, "expected DECISION_APPROVE, DECISION_REFUSE or DECISION_WITHDRAW")
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    fields.end()
    assert decision is not None, "anything else has been refused"
    return ApprovalDecision(approval_id, seen, decision, Person(proven, operator, why))


def parse_switch_turn(message: pb.TurnPromptSwitchRequest) -> PromptStopping:
    """How the switch for new prompts is to be turned."""
    fields = Fields()
    stop = _TURNS.get(message.turn)
    fields.require("turn", stop is not None, "expected TURN_STOP or TURN_ALLOW")
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    fields.end()
    return PromptStopping(bool(stop), operator, why)


def parse_search(message: pb.FindPaymentsRequest, sealer: Sealer) -> tuple[PaymentSearch, int]:
    """What is known of the payments, and the page size. The phone number goes no further than its blind index."""
    fields = Fields()
    search = PaymentSearch()
    match message.WhichOneof("known"):
        case "phone_number":
            search = PaymentSearch(phone_index=sealer.index(PHONE_INDEX, phone_number_in(fields, message.phone_number)))
        case "mpesa_receipt_number":
            search = PaymentSearch(receipt=receipt_in(fields, message.mpesa_receipt_number))
        case "booking_id":
            fields.require("booking_id", NAME.fullmatch(message.booking_id), NAME_EXPECTED)
            search = PaymentSearch(booking_id=message.booking_id)
        case "reference":
            search = PaymentSearch(reference=reference_in(fields, message.reference))
        case "request_id":
            fields.require("request_id", NAME.fullmatch(message.request_id), NAME_EXPECTED)
            search = PaymentSearch(request_id=message.request_id)
        case "complete_time":
            search = _completed(fields, message.complete_time)
        case _:
            ways = "phone_number, mpesa_receipt_number, booking_id, reference, request_id or complete_time"
            fields.refuse("known", f"expected {ways}")
    page_size = _page_size(fields, message.page_size)
    fields.end()
    return search, page_size


def parse_booking_refund(message: pb.RefundBookingRequest) -> BookingRefundRequest:
    """Which booking's money is to go back, who asks for it, and why."""
    fields = Fields()
    fields.require("booking_id", NAME.fullmatch(message.booking_id), NAME_EXPECTED)
    reason = REFUND_REASONS.get(message.refund_reason)
    fields.require("refund_reason", reason, "expected a value of RefundReason other than REFUND_REASON_UNSPECIFIED")
    operator, why = message.operator, message.reason
    # Who only looks has nothing to give account of; what is given is checked, so that a look tells of it in time.
    if operator or not message.validate_only:
        operator = _operator(fields, operator)
    if why or not message.validate_only:
        why = _reason(fields, why)
    caller_fits = not message.caller or NAME.fullmatch(message.caller)
    fields.require("caller", caller_fits, f"{NAME_EXPECTED}, or nothing")
    payment_id = payment_id_in(fields, message.payment_id) if message.payment_id else None
    fields.require("fee_percent", 0 <= message.fee_percent <= FEE_PERCENT_MAX, f"expected 0 to {FEE_PERCENT_MAX}")
    fields.end()
    assert reason is not None, "anything else has been refused"
    return BookingRefundRequest(
        booking_id=message.booking_id,
        caller=message.caller,
        payment_id=payment_id,
        reason=reason,
        operator=operator,
        why=why,
        fee_percent=message.fee_percent,
        only_look=message.validate_only,
    )


def parse_float_question(message: pb.GetFloatRequest) -> tuple[UUID, bool]:
    """The payment of whose shortcode the float is asked for, and whether it is that for parts."""
    fields = Fields()
    payment_id = payment_id_in(fields, message.payment_id)
    fields.end()
    assert payment_id is not None, "anything else has been refused"
    return payment_id, message.for_parts


def parse_risk_question(message: pb.GetRiskRequest, sealer: Sealer) -> bytes | None:
    """The phone that is asked about, by its blind index; None for the whole list."""
    fields = Fields()
    number = phone_number_in(fields, message.phone_number) if message.phone_number else None
    fields.end()
    return None if number is None else sealer.index(PHONE_INDEX, number)


def parse_listing(message: pb.ListPhoneRequest, sealer: Sealer, now: datetime) -> Listing:
    """What is to be said of a phone. Its number goes no further than its blind index."""
    fields = Fields()
    number, verdict = phone_number_in(fields, message.phone_number), _VERDICTS.get(message.verdict)
    fields.require("verdict", verdict, "expected a value of RiskVerdict other than RISK_VERDICT_UNSPECIFIED")
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    until = moment_in(fields, "until_time", message.until_time) if message.HasField("until_time") else None
    fields.require("until_time", until is None or until > now, "expected a time to come, or none")
    fields.end()
    assert verdict is not None, "anything else has been refused"
    return Listing(sealer.index(PHONE_INDEX, number), verdict, operator, why, until)


def parse_rewinding(message: pb.RewindConsumerRequest) -> Rewinding:
    """Which consumer is offered events again, and from when on."""
    fields = Fields()
    _consumer(fields, message.caller, message.consumer)
    since = moment_in(fields, "from_time", message.from_time)
    fields.require("from_time", message.HasField("from_time"), "expected a time")
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    fields.end()
    assert since is not None, "anything else has been refused"
    return Rewinding(message.caller, message.consumer, since, operator, why)


def parse_forgetting(message: pb.ForgetConsumerRequest) -> Forgetting:
    """Which consumer is no more."""
    fields = Fields()
    _consumer(fields, message.caller, message.consumer)
    operator, why = _operator(fields, message.operator), _reason(fields, message.reason)
    fields.end()
    return Forgetting(message.caller, message.consumer, operator, why)


def _consumer(fields: Fields, caller: str, consumer: str) -> None:
    fields.require("caller", NAME.fullmatch(caller), "expected the name of a caller")
    fields.require("consumer", NAME.fullmatch(consumer), NAME_EXPECTED)


def parse_export(message: pb.ExportPersonRequest, sealer: Sealer, certificate: str) -> Export:
    """Whose data is asked for, by whom and why. A number goes no further than its blind index."""
    fields = Fields()
    whose = PaymentSearch(booking_id=message.booking_id)
    if message.WhichOneof("whose") == "phone_number":
        whose = PaymentSearch(phone_index=sealer.index(PHONE_INDEX, phone_number_in(fields, message.phone_number)))
    elif not NAME.fullmatch(message.booking_id):
        fields.refuse("whose", f"expected a phone number or a booking id; {NAME_EXPECTED}")
    asker = Asker(certificate, _operator(fields, message.operator), _reason(fields, message.reason))
    fields.end()
    return Export(whose, asker)


def parse_erasure(message: pb.ErasePersonRequest, certificate: str) -> Erasure:
    """Whose number is to go, and who asks for it."""
    fields = Fields()
    number = phone_number_in(fields, message.phone_number)
    asker = Asker(certificate, _operator(fields, message.operator), _reason(fields, message.reason))
    fields.end()
    return Erasure(number, asker, message.validate_only)


def _completed(fields: Fields, within: pb.FindPaymentsRequest.TimeRange) -> PaymentSearch:
    first = moment_in(fields, "complete_time.from_time", within.from_time)
    end = moment_in(fields, "complete_time.before_time", within.before_time)
    if first is not None and end is not None:
        expected = f"expected a time after from_time, at most {RANGE_MAX.days} days later"
        fields.require("complete_time.before_time", first < end <= first + RANGE_MAX, expected)
    return PaymentSearch(completed_from=first, completed_before=end)


def _case_id(fields: Fields, text: str) -> UUID:
    return _id(fields, "case_id", "a case", text)


def _id(fields: Fields, name: str, what: str, text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = UUID(int=0)
    if str(found) != text.lower():
        fields.refuse(name, f"expected the id of {what}, such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return found


def _etag(fields: Fields, text: str) -> CaseMarks:
    found = _ETAG.fullmatch(text)
    fields.require("etag", found, "expected the etag as you have seen it")
    return CaseMarks(*map(int, found.groups())) if found is not None else CaseMarks(0, 0, 0)


def _operator(fields: Fields, text: str) -> str:
    good = _OPERATOR.fullmatch(text) and redact_text(text) == text
    fields.require("operator", good, 'expected a name of 1 to 64 letters, digits or "-_.:@", and no phone number')
    return text


def _reason(fields: Fields, text: str) -> str:
    reason = text.strip()
    good = 0 < len(reason) <= REASON_MAX and not DRIVES_TERMINALS.search(reason)
    fields.require("reason", good, f"expected 1 to {REASON_MAX} characters on one line that say why")
    return redact_text(reason)


def _page_size(fields: Fields, asked: int) -> int:
    fields.require("page_size", asked >= 0, f"expected 0 to {PAGE_SIZE_MAX}")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
