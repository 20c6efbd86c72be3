"""`payment-service audit`: what the log was is kept outside the database, and compared with what it is. Reads only."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from payment_service.anchor_file import AnchorTools, anchor_days, load_anchors
from payment_service.application.inspecting.anchors import DAY, broken_chains, contradictions
from payment_service.commands.inspect import NotAllHolds, reading
from payment_service.commands.screens import show_line
from payment_service.config import AuditSettings
from payment_service.credentials import open_keys
from payment_service.store.audit import moment
from runtime.logs import configure_logs
from runtime.serving import StartRefused, refuse, run

SHOWN_MAX = 20
"""Findings of the chains: enough to see what they have in common. All of them are counted."""

audit = typer.Typer(no_args_is_help=True, help="Show that nobody has altered the log of payments.")

Anchors = Annotated[
    Path | None, typer.Option("--anchors", help="The file of anchors; else PAYMENTS_AUDIT_ANCHOR_FILE.")
]


@audit.command("anchor")
def anchor(file: Anchors = None) -> None:
    """Append a line about each day that is over to the file of anchors; run it daily, or let the service do it."""
    run(append(_settings(file), Console()))


@audit.command("verify")
def verify(file: Anchors = None) -> None:
    """Find events that were edited, removed or inserted, and payments that are gone; exit code 1 if there are any."""
    try:
        run(compare(_settings(file), Console()))
    except NotAllHolds:
        raise typer.Exit(1) from None


async def append(settings: AuditSettings, console: Console) -> None:
    """Append what is due, and say it."""
    path, ring = _path(settings), open_keys(settings.keys_file).chain
    count = await anchor_days(AnchorTools(path, settings.database_url.get_secret_value(), ring))
    anchors = load_anchors(path)
    upto = f"up to {anchors[-1].day}" if anchors else "so far"
    show_line(console, f"{count} days were anchored; {path} has {len(anchors)} days, {upto}.")


async def compare(settings: AuditSettings, console: Console) -> None:
    """Show every contradiction; NotAllHolds if there is one."""
    keys, payments, shown, wrong = open_keys(settings.keys_file), 0, 0, 0
    anchors = load_anchors(_path(settings))
    async with reading(settings, keys) as conn:
        async for count, findings in broken_chains(conn, keys.chain):
            payments, wrong = payments + count, wrong + len(findings)
            for finding in findings[: SHOWN_MAX - shown]:
                show_line(console, f"ALTERED  {finding}")
            shown = min(SHOWN_MAX, shown + len(findings))
        async for finding in contradictions(conn, keys.chain, anchors, await moment(conn)):
            wrong += 1
            show_line(console, f"ALTERED  {finding}")
    since = f"{anchors[-1].day + DAY} UTC" if anchors else "the beginning"
    says = f"{wrong} contradictions" if wrong else "nothing was altered"
    show_line(console, f"{payments} payments and {len(anchors)} days: {says}.")
    show_line(console, f"What came since {since} has no anchor yet.")
    if wrong:
        raise NotAllHolds


def _path(settings: AuditSettings) -> Path:
    if settings.audit_anchor_file is None:
        raise StartRefused("Name the file of anchors, with --anchors or PAYMENTS_AUDIT_ANCHOR_FILE.")
    return settings.audit_anchor_file


def _settings(file: Path | None) -> AuditSettings:
    try:
        settings = AuditSettings.load(audit_anchor_file=file)
    except StartRefused as refusal:
        refuse(refusal)
    configure_logs("payment-service", "WARNING")
    return settings
