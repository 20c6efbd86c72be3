"""Every kind of case by every resolution: which are its ways, and where its payment must stand for each.

`pytest -s` prints the table. What each way leads to is tried in `test_settling_cases`.
"""

from __future__ import annotations

import itertools
import sys

import pytest
from uuid_utils.compat import uuid7

from payment_service.application.casework.show_cases import get_case
from payment_service.domain.case_rules import RULES, Resolution, deadline_of, rules_of
from payment_service.domain.cases import CaseKind
from payment_service.domain.errors import ResolutionRefused
from payment_service.domain.standings import Standing
from payment_service.domain.transitions import HEADINGS
from payment_service.store.evidence import NewCase, open_case
from tests.application.casework.casefiles import settle
from tests.databases import Database
from tests.domain import scenes
from tests.domain.test_settling_cases import held
from tests.domain.test_settling_cases import open_case as as_opened
from tests.domain.test_settling_cases import settle as decided
from tests.rows import count
from tests.rpc.processes import Process

# A cell says where the payment stands when it is done, by the headings of the table of payments, with money that is
# nobody's and no other attempt. "-" is no way of the kind. "later": once a return has failed and left the seat free.
TABLE = """
KIND                ACCEPT                  DISMISS       RETURN         MOVE  REFUNDED  NOT_REFUNDED
CONTRADICTION       -                       all           -              -     -         -
PAID_AFTER_FAILURE  -                       all           -              -     -         -
FOREIGN_IDS         all but KC K KR RG RD   all           -              all   -         -
UNCLAIMED_MONEY     all but KC K KR RG RD   all           -              all   -         -
OTHER_PROMPT        -                       all           -              -     -         -
WRONG_AMOUNT        all but KC K KR RG RD   all but UR    UR KC K        -     -         -
SECOND_RECEIPT      -                       all           KC K KR RG RD  all   -         -
DUPLICATE_PAYMENT   K0 KC K                 later         UR KC K        -     -         -
LATE_PAYMENT        K0 KC K                 later         UR KC K        -     -         -
RECEIPT_OVERDUE     all but KC K KR RG RD   -             -              -     -         -
UNBACKED_MONEY      KC                      all           -              -     -         -
PAID_AFTER_END      all but KC K KR RG RD   all           -              -     -         -
UNKNOWN_PAYMENT     -                       all           -              -     -         -
CALLBACK_GIVEN_UP   -                       -             -              -     -         -
UNREAD_CALLBACK     all but KC K KR RG RD   all           -              -     -         -
OUTCOME_UNKNOWN     all but KC K KR RG RD   all           -              -     -         -
REFUND              -                       all but RG    -              -     all       all
TAKEN_BACK          -                       all           -              -     -         -
"""
_WIDTHS = (20, 24, 14, 15, 6, 10, 0)
_WAYS = [Resolution(heading) for heading in TABLE.split()[1 : len(_WIDTHS)]]
_HEADING_OF = {standing: heading for heading, standing in HEADINGS.items()}


def cell(kind: CaseKind, resolution: Resolution) -> str:
    """Where a payment must stand so that its case of this kind can be settled so."""
    if resolution not in RULES[kind].resolutions:
        return "-"
    done = [standing for standing in Standing if may_be(kind, resolution, standing, seat_freed=False)]
    left_out = [standing for standing in Standing if standing not in done]
    if not left_out:
        return "all"
    if not done:
        return "later" if may_be(kind, resolution, Standing.COMPLETED, seat_freed=True) else "never"
    shorter, but = (done, "") if len(done) <= len(left_out) else (left_out, "all but ")
    return but + " ".join(_HEADING_OF[standing] for standing in shorter)


def may_be(kind: CaseKind, resolution: Resolution, standing: Standing, *, seat_freed: bool) -> bool:
    case, payment = as_opened(kind), scenes.clocked(scenes.standing_in(standing), {"seat_freed": seat_freed})
    return not decided(held(payment, case), case, resolution, scenes.OTHER_RECEIPT).refused


def test_each_kind_is_settled_in_its_ways_and_in_no_other() -> None:
    rows = [("KIND", *_WAYS), *((kind, *(cell(kind, way) for way in _WAYS)) for kind in CaseKind)]
    told = ["".join(f"{text:{width}}" for text, width in zip(row, _WIDTHS, strict=True)).rstrip() for row in rows]
    sys.stdout.write("\n".join(["", *told, ""]))
    assert told == TABLE.strip().splitlines()


async def test_a_way_that_is_not_the_kinds_is_refused_with_those_that_are(process: Process, database: Database) -> None:
    payment, now = await process.create(), process.writers.clock()
    async with process.core.reads.engine.begin() as connection:
        cases = {kind: uuid7() for kind in CaseKind}
        for kind, case_id in cases.items():
            opened = NewCase(
                case_id, payment.payment_id, payment.reference, kind, False, f"test:{kind}", None, None, now,
                deadline_of(kind, now),
            )  # fmt: skip
            await open_case(connection, opened)
    for kind, way in itertools.product(CaseKind, _WAYS):
        if way in rules_of(kind).resolutions:
            continue
        with pytest.raises(ResolutionRefused) as refusal:
            await settle(process, await get_case(process.core.reads, cases[kind]), way)
        assert tuple(refusal.value.allowed) == rules_of(kind).resolutions
    assert await count(database, "case_acts") == 0
