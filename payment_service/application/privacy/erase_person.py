"""A person's number is taken out of everything that holds it, and what is left stays true.

The number that takes its place is the empty one: sealed, indexed and fingerprinted as any other, so that whoever reads
the row, checks it or replaces its keys needs to know nothing of this. The log holds no number, only keyed digests, so
its chain holds as before. All of it is one transaction, with the record of who did it: if it is broken off, nothing has
happened.
"""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.recording.request_encoding import REQUEST_ENCODING, fingerprint, without_person
from payment_service.application.settling.accept_callbacks import body_row_id
from payment_service.application.settling.opened_bodies import NATIONAL_DIGITS
from payment_service.domain.errors import ErasureBarred
from payment_service.security.sealing import CALLBACK_BODY, INDEX_BYTES, PHONE_NUMBER, REQUEST, Sealer
from payment_service.store import erasure, payment_search, risk_list
from payment_service.store.erasure import ErasedPayment, HeldBody, HeldPayment
from payment_service.store.payment_search import PaymentSearch
from payment_service.store.payments import PHONE_INDEX
from payment_service.store.privacy_acts import Asker, keep_act
from runtime.key_rings import KeyRing

BATCH: Final = 100
"""Payments erased in one transaction; a person seldom has more. Their rows are locked for some ten milliseconds."""
PAYMENTS_MAX: Final = 10_000
"""Of one person: more than anybody makes."""
NOBODY: Final = ""
"""The number that stands where one was erased."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Erasing:
    """What erasing needs."""

    reads: PaymentReads
    fingerprint_keys: KeyRing = field(repr=False)


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose number is to go, and who asks for it."""

    number: str = field(repr=False)
    asker: Asker
    only_look: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """What has gone, or would."""

    payments: int
    callbacks: int
    exchanges: int
    rules: int
    """Decisions of rules and turns of the list that name the phone no more."""
    left: int
    """Payments that the next call erases."""
    ids_with_number: int
    """Payments whose booking id or request id spells the number: their caller's own names, which stay."""
    bars: Sequence[str]
    """Why nothing can be erased yet; only where somebody looks."""
    act_id: UUID | None


async def erase_person(using: Erasing, asked: Erasure, now: datetime) -> Erased:
    """Erase the oldest payments of a number, at most `BATCH`, and what is said of the phone; or say what would go.

    Raises ErasureBarred where a payment has not ended, a case is open, or the list bars the phone.
    """
    sealer = using.reads.sealer
    phone = sealer.index(PHONE_INDEX, asked.number)
    async with _one_transaction(using.reads) as conn:
        found = await payment_search.find_payments(conn, PaymentSearch(phone_index=phone), None, PAYMENTS_MAX)
        batch = sorted(found)[:BATCH]
        held = await erasure.held_payments(conn, batch, lock=not asked.only_look)
        bars = await _bars(conn, phone, found, now)
        if bars and not asked.only_look:
            raise ErasureBarred(bars)
        spelled = sum(_spells(f"{one.booking_id} {one.request_id}", asked.number) for one in held)
        callbacks = len(await erasure.bodies_of(conn, batch))
        exchanges = await erasure.count_exchanges(conn, batch)
        rules = await erasure.count_rules(conn, phone)
        act_id, left = None, len(found) - len(batch)
        if not asked.only_look and (held or rules):
            await erase_held(conn, using, held, asked.number)
            await _forget_phone(conn, phone, asked.asker)
            # A payment that was asked for meanwhile, and a turn of the list, were held up by no lock of ours.
            since = await payment_search.find_payments(conn, PaymentSearch(phone_index=phone), None, PAYMENTS_MAX)
            if bars := await _bars(conn, phone, since, now):
                raise ErasureBarred(bars)
            left = len(since)
            act_id = await keep_act(conn, "ERASE", asked.asker, len(held))
    if act_id is not None:
        _log.warning("personal data erased", operator=asked.asker.operator, act_id=str(act_id), payments=len(held))
    return Erased(len(held), callbacks, exchanges, rules, left, spelled, bars, act_id)


async def erase_held(conn: AsyncConnection, using: Erasing, held: Sequence[HeldPayment], number: str) -> None:
    """Take the payer out of payments that are locked, and out of what is kept about them."""
    ids = [one.payment_id for one in held]
    if not ids:
        return
    await erasure.erase_payments(conn, [_without_payer(using, one, number) for one in held])
    await erasure.remove_bodies(conn, empty_bodies(using.reads.sealer, await erasure.bodies_of(conn, ids)))
    await erasure.forget_exchanges_of(conn, ids)


def empty_bodies(sealer: Sealer, bodies: Sequence[HeldBody]) -> list[tuple[UUID, bytes]]:
    """What stands in place of bodies that are removed, sealed as they were."""
    return [
        (body.callback_id, sealer.seal(CALLBACK_BODY, body_row_id(body.reference, body.body_hash), b""))
        for body in bodies
    ]


async def _bars(conn: AsyncConnection, phone: bytes, ids: Sequence[UUID], now: datetime) -> list[str]:
    bars = [
        f"payment {payment_id} is {state}, and its outcome, its backing, a refund or a case is still open"
        for payment_id, state in await erasure.under_way(conn, ids)
    ]
    turns = await risk_list.turns_of(conn, phone)
    if turns and turns[0].verdict == "BLOCK" and (turns[0].until is None or turns[0].until > now):
        bars.append("the phone is blocked: take it off the list first, if it may be rung again")
    return bars


async def _forget_phone(conn: AsyncConnection, phone: bytes, asker: Asker) -> None:
    turns = await risk_list.turns_of(conn, phone)
    nobody = os.urandom(INDEX_BYTES)
    await erasure.forget_phone(conn, phone, nobody)
    if turns and turns[0].verdict != "NONE":
        # Else a phone that is nobody's would stand on the list for ever.
        await risk_list.list_phone(conn, nobody, "NONE", asker.operator, asker.reason, None)


def _without_payer(using: Erasing, held: HeldPayment, number: str) -> ErasedPayment:
    sealer, row_id, keys = using.reads.sealer, held.payment_id.bytes, using.fingerprint_keys
    encoding = without_person(sealer.open(REQUEST, row_id, held.request))
    return ErasedPayment(
        payment_id=held.payment_id,
        phone_number=sealer.seal(PHONE_NUMBER, row_id, NOBODY.encode()),
        phone_index=sealer.index(PHONE_INDEX, NOBODY),
        request=sealer.seal(REQUEST, row_id, encoding),
        request_fingerprint=fingerprint(keys.current_key, encoding),
        request_encoding=REQUEST_ENCODING,
        request_key_id=keys.current_id,
        account_reference=held.reference if _spells(held.account_reference, number) else held.account_reference,
        transaction_desc="" if _spells(held.transaction_desc, number) else held.transaction_desc,
        metadata=json.dumps(
            {name: "" if _spells(f"{name} {value}", number) else value for name, value in held.metadata.items()}
        ),
    )


def _spells(said: str, number: str) -> bool:
    """Whether a caller's text has the number in it, however it is spaced; nothing has the empty one."""
    digits = "".join(character for character in said if character.isdecimal())
    return bool(number) and number[-NATIONAL_DIGITS:] in digits


@contextlib.asynccontextmanager
async def _one_transaction(using: PaymentReads) -> AsyncIterator[AsyncConnection]:
    async with reading(using) as conn:
        await conn.execution_options(isolation_level="READ COMMITTED")
        async with conn.begin():
            yield conn
