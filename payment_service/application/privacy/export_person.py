"""All that is kept about a person, in clear, for the one who has a right to know it. Who asked, and why, is kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.security.sealing import SealBroken, Sealer
from payment_service.store import payment_search, person_records
from payment_service.store.payment_search import PaymentSearch
from payment_service.store.person_records import KeptRow
from payment_service.store.privacy_acts import Asker, keep_act

COUNTED_MAX: Final = 100_000
"""Payments of one person: far more than anybody makes."""
BODY_MAX: Final = 8_192
"""Characters of one body: Daraja's own have some 600, and a hundred of these are below what one answer may have."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """Whose data is asked for, and who asks."""

    whose: PaymentSearch
    """By phone or by booking."""
    asker: Asker


@dataclass(frozen=True, slots=True)
class ExportedRow:
    """One row of a table as a JSON object."""

    table: str
    json: str


@dataclass(frozen=True, slots=True)
class ExportPage:
    """What is kept about one payment; the first page has what belongs to none, too."""

    rows: Sequence[ExportedRow]
    act_id: UUID | None
    """On the first page."""
    next_before: UUID | None
    """Payments before this one follow."""


async def export_person(using: PaymentReads, asked: Export, before: UUID | None) -> ExportPage:
    """One page: the newest payment before `before`, or the newest of all. The first one is kept as an act."""
    rows: list[KeptRow] = []
    act_id = None
    async with using.lists, reading(using) as conn:
        if before is None:
            # Kept first: nothing is given out that nobody answers for.
            count = len(await payment_search.find_payments(conn, asked.whose, None, COUNTED_MAX))
            act_id = await keep_act(conn, "EXPORT", asked.asker, count)
            if asked.whose.phone_index is not None:
                rows += await person_records.rows_about_phone(conn, asked.whose.phone_index)
        found = await payment_search.find_payments(conn, asked.whose, before, 2)
        for payment_id in found[:1]:
            rows += await person_records.rows_about_payment(conn, payment_id)
    if act_id is not None:
        _log.warning("personal data exported", operator=asked.asker.operator, act_id=str(act_id))
    exported = [_in_clear(using.sealer, row) for row in rows]
    return ExportPage(exported, act_id, found[0] if len(found) > 1 else None)


def _in_clear(sealer: Sealer, row: KeptRow) -> ExportedRow:
    columns = dict(row.columns)
    for place, row_id, sealed in row.sealed:
        columns[place.column] = None if sealed is None else _opened(sealer, place.name, row_id, sealed)
    return ExportedRow(row.table, json.dumps(columns, ensure_ascii=False))


def _opened(sealer: Sealer, place: str, row_id: bytes, sealed: bytes) -> object:
    try:
        body = sealer.open(place, row_id, sealed)
    except SealBroken:
        return "[does not open]"
    text = body.decode("utf-8", "backslashreplace")
    if len(text) > BODY_MAX:
        return f"{text[:BODY_MAX]}… ({len(body)} bytes)"
    # Read, so that it is shown as what it is; a number alone stays a text.
    try:
        return json.loads(text) if text.startswith(("{", "[")) else text
    except (ValueError, RecursionError):
        return text
