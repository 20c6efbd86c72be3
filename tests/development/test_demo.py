"""The demonstration: played once in full, and its judgement tried on accounts that do not agree."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mpesa_payments.v1 import money_pb2, payment_pb2, payment_service_pb2
from rich.console import Console

from development.demo_stories import STORIES, Story
from development.demo_summary import Replies, compare, show_summary
from development.slowness import slowness
from development.view import line, status_name

PLAY_SECONDS = 240 * slowness()
RECEIPT = "YLN4M970VH"
REFERENCE = "td66crjtghhr"
TYPES = payment_pb2.PaymentEventType
PAYS = Story("Pays", "254700001234", 500, payment_pb2.PAYMENT_STATUS_COMPLETED)

Ledger = dict[str, Any]
Events = list[payment_pb2.PaymentEvent]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_demo_agrees_with_the_ledger_without_a_terminal_or_standard_input(tmp_path: Path) -> None:
    read_by = asyncio.subprocess.PIPE
    machine = dict(os.environ)  # noqa: TID251 -- passed on to another program, not read
    process = await asyncio.create_subprocess_exec(
        # The shell closes standard input for it: not an empty one, none.
        *("/bin/sh", "-c", 'exec "$0" -m payment_service demo <&-', sys.executable),
        stdout=read_by,
        stderr=read_by,
        env={**machine, "TMPDIR": str(tmp_path), "PAYMENTS_LOG_LEVEL": "nonsense", "COLUMNS": "40"},
    )
    out, err = await asyncio.wait_for(process.communicate(), PLAY_SECONDS)
    text = out.decode()
    assert process.returncode == 0, text + err.decode()
    assert "\x1b" not in text
    assert err == b""
    lines = text.splitlines()
    for story in STORIES:
        ended = [row for row in lines if story.title in row and status_name(story.ends) in row]
        assert ended, f"no line says how {story.title!r} ended"
        assert any(row.startswith(story.title) and row.rstrip().endswith("yes") for row in lines), story.title
    for status in ("COMPLETED", "FAILED", "CANCELLED", "EXPIRED"):
        assert status in text
    assert "PAYMENTS_EXPIRE_AFTER_S=10" in text
    assert "No difference: 13 payments" in text
    assert not any(story.phone in text for story in STORIES)
    assert list(tmp_path.iterdir()) == []


def test_accounts_that_agree_have_no_difference() -> None:
    rows, others = judge()
    assert [row.differences for row in rows] == [[]]
    assert others == []
    assert shown(rows, others)[0] is True


def prompted_twice(events: Events, ledger: Ledger) -> None:
    ledger["pushes"].append({**ledger["pushes"][0], "debited_kes": 0, "receipt": "", "callbacks": []})


def debited_otherwise(events: Events, ledger: Ledger) -> None:
    ledger["pushes"][0]["debited_kes"] = 1


def another_receipt(events: Events, ledger: Ledger) -> None:
    ledger["pushes"][0]["receipt"] = "YLN4M970VI"


def callback_refused(events: Events, ledger: Ledger) -> None:
    ledger["pushes"][0]["callbacks"][0]["status"] = 503


def said_failed(events: Events, ledger: Ledger) -> None:
    events[-1].payment.status = payment_pb2.PAYMENT_STATUS_FAILED


def an_event_missing(events: Events, ledger: Ledger) -> None:
    del events[1]


def an_event_twice(events: Events, ledger: Ledger) -> None:
    events.insert(1, events[1])


def never_certain(events: Events, ledger: Ledger) -> None:
    events[-1].payment.outcome_certain = False


def nothing_said(events: Events, ledger: Ledger) -> None:
    events.clear()


def a_second_payment(events: Events, ledger: Ledger) -> None:
    for event in list(events):
        other = payment_pb2.PaymentEvent()
        other.CopyFrom(event)
        other.payment.reference = "vv66crjtghhr"
        events.append(other)


def a_push_of_nobody(events: Events, ledger: Ledger) -> None:
    ledger["pushes"].append({**ledger["pushes"][0], "account_reference": "nobodys"})


@pytest.mark.parametrize(
    "fault",
    [
        prompted_twice,
        debited_otherwise,
        another_receipt,
        callback_refused,
        said_failed,
        an_event_missing,
        an_event_twice,
        never_certain,
        nothing_said,
        a_second_payment,
        a_push_of_nobody,
    ],
)
def test_every_disagreement_is_a_difference(fault: Callable[[Events, Ledger], None]) -> None:
    rows, others = judge(fault)
    agrees, text = shown(rows, others)
    assert agrees is False
    assert "DIFFERENT" in text


def test_a_caller_who_repeats_itself_must_be_told_of_one_new_payment() -> None:
    twice_new, _ = judge(replies=[reply(replayed=False), reply(replayed=False)], asked=2)
    assert twice_new[0].differences == ["not exactly one caller was told that the payment is new"]
    agreed, _ = judge(replies=[reply(replayed=True), reply(replayed=False)], asked=2)
    assert agreed[0].differences == []
    strangers, _ = judge(replies=[reply(replayed=False), reply(replayed=True, payment_id="other")], asked=2)
    assert strangers[0].differences == ["the callers were told of different payments"]


def test_the_plot_must_have_happened() -> None:
    lost = Story("Lost", PAYS.phone, 500, PAYS.ends, sees=(TYPES.PAYMENT_EVENT_TYPE_UNCERTAIN,))
    overtaken = Story("Overtaken", PAYS.phone, 500, PAYS.ends, sees_not=(TYPES.PAYMENT_EVENT_TYPE_PROMPTED,))
    for story, said in ((lost, "never saw UNCERTAIN"), (overtaken, "saw PROMPTED")):
        rows, _ = compare({"TRIP-1": (story, [reply(replayed=False)])}, paid_events(), paid_ledger())
        assert rows[0].differences == [said]


def test_the_view_shows_values_that_it_does_not_know_as_numbers() -> None:
    event = paid_events()[-1]
    event.payment.status = 99  # type: ignore[assignment]  # as a newer server would send
    assert "  99  " in line(event, event.event_time.seconds).plain
    assert "TRIP-1" in line(event, event.event_time.seconds).plain


def judge(
    fault: Callable[[Events, Ledger], None] | None = None, replies: Replies | None = None, asked: int = 1
) -> tuple[list[Any], list[str]]:
    events, ledger = paid_events(), paid_ledger()
    if fault is not None:
        fault(events, ledger)
    story = Story(PAYS.title, PAYS.phone, PAYS.amount, PAYS.ends, asked=asked)
    return compare({"TRIP-1": (story, replies or [reply(replayed=False)])}, events, ledger)


def shown(rows: list[Any], others: list[str]) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), width=500)
    agrees = show_summary(console, rows, others)
    assert isinstance(console.file, io.StringIO)
    return agrees, console.file.getvalue()


def reply(*, replayed: bool, payment_id: str = "p1") -> payment_service_pb2.InitiatePaymentResponse:
    payment = payment_pb2.Payment(payment_id=payment_id)
    return payment_service_pb2.InitiatePaymentResponse(payment=payment, replayed=replayed)


def paid_events() -> Events:
    """Recorded, sent, prompted, paid."""
    plot = (
        (TYPES.PAYMENT_EVENT_TYPE_CREATED, payment_pb2.PAYMENT_STATUS_PENDING),
        (TYPES.PAYMENT_EVENT_TYPE_SENDING, payment_pb2.PAYMENT_STATUS_PENDING),
        (TYPES.PAYMENT_EVENT_TYPE_PROMPTED, payment_pb2.PAYMENT_STATUS_PROCESSING),
        (TYPES.PAYMENT_EVENT_TYPE_COMPLETED, payment_pb2.PAYMENT_STATUS_COMPLETED),
    )
    events = []
    for version, (event_type, status) in enumerate(plot, start=1):
        paid = status == payment_pb2.PAYMENT_STATUS_COMPLETED
        payment = payment_pb2.Payment(
            payment_id="p1",
            reference=REFERENCE,
            booking_id="TRIP-1",
            status=status,
            amount=money_pb2.Money(currency_code="KES", units=500),
            mpesa_receipt_number=RECEIPT if paid else "",
            booking_action=payment_pb2.BOOKING_ACTION_CONFIRM if paid else payment_pb2.BOOKING_ACTION_WAIT,
            outcome_certain=paid,
            version=version,
        )
        events.append(payment_pb2.PaymentEvent(event_id=f"p1-{version}", type=event_type, payment=payment))
    return events


def paid_ledger() -> Ledger:
    push = {
        "account_reference": REFERENCE,
        "prompted": True,
        "debited_kes": 500,
        "receipt": RECEIPT,
        "callbacks": [{"sent_time": 1.0, "status": 200, "error": None}],
    }
    return {"pushes": [push]}
