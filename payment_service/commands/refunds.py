"""`payment-service refunds`: a trip is refunded from a list of its bookings, or one payment by itself.

A client of the running service.
"""

import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from payment_service.commands import trip_screens as screens
from payment_service.commands.account import account
from payment_service.commands.asking import As, Name, Output, Reason, Service, confirm, operations, reached
from payment_service.commands.booking_list import ListedBooking, harmless, load_bookings
from payment_service.commands.lines import show_line
from payment_service.commands.trip_plan import WENT_BACK, Float, Passenger, covered, sum_of, to_ask_for
from payment_service.commands.trip_run import Act, LineWrong, TripRun, floats_of, go_through, look_at, plan
from runtime.serving import StartRefused, refuse, run

INTERRUPTED = 130
"""The exit code of a program that was ended from the keyboard."""

refunds = typer.Typer(no_args_is_help=True, help="Refund a trip or one payment. Asks the running service.")

File = Annotated[Path, typer.Option("--file", help="CSV in UTF-8 with the one column booking_id.")]


Caller = Annotated[
    str, typer.Option("--caller", help="Whose bookings they are; needed where several callers have one of the same id.")
]


FeePercent = Annotated[
    int,
    typer.Option("--fee-percent", min=0, max=99, help="What is kept of each payment; rounded down to shillings."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


class _NotAll(Exception):
    """Not every booking is refunded."""


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How an operator wants it done."""

    yes: bool
    output: Output
    dry_run: bool = False
    per_minute: int = 120


@refunds.command("start")
def start(
    file: File,
    reason: Reason,
    caller: Caller = "",
    fee_percent: FeePercent = 0,
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=1, max=600, help="How many refunds are asked for in a minute, at most.")
    ] = 120,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Yes = False,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Send the money of a trip's bookings back: looked at first, asked about once, then a few at a time.

    Safe to start again with the same file, after a kill or beside a run of somebody else: each payment is refunded
    once. Exit code 1 where not every booking is refunded by the end.
    """
    bookings = _bookings(file)
    act = Act(operator or account(), caller, reason, fee_percent)
    where = reached(service)

    async def refund() -> None:
        async with operations(where) as stub:
            trip = await plan(stub, bookings, act)
            what = f"{len(trip)} bookings in {harmless(file.name)}"
            await _send_back(stub, act, what, trip, _Wishes(yes, output, dry_run, per_minute))

    _run_to_the_end(refund())


@refunds.command("one")
def one(
    booking: Annotated[str, typer.Option("--booking", help="The booking.")],
    reason: Reason,
    payment: Annotated[
        str, typer.Option("--payment", help="Id of its payment; needed where more than one holds money.")
    ] = "",
    caller: Caller = "",
    fee_percent: FeePercent = 0,
    yes: Yes = False,
    operator: Name = None,
    service: Service = None,
    output: As = Output.TEXT,
) -> None:
    """Send the money of one payment back, also of a booking of which several hold money.

    Safe to start again: the payment is refunded once. Exit code 1 where it is not refunded by the end.
    """
    act = Act(operator or account(), caller, reason, fee_percent, payment)
    where = reached(service)

    async def refund() -> None:
        async with operations(where) as stub:
            try:
                found = await look_at(stub, ListedBooking(0, booking), act, only_look=True)
            except LineWrong as error:
                raise StartRefused(str(error)) from error
            await _send_back(stub, act, f"booking {harmless(booking)}", {booking: found}, _Wishes(yes, output))

    _run_to_the_end(refund())


async def _send_back(stub: Any, act: Act, what: str, trip: dict[str, Passenger], wishes: _Wishes) -> None:
    """Show what would go back, ask once, and send it; raises _NotAll where not all has gone by the end."""
    floats = await floats_of(stub, trip.values(), act)
    wanted = covered(trip.values(), floats)
    to_send, left_out = sum_of(wanted), sum_of(set(to_ask_for(trip.values())) - set(wanted))
    if wishes.dry_run and wishes.output is Output.JSON:
        _report(trip, floats, "", wishes.output)
    else:
        _show(screens.plan_lines(what, list(trip.values())), wishes.output)
        _show(screens.float_lines(floats, left_out), wishes.output)
    if wishes.dry_run:
        return
    if to_send.bookings and not wishes.yes:
        confirm(screens.question(to_send, act.reason))
    running = TripRun(stub, act, wishes.per_minute, trip, wanted, _Progress())
    left = await go_through(running, floats)
    stopped = running.stopped or ("The float covers no more." if left else "")
    _report(trip, floats, stopped, wishes.output)
    if sum_of(trip.values(), *WENT_BACK).bookings < len(trip):
        raise _NotAll


def _run_to_the_end(refund: Coroutine[Any, Any, None]) -> None:
    """Run it; the exit code says whether all has gone back."""
    try:
        run(refund)
    except _NotAll:
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"Interrupted. What has been asked for goes on. {screens.AGAIN}\n")
        raise typer.Exit(INTERRUPTED) from None


@refunds.command("show")
def show(file: File, caller: Caller = "", service: Service = None, output: As = Output.TEXT) -> None:
    """Show how the money of each booking of a list stands. Changes nothing."""
    bookings = _bookings(file)
    where = reached(service)

    async def look() -> None:
        async with operations(where) as stub:
            trip = await plan(stub, bookings, Act(caller=caller))
        if output is Output.JSON:
            _report(trip, {}, "", output)
        else:
            _show(screens.passenger_lines(list(trip.values())), output)

    run(look())


def _bookings(file: Path) -> list[ListedBooking]:
    try:
        return load_bookings(file)
    except StartRefused as refusal:
        refuse(refusal)


class _Progress:
    """Says how far a run is, each time that something has changed."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, trip: Sequence[Passenger]) -> None:
        line = screens.progress_line(trip)
        if line != self._said:
            self._said = line
            sys.stderr.write(f"{line}\n")


def _report(trip: Mapping[str, Passenger], floats: Mapping[str, Float], stopped: str, output: Output) -> None:
    found = list(trip.values())
    if output is Output.JSON:
        sys.stdout.write(screens.as_json(found, floats, stopped) + "\n")
    else:
        _show(screens.report_lines(found, stopped), output)


def _show(lines: Iterable[str], output: Output) -> None:
    """Lines for people; beside a report for programs they go the other way."""
    console = Console(stderr=output is Output.JSON)
    for line in lines:
        show_line(console, line)
