"""Goal: `kill -9` at any point loses no acknowledged payment, and never prompts a phone twice.

Method: a proxy on the link in question waits until an exchange has gone through exactly so far, and kills the process.
So a kill always meets work in flight: the exchange it cuts belongs to a payment. Customers go on asking; a new process
takes over; older payments settle while younger ones are hit. When all have ended, the simulator's ledger, the database
and what the customers were told are held against each other.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from tests.databases import Database
from tests.kill.checks import Settled, settled, violations
from tests.kill.stage import Kill, Link, running_stage
from tests.kill.wires import COMMIT, TOKEN
from tests.proxy import Point

TABLES = Path("build/campaigns")

# To the database a COMMIT of which a part has come is none, and one that is complete is done, whether or not the victim
# has read its answer. So the points within one are tried for one COMMIT only.
WHOLE = (Point.BEFORE_FIRST_BYTE, Point.REQUEST_COMPLETE, Point.ANSWER_COMPLETE)
COMMITS = [
    Kill(Link.DATABASE, COMMIT + what, point)
    for what, points in {
        TOKEN: WHOLE,
        "PaymentCreated": WHOLE,
        "SendClaimed": WHOLE,
        "PromptAccepted": tuple(Point),
        "ResultReported": WHOLE,
        "DeadlinePassed": WHOLE,
    }.items()
    for point in points
]


def _push(point: Point) -> Kill:
    return Kill(Link.DARAJA, "push", point)


def _lease_dead(point: Point) -> Kill:
    return Kill(Link.DATABASE, COMMIT + "LeaseDead", point)


# A kill that keeps a push from Daraja surely leaves a dead lease, and so the work of the next kill. After any other
# push a callback may come before its lease ends. A COMMIT that never reached the database leaves its work to the next.
PUSHES = [
    _push(Point.BEFORE_FIRST_BYTE),
    _lease_dead(Point.BEFORE_FIRST_BYTE),
    _lease_dead(Point.REQUEST_COMPLETE),
    _push(Point.MID_REQUEST),
    _lease_dead(Point.ANSWER_COMPLETE),
    _push(Point.REQUEST_COMPLETE),
    _push(Point.MID_ANSWER),
    _push(Point.ANSWER_COMPLETE),
]
CALLBACKS = [Kill(link, "callback", point) for link, point in product((Link.SUBMISSIONS, Link.CALLBACKS), Point)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(COMMITS, id="commits"), pytest.param(PUSHES, id="pushes"), pytest.param(CALLBACKS, id="callbacks")],
)
async def test_a_kill_loses_no_payment_and_never_prompts_twice(
    database: Database, tmp_path: Path, kills: Sequence[Kill], request: pytest.FixtureRequest
) -> None:
    table: dict[str, Counter[str]] = {}
    async with running_stage(database, tmp_path) as stage:
        for kill in kills:
            states = await stage.strike(kill)
            table.setdefault(str(kill), Counter()).update(["kills", *states])
        await stage.inherit(leases=True)
        await stage.replace_dead()
        found = await settled(stage)
    _publish(request.node.callspec.id, table, found)
    assert sum(row["kills"] for row in table.values()) == len(kills)
    assert violations(found) == []


def _publish(title: str, table: dict[str, Counter[str]], found: Settled) -> None:
    """At each point: how often it was hit, and in which states the payments in flight were then."""
    states = sorted({state for row in table.values() for state in row} - {"kills"})
    width = max(map(len, table))
    lines = [f"{'killed':<{width}}  kills  {'  '.join(states)}"]
    for kill, row in table.items():
        cells = "  ".join(f"{row[state]:>{len(state)}}" for state in states)
        lines.append(f"{kill:<{width}}  {row['kills']:>5}  {cells}")
    text = "\n".join(lines) + f"\n{found}"
    TABLES.mkdir(parents=True, exist_ok=True)
    (TABLES / f"kill-{title}.txt").write_text(text)
    sys.stdout.write(text)
