"""`payment-service consumers`: who follows the events under a name, and how far each is. A client of the service."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from mpesa_payments.v1 import operations_service_pb2 as pb
from rich.console import Console

from payment_service.commands.account import account
from payment_service.commands.asking import CALL_SECONDS, As, Name, Output, Reason, Service, ask
from payment_service.commands.case_screens import at
from payment_service.commands.lines import show_line
from runtime.serving import StartRefused, refuse

consumers = typer.Typer(
    no_args_is_help=True, help="Look after the programs that follow the events. Asks the running service."
)

Caller = Annotated[str, typer.Argument(help="Whose it is, as the list shows.")]
Consumer = Annotated[str, typer.Argument(help="Its name, as the list shows.")]


@consumers.command("list")
def list_consumers(service: Service = None, output: As = Output.TEXT) -> None:
    """List all named consumers and what each has not acknowledged, those furthest behind first."""
    asked = pb.ListConsumersRequest()
    ask(service, lambda stub: stub.ListConsumers(asked, timeout=CALL_SECONDS), output, _show_list)


@consumers.command("rewind")
def rewind_consumer(
    caller: Caller,
    consumer: Consumer,
    reason: Reason,
    minutes: Annotated[int | None, typer.Option(min=1, help="Everything of the last so many minutes.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"], help="Everything since then: 2026-11-28T09:30+03:00."
        ),
    ] = None,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Offer a consumer events again. What its own tables say it has done already, it does not do again."""
    if (minutes is None) == (since is None):
        refuse(StartRefused("Say from when on: with --minutes or with --since, not with both."))
    asked = pb.RewindConsumerRequest(caller=caller, consumer=consumer, operator=operator or account(), reason=reason)
    asked.from_time.FromDatetime(since or datetime.now(UTC) - timedelta(minutes=minutes or 0))

    async def rewind(stub: Any) -> pb.RewindConsumerResponse:
        rewound: pb.RewindConsumerResponse = await stub.RewindConsumer(asked, timeout=CALL_SECONDS)
        return rewound

    ask(service, rewind, output, lambda console, answer: show_line(console, _line(answer.consumer)))


@consumers.command("forget")
def forget_consumer(
    caller: Caller,
    consumer: Consumer,
    reason: Reason,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Remove a consumer that is no more, so that no alarm is raised about it."""
    asked = pb.ForgetConsumerRequest(caller=caller, consumer=consumer, operator=operator or account(), reason=reason)

    async def forget(stub: Any) -> pb.ForgetConsumerResponse:
        forgotten: pb.ForgetConsumerResponse = await stub.ForgetConsumer(asked, timeout=CALL_SECONDS)
        return forgotten

    ask(service, forget, output, lambda console, _: show_line(console, f"Forgotten: {consumer} of {caller}."))


def _show_list(console: Console, answer: pb.ListConsumersResponse) -> None:
    for one in answer.consumers:
        show_line(console, _line(one))
    if not answer.consumers:
        show_line(console, "There is none.")


def _line(one: pb.Consumer) -> str:
    events = "everybody's events" if one.follows_all else "its caller's events"
    behind = f"{one.lag_events} not acknowledged, the oldest for {one.lag.ToTimedelta()}"
    rewound = f"; moved back {at(one.rewind_time)}" if one.HasField("rewind_time") else ""
    rewound += ", which it has not heard of yet" if one.rewind_pending else ""
    lag = behind if one.lag_events else "up to date"
    return f"{one.consumer} of {one.caller} ({events}): {lag}; last word {at(one.acknowledge_time)}{rewound}"
