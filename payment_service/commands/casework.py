"""`payment-service cases`, `payments` and `prompts`: clients of the running service, without a database and keys.

What an operator decides is asked for once, with the case shown, before it is done; or it is taken as said with --yes
and the etag of what was shown before. The service refuses a decision on an old picture.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from mpesa_payments.v1 import operations_service_pb2 as pb
from rich.console import Console

from payment_service.commands import case_screens as screens
from payment_service.commands.account import account
from payment_service.commands.asking import CALL_SECONDS, As, Name, Output, Reason, Service, ask, confirm, next_line
from runtime.serving import StartRefused, refuse

cases = typer.Typer(no_args_is_help=True, help="Settle what no evidence decides. Asks the running service.")
payments = typer.Typer(no_args_is_help=True, help="Find payments of any caller. Asks the running service.")

prompts = typer.Typer(
    no_args_is_help=True, help="Stop all new prompts, and allow them again. Asks the running service."
)


class Resolution(StrEnum):
    """How a case is settled."""

    ACCEPT = "accept"
    DISMISS = "dismiss"
    RETURN = "return"
    REFUNDED = "refunded"
    NOT_REFUNDED = "not-refunded"
    MOVE = "move"


Case = Annotated[str, typer.Argument(help="A case's id.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking; takes --etag as well.")]
Etag = Annotated[str | None, typer.Option(help="Of the case as you have seen it: `cases show` prints it.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many at most.")]


@cases.command("list")
def list_cases(
    kind: Annotated[str | None, typer.Option(help="Only this kind, for example LATE_PAYMENT.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only those that this operator looks after.")] = None,
    booking: Annotated[str | None, typer.Option(help="Only those about this booking.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those whose deadline is over.")] = False,
    limit: Limit = 100,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """List the open cases, those that are due first at the front."""
    asked = pb.ListCasesRequest(owner=owner or "", booking_id=booking or "", overdue=overdue, page_size=limit)
    if kind is not None:
        asked.kind = _kind(kind)
    ask(service, lambda stub: stub.ListCases(asked, timeout=CALL_SECONDS), output, screens.show_cases)


@cases.command("show")
def show_case(case: Case, service: Service = None, output: As = Output.TEXT) -> None:
    """Show one case: what is known, what to look at, and how it can be settled. Numbers are masked."""
    asked = pb.GetCaseRequest(case_id=case)
    ask(service, lambda stub: stub.GetCase(asked, timeout=CALL_SECONDS), output, screens.show_case)


@cases.command("take")
def take_case(
    case: Case,
    reason: Reason,
    yes: Yes = False,
    etag: Etag = None,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Look after a case from now on, so that nobody else works on it. Shows it and asks once before."""

    async def take(stub: Any) -> pb.TakeCaseResponse:
        seen = await _seen(stub, case, etag, yes, screens.question_whether_to_take)
        asked = pb.TakeCaseRequest(case_id=case, etag=seen, operator=operator or account(), reason=reason)
        taken: pb.TakeCaseResponse = await stub.TakeCase(asked, timeout=CALL_SECONDS)
        return taken

    ask(service, take, output, screens.show_taken)


@cases.command("resolve")
def resolve_case(
    case: Case,
    resolution: Annotated[Resolution, typer.Argument(help="What you decide.", case_sensitive=False)],
    reason: Reason,
    receipt: Annotated[
        str | None,
        typer.Option(help="The M-Pesa receipt of the money where the case names none, or of what went back."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="With move: the id of the payment it belongs to.")] = None,
    yes: Yes = False,
    etag: Etag = None,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Settle a case, or send its money back. Shows it and asks once before; the booking is told what follows."""

    async def resolve(stub: Any) -> pb.ResolveCaseResponse:
        seen = await _seen(stub, case, etag, yes, lambda file: screens.question(file, resolution.value, receipt, to))
        asked = pb.ResolveCaseRequest(
            case_id=case,
            etag=seen,
            resolution=pb.CaseResolution.Value(f"CASE_RESOLUTION_{resolution.name}"),
            operator=operator or account(),
            reason=reason,
            mpesa_receipt_number=receipt or "",
            to_payment_id=to or "",
        )
        settled: pb.ResolveCaseResponse = await stub.ResolveCase(asked, timeout=CALL_SECONDS)
        return settled

    ask(service, resolve, output, screens.show_resolved)


@payments.command("find")
def find_payments(
    phone: Annotated[str | None, typer.Option(help="The payer's number; - reads it from the next line.")] = None,
    receipt: Annotated[str | None, typer.Option(help="An M-Pesa receipt, also one in a case.")] = None,
    booking: Annotated[str | None, typer.Option(help="A booking.")] = None,
    reference: Annotated[str | None, typer.Option(help="A payment's short id.")] = None,
    request_id: Annotated[str | None, typer.Option(help="A request id.")] = None,
    completed_on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day in Nairobi: what did we take?")
    ] = None,
    limit: Limit = 50,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Find payments by one thing that is known of them, with their cases. Numbers are masked."""
    asked = pb.FindPaymentsRequest(page_size=limit)
    known = {"phone_number": phone, "mpesa_receipt_number": receipt, "booking_id": booking, "reference": reference}
    given = {name: value for name, value in {**known, "request_id": request_id}.items() if value is not None}
    if len(given) + (completed_on is not None) != 1:
        refuse(StartRefused("Give one of --phone, --receipt, --booking, --reference, --request-id, --completed-on."))
    for name, value in given.items():
        setattr(asked, name, next_line() if (name, value) == ("phone_number", "-") else value)
    if completed_on is not None:
        midnight = completed_on.replace(tzinfo=UTC) - _NAIROBI_AHEAD
        asked.complete_time.from_time.FromDatetime(midnight)
        asked.complete_time.before_time.FromDatetime(midnight + timedelta(days=1))
    ask(service, lambda stub: stub.FindPayments(asked, timeout=CALL_SECONDS), output, screens.show_found)


@prompts.command("show")
def show_prompts(service: Service = None, output: As = Output.TEXT) -> None:
    """Show whether new prompts are stopped, by whom and why."""
    asked = pb.GetPromptSwitchRequest()
    ask(service, lambda stub: stub.GetPromptSwitch(asked, timeout=CALL_SECONDS), output, screens.show_prompt_switch)


@prompts.command("stop")
def stop_prompts(
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Stop all new prompts, of all callers. Payments that exist go on: a prompt that is on a phone can be paid."""
    _turn(pb.TurnPromptSwitchRequest.TURN_STOP, "Stop all new prompts?", reason, yes, operator, service, output)


@prompts.command("allow")
def allow_prompts(
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Allow new prompts again."""
    _turn(pb.TurnPromptSwitchRequest.TURN_ALLOW, "Allow new prompts again?", reason, yes, operator, service, output)


def _turn(
    turn: "pb.TurnPromptSwitchRequest.Turn.ValueType",
    question: str,
    reason: str,
    yes: bool,
    operator: str | None,
    service: str | None,
    output: Output,
) -> None:
    async def turn_switch(stub: Any) -> pb.TurnPromptSwitchResponse:
        if not yes:
            confirm(question)
        asked = pb.TurnPromptSwitchRequest(turn=turn, operator=operator or account(), reason=reason)
        turned: pb.TurnPromptSwitchResponse = await stub.TurnPromptSwitch(asked, timeout=CALL_SECONDS)
        switch = turned.prompt_switch
        if switch.stopped != (turn == pb.TurnPromptSwitchRequest.TURN_STOP):
            raise StartRefused(f"{switch.operator} has turned the switch back at the same moment: {switch.reason}")
        return turned

    ask(service, turn_switch, output, screens.show_prompt_switch)


_NAIROBI_AHEAD = timedelta(hours=3)


async def _seen(
    stub: Any, case: str, etag: str | None, yes: bool, question: Callable[[pb.GetCaseResponse], str]
) -> str:
    """The etag of what the operator decides on: it was shown before, or is shown now."""
    if yes:
        if etag is None:
            raise StartRefused(
                "--yes decides on what you have seen before: give its --etag, which `cases show` prints."
            )
        return etag
    file: pb.GetCaseResponse = await stub.GetCase(pb.GetCaseRequest(case_id=case), timeout=CALL_SECONDS)
    screens.show_case(Console(stderr=True), file)
    confirm(question(file))
    return etag or file.case.etag


def _kind(name: str) -> "pb.CaseKind.ValueType":
    try:
        return pb.CaseKind.Value(f"CASE_KIND_{name.upper()}")
    except ValueError:
        known = ", ".join(one.removeprefix("CASE_KIND_") for one in pb.CaseKind.keys()[1:])
        refuse(StartRefused(f"--kind has to be one of {known}."))
