"""What operators see of cases and of payments that were found: plain lines, which other programs can search.

Made from the service's answers alone, which hold no phone number in clear.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.money_pb2 import Money
from rich.console import Console

from payment_service.commands.lines import show_line
from runtime.enum_names import short

_NAIROBI = timezone(timedelta(hours=3), "EAT")


def show_cases(console: Console, answer: pb.ListCasesResponse) -> None:
    """One line for each case, and what to type next."""
    _show(console, [_case_line(case) for case in answer.cases] or ["There is none."])
    if answer.next_page_token:
        _show(console, ["There are more than are shown here: --limit shows more of them."])


def show_case(console: Console, answer: pb.GetCaseResponse) -> None:
    """All that is needed to decide."""
    case = answer.case
    _show(console, [f"Case {case.case_id}, {_standing(case)}", *_about(case), f"  {case.advice}"])
    for attempt in answer.attempts:
        _show(console, _payment(attempt, mine=attempt.payment.payment_id == case.payment_id))
    for evidence in answer.evidence:
        _show(console, [f"  {at(evidence.receive_time)}  {evidence.what}:", f"    {evidence.body}"])
    _show(console, map(_act, answer.acts))
    if not case.HasField("settle_time"):
        _show(console, _ways(case))


def show_taken(console: Console, answer: pb.TakeCaseResponse) -> None:
    """Whose it is now."""
    _show(console, [f"Case {answer.case.case_id} is {answer.case.owner}'s now.", *_ways(answer.case)])


def show_resolved(console: Console, answer: pb.ResolveCaseResponse) -> None:
    """What the decision has led to."""
    case = answer.case
    _show(console, [f"Case {case.case_id}, {_standing(case)}"])
    for attempt in answer.attempts:
        _show(console, _payment(attempt, mine=attempt.payment.payment_id == case.payment_id))
    if answer.HasField("approval"):
        _show(console, waits(answer.approval))


def waits(approval: pb.Approval) -> list[str]:
    """That nothing was done yet, and what a second person types."""
    alone = f"  Nothing was done yet: one operator may not move {_money(approval.amount)} alone."
    return [
        f"{alone} A second one has to agree, with a certificate of their own:",
        f"  payment-service approvals approve {approval.approval_id} --reason …",
    ]


def show_approvals(console: Console, answer: pb.ListApprovalsResponse) -> None:
    """One line for each approval that waits."""
    _show(console, [_approval_line(one) for one in answer.approvals] or ["Nothing waits for a second operator."])
    if answer.next_page_token:
        _show(console, ["There are more than are shown here: --limit shows more of them."])


def show_approval(console: Console, answer: pb.GetApprovalResponse | pb.DecideApprovalResponse) -> None:
    """All that a second person needs to decide, or what has become of it."""
    one = answer.approval
    _show(console, [_approval_line(one)])
    for attempt in answer.attempts:
        _show(console, _payment(attempt, mine=attempt.payment.payment_id == one.payment_id))
    if one.state != pb.Approval.STATE_WAITING:
        return
    if one.changed:
        said = f"  It cannot be approved any more, since this has changed: {', '.join(one.changed)}."
        _show(console, [said, "  Refuse or withdraw it, and ask for it anew if it is still right."])
        return
    way = f"payment-service approvals approve {one.approval_id} --reason …"
    _show(console, [f"  To do it: {way}, or refuse. {one.asked_by} can withdraw it, and nothing else."])


def approval_question(one: pb.Approval) -> str:
    """What a second person is asked once, before it is done."""
    money = f"{_money(one.amount)}, receipt {one.mpesa_receipt_number}, of booking {one.booking_id}"
    if one.to_payment_id:
        where = f"to payment {one.to_payment_id} of booking {one.to_booking_id}"
        return f"Move {money} {where}, as {one.asked_by} has asked for ({one.ask_reason})?"
    return f"Send {money} back to its payer, as {one.asked_by} has asked for ({one.ask_reason})?"


def _approval_line(one: pb.Approval) -> str:
    state = short("STATE_", pb.Approval.State.DESCRIPTOR, one.state)
    act = short("ACT_", pb.Approval.Act.DESCRIPTOR, one.act)
    money = (
        f"{act} of {_money(one.amount)}, receipt {one.mpesa_receipt_number}, booking {one.booking_id} of {one.caller}"
    )
    of_case = f", to payment {one.to_payment_id} of booking {one.to_booking_id}" if one.to_payment_id else ""
    of_case += f", case {one.case_id}" if one.case_id else ""
    asked = f"asked for by {one.asked_by} (as {one.asker}) {at(one.ask_time)}: {one.ask_reason}"
    decided = ""
    if one.HasField("decide_time"):
        decided = f"; by {one.decided_by} (as {one.decider}) {at(one.decide_time)}: {one.decide_reason}"
    return f"{one.approval_id}  {state}  {money}{of_case}; {asked}{decided}"


def show_prompt_switch(console: Console, answer: pb.GetPromptSwitchResponse | pb.TurnPromptSwitchResponse) -> None:
    """Whether new prompts are stopped, and who has said so."""
    switch = answer.prompt_switch
    standing = "New prompts are stopped" if switch.stopped else "New prompts are allowed"
    said = f", since {at(switch.turn_time)}, by {switch.operator}: {switch.reason}" if switch.operator else "."
    _show(console, [standing + said])


def show_found(console: Console, answer: pb.FindPaymentsResponse) -> None:
    """The payments, each with its cases, then the cases about none of them."""
    for found in answer.payments:
        _show(console, _payment(found, mine=True))
        mine = [case for case in answer.cases if case.payment_id == found.payment.payment_id]
        _show(console, [f"    {_case_line(case)}" for case in mine])
    known = {found.payment.payment_id for found in answer.payments}
    _show(console, [_case_line(case) for case in answer.cases if case.payment_id not in known])
    if not answer.payments and not answer.cases:
        _show(console, ["There is none."])
    if answer.HasField("takings"):
        sums = answer.takings
        gone = f"of these {sums.returned_payments}, {_money(sums.returned)}, have gone back"
        _show(console, [f"{sums.payments} payments, {_money(sums.received)} received; {gone}."])
    if answer.next_page_token:
        _show(console, ["There are more than are shown here: --limit shows more of them."])


def question(seen: pb.GetCaseResponse, resolution: str, receipt: str | None, to: str | None) -> str:
    """What an operator is asked once, before it is done."""
    case = seen.case
    money = _money(case.amount) if case.HasField("amount") else "the money"
    named = receipt or case.mpesa_receipt_number
    of = f", receipt {named}," if named else ""
    mine = next((one.payment for one in seen.attempts if one.payment.payment_id == case.payment_id), None)
    payment = f"booking {case.booking_id}, which has {_name(mine)} now" if mine is not None else "no payment"
    if resolution == "accept":
        return f"Accept {money}{of} for {payment}?"
    if resolution in ("refunded", "not-refunded"):
        back = f"has gone back by {receipt}" if resolution == "refunded" else "has not gone back and never will"
        return f"Say for ever that refund {case.refund.refund_id} of {_money(case.refund.amount)} {back}?"
    if resolution == "return":
        return f"Send {money}{of} back to the payer, and away from {payment}?"
    if resolution == "move":
        return f"Ask a second operator to move {money}{of} from {payment} to payment {to or '(none)'}?"
    return f"Dismiss case {_kind(case)} about {money}{of} and {payment}?"


def question_whether_to_take(seen: pb.GetCaseResponse) -> str:
    """The same, of taking the case."""
    now = f", which {seen.case.owner} has now" if seen.case.owner else ""
    return f"Look after case {_kind(seen.case)} of booking {seen.case.booking_id}{now}?"


def _case_line(case: pb.Case) -> str:
    return f"{case.case_id}  {_standing(case)}  {'; '.join(part.strip() for part in _about(case))}"


def _standing(case: pb.Case) -> str:
    kind = f"{_kind(case)}{', about money' if case.about_money else ''}"
    if not case.HasField("settle_time"):
        owner = f", {case.owner} has it" if case.owner else ", nobody has it"
        return f"{kind}, open, due {at(case.deadline_time)}{owner}"
    way = short("CASE_RESOLUTION_", pb.CaseResolution.DESCRIPTOR, case.resolution)
    by_itself = case.resolution == pb.CASE_RESOLUTION_UNSPECIFIED
    return f"{kind}, {'ended by itself' if by_itself else f'settled: {way}'} {at(case.settle_time)}"


def _about(case: pb.Case) -> list[str]:
    money = [_money(case.amount)] if case.HasField("amount") else []
    money += [f"receipt {case.mpesa_receipt_number}"] if case.mpesa_receipt_number else []
    payment = f"booking {case.booking_id} of {case.caller}" if case.payment_id else f"no payment for {case.reference}"
    lines = [f"  opened {at(case.open_time)}, {payment}", *([f"  {', '.join(money)}"] if money else [])]
    if case.approval_id:
        who = f"{case.approval_asked_by} has asked, and a second operator has to agree"
        lines.append(f"  {who}: payment-service approvals show {case.approval_id}")
    return [*lines, _refund_of_case(case.refund)] if case.HasField("refund") else lines


def _refund_of_case(refund: pb.CaseRefund) -> str:
    """How far the money is on its way back, in a sentence."""
    state = short("STATE_", pb.CaseRefund.State.DESCRIPTOR, refund.state)
    code = f", M-Pesa said {refund.provider_result_code}" if refund.provider_result_code else ""
    since = f"ended {at(refund.end_time)}" if refund.HasField("end_time") else f"begun {at(refund.request_time)}"
    return f"  refund {refund.refund_id} of {_money(refund.amount)} is {state}{code}, {since}"


def _ways(case: pb.Case) -> list[str]:
    under_way = case.HasField("refund") and not case.refund.HasField("end_time")
    if under_way and case.kind != pb.CASE_KIND_REFUND:
        return ["  The money is on its way back: the case ends once that is proven, and comes back if it fails."]
    ways = [_typed(way) for way in case.allowed_resolutions]
    if not ways:
        return []
    usual, *others = ways
    also = f", or {' or '.join(others)}" if others else ""
    also += " (move with --to PAYMENT)" if "move" in ways else ""
    return [f"  To settle it: payment-service cases resolve {case.case_id} {usual} --etag {case.etag} --reason …{also}"]


def _typed(way: pb.CaseResolution.ValueType) -> str:
    """A resolution as it is typed."""
    return short("CASE_RESOLUTION_", pb.CaseResolution.DESCRIPTOR, way).lower().replace("_", "-")


def _payment(found: pb.FoundPayment, *, mine: bool) -> list[str]:
    payment = found.payment
    attempt = f"  {'Payment' if mine else 'Another attempt'} {payment.payment_id}, reference {payment.reference}"
    money = f"receipt {payment.mpesa_receipt_number}" if payment.mpesa_receipt_number else "no receipt"
    late = ", paid late" if payment.paid_late else ""
    certain = "certain" if payment.outcome_certain else "not certain"
    completed = f", money since {at(payment.complete_time)}" if payment.HasField("complete_time") else ""
    return [
        f"{attempt}, for booking {payment.booking_id} of {found.caller}, attempt {payment.attempt}",
        f"    {_money(payment.amount)} from {payment.masked_phone}; {money}{late}; {_name(payment)}, {certain}",
        f"    asked for {at(payment.create_time)}{completed}",
        *map(_refund, payment.refunds),
        f"    the passenger reads: {payment.customer_message} Next: {_next(payment)}",
    ]


def _next(payment: payment_pb2.Payment) -> str:
    """What the passenger does next, and not before when."""
    step = short("NEXT_STEP_", payment_pb2.NextStep.DESCRIPTOR, payment.next_step).replace("_", " ").lower()
    from_then = payment.HasField("retry_allowed_time") and payment.next_step == payment_pb2.NEXT_STEP_TRY_AGAIN
    return f"{step}, from {at(payment.retry_allowed_time)} on" if from_then else step


def _refund(refund: payment_pb2.Refund) -> str:
    status = short("REFUND_STATUS_", payment_pb2.RefundStatus.DESCRIPTOR, refund.status)
    reason = short("REFUND_REASON_", payment_pb2.RefundReason.DESCRIPTOR, refund.reason)
    ended = f" {at(refund.end_time)}" if refund.HasField("end_time") else ""
    return f"    refund of {_money(refund.amount)} asked for {at(refund.request_time)}, {reason}: {status}{ended}"


def _name(payment: payment_pb2.Payment) -> str:
    status = short("PAYMENT_STATUS_", payment_pb2.PaymentStatus.DESCRIPTOR, payment.status)
    action = short("BOOKING_ACTION_", payment_pb2.BookingAction.DESCRIPTOR, payment.booking_action)
    reason = short("STATUS_REASON_", payment_pb2.StatusReason.DESCRIPTOR, payment.status_reason)
    why = f" ({reason})" if payment.status_reason else ""
    return f"{status}{why}, booking action {action}"


def _act(act: pb.CaseAct) -> str:
    kind = short("KIND_", pb.CaseAct.Kind.DESCRIPTOR, act.kind)
    receipt = f", receipt {act.mpesa_receipt_number}" if act.mpesa_receipt_number else ""
    receipt += f", to payment {act.to_payment_id}" if act.to_payment_id else ""
    return f"  {at(act.act_time)}  {kind} by {act.operator}{receipt}: {act.reason}"


def _kind(case: pb.Case) -> str:
    return short("CASE_KIND_", pb.CaseKind.DESCRIPTOR, case.kind)


def _money(money: Money) -> str:
    return f"{money.currency_code} {money.units}"


def at(stamp: Timestamp) -> str:
    """As people in Kenya read a clock, and said so."""
    moment: datetime = stamp.ToDatetime(UTC)
    return f"{moment.astimezone(_NAIROBI):%Y-%m-%d %H:%M} EAT"


def _show(console: Console, lines: Iterable[str] | Sequence[str]) -> None:
    for line in lines:
        show_line(console, line)
