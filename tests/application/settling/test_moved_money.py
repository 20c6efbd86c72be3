"""Money that operators have moved to another payment, as the books go on showing it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from payment_service.domain.approvals import ApprovalState
from payment_service.domain.facts import DeadlinePassed, PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment
from tests.application.approving.moving import agree, ask_to_move
from tests.application.settling.bookkeeping import Bookkeeping, bookkeeping
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.processes import running_process

PHONE = "254712345678"


@pytest.fixture
async def books(database: Database, tmp_path: Path) -> AsyncIterator[Bookkeeping]:
    async with bookkeeping(database, tmp_path) as running:
        yield running


async def moved(books: Bookkeeping, folder: Path) -> tuple[Payment, Payment]:
    """A payment that was paid twice, as callbacks told, and the one that the second receipt was moved to."""
    source, prompt = await books.unpaid(phone_number=PHONE)
    for number in range(2):
        await books.push(prompt)
        receipt = books.paid[number]
        told = ResultReported(f"callback:{number}", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)
        await books.tell(source, told)
    target, _ = await books.payment()
    claim = UUID(int=9)
    await books.tell(target, SendClaimed(claim), PromptAccepted(claim, "m-9", "c-9"))
    books.clock.move(121)
    await books.tell(target, DeadlinePassed())
    async with running_process(books.database.application_url, folder) as process:
        assert await agree(process, await ask_to_move(process, target)) == ApprovalState.APPROVED
    return source, target


async def test_money_that_was_moved_opens_no_second_case(books: Bookkeeping, tmp_path: Path) -> None:
    source, target = await moved(books, tmp_path)
    await books.reader.read_anew()
    assert set(await books.exchanges("pulled")) <= {"KNOWN", "OURS"}
    assert await rows_of(books.database, "SELECT kind, resolution FROM cases") == [("SECOND_RECEIPT", "MOVE")]
    assert await books.row(source) == ("COMPLETED", books.paid[0], "CONFIRM")
    assert (await books.row(target))[:2] == ("COMPLETED", books.paid[1])


async def test_a_reversal_of_moved_money_takes_nothing_from_the_payment_that_it_was_paid_for(
    books: Bookkeeping, tmp_path: Path
) -> None:
    source, _ = await moved(books, tmp_path)
    await books.tell_simulator("takebacks", phone=PHONE)
    books.clock.move(2)
    await books.reader.read_anew()
    assert (await books.row(source))[:2] == ("COMPLETED", books.paid[0])
    open_now = "SELECT kind FROM cases WHERE settled_at IS NULL"
    assert await rows_of(books.database, open_now) == [("TAKEN_BACK",)]
