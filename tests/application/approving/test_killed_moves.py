"""A process that dies while it moves money leaves the money where it was, or where it is to be; another one ends it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from payment_service.domain.approvals import ApprovalState
from payment_service.domain.payment import Payment
from payment_service.store.approvals import Approval
from tests.application.approving.moving import agree, ask_to_move
from tests.application.casework.casefiles import expired
from tests.application.casework.test_resolve_case import broken
from tests.databases import Database
from tests.kill.wires import COMMIT, PostgresWire
from tests.patience import PATIENCE_SECONDS
from tests.proxy import Point, Strike, running_proxy
from tests.rows import open_transactions, rows_of
from tests.rpc.processes import Process, paid, running_process, sent

NOWHERE = ("127.0.0.1", 1)


@dataclass(frozen=True)
class Waiting:
    """A move that a second person is to agree to."""

    approval: Approval
    source: Payment
    target: Payment

    async def stands(self, database: Database) -> tuple[object, ...]:
        """Where the money is by the database, and what everything that belongs to a move says."""
        query = """SELECT r.payment_id, t.state, c.resolution, a.state,
               (SELECT count(*) FROM payment_events WHERE payment_id = a.to_payment_id AND fact_kind = 'CaseAccepted'),
               (SELECT count(*) FROM case_acts m WHERE m.case_id = c.case_id AND act = 'MOVE')
            FROM approvals a JOIN cases c USING (case_id) JOIN mpesa_receipts r ON r.receipt = c.mpesa_receipt_number
            JOIN payment_transactions t ON t.payment_id = a.to_payment_id WHERE a.approval_id = %s"""
        (row,) = await rows_of(database, query, (self.approval.approval_id,))
        return row

    @property
    def nothing(self) -> tuple[object, ...]:
        return (self.source.payment_id, "EXPIRED", None, "WAITING", 0, 0)

    @property
    def everything(self) -> tuple[object, ...]:
        return (self.target.payment_id, "COMPLETED", "MOVE", "APPROVED", 1, 1)


async def waiting(process: Process, number: int) -> Waiting:
    """A booking that was paid twice, and another one that the second payment was meant for."""
    source = await process.create(booking_id=f"BK-{number}")
    source = await process.tell(source, *sent(number), paid(f"RCPT00000{number}"), paid(f"RCPT00010{number}"))
    target = await expired(process, 100 + number)
    return Waiting(await ask_to_move(process, target), source, target)


async def test_a_move_that_a_kill_cuts_is_done_as_a_whole_or_not_at_all(database: Database, tmp_path: Path) -> None:
    parts = urlsplit(database.application_url)
    home = (parts.hostname or "", parts.port or 0)
    async with running_proxy(PostgresWire, home) as proxy, running_process(database.application_url, tmp_path) as other:
        behind = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()
        for number, point in enumerate(Point, start=1):
            move = await waiting(other, number)
            async with running_process(behind, tmp_path) as dying:
                # Whoever is cut off for good is as good as dead.
                strike = Strike(f"{COMMIT}CaseAccepted", point, lambda: setattr(proxy, "upstream", NOWHERE))
                proxy.strike = strike
                asking = asyncio.create_task(agree(dying, move.approval))
                await asyncio.wait_for(strike.done.wait(), PATIENCE_SECONDS)
                assert await move.stands(database) in (move.nothing, move.everything), point
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while await open_transactions(database):
                        await asyncio.sleep(0.01)
                assert await agree(other, move.approval) == ApprovalState.APPROVED
                assert await move.stands(database) == move.everything
                # Some do not die: it tries again, and finds it done.
                proxy.upstream = home
                await asyncio.gather(asking, return_exceptions=True)
                assert await move.stands(database) == move.everything
        assert await broken(other, database) == []
