"""`payment-service privacy`: what is kept about a person, given out. A client of the running service.

A number is given as an argument, or as - and on the next line: an argument stands in the shell's history.
"""

import json
import sys
from typing import Annotated, Any

import typer
from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.commands.account import account
from payment_service.commands.asking import CALL_SECONDS, Name, Reason, Service, next_line, operations, reached
from runtime.serving import StartRefused, refuse, run

privacy = typer.Typer(no_args_is_help=True, help="Give out what is kept about a person. Asks the running service.")


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
