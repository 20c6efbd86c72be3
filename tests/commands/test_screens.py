"""The screens that `docs/operating.md` shows are what the commands print, but for ids, references and times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from payment_service.domain.facts import DeadlinePassed
from tests.application.casework.casefiles import late
from tests.commands.started import command
from tests.rpc.processes import Process, paid, sent

PAGE = Path("docs/operating.md")
_VARIES = {
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "ID",
    r"(?<=reference )[a-z0-9]{12}": "REFERENCE",
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?": "TIME",
}


@pytest.fixture
def environment(process: Process) -> Mapping[str, str]:
    return {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}


def settled(text: str) -> str:
    """The text without what is another in every run."""
    for pattern, name in _VARIES.items():
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def not_on_the_page(*screens: str) -> list[str]:
    page = settled(PAGE.read_text(encoding="utf-8"))
    return [one for one in screens if settled(one) not in page]


async def screen(environment: Mapping[str, str], *words: str) -> str:
    code, shown, errors = await command(environment, *words)
    assert (code, errors) == (0, "")
    return shown


async def test_late_money_that_is_accepted(process: Process, environment: Mapping[str, str]) -> None:
    await late(process, 1, "RCPT000001")
    found = await screen(environment, "payments", "find", "--phone", "0712345678")
    (case_id,) = re.findall(r"^ +([0-9a-f-]{36})  LATE_PAYMENT", found, re.MULTILINE)
    shown = await screen(environment, "cases", "show", case_id)
    (etag,) = re.findall(f"cases resolve {case_id} accept --etag ([0-9.]+)", shown)
    words = ("--etag", etag, "--reason", "has the message, seat is free", "--operator", "amina", "--yes")
    ended = await screen(environment, "cases", "resolve", case_id, "accept", *words)
    assert not_on_the_page(found, shown, ended) == []


async def test_a_double_payment_that_is_returned(process: Process, environment: Mapping[str, str]) -> None:
    first = await process.create(booking_id="BK-1")
    await process.tell(first, *sent(1))
    process.writers.clock.move(400)
    await process.tell(first, DeadlinePassed())
    second = await process.create(booking_id="BK-1")
    await process.tell(second, *sent(2), paid("RCPT000002"))
    await process.tell(first, paid("RCPT000001"))
    found = await screen(environment, "payments", "find", "--booking", "BK-1")
    (case_id,) = re.findall(r"^ +([0-9a-f-]{36})  DUPLICATE_PAYMENT", found, re.MULTILINE)
    shown = await screen(environment, "cases", "show", case_id)
    (etag,) = re.findall(f"cases resolve {case_id} return --etag ([0-9.]+)", shown)
    words = ("--etag", etag, "--reason", "paid twice", "--operator", "amina", "--yes")
    returned = await screen(environment, "cases", "resolve", case_id, "return", *words)
    assert not_on_the_page(found, returned) == []
