"""`payment-service privacy`: what is kept about a person is given out, or taken away. A client of the running service.

A number is given as an argument, or as - and on the next line: an argument stands in the shell's history.
"""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from mpesa_payments.v1 import operations_service_pb2 as pb
from rich.console import Console

from payment_service.commands.account import account
from payment_service.commands.asking import CALL_SECONDS, Name, Reason, Service, confirm, next_line, operations, reached
from payment_service.commands.lines import show_line
from runtime.serving import StartRefused, refuse, run

privacy = typer.Typer(
    no_args_is_help=True, help="Give out what is kept about a person, or erase it. Asks the running service."
)

STAYS = """What stays, and why:
- The payments, without the number: amounts, times, states, receipts, refunds, cases, chained log. Accounts need them.
- Keyed digests of callback bodies, by which the same callback is known again. Nobody can make a number of one.
- Pages of M-Pesa's books, encrypted, each with rows of many payers: deleted after PAYMENTS_KEEP_EXCHANGES_DAYS.
- What a gateway has not delivered yet, encrypted: erased once it is delivered. Empty rejected/ of its spool by hand.
- Copies in dead rows, WAL and backups, encrypted: until VACUUM FULL, until WAL is recycled, until a backup is deleted.
- What Safaricom and the booking service know: ask there."""


@privacy.command("export")
def export(
    reason: Reason,
    phone: Annotated[str | None, typer.Option(help="The person's number; - reads it from the next line.")] = None,
    booking: Annotated[str | None, typer.Option(help="A booking, where no number is known.")] = None,
    operator: Name = None,
    service: Service = None,
) -> None:
    """Write everything that is kept about a person as JSON, by table, in clear. That you did so is kept."""
    if (phone is None) == (booking is None):
        refuse(StartRefused("Give one of --phone and --booking."))
    asked = pb.ExportPersonRequest(operator=operator or account(), reason=reason)
    if phone is not None:
        asked.phone_number = next_line() if phone == "-" else phone
    else:
        asked.booking_id = booking or ""
    where = reached(service)

    async def every_page() -> None:
        async with operations(where) as stub:
            document = await _document(stub, asked)
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    run(every_page())


async def _document(stub: Any, asked: pb.ExportPersonRequest) -> dict[str, object]:
    act_id, tables = "", dict[str, list[object]]()
    while True:
        page: pb.ExportPersonResponse = await stub.ExportPerson(asked, timeout=CALL_SECONDS)
        act_id = act_id or page.act_id
        for record in page.records:
            tables.setdefault(record.table, []).append(json.loads(record.json))
        if not page.next_page_token:
            return {"act_id": act_id, "kept": tables}
        asked.page_token = page.next_page_token


@privacy.command("erase")
def erase(
    phone: Annotated[str, typer.Option(help="The person's number; - reads it from the next line.")],
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go and what stays.")] = False,
    operator: Name = None,
    service: Service = None,
) -> None:
    """Take a person's number out of everything that holds it; payments, receipts and sums stay, without it.

    Says first what would go. Not while a payment is under way, a case is open or the phone is blocked. Safe to repeat.
    """
    number = next_line() if phone == "-" else phone
    asked = pb.ErasePersonRequest(phone_number=number, operator=operator or account(), reason=reason)
    where, console = reached(service), Console()

    async def look_and_erase() -> None:
        async with operations(where) as stub:
            look = pb.ErasePersonRequest(validate_only=True)
            look.MergeFrom(asked)
            found: pb.ErasePersonResponse = await stub.ErasePerson(look, timeout=CALL_SECONDS)
            if not _would_go(console, found) or dry_run:
                return
            if found.bars:
                raise StartRefused("Nothing was erased.")
            if not yes:
                confirm("Erase it for good?")
            left = 1
            while left:
                done: pb.ErasePersonResponse = await stub.ErasePerson(asked, timeout=CALL_SECONDS)
                show_line(console, f"Erased from {done.payments} payments; kept as act {done.act_id}.")
                left = done.left

    run(look_and_erase())


def _would_go(console: Console, found: pb.ErasePersonResponse) -> bool:
    """Show what would go, what stays and what stands against it; whether there is anything to erase."""
    if not found.payments and not found.rules:
        show_line(console, "Nothing here names this number.")
        return False
    for line in (*_goes(found), *STAYS.splitlines()):
        show_line(console, line)
    if found.ids_with_number:
        spelled = f"- {found.ids_with_number} payments have a booking id or request id that spells the number"
        show_line(console, f"{spelled}: these are the caller's own names.")
    for bar in found.bars:
        show_line(console, f"Not yet: {bar}.")
    return True


def _goes(found: pb.ErasePersonResponse) -> Iterator[str]:
    more = " or more" if found.left else ""
    yield "What would go:"
    yield f"- The number of {found.payments + found.left} payments, with their requests and M-Pesa's ids of them."
    yield f"- The bodies of {found.callbacks} callbacks{more}, and {found.exchanges} exchanges with M-Pesa{more}."
    yield f"- The phone in {found.rules} decisions of rules and turns of the list."
    yield "- The way back by B2C: no part of such a payment can be refunded any more. The whole can, by reversal."
