"""`payment-service risk`: the rules against unwanted prompts, and the list of phones. A client of the running service.

A number is given as an argument, or as - and on the next line: an argument stands in the shell's history.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from mpesa_payments.v1 import operations_service_pb2 as pb
from rich.console import Console

from payment_service.commands.account import account
from payment_service.commands.asking import CALL_SECONDS, As, Name, Output, Reason, Service, ask, next_line
from payment_service.commands.case_screens import at
from payment_service.commands.lines import show_line

risk = typer.Typer(
    no_args_is_help=True, help="Look after the rules against unwanted prompts. Asks the running service."
)

Phone = Annotated[str, typer.Argument(help="The number; - reads it from the next line.")]
Days = Annotated[int | None, typer.Option(min=1, max=3_650, help="For how many days; without it, until it is removed.")]


@risk.command("show")
def show_risk(
    phone: Annotated[
        str | None, typer.Option(help="All that was ever said about this number; - reads it from the next line.")
    ] = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Show the rules, what each has refused in the last day, and which phones are on the list."""
    asked = pb.GetRiskRequest(phone_number=_number(phone) if phone else "")
    ask(service, lambda stub: stub.GetRisk(asked, timeout=CALL_SECONDS), output, _show_risk)


@risk.command("block")
def block_phone(
    phone: Phone,
    reason: Reason,
    days: Days = None,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Send no prompt to a phone, whoever asks. Those that are out already can be paid."""
    _list(pb.RISK_VERDICT_BLOCK, phone, reason, days, operator, service, output)


@risk.command("allow")
def allow_phone(
    phone: Phone,
    reason: Reason,
    days: Days = None,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Let no rule about phones or bookings stand against a phone: that of a travel agent, say, or a test phone."""
    _list(pb.RISK_VERDICT_ALLOW, phone, reason, days, operator, service, output)


@risk.command("remove")
def remove_phone(
    phone: Phone, reason: Reason, operator: Name = None, service: Service = None, output: As = Output.TEXT
) -> None:
    """Take a phone off the list: the rules apply to it again."""
    _list(pb.RISK_VERDICT_NONE, phone, reason, None, operator, service, output)


def _list(
    verdict: "pb.RiskVerdict.ValueType",
    phone: str,
    reason: str,
    days: int | None,
    operator: str | None,
    service: str | None,
    output: Output,
) -> None:
    asked = pb.ListPhoneRequest(
        phone_number=_number(phone), verdict=verdict, operator=operator or account(), reason=reason
    )
    if days is not None:
        asked.until_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))

    async def list_phone(stub: Any) -> pb.ListPhoneResponse:
        listed: pb.ListPhoneResponse = await stub.ListPhone(asked, timeout=CALL_SECONDS)
        return listed

    ask(service, list_phone, output, lambda console, answer: show_line(console, _turn(answer.turn)))


def _number(phone: str) -> str:
    return next_line() if phone == "-" else phone


def _show_risk(console: Console, answer: pb.GetRiskResponse) -> None:
    for line in _lines(answer):
        show_line(console, line)


def _lines(answer: pb.GetRiskResponse) -> Iterator[str]:
    for rule in answer.rules:
        limits = ", ".join(f"{limit.most} in {limit.within.ToTimedelta()}" for limit in rule.limits)
        counted = f"refused {rule.refused}, in shadow {rule.in_shadow} in the last day"
        yield f"{rule.name:17} {rule.mode:8} {limits or '-':28} {counted}"
    yield from (_turn(turn) for turn in answer.turns)
    if not answer.turns:
        yield "Nothing is on the list."


_SAID = {pb.RISK_VERDICT_BLOCK: "blocked", pb.RISK_VERDICT_ALLOW: "allowed", pb.RISK_VERDICT_NONE: "not on the list"}


def _turn(turn: pb.RiskListTurn) -> str:
    until = f" until {at(turn.until_time)}" if turn.HasField("until_time") else ""
    said = f"since {at(turn.list_time)}, by {turn.operator}: {turn.reason}"
    return f"Phone {turn.fingerprint} is {_SAID.get(turn.verdict, 'listed')}{until}, {said}"
