"""What `payment-service audit` does: anchors are appended, and the log is compared with them."""

from pathlib import Path

from rich.console import Console

from payment_service.anchor_file import AnchorTools, anchor_days, load_anchors
from payment_service.application.inspecting.anchors import DAY, broken_chains, contradictions
from payment_service.commands.inspect import NotAllHolds, reading
from payment_service.commands.lines import show_line
from payment_service.config import AuditSettings
from payment_service.credentials import open_keys
from payment_service.store.audit import moment
from runtime.serving import StartRefused

SHOWN_MAX = 20
"""Findings of the chains: enough to see what they have in common. All of them are counted."""


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
