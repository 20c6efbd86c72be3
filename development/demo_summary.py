"""Holds what the stream said against the simulator's ledger, and both against how each story must end.

Two accounts of the same events, kept by programs that share no code, are joined by the reference that Daraja was given.
Decides what counts as a difference; any is a failed demonstration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpesa_payments.v1 import payment_pb2, payment_service_pb2
from rich import box
from rich.console import Console
from rich.table import Table

from development.demo_stories import Story
from development.view import reason_words, status_name
from runtime.enum_names import short


@dataclass(frozen=True, slots=True)
class Held:
    """What the simulator's ledger holds under one reference."""

    prompts: int = 0
    debited_kes: int = 0
    receipts: tuple[str, ...] = ()
    callbacks: int = 0
    callbacks_ok: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One story, by both accounts."""

    story: Story
    payment: payment_pb2.Payment | None
    held: Held
    differences: Sequence[str] = field(default_factory=tuple)


Streams = Mapping[str, Sequence[payment_pb2.PaymentEvent]]
Replies = Sequence[payment_service_pb2.InitiatePaymentResponse]


def by_reference(events: Iterable[payment_pb2.PaymentEvent]) -> dict[str, list[payment_pb2.PaymentEvent]]:
    streams: dict[str, list[payment_pb2.PaymentEvent]] = defaultdict(list)
    for event in events:
        streams[event.payment.reference].append(event)
    return streams


def held_by_reference(ledger: Mapping[str, Any]) -> dict[str, Held]:
    """The ledger's pushes, added up by the reference they carried."""
    held: dict[str, Held] = {}
    for push in ledger["pushes"]:
        before = held.get(push["account_reference"], Held())
        held[push["account_reference"]] = Held(
            prompts=before.prompts + push["prompted"],
            debited_kes=before.debited_kes + push["debited_kes"],
            receipts=(*before.receipts, *([push["receipt"]] if push["receipt"] else [])),
            callbacks=before.callbacks + len(push["callbacks"]),
            callbacks_ok=before.callbacks_ok + sum(callback["status"] == 200 for callback in push["callbacks"]),
        )
    return held


def compare(
    asked: Mapping[str, tuple[Story, Replies]], events: Iterable[payment_pb2.PaymentEvent], ledger: Mapping[str, Any]
) -> tuple[list[Row], list[str]]:
    """A row per story (`asked` is by booking), and the differences that belong to none."""
    streams, held = by_reference(events), held_by_reference(ledger)
    rows, told = [], set()
    for booking_id, (story, replies) in asked.items():
        references = [name for name, events in streams.items() if events[0].payment.booking_id == booking_id]
        told.update(references)
        if len(references) != 1:
            rows.append(Row(story, None, Held(), [f"the stream told of {len(references)} payments instead of 1"]))
            continue
        stream, books = streams[references[0]], held.get(references[0], Held())
        found = [*_wrong_ending(story, stream), *_wrong_books(story, stream[-1].payment, books)]
        found += _wrong_replies(story, replies, stream[-1].payment.payment_id)
        rows.append(Row(story, stream[-1].payment, books, found))
    others = [f"the stream told of payment {name}, which nobody asked for" for name in streams if name not in told]
    others += [f"the ledger holds a push for {name}, which no payment has" for name in held if name not in streams]
    return rows, others


def _wrong_ending(story: Story, stream: Sequence[payment_pb2.PaymentEvent]) -> list[str]:
    last, types, found = stream[-1].payment, {event.type for event in stream}, []
    if last.status != story.ends:
        found.append(f"ends {status_name(last.status)} instead of {status_name(story.ends)}")
    if last.status_reason != story.reason:
        found.append(f"for the reason {reason_words(last.status_reason)!r} instead of {reason_words(story.reason)!r}")
    if not last.outcome_certain:
        found.append("is not certain of its outcome")
    if [event.payment.version for event in stream] != list(range(1, len(stream) + 1)):
        found.append(f"has versions {[event.payment.version for event in stream]}")
    found += [f"never saw {_event_name(wanted)}" for wanted in story.sees if wanted not in types]
    found += [f"saw {_event_name(unwanted)}" for unwanted in story.sees_not if unwanted in types]
    return found


def _wrong_books(story: Story, payment: payment_pb2.Payment, held: Held) -> list[str]:
    paid = payment.amount.units if payment.status == payment_pb2.PAYMENT_STATUS_COMPLETED else 0
    pairs = (
        ("times prompted", held.prompts, story.prompts),
        ("KES debited", held.debited_kes, paid),
        ("receipts", list(held.receipts), [payment.mpesa_receipt_number] if payment.mpesa_receipt_number else []),
        ("callbacks answered 200", held.callbacks_ok, story.callbacks),
        ("callbacks sent", held.callbacks, story.callbacks),
    )
    return [f"{what}: the ledger has {has}, and it should be {should}" for what, has, should in pairs if has != should]


def _wrong_replies(story: Story, replies: Replies, payment_id: str) -> list[str]:
    found = []
    if {reply.payment.payment_id for reply in replies} != {payment_id}:
        found.append("the callers were told of different payments")
    if sum(not reply.replayed for reply in replies) != 1 or len(replies) != story.asked:
        found.append("not exactly one caller was told that the payment is new")
    return found


def _event_name(event_type: int) -> str:
    return short("PAYMENT_EVENT_TYPE_", payment_pb2.PaymentEventType.DESCRIPTOR, event_type)


def show_summary(console: Console, rows: Sequence[Row], others: Sequence[str]) -> bool:
    """Print the table and the verdict; whether everything agrees."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("passenger")
    table.add_column("the stream said")
    table.add_column("receipt")
    for heading in ("prompts", "callbacks", "KES debited"):
        table.add_column(heading, justify="right")
    table.add_column("agrees")
    for row in rows:
        said = "nothing"
        if row.payment is not None:
            reason = reason_words(row.payment.status_reason)
            said = status_name(row.payment.status) + ("" if reason == "unspecified" else f", {reason}")
        receipt = row.payment.mpesa_receipt_number if row.payment is not None else ""
        books = [str(number) for number in (row.held.prompts, row.held.callbacks, row.held.debited_kes)]
        verdict = "[red]NO[/red]" if row.differences else "[green]yes[/green]"
        table.add_row(row.story.title, said, receipt, *books, verdict)
    console.print(table)
    differences = [f"{row.story.title}: {difference}" for row in rows for difference in row.differences] + [*others]
    for difference in differences:
        console.print(f"DIFFERENT  {difference}", style="red", markup=False, soft_wrap=True)
    said_kes = sum(row.payment.amount.units for row in rows if row.payment is not None and _completed(row.payment))
    debited = sum(row.held.debited_kes for row in rows)
    verdict = "No difference" if not differences else f"{len(differences)} difference(s)"
    console.print(
        f"{verdict}: {len(rows)} payments; the stream says that KES {said_kes} were paid, and the phones were debited"
        f" KES {debited}.",
        soft_wrap=True,
    )
    return not differences


def _completed(payment: payment_pb2.Payment) -> bool:
    return payment.status == payment_pb2.PAYMENT_STATUS_COMPLETED
