"""The steps by which a key is replaced while the service runs. Each refuses what would leave a value nobody can read.

They work on the files and on the database that the settings of the service name.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.rekeying.held_keys import CALLBACK, held_by_service, lacking
from payment_service.application.rekeying.reindex import reindex as make_indexes
from payment_service.application.rekeying.reseal import Resealed, Resealing
from payment_service.application.rekeying.reseal import reseal as make_values
from payment_service.application.rekeying.retirement import Candidate, reasons_to_keep
from payment_service.commands.lines import show_line
from payment_service.config import KeySettings
from payment_service.credentials import open_keys
from payment_service.database import check_database, check_keys, indexed_with
from payment_service.security.sealing import SealBroken
from payment_service.store.engines import read_engine
from payment_service.store.health import database_now
from payment_service.store.key_checks import known_checks
from payment_service.store.key_holders import (
    SEEN_WITHIN_SECONDS,
    HeldKeys,
    Holder,
    key_uses_of,
    living_holders,
    note_keys,
    retire_key,
)
from payment_service.store.pipeline import Connection
from payment_service.store.sealed_values import connect_maintenance, may_replace_values
from runtime.callback_tokens import load_callback_keys
from runtime.key_files import add_key, changing, drop_key, use_key
from runtime.serving import StartRefused

LOOK_SECONDS = 0.1
"""Between two looks at who holds a key."""
INDEX = "index"


@dataclass(frozen=True, slots=True)
class _Files:
    """What the files hold."""

    settings: KeySettings
    held: HeldKeys

    def path(self, purpose: str) -> Path:
        return self.settings.callback_keys_file if purpose == CALLBACK else self.settings.keys_file

    def check_of(self, purpose: str, key_id: str) -> str:
        """The check value of a key; StartRefused without one."""
        checks = self.held[purpose][1]
        if key_id not in checks:
            raise StartRefused(f"There is no {purpose} key {key_id!r}: there are {', '.join(sorted(checks))}.")
        return checks[key_id]

    def ring_of(self, purpose: str) -> str | None:
        """Which ring of its file; None where the file is one."""
        return None if purpose == CALLBACK else purpose


def _read(settings: KeySettings) -> _Files:
    held = held_by_service(open_keys(settings.keys_file), load_callback_keys(settings.callback_keys_file))
    return _Files(settings, held)


async def list_keys(settings: KeySettings, console: Console) -> None:
    """Show every key of the files by its id: which is current, who holds it, and until when it was used."""
    files = _read(settings)
    async with _database(settings) as engine, engine.connect() as conn:
        holders, uses, now = await living_holders(conn), await key_uses_of(conn), await database_now(conn)
    for purpose, (current, checks) in files.held.items():
        members = [one for one in holders if purpose in one.keys]
        for key_id, check in checks.items():
            lack = lacking(holders, purpose, key_id, check)
            words = [f"{purpose:<11}  {key_id:<2}  {'current' if key_id == current else '       '}"]
            words.append(f"held by {len(members) - len(lack)} of {len(members)} processes")
            found = uses.get((purpose, key_id))
            if key_id != current and found is not None:
                words.append(f"last used {found.last_used_at:%Y-%m-%d %H:%M:%S} UTC")
            show_line(console, "  ".join(words))
            for holder in lack:
                show_line(console, f"             not held by {holder}")
    for one in holders:
        show_line(console, f"{one.holder}, heard {(now - one.seen_at).total_seconds():.0f} s ago")


async def add(settings: KeySettings, purpose: str, console: Console) -> None:
    """Add a new key to the file; nothing is made with it yet."""
    files = _read(settings)
    async with _database(settings) as engine:
        async with engine.connect() as conn:
            taken = [name[1] for name in (await known_checks(conn) | await key_uses_of(conn)) if name[0] == purpose]
        with changing(files.path(purpose), files.ring_of(purpose)) as ring:
            key_id = add_key(ring, taken, one_character=purpose != CALLBACK)
        async with engine.begin() as conn:
            await note_keys(conn, [(purpose, key_id)])
    show_line(console, f"{files.path(purpose)} has a new {purpose} key {key_id}. Nothing is made with it yet.")
    also = " and every gateway" if purpose == CALLBACK else ""
    show_line(console, f"Give the file to every machine of the service{also}, and keep a copy apart from the database.")
    follows = f"stop every service, then: payment-service keys reindex {key_id}"
    if purpose != INDEX:
        follows = f"then: payment-service keys use {purpose} {key_id}"
    show_line(console, f"Running processes read it within seconds, as `payment-service keys list` shows; {follows}")


async def use(settings: KeySettings, purpose: str, key_id: str, wait: float, console: Console) -> None:
    """Make a key the current one once every running process holds it, for which is waited so long."""
    files = _read(settings)
    check = files.check_of(purpose, key_id)
    end = asyncio.get_running_loop().time() + wait
    async with _database(settings) as engine:
        while True:
            async with engine.connect() as conn:
                holders = await living_holders(conn)
            lack = lacking(holders, purpose, key_id, check)
            if not lack:
                break
            if asyncio.get_running_loop().time() >= end:
                raise StartRefused(
                    f"Not every process holds the {purpose} key {key_id}: {'; '.join(lack)}. Nothing was changed. Give"
                    " the newest file to their machines; one that has ended is forgotten after"
                    f" {SEEN_WITHIN_SECONDS} s."
                )
            await asyncio.sleep(LOOK_SECONDS)
    with changing(files.path(purpose), files.ring_of(purpose)) as ring:
        use_key(ring, key_id)
    held = sum(purpose in one.keys for one in holders)
    show_line(console, f"The {purpose} key {key_id} is the current one, and {held} running processes hold it.")
    if held == 0:
        show_line(console, "No process runs that would have told so: see that each starts with this file.")
    show_line(console, "Give the file to every machine again. Each process uses the key within seconds.")


async def reseal(settings: KeySettings, console: Console) -> None:
    """Make everything that is stored anew with the current keys."""
    own, unreadable = open_keys(settings.keys_file), 0

    def show(done: Resealed) -> None:
        nonlocal unreadable
        unreadable += done.unreadable
        left = f", {done.unreadable} open with none of the keys" if done.unreadable else ""
        show_line(console, f"{done.name}: {done.changed} made anew{left}")

    async with _database(settings) as engine:
        await check_keys(engine, own)
        async with _maintaining(settings) as conn:
            await make_values(Resealing(conn, own), show)
    if unreadable:
        raise StartRefused(f"{unreadable} values open with none of the keys in {settings.keys_file}.")


async def retire(settings: KeySettings, purpose: str, key_id: str, console: Console) -> None:
    """Take a key out of the file, or StartRefused with what still needs it."""
    files = _read(settings)
    files.check_of(purpose, key_id)
    async with _database(settings) as engine:
        async with engine.connect() as conn:
            holders, uses, now = await living_holders(conn), await key_uses_of(conn), await database_now(conn)
        candidate = Candidate(purpose, key_id, files.held[purpose][0] == key_id, uses.get((purpose, key_id)), now)
        async with await connect_maintenance(settings.database_url.get_secret_value()) as reader:
            reasons = await reasons_to_keep(reader, candidate, holders)
        if reasons:
            raise StartRefused(f"The {purpose} key {key_id} is still needed. " + " ".join(reasons))
        async with engine.begin() as conn:
            await retire_key(conn, (purpose, key_id))
        with changing(files.path(purpose), files.ring_of(purpose)) as ring:
            drop_key(ring, key_id)
    show_line(console, f"The {purpose} key {key_id} is retired: nothing needs it. Give the file to every machine.")


async def reindex(settings: KeySettings, key_id: str, console: Console) -> None:
    """Make the indexes of all payments anew with this key, and the key the current one."""
    files, own = _read(settings), open_keys(settings.keys_file)
    files.check_of(INDEX, key_id)
    async with _database(settings) as engine:
        async with engine.connect() as conn:
            _refuse_running(await living_holders(conn))
        # After a kill between the commit and the file, only the file is left to do.
        if not await indexed_with(engine, own, key_id):
            async with _maintaining(settings) as conn:
                try:
                    count, forgotten = await make_indexes(conn, own, key_id)
                except SealBroken as error:
                    raise StartRefused(f"Nothing was changed: {error}.") from error
            show_line(console, f"The indexes of {count} payments were made anew.")
            if forgotten:
                show_line(
                    console,
                    f"{forgotten} phones of the block and allow lists have no payment, so their indexes cannot be made"
                    " anew: list these phones again, with `payment-service risk`.",
                )
    with changing(settings.keys_file, INDEX) as ring:
        use_key(ring, key_id)
    show_line(console, f"The index key {key_id} is the current one. Give the file to every machine, and start again.")


def _refuse_running(holders: Collection[Holder]) -> None:
    running = [one.holder for one in holders if INDEX in one.keys]
    if running:
        raise StartRefused(
            f"These run, or did {SEEN_WITHIN_SECONDS} s ago: {'; '.join(running)}. Stop every process of the service"
            " first; gateways may go on, and keep callbacks meanwhile."
        )


@contextlib.asynccontextmanager
async def _database(settings: KeySettings) -> AsyncIterator[AsyncEngine]:
    engine = read_engine(settings.database_url.get_secret_value())
    try:
        await check_database(engine)
        yield engine
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def _maintaining(settings: KeySettings) -> AsyncIterator[Connection]:
    async with await connect_maintenance(settings.database_url.get_secret_value()) as conn:
        if not await may_replace_values(conn):
            raise StartRefused(
                "The role in PAYMENTS_DATABASE_URL may not replace what is stored: name the owner of the database in it"
                " for this command."
            )
        yield conn
