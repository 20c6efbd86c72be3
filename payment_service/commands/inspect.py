"""The operators' commands that read what is stored: each connects, reads and shows. Nothing here can write."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

import psycopg
from rich.console import Console

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.explain_callback import explain_callback, unsettled_callbacks
from payment_service.application.inspecting.explain_payment import explain_payment
from payment_service.application.inspecting.invariants import Instruments
from payment_service.commands.screens import show_callback_story, show_callbacks, show_explanation, show_tallies
from payment_service.config import InspectionSettings
from payment_service.credentials import open_keys
from payment_service.database import check_database, check_keys
from payment_service.domain.errors import PaymentNotFound
from payment_service.security.keys import Keys
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_reader, read_engine
from payment_service.store.pipeline import Connection
from runtime.redaction import redact_text
from runtime.serving import StartRefused


class NotAllHolds(Exception):
    """Some invariant is violated; which one has been shown."""


async def check(settings: InspectionSettings, since: datetime | None, console: Console) -> None:
    """Check every invariant and show the findings; NotAllHolds if any is violated."""
    keys = open_keys(settings.keys_file)
    async with reading(settings, keys) as conn:
        tallies = await check_invariants(Instruments(Sealer(keys), keys), conn, since)
    show_tallies(console, tallies)
    if any(tally.violations for tally in tallies.values()):
        raise NotAllHolds


async def explain(settings: InspectionSettings, name: str, console: Console) -> None:
    """Show the whole story of one payment."""
    keys = open_keys(settings.keys_file)
    try:
        async with reading(settings, keys) as conn:
            explanation = await explain_payment(Sealer(keys), conn, _name(name))
    except PaymentNotFound:
        raise StartRefused(f"No payment has the id or reference {redact_text(name)!r}.") from None
    show_explanation(console, explanation)


async def list_callbacks(settings: InspectionSettings, statuses: Sequence[str], most: int, console: Console) -> None:
    """Show the callbacks that are not applied, the oldest first."""
    keys = open_keys(settings.keys_file)
    async with reading(settings, keys) as conn:
        callbacks = await unsettled_callbacks(Sealer(keys), conn, statuses, most + 1)
    show_callbacks(console, callbacks[:most], more=len(callbacks) > most)


async def show_callback(settings: InspectionSettings, callback_id: UUID, console: Console) -> None:
    """Show all that is known of one callback."""
    keys = open_keys(settings.keys_file)
    async with reading(settings, keys) as conn:
        story = await explain_callback(Sealer(keys), conn, callback_id)
    if story is None:
        raise no_callback(callback_id)
    show_callback_story(console, story)


def no_callback(callback_id: UUID) -> StartRefused:
    """The refusal of a command that names no callback."""
    return StartRefused(f"No callback has the id {callback_id}: payment-service callbacks list shows the ids.")


@contextlib.asynccontextmanager
async def reading(settings: InspectionSettings, keys: Keys) -> AsyncIterator[Connection]:
    """The database as it is at one moment, for a command that reads it through; nothing can be written."""
    url = settings.database_url.get_secret_value()
    engine = read_engine(url)
    try:
        await check_database(engine)
        await check_keys(engine, keys)
    finally:
        await engine.dispose()
    try:
        async with await connect_reader(url) as conn:
            yield conn
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StartRefused(f"The database failed while it was being read ({reason}): run the command again.") from error


def _name(text: str) -> UUID | str:
    try:
        return UUID(text)
    except ValueError:
        return text.strip().lower()
