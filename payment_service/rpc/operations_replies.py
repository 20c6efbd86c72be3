"""What operators see, as wire messages."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.application.casework.find_payments import FoundPayments
from payment_service.application.casework.show_cases import CaseFile, marks_of
from payment_service.application.collecting.risk_list import RiskFound
from payment_service.application.following.consumers import ConsumerState
from payment_service.application.inspecting.explain_payment import Explanation
from payment_service.application.refunding.ask_float import Float
from payment_service.application.refunding.refund_booking import BookingRefund
from payment_service.domain.case_rules import Resolution, rules_of
from payment_service.domain.cases import CaseKind
from payment_service.domain.refund import RefundState
from payment_service.domain.risk import BY_LIST, Policy, Rule, RulePolicy
from payment_service.domain.views import PaymentView, refund_view
from payment_service.rpc.approval_replies import approval_message
from payment_service.rpc.cursors import cursor_text
from payment_service.rpc.operations_requests import etag_of
from payment_service.rpc.replies import CURRENCY, payment_message, refund_message, timestamp
from payment_service.store.approvals import Approval
from payment_service.store.casework import TAKEN, CaseAct, WorkedCase
from payment_service.store.payment_search import Takings
from payment_service.store.prompt_switch import SwitchTurn
from payment_service.store.risk_decisions import RuleCount
from payment_service.store.risk_list import ListTurn

FINGERPRINT_SHOWN = 12
"""Hexadecimal digits: enough to tell phones apart."""

_KIND = {kind.value: pb.CaseKind.Value(f"CASE_KIND_{kind.value}") for kind in CaseKind}
_RESOLUTION = {one.value: pb.CaseResolution.Value(f"CASE_RESOLUTION_{one.value}") for one in Resolution}
_REFUND_STATE = {one.value: pb.CaseRefund.State.Value(f"STATE_{one.value}") for one in RefundState}
_ACT = {act: pb.CaseAct.Kind.Value(f"KIND_{act}") for act in (TAKEN, *(one.value for one in Resolution))}


def cases_listed(cases: Sequence[WorkedCase], next_page_token: str) -> pb.ListCasesResponse:
    """One page of ListCases."""
    return pb.ListCasesResponse(cases=[_case(case) for case in cases], next_page_token=next_page_token)


def case_found(file: CaseFile) -> pb.GetCaseResponse:
    """The answer to GetCase."""
    return pb.GetCaseResponse(
        case=_case(file.case),
        attempts=[_payment(one) for one in file.attempts],
        evidence=[
            pb.CaseEvidence(what=one.what, receive_time=timestamp(one.at), body=one.body) for one in file.evidence
        ],
        acts=[_act(act) for act in file.acts],
    )


def case_taken(file: CaseFile) -> pb.TakeCaseResponse:
    """The answer to TakeCase."""
    return pb.TakeCaseResponse(case=_case(file.case))


def case_resolved(file: CaseFile, waiting: Approval | None) -> pb.ResolveCaseResponse:
    """The answer to ResolveCase."""
    return pb.ResolveCaseResponse(
        case=_case(file.case),
        attempts=[_payment(one) for one in file.attempts],
        approval=approval_message(waiting) if waiting is not None else None,
    )


def payments_found(found: FoundPayments, next_page_token: str) -> pb.FindPaymentsResponse:
    """One page of FindPayments."""
    return pb.FindPaymentsResponse(
        payments=[_payment(one) for one in found.payments],
        cases=[_case(case) for case in found.cases],
        takings=_takings(found.takings) if found.takings is not None else None,
        next_page_token=next_page_token,
    )


def payment_explained(story: Explanation) -> pb.ExplainPaymentResponse:
    """The answer of ExplainPayment."""
    moments = [
        pb.PaymentMoment(moment_time=timestamp(one.at), what=one.what, by=one.by, details=one.details)
        for one in story.moments
    ]
    return pb.ExplainPaymentResponse(
        payment=_payment(story.payment), backing=story.backing or "", moments=moments, left_out=story.left_out
    )


def prompt_switch(turn: SwitchTurn | None) -> pb.PromptSwitch:
    """How the switch for new prompts was turned last."""
    if turn is None:
        return pb.PromptSwitch()
    return pb.PromptSwitch(
        stopped=turn.stopped, operator=turn.operator, reason=turn.reason, turn_time=timestamp(turn.turned_at)
    )


def risk_found(policy: Policy, found: RiskFound) -> pb.GetRiskResponse:
    """The answer to GetRisk."""
    rules = {Rule.PHONE_BLOCKED: BY_LIST, **policy}
    return pb.GetRiskResponse(
        rules=[_rule(rule, its, found.counts.get(rule)) for rule, its in rules.items()],
        turns=[list_turn(turn) for turn in found.turns],
    )


def list_turn(turn: ListTurn) -> pb.RiskListTurn:
    """What was said of a phone."""
    return pb.RiskListTurn(
        fingerprint=turn.phone_index.hex()[:FINGERPRINT_SHOWN],
        verdict=pb.RiskVerdict.Value(f"RISK_VERDICT_{turn.verdict}"),
        operator=turn.operator,
        reason=turn.reason,
        list_time=timestamp(turn.listed_at),
        until_time=timestamp(turn.until) if turn.until is not None else None,
    )


def _rule(rule: Rule, its: RulePolicy, count: RuleCount | None) -> pb.RiskRule:
    limits = [pb.RiskRule.Limit(most=limit.most, within=_duration(limit.within)) for limit in its.limits]
    return pb.RiskRule(
        name=rule.value,
        mode=its.mode.value,
        limits=limits,
        refused=count.refused if count is not None else 0,
        in_shadow=count.in_shadow if count is not None else 0,
    )


def _duration(length: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(length)
    return duration


def booking_refunded(found: BookingRefund, waiting: Approval | None) -> pb.RefundBookingResponse:
    """The answer to RefundBooking."""
    refund = found.refund
    failed = refund is not None and refund.state is RefundState.FAILED
    return pb.RefundBookingResponse(
        payment=_payment(found.view),
        amount=_money(found.amount),
        refund=refund_message(refund_view(refund)) if refund is not None else None,
        provider_result_code=(refund.result_code or "") if refund is not None and failed else "",
        shortcode=found.shortcode,
        fee=_money(found.fee) if found.fee else None,
        approval=approval_message(waiting) if waiting is not None else None,
    )


def float_found(found: Float) -> pb.GetFloatResponse:
    """The answer to GetFloat."""
    available = _money(found.available) if found.available is not None else None
    return pb.GetFloatResponse(shortcode=found.shortcode, available=available, problem=found.problem)


def _case(case: WorkedCase) -> pb.Case:
    rules = rules_of(case.kind)
    message = pb.Case(
        case_id=str(case.case_id),
        kind=_KIND.get(case.kind, pb.CASE_KIND_UNSPECIFIED),
        about_money=case.is_money,
        payment_id=str(case.payment_id) if case.payment_id is not None else "",
        reference=case.reference,
        caller=case.caller or "",
        booking_id=case.booking_id or "",
        mpesa_receipt_number=case.receipt or "",
        open_time=timestamp(case.opened_at),
        deadline_time=timestamp(case.deadline_at),
        resolution=_RESOLUTION.get(case.resolution or "", pb.CASE_RESOLUTION_UNSPECIFIED),
        owner=case.owner or "",
        allowed_resolutions=[_RESOLUTION[one] for one in rules.resolutions],
        advice=rules.advice,
        etag=etag_of(marks_of(case)),
        approval_id=str(case.approval_id) if case.approval_id is not None else "",
        approval_asked_by=case.approval_asked_by or "",
    )
    if case.amount is not None:
        message.amount.CopyFrom(_money(int(case.amount)))
    if case.settled_at is not None:
        message.settle_time.CopyFrom(timestamp(case.settled_at))
    if case.taken_at is not None:
        message.take_time.CopyFrom(timestamp(case.taken_at))
    if case.refund_id is not None and case.refund_requested_at is not None:
        message.refund.CopyFrom(_refund(case, case.refund_id, case.refund_requested_at))
    return message


def _refund(case: WorkedCase, refund_id: UUID, requested_at: datetime) -> pb.CaseRefund:
    message = pb.CaseRefund(
        refund_id=str(refund_id),
        state=_REFUND_STATE.get(case.refund_state or "", pb.CaseRefund.STATE_UNSPECIFIED),
        amount=_money(int(case.refund_amount or 0)),
        request_time=timestamp(requested_at),
        provider_result_code=case.refund_result_code or "",
    )
    if case.refund_ended_at is not None:
        message.end_time.CopyFrom(timestamp(case.refund_ended_at))
    return message


def consumer(state: ConsumerState, now: datetime) -> pb.Consumer:
    """A named consumer."""
    one = state.consumer
    message = pb.Consumer(
        caller=one.caller,
        consumer=one.consumer,
        follows_all=one.follows_all,
        cursor=cursor_text(state.bookmark),
        acknowledge_time=timestamp(one.acknowledged_at),
        lag_events=state.lag.events,
        rewind_pending=one.rewind_pending,
    )
    message.lag.FromTimedelta(state.lag.age(now))
    if one.rewound_at is not None:
        message.rewind_time.CopyFrom(timestamp(one.rewound_at))
    return message


def _payment(view: PaymentView) -> pb.FoundPayment:
    return pb.FoundPayment(caller=view.caller, payment=payment_message(view))


def _act(act: CaseAct) -> pb.CaseAct:
    return pb.CaseAct(
        kind=_ACT.get(act.act, pb.CaseAct.KIND_UNSPECIFIED),
        operator=act.operator,
        reason=act.reason,
        mpesa_receipt_number=act.mpesa_receipt_number or "",
        act_time=timestamp(act.acted_at),
        to_payment_id=str(act.to_payment_id) if act.to_payment_id is not None else "",
    )


def _takings(sums: Takings) -> pb.FindPaymentsResponse.Takings:
    return pb.FindPaymentsResponse.Takings(
        payments=sums.payments,
        received=_money(int(sums.received)),
        returned_payments=sums.returned_payments,
        returned=_money(int(sums.returned)),
    )


def _money(shillings: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code=CURRENCY, units=shillings)
