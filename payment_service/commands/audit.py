"""`payment-service audit`: what the log was is kept outside the database, and compared with what it is. Reads only."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from payment_service.config import AuditSettings
from runtime.logs import configure_logs
from runtime.serving import StartRefused, refuse, run

audit = typer.Typer(no_args_is_help=True, help="Show that nobody has altered the log of payments.")

Anchors = Annotated[
    Path | None, typer.Option("--anchors", help="The file of anchors; else PAYMENTS_AUDIT_ANCHOR_FILE.")
]


@audit.command("anchor")
def anchor(file: Anchors = None) -> None:
    """Append a line about each day that is over to the file of anchors; run it daily, or let the service do it."""
    from payment_service.commands.audit_steps import append

    run(append(_settings(file), Console()))


@audit.command("verify")
def verify(file: Anchors = None) -> None:
    """Find events that were edited, removed or inserted, and payments that are gone; exit code 1 if there are any."""
    from payment_service.commands.audit_steps import compare
    from payment_service.commands.inspect import NotAllHolds

    try:
        run(compare(_settings(file), Console()))
    except NotAllHolds:
        raise typer.Exit(1) from None


def _settings(file: Path | None) -> AuditSettings:
    try:
        settings = AuditSettings.load(audit_anchor_file=file)
    except StartRefused as refusal:
        refuse(refusal)
    configure_logs("payment-service", "WARNING")
    return settings
